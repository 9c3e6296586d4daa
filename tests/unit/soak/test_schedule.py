"""The schedule depends on the seed, and on nothing else."""

from __future__ import annotations

import collections
import hashlib
import itertools

import testtools

from tests.soak import schedule

DECK = sum(schedule.DECK.values())


def first(count: int, seed: int = 7) -> list[schedule.Act]:
    return list(itertools.islice(schedule.acts(seed, 7, 3.0), count))


class ScheduleTest(testtools.TestCase):

    def test_the_same_in_every_release(self) -> None:
        # A seed that failed must fail again on another machine.
        self.assertEqual(
            'a4e6230dd738328ea6506d477429daff'
            'c652aa081896231355330d124ba66d4b',
            hashlib.sha256(repr(first(100)).encode()).hexdigest())

    def test_another_seed_another_schedule(self) -> None:
        self.assertNotEqual([act.kind for act in first(DECK, 1)],
                            [act.kind for act in first(DECK, 2)])

    def test_everything_happens_before_anything_repeats(self) -> None:
        acts = first(3 * DECK + 1)
        deck = collections.Counter(schedule.DECK)
        self.assertEqual(
            deck + collections.Counter([schedule.ONCE]),
            collections.Counter(act.kind for act in acts[:DECK + 1]))
        for begin in (DECK + 1, 2 * DECK + 1):
            self.assertEqual(deck, collections.Counter(
                act.kind for act in acts[begin:begin + DECK]))

    def test_within_bounds(self) -> None:
        for act in first(1000):
            self.assertEqual(list(range(7)), sorted(act.order))
            least, most = schedule.LASTS.get(act.kind, (0, 0))
            self.assertTrue(least <= act.lasts <= most, act)
            self.assertTrue(0 <= act.image < 1 and 0 <= act.place < 1, act)
            # Fewer than an image has.
            self.assertIn(act.copies, (1, 2))
