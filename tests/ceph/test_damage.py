"""Bytes that went bad, in one copy or in all, are found and repaired."""

from __future__ import annotations

from typing import Any
from unittest import mock

import fixtures
import rbd

from easystack_image import exceptions
from easystack_image.blockstore.ceph import replicas
from tests.ceph import test_engine
from tests.contract import base as contract
from tests.contract.sources import noise

MIB = test_engine.MIB
#: The block that goes bad, and the object that it is in.
BLOCK = 5
OBJECT = 0


class DamageCase(test_engine.EngineTest):
    """An image of several objects, of which one block goes bad."""

    def setUp(self) -> None:
        super().setUp()
        self.data = noise(11 * MIB + 7)
        self.image = self.store(self.data).image_id
        with rbd.Image(self.ioctx, self.image, read_only=True) as image:
            prefix = image.block_name_prefix()
        self.object = f'{prefix}.{OBJECT:016x}'
        self.group = self.cluster.ceph(
            'osd', 'map', self.cluster.pool, self.object)['pgid']

    def damage_first_copy(self) -> None:
        """Have the copy go bad that Ceph reads, and Ceph notice nothing."""
        altered = bytearray(self.data[:8 * MIB])
        altered[BLOCK * MIB + 5] ^= 0xff
        self.cluster.alter_copy(self.object, bytes(altered))
        self.assertNotEqual(self.block(), self.ioctx.read(
            self.object, MIB, BLOCK * MIB))

    def block(self) -> bytes:
        """Return what the bad block should be."""
        return self.data[BLOCK * MIB:(BLOCK + 1) * MIB]

    def check_all_copies_good(self) -> None:
        """Read each of the copies, with near certainty."""
        seen = []
        found = replicas.Replicas(self.engine._connection.cluster()).open()
        try:
            self.assertIsNone(found.find(
                self.object, BLOCK * MIB, MIB,
                lambda data: seen.append(data == self.block())))
        finally:
            found.close()
        self.assertEqual({True}, set(seen))

    def states(self, verify: bool = False) -> set[Any]:
        """Return the states of the copies."""
        return {copy.state for copy in
                self.engine.list_copies(self.image, verify)}

    def stamps(self) -> dict[str, str]:
        """Return when Ceph compared the copies of each placement group."""
        return {each['pgid']: each['last_deep_scrub_stamp'] for each in
                self.cluster.ceph('pg', 'ls')['pg_stats']}

    def may_repair(self) -> None:
        """Give Glance's user the right to have Ceph compare copies."""
        def allow(mon: str) -> None:
            rights = [
                f'{kind} {right}' for kind, right in self.cluster.ceph(
                    'auth', 'get', 'client.glance')[0]['caps'].items()
                if kind != 'mon']
            self.cluster.ceph('auth', 'caps', 'client.glance', 'mon', mon, *(
                word for each in rights for word in each.split(' ', 1)))

        self.addCleanup(allow, 'profile rbd')
        allow('profile rbd, allow command "pg repair"')


class OneCopyTest(DamageCase):

    def setUp(self) -> None:
        super().setUp()
        # An OSD comes back in each of these tests.
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.ceph.replicas.SETTLING', 30.0))

    def test_restored_from_another_copy(self) -> None:
        self.damage_first_copy()
        # Whoever downloads it notices nothing; and it is noted.
        self.assertTrue(self.read(self.image) == self.data)
        self.assertIsNotNone(self.engine.repair_requested_at(self.image))
        self.assertEqual({contract.DAMAGED}, self.states(verify=True))

        stamps = self.stamps()
        self.engine.repair(self.image)
        self.assertIn(f'{BLOCK} (object {self.object}, placement group '
                      f'{self.group} on osd.', self.log.output)
        self.check_all_copies_good()
        self.assertEqual({contract.GOOD}, self.states(verify=True))
        self.assertIsNone(self.engine.repair_requested_at(self.image))
        # Ceph, which cannot tell which copy is right, was not asked.
        self.assertEqual(stamps, self.stamps())
        self.assertEqual([], self.engine.problems())

    def test_repaired_by_ceph(self) -> None:
        """Where no other copy can be read: it has a digest of the object."""
        self.may_repair()
        self.damage_first_copy()
        # A connection with the rights that were given just now.
        engine = self.lab.engine(ceph_timeout=26)
        # Ceph finds that the copies differ, when it compares them.
        self.cluster.ceph('pg', 'deep-scrub', self.group)
        contract.eventually(lambda: [
            each.what for each in engine.problems()] == ['pool-inconsistent'],
            'it is told', 120)
        self.assertIn(self.group, engine.problems()[0].message)
        stamps = self.stamps()
        with mock.patch.object(replicas, '_librados', side_effect=OSError):
            engine.repair(self.image)
        self.assertTrue(self.read(self.image) == self.data)
        after = self.stamps()
        self.assertEqual({self.group}, {
            group for group in stamps if stamps[group] != after[group]})
        self.check_all_copies_good()
        contract.eventually(lambda: not engine.problems(),
                            'Ceph knows that all is well', 60)


class AllCopiesTest(DamageCase):

    def harm(self) -> None:
        """Change a byte in all copies, or change it back."""
        self.lab.damage('', self.image, BLOCK * MIB + 5)
        self.lab.damage('', self.image, 9 * MIB)

    def test_lost(self) -> None:
        self.may_repair()
        engine = self.lab.engine(ceph_timeout=25)
        other = self.store(noise(MIB, 2)).image_id
        self.harm()
        stamps = self.stamps()
        error = self.assertRaises(exceptions.DamagedImage, engine.repair,
                                  self.image)
        # All that is bad is named, and not only the first of it.
        for word in (self.image, f'{BLOCK} (object {self.object}', '9 ('):
            self.assertIn(word, str(error))
        after = self.stamps()
        self.assertNotEqual(stamps[self.group], after[self.group])
        self.assertLessEqual(len([
            group for group in stamps if stamps[group] != after[group]]), 2)

        # Every process knows of it from now on.
        attempt = self.engine.repair_attempt(self.image)
        self.assertTrue(attempt is not None and attempt.lost, attempt)
        self.assertEqual({contract.DAMAGED}, self.states())
        problem, = self.engine.problems()
        self.assertEqual('images-lost', problem.what)
        self.assertFalse(problem.outage)
        self.assertIn('1 image has', problem.message)
        self.assertEqual({self.image}, self.engine._verifier.given_up())
        self.engine.repair(other)

        # Until it is asked for again.
        self.engine.request_repair(self.image)
        self.assertEqual(set(), self.engine._verifier.given_up())
        self.harm()
        self.engine.repair(self.image)
        self.assertEqual([], self.engine.problems())
        self.assertEqual({contract.GOOD}, self.states())
        self.assertTrue(self.read(self.image) == self.data)

    def test_book_forgets_what_is_deleted(self) -> None:
        self.harm()
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.assertEqual(['images-damaged'], [
            each.what for each in self.engine.problems()])
        self.engine.delete(self.image)
        self.assertEqual([], self.engine.problems())
