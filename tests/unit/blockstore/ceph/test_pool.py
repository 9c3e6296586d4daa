"""What is made of what a cluster says."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import testtools

from easystack_image.blockstore import engine
from easystack_image.blockstore.ceph import pool
from easystack_image.blockstore.ceph import settings

GOOD = engine.CopyState.GOOD
MISSING = engine.CopyState.MISSING


def seen(size: int = 3, min_size: int = 2, replicated: bool = True,
         up: tuple[int, ...] = (0, 1, 2, 3)) -> pool.Pool:
    return pool.Pool('images', size, min_size, replicated, frozenset(),
                     frozenset(up))


class PromisesTest(testtools.TestCase):

    def test_kept(self) -> None:
        for size, min_size in ((3, 2), (3, 3), (4, 2)):
            self.assertEqual([], pool.promises(
                seen(size, min_size), settings.Settings()))

    def test_broken(self) -> None:
        for given, what, command in (
                (seen(2, 2), 'pool-size', 'ceph osd pool set images size 3'),
                (seen(3, 1), 'pool-min-size',
                 'ceph osd pool set images min_size 2'),
                (seen(replicated=False), 'pool-type', 'not replicated')):
            problem, = pool.promises(given, settings.Settings())
            self.assertEqual(what, problem.what)
            self.assertEqual('images', problem.device)
            self.assertIs(engine.Severity.CRITICAL, problem.severity)
            self.assertFalse(problem.outage)
            self.assertIn(command, problem.message)
        self.assertEqual(2, len(pool.promises(seen(1, 1),
                                              settings.Settings())))


class FullTest(testtools.TestCase):

    def check(self, words: str, *flags: str, **quota: int) -> None:
        self.assertEqual(words, pool.full(dataclasses.replace(
            seen(), flags=frozenset(flags), **quota)))

    def test_full(self) -> None:
        self.check('pool images is full', 'full')
        self.check('pool images is full', 'full', quota_bytes=5)
        self.check('pool images is at its quota of 5 bytes', 'full',
                   'full_quota', quota_bytes=5)
        self.check('pool images is at its quota of 5 bytes or 7 objects',
                   'full_quota', quota_bytes=5, quota_objects=7)


class CopiesTest(testtools.TestCase):

    def copies(self, given: pool.Pool, sample: list[pool.Placement],
               lacking: tuple[str, ...] = ()) -> list[engine.Copy]:
        cluster: Any = types.SimpleNamespace(settings=settings.Settings())
        return pool.copies(cluster, given, sample, lacking)

    def place(self, pgid: str, *osds: int) -> pool.Placement:
        return pool.Placement(pgid, osds, osds)

    def test_all_there(self) -> None:
        copies = self.copies(seen(), [self.place('1.0', 0, 1, 2),
                                      self.place('1.1', 3, 1, 0)])
        self.assertEqual(['images/1', 'images/2', 'images/3'],
                         [copy.device for copy in copies])
        self.assertEqual(['osd.0 osd.3', 'osd.1', 'osd.0 osd.2'],
                         [copy.zone for copy in copies])
        for copy in copies:
            self.assertEqual((GOOD, ''), (copy.state, copy.reason))

    def test_one_lacks(self) -> None:
        nobody = pool.NOBODY
        for given, place in (
                (seen(), self.place('1.1', 3, 1)),
                (seen(), self.place('1.1', 3, nobody, 1)),
                # The map may not have caught up with it yet.
                (seen(up=(0, 1, 2)), self.place('1.1', 0, 3, 1))):
            copies = self.copies(given, [self.place('1.0', 0, 1, 2), place])
            self.assertEqual([GOOD, GOOD, MISSING],
                             [copy.state for copy in copies])
            self.assertIn('1 of 2 placement groups', copies[2].reason)
            self.assertIn('1.1', copies[2].reason)

    def test_degraded(self) -> None:
        sample = [self.place('1.0', 0, 1, 2)]
        copies = self.copies(seen(), sample, ('1.0', '1.7'))
        self.assertEqual([GOOD, GOOD, MISSING],
                         [copy.state for copy in copies])
        copies = self.copies(seen(), sample, ('1.7',))
        self.assertEqual([GOOD] * 3, [copy.state for copy in copies])

    def test_pools_of_other_sizes(self) -> None:
        sample = [self.place('1.0', 0, 1)]
        self.assertEqual([GOOD, GOOD, MISSING], [
            copy.state for copy in self.copies(seen(2), sample)])
        sample = [self.place('1.0', 0, 1, 2, 3)]
        self.assertEqual([GOOD] * 4, [
            copy.state for copy in self.copies(seen(4), sample)])
