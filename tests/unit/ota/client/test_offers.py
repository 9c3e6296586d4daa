"""Which release may be installed, decided for every combination."""

from __future__ import annotations

import itertools

import testtools

from easystack_image import exceptions
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import index as indexes


def release(number: int, minimum: int = 0,
            revokes: tuple[int, ...] = ()) -> declarations.Declaration:
    return declarations.Declaration(f'{number}.0', number, minimum,
                                    python=('3.11',), revokes=revokes)


class OffersTest(testtools.TestCase):

    def next(self, *releases: declarations.Declaration,
             installed: int | None = None, floor: int = 0,
             revoked: tuple[int, ...] = ()) -> str | None:
        found = offers.judge(
            indexes.Index('stable', releases=releases),
            memories.Memory(0, floor, dict.fromkeys(revoked, 'why')),
            release(installed) if installed else None)
        chosen = offers.choose(
            found, None, release(installed) if installed else None)
        return chosen.version if chosen else None

    def test_next(self) -> None:
        one, two, three = release(1), release(2), release(3)
        self.assertEqual('3.0', self.next(one, two, three))
        self.assertEqual('3.0', self.next(one, two, three, installed=1))
        self.assertIsNone(self.next(one, two, three, installed=3))
        self.assertIsNone(self.next(one, two, installed=3))
        self.assertIsNone(self.next())
        self.assertEqual('2.0', self.next(one, two, three, revoked=(3,)))
        self.assertIsNone(self.next(one, two, three, installed=2,
                                    revoked=(3,)))
        self.assertIsNone(self.next(one, two, floor=3))

    def test_what_should_not_be_used(self) -> None:
        memory = memories.Memory(0, 3, {4: 'why'})
        for number, words in ((2, 'below 3'), (4, 'revoked: why')):
            self.assertIn(words, offers.warning(release(number), memory))
        self.assertEqual('', offers.warning(release(3), memory))
        self.assertEqual('', offers.warning(release(5, 4), memory))
        self.assertEqual('', offers.warning(None, memory))

    def test_in_between(self) -> None:
        found = release(1), release(2), release(3, minimum=2)
        self.assertEqual('2.0', self.next(*found, installed=1))
        self.assertEqual('3.0', self.next(*found, installed=2))
        # There is nothing that it could be upgraded from.
        self.assertEqual('3.0', self.next(*found))

    def test_never_what_is_refused(self) -> None:
        """Whatever comes together, next is the newest that may be."""
        for installed, floor, revoked, minimum in itertools.product(
                (None, 1, 2, 3, 4), (0, 2, 3, 5), ((), (3,), (2, 3, 4)),
                (0, 2, 3)):
            releases = [release(1), release(2), release(3),
                        release(4, minimum)]
            allowed = [each.number for each in releases
                       if each.number >= floor and each.number not in revoked
                       and each.number > (installed or 0)
                       and (installed is None or installed >= each.minimum)]
            self.assertEqual(
                f'{max(allowed)}.0' if allowed else None,
                self.next(*releases, installed=installed, floor=floor,
                          revoked=revoked))

    def test_asked_for(self) -> None:
        found = offers.judge(
            indexes.Index('stable', releases=(
                release(1), release(2), release(3), release(4, 3))),
            memories.Memory(0, 2, {3: 'it eats images'}), release(2))
        self.assertEqual(['4.0', '3.0', '2.0', '1.0'],
                         [each.release.version for each in found])
        self.assertEqual(release(2), offers.choose(found, '2.0', release(2)))
        for version, words in (('1.0', 'below 2'), ('3.0', 'eats images'),
                               ('4.0', 'from number 3 on'),
                               ('5.0', 'has: 4.0, 3.0, 2.0, 1.0')):
            error = self.assertRaises(exceptions.RefusedRelease,
                                      offers.choose, found, version, None)
            self.assertIn(words, str(error))


class IndexTest(testtools.TestCase):

    def test_round_trip(self) -> None:
        index = indexes.Index('stable', 5, 2, (release(1), release(3)),
                              {2: 'why'})
        self.assertEqual(index, indexes.load(index.dump(), 'stable'))
        self.assertEqual(index.dump(),
                         indexes.load(index.dump(), 'stable').dump())

    def test_revoked(self) -> None:
        index = indexes.Index('stable', releases=(
            release(1), release(4, revokes=(2, 3))), revoked={3: 'why'})
        self.assertEqual({2: 'revoked by release 4.0', 3: 'why'},
                         index.all_revoked())

    def test_malformed(self) -> None:
        good = indexes.Index('stable').dump()
        for data in (b'', b'[]', b'{}', b'null', b'{"format": 1}',
                     good.replace(b'"format": 1', b'"format": 2'),
                     good.replace(b'stable', b'candidate'),
                     good.replace(b'"made": 0', b'"made": null'),
                     good.replace(b'"revoked": {}', b'"revoked": []'),
                     good.replace(b'"revoked": {}',
                                  b'"revoked": {"x": "y"}'),
                     good.replace(b'"releases": []', b'"releases": [1]')):
            self.assertNotEqual(good, data)
            self.assertRaises(exceptions.InvalidRelease, indexes.load, data,
                              'stable')
        for releases in ((release(2), release(1)), (release(1), release(1))):
            self.assertRaises(exceptions.InvalidRelease, indexes.Index,
                              'stable', releases=releases)


class MemoryTest(testtools.TestCase):

    def test_nothing_is_unlearned(self) -> None:
        memory = memories.Memory(1000, 5, {1: 'why'})
        self.assertEqual(memory, memory.learn(10, 3, {1: 'no reason'}))
        self.assertEqual(memories.Memory(2000, 6, {1: 'why', 2: 'too'}),
                         memory.learn(2000.7, 6, {2: 'too'}))

    def test_clock(self) -> None:
        memory = memories.Memory(1000000)
        for now in (1000000, 999700, 2e9):
            memory.check_clock(now)
        error = self.assertRaises(exceptions.ClockSetBack,
                                  memory.check_clock, 999699)
        self.assertIn('1970-01-12 13:46:40 UTC already', str(error))
        memories.Memory().check_clock(0)
