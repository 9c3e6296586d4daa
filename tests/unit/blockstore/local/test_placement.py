"""Placement: decisions that must stay the same for ever."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
import os
import random
import subprocess
import sys
import uuid

import hypothesis
from hypothesis import strategies
import testtools

from easystack_image.blockstore.local import placement
from tests.unit.blockstore import examples

Candidate = placement.Candidate


def device(number: int, zone: str = '', weight: float = 1.0) -> Candidate:
    """Return a device with an identity of its own."""
    name = str(uuid.UUID(int=number << 64 | number))
    return Candidate(name, zone or name, weight)


def images(count: int) -> list[str]:
    """Return image ids, the same in every run."""
    draw = random.Random(1)
    return [str(uuid.UUID(int=draw.getrandbits(128), version=4))
            for _ in range(count)]


zones = strategies.sampled_from(['a', 'b', 'c', 'd'])
weights = strategies.floats(0.01, 1000.0)
fleets = strategies.lists(
    strategies.builds(Candidate, strategies.uuids().map(str), zones, weights),
    min_size=1, max_size=9, unique_by=lambda candidate: candidate.key)
image_ids = strategies.uuids().map(str)


_IDS = ('00000000-0000-4000-8000-000000000000',
        'acd9ad0a-e692-40b7-9ba7-6fe6b94be08f',
        'ffffffff-ffff-4fff-bfff-ffffffffffff',
        '123e4567-e89b-12d3-a456-426614174000')
#: Images, copies, and on FLEET the devices' numbers in the order of the rank.
GOLDEN_RANKS: list[tuple[str, int, list[int]]] = [
    (_IDS[0], 2, [1, 6, 3, 5, 2, 4]),
    (_IDS[0], 3, [1, 6, 3, 5, 2, 4]),
    (_IDS[0], 5, [1, 3, 6, 5, 2, 4]),
    (_IDS[1], 2, [2, 6, 3, 5, 1, 4]),
    (_IDS[1], 3, [2, 6, 3, 5, 1, 4]),
    (_IDS[1], 5, [2, 6, 3, 5, 1, 4]),
    (_IDS[2], 2, [6, 2, 3, 5, 1, 4]),
    (_IDS[2], 3, [6, 2, 3, 5, 1, 4]),
    (_IDS[2], 5, [3, 6, 2, 5, 4, 1]),
    (_IDS[3], 2, [6, 1, 3, 5, 2, 4]),
    (_IDS[3], 3, [6, 1, 3, 5, 2, 4]),
    (_IDS[3], 5, [6, 1, 3, 5, 2, 4]),
]
FLEET = [(1, 'a', 1.0), (2, 'a', 2.0), (3, 'b', 1.0), (4, 'b', 0.5),
         (5, 'c', 1.0), (6, 'd', 3.0)]


def golden_fleet() -> list[Candidate]:
    return [device(*each) for each in FLEET]


class GoldenTest(testtools.TestCase):
    """What earlier releases decided: images would move if it changed."""

    def test_ranks(self) -> None:
        fleet = golden_fleet()
        for image_id, copies, expected in GOLDEN_RANKS:
            self.assertEqual(expected, [
                fleet.index(each) + 1 for each in placement.rank(
                    image_id, fleet, copies)], (image_id, copies))

    def test_in_another_process(self) -> None:
        # Whatever Python's own hashes are seeded with.
        script = (
            'from tests.unit.blockstore.local import test_placement as test\n'
            'fleet = test.golden_fleet()\n'
            'for image_id in test.images(50):\n'
            '    print([fleet.index(each) for each in '
            'test.placement.rank(image_id, fleet, 3)])')
        printed = {subprocess.run(
            [sys.executable, '-c', script], check=True, text=True,
            capture_output=True, env={**os.environ, 'PYTHONHASHSEED': seed},
            ).stdout for seed in ('1', '2')}
        self.assertEqual({''.join(
            str([fleet.index(each) for each in placement.rank(
                image_id, fleet, 3)]) + '\n' for image_id in images(50))
            for fleet in [golden_fleet()]}, printed)

    def test_draw_is_what_is_documented(self) -> None:
        # Worked out without the module: zones of one device each, and more
        # of them than copies.
        fleet = [device(number, weight=number) for number in range(1, 6)]
        image_id = images(1)[0]

        def score(one: Candidate) -> float:
            digest = hashlib.blake2b(
                (image_id + '/' + one.key).encode('ascii'),
                digest_size=8).digest()
            number = int.from_bytes(digest, 'big') // 2048
            uniform = (number + 0.5) / 9007199254740992
            draw = -math.log(uniform) / one.weight
            again = 1 - math.exp(-draw * one.weight)
            share = 2 * one.weight / 15
            return again / (1 - again) * (1 - share) / share

        self.assertEqual(sorted(fleet, key=score),
                         placement.rank(image_id, fleet, 2))


class SharesTest(testtools.TestCase):

    def test_as_the_weights(self) -> None:
        self.assertEqual([0.25, 0.5, 0.75, 0.5],
                         placement.shares([1, 2, 3, 2], 2))

    def test_never_more_than_all(self) -> None:
        # The first would need 10 of 13 of two copies: it gets one of each.
        self.assertEqual([1.0, 1 / 3, 1 / 3, 1 / 3],
                         placement.shares([10, 1, 1, 1], 2))
        self.assertEqual([1.0, 1.0], placement.shares([5, 1], 2))
        self.assertEqual([1.0, 1.0], placement.shares([5, 1], 7))

    @hypothesis.given(strategies.lists(weights, min_size=1, max_size=12),
                      strategies.integers(1, 6))
    @examples(100)
    def test_sum(self, each: list[float], picks: int) -> None:
        found = placement.shares(each, picks)
        self.assertAlmostEqual(min(picks, len(each)), math.fsum(found), 6)
        self.assertTrue(all(0 < share <= 1 for share in found))


class RankTest(testtools.TestCase):

    @hypothesis.given(image_ids, fleets, strategies.randoms())
    @examples(100)
    def test_order_of_the_configuration_does_not_matter(
            self, image_id: str, fleet: list[Candidate],
            chance: random.Random) -> None:
        shuffled = list(fleet)
        chance.shuffle(shuffled)
        self.assertEqual(placement.rank(image_id, fleet, 3),
                         placement.rank(image_id, iter(shuffled), 3))

    @hypothesis.given(image_ids, fleets)
    @examples(100)
    def test_every_device_once(self, image_id: str,
                               fleet: list[Candidate]) -> None:
        order = placement.rank(image_id, fleet, 3)
        self.assertEqual(sorted(each.key for each in fleet),
                         sorted(each.key for each in order))

    @hypothesis.given(image_ids, fleets, strategies.lists(zones, max_size=4))
    @examples(150)
    def test_no_zone_again_while_another_has_less(
            self, image_id: str, fleet: list[Candidate],
            used: list[str]) -> None:
        uses = collections.Counter(used)
        remaining = list(placement.rank(image_id, fleet, 3, used))
        while remaining:
            best = remaining.pop(0)
            self.assertTrue(all(uses[best.zone] <= uses[other.zone]
                                for other in remaining))
            uses[best.zone] += 1

    @hypothesis.given(image_ids, fleets)
    @examples(100)
    def test_first_copies_lie_in_as_many_zones_as_there_are(
            self, image_id: str, fleet: list[Candidate]) -> None:
        for copies in range(1, len(fleet) + 1):
            order = placement.rank(image_id, fleet, copies)
            self.assertEqual(
                min(copies, len({each.zone for each in fleet})),
                len({each.zone for each in order[:copies]}))

    def test_no_device(self) -> None:
        self.assertEqual([], placement.rank(images(1)[0], [], 3))

    def test_weightless_devices_take_nothing(self) -> None:
        fleet = [device(1), device(2, weight=0.0), device(3, weight=-1.0)]
        for image_id in images(20):
            self.assertEqual([fleet[0]], placement.rank(image_id, fleet, 3))

    def test_equal_scores(self) -> None:
        # The same device twice stands for a collision of the digest.
        one, other = device(1, 'a'), device(1, 'b')
        self.assertEqual(2, len(placement.rank(images(1)[0], [one, other], 3)))


class ShareTest(testtools.TestCase):
    """Devices hold what their weights say, and changes move little."""

    WEIGHTS = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5]
    IMAGES = 40_000

    def place(self, fleet: list[Candidate],
              copies: int = 3) -> list[set[Candidate]]:
        return [set(placement.rank(image_id, fleet, copies)[:copies])
                for image_id in images(self.IMAGES)]

    def test_twelve_devices(self) -> None:
        # Twelve devices of unequal weights, and one more.
        fleet = [device(number, weight=weight)
                 for number, weight in enumerate(self.WEIGHTS, 1)]
        new = device(13, weight=4.0)
        before, after = self.place(fleet), self.place([*fleet, new])
        self.check_balance(before, fleet)
        self.check_balance(after, [*fleet, new])
        moved = sum(len(now - then)
                    for then, now in zip(before, after, strict=True))
        ideal = self.IMAGES * placement.shares([*self.WEIGHTS, 4.0], 3)[-1]
        self.assertTrue(ideal * 0.95 < moved < ideal * 1.1, moved / ideal)
        # Hardly anything that the new one did not cause.
        stirred = sum(then != now and new not in now
                      for then, now in zip(before, after, strict=True))
        self.assertLess(stirred, self.IMAGES / 50)

    def check_balance(self, placed: list[set[Candidate]],
                      fleet: list[Candidate]) -> None:
        counts = collections.Counter(
            each for devices in placed for each in devices)
        for each, share in zip(fleet, placement.shares(
                [each.weight for each in fleet], 3), strict=True):
            self.assertTrue(
                0.93 < counts[each] / (share * len(placed)) < 1.07,
                (each, counts[each] / (share * len(placed))))

    def test_three_zones(self) -> None:
        # Each zone has one copy of each image; within it, weights decide.
        fleet = [device(number, 'abc'[number % 3], weight)
                 for number, weight in enumerate(
                     [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0], 1)]
        counts: collections.Counter[Candidate] = collections.Counter()
        for image_id in images(20_000):
            chosen = placement.rank(image_id, fleet, 3)[:3]
            self.assertEqual({'a', 'b', 'c'}, {one.zone for one in chosen})
            counts.update(chosen)
        for each in fleet:
            self.assertTrue(
                0.94 < counts[each] / (20_000 * each.weight / 7) < 1.06,
                (each, counts[each]))

    def test_replacement_takes_over(self) -> None:
        # What placement knows it by is inherited, so nothing moves.
        fleet = [device(number) for number in range(1, 6)]
        same = [*fleet[:4], dataclasses.replace(fleet[4])]
        for image_id in images(200):
            self.assertEqual(placement.rank(image_id, fleet, 3),
                             placement.rank(image_id, same, 3))
