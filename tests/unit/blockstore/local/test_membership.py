"""Devices that come, leave, and take the place of others."""

from __future__ import annotations

import os
import shutil
import threading

from easystack_image import exceptions
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import work
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import operating


class MembershipTest(operating.OperatingTest):

    def setUp(self) -> None:
        super().setUp()
        self.store_some(8)
        self.membership = self.engine.membership
        self.first = self.devices[0]

    def empty(self, path: str) -> int:
        return self.membership.empty(path, work.Job())


class AddTest(MembershipTest):

    def test_add(self) -> None:
        with base.nothing_left_behind():
            self.membership.add(self.more[0], 'rack 7', 2.5)
        identity = self.identity(self.more[0])
        self.assertEqual(('rack 7', 2.5, 'active', self.engine.store_id),
                         (identity.zone, identity.weight, identity.state,
                          identity.store_id))
        # Images are placed on it at once, also by others that run already.
        before = len(self.names(self.more[0], 'images/00'))
        self.assertEqual(0, before)
        self.store_some(12)
        self.assertTrue(any(self.more[0] in self.holders(image_id)
                            for image_id in self.images))

    def test_refused(self) -> None:
        for path, reason in (
                ('/somewhere/else', 'easystack_block_devices'),
                (self.first, 'prepared already')):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.membership.add, path)
            self.assertIn(reason, str(error))
        os.rmdir(self.more[0])
        error = self.assertRaises(exceptions.ConfigurationError,
                                  self.membership.add, self.more[0])
        self.assertIn('create the directory', str(error))
        os.mkdir(self.more[0])
        with open(f'{self.more[0]}/file', 'w'):
            pass
        error = self.assertRaises(exceptions.ConfigurationError,
                                  self.membership.add, self.more[0])
        self.assertIn('not empty', str(error))

    def test_disks_that_are_shared(self) -> None:
        engine = self.restart()
        engine.membership._allow_shared_disk = False
        error = self.assertRaises(exceptions.ConfigurationError,
                                  engine.membership.add, self.more[0])
        self.assertIn('same disk', str(error))
        self.assertEqual([], os.listdir(self.more[0]))


class DrainTest(MembershipTest):

    def test_empty(self) -> None:
        with self.watch.every_step(), base.nothing_left_behind():
            self.membership.drain(self.first)
            self.assertEqual(0, self.empty(self.first))
        self.check_settled()
        for image_id in self.images:
            self.assertNotIn(self.first, self.holders(image_id))

    def test_nothing_is_placed_on_it(self) -> None:
        self.membership.drain(self.first)
        other = self.restart()
        for engine in (self.engine, other):
            for _ in range(6):
                image_id = self.image_id()
                engine.write(image_id, base.Source(b'data'))
                self.assertNotIn(self.first, self.holders(image_id))

    def test_while_uploads_go_on(self) -> None:
        # By a process that ran before: it sees the change by itself.
        other = self.restart()
        ended = threading.Event()
        stored: list[str] = []
        ids = [self.image_id() for _ in range(1000)]

        def upload() -> None:
            while not ended.is_set():
                other.write(ids[len(stored)], base.Source(b'data'))
                stored.append(ids[len(stored)])

        thread = threading.Thread(target=upload)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(ended.set)
        base.eventually(lambda: stored, 'an upload')
        with self.watch.every_step():
            self.membership.drain(self.first)
            base.eventually(lambda: not self.empty(self.first), 'emptiness')
        count = len(stored)
        base.eventually(lambda: len(stored) > count + 2, 'more uploads')
        ended.set()
        thread.join()
        self.assertEqual(0, len(self.membership.on_device(
            self.first).images))
        for image_id in stored:
            self.assertEqual(3, len(self.lab.holders(image_id)))

    def test_cancelled(self) -> None:
        before = {image_id: self.holders(image_id)
                  for image_id in self.images}
        self.membership.drain(self.first)
        self.engine.balancer.settle(next(
            image_id for image_id in before
            if self.first in before[image_id]))
        self.membership.activate(self.first)
        with self.watch.every_step():
            self.rebalance()
        self.assertEqual(before, {image_id: self.holders(image_id)
                                  for image_id in self.images})
        self.check_settled()

    def test_too_few_others(self) -> None:
        self.membership.drain(self.first)
        error = self.assertRaises(exceptions.Refused, self.membership.drain,
                                  self.devices[1])
        self.assertIn('2 other devices', str(error))
        self.assertEqual('active', self.identity(self.devices[1]).state)
        # By force; but no copy goes that is needed.
        self.membership.drain(self.devices[1], force=True)
        with self.watch.every_step():
            left = self.empty(self.devices[1])
        self.assertEqual(left, sum(self.devices[1] in self.holders(image_id)
                                   for image_id in self.images))
        self.assertNotEqual(0, left)

    def test_its_place_is_on_a_device_that_is_away(self) -> None:
        # It leaves all the same.
        for path in self.more:
            self.membership.add(path)
        self.rebalance()
        self.membership.drain(self.first)
        away = self.devices[1]
        affected = [image_id for image_id in self.images
                    if self.first in self.holders(image_id)
                    and away not in self.holders(image_id)
                    and away in self.wanted(image_id)]
        self.lab.take_away(away)
        self.assertEqual(0, self.empty(self.first))
        self.lab.bring_back(away)
        self.rebalance()
        self.check_settled()
        self.assertNotEqual([], affected or self.images)

    def test_a_device_that_is_away(self) -> None:
        self.lab.take_away(self.first)
        self.assertRaises(exceptions.DeviceError, self.membership.drain,
                          self.first)


class RemoveTest(MembershipTest):

    def test_drained(self) -> None:
        self.membership.drain(self.first)
        self.empty(self.first)
        gone = self.identity(self.first).device_id
        with self.watch.every_step():
            self.membership.remove(self.first)
        self.assertIn(device_module.REMOVED, os.listdir(self.first))
        known = members.Members(self.engine.fleet).known()
        self.assertNotIn(gone, known)
        self.assertEqual(3, len(known))
        self.rebalance()
        self.store_some(3)
        self.check_settled()

    def test_refused_while_it_holds_copies(self) -> None:
        error = self.assertRaises(exceptions.Refused,
                                  self.membership.remove, self.first)
        self.assertIn('drain it first', str(error))
        self.assertIn(device_module.IDENTITY, os.listdir(self.first))
        # The wrong name does not force anything.
        self.assertRaises(exceptions.Refused, self.membership.remove,
                          self.first, self.devices[1])

    def test_forced(self) -> None:
        affected = {image_id for image_id in self.images
                    if self.first in self.holders(image_id)}
        self.membership.remove(self.first, self.first)
        for image_id in affected:
            # Nothing on it is deleted.
            self.assertIn(self.first, self.holders(image_id))
        self.rebalance()
        for image_id in self.images:
            self.assertEqual(set(self.devices[1:]),
                             self.watch.good(image_id) - {self.first})
        # It is not waited for.
        self.assertEqual([], self.rebalance())

    def test_away(self) -> None:
        self.lab.take_away(self.first)
        error = self.assertRaises(exceptions.Refused,
                                  self.membership.remove, self.first)
        self.assertIn('fewer than 3 copies of', str(error))
        # Once its copies were made up for, it can go.
        self.fleet.out = frozenset([self.first])
        self.rebalance()
        self.fleet.out = frozenset()
        self.membership.remove(self.first)
        self.assertEqual(3, len(members.Members(self.fleet).known()))
        self.assertEqual([], self.rebalance())

    def test_away_with_another(self) -> None:
        """Nobody sees an image of which only they have copies."""
        second = self.devices[1]
        image_id = next(each for each in self.images if {
            self.first, second} <= self.holders(each))
        third, = self.holders(image_id) - {self.first, second}
        self.lab.drop(third, image_id)
        # The other images are elsewhere, and whole.
        for each in set(self.images) - {image_id}:
            self.engine.delete(each)
        for device in (self.first, second):
            self.lab.take_away(device)
        error = self.assertRaises(exceptions.Refused,
                                  self.membership.remove, self.first)
        self.assertIn(second, str(error))
        self.membership.remove(self.first, self.first)
        self.lab.bring_back(second)
        self.assertEqual([image_id], list(self.engine.list_images()))

    def test_not_brought_back_by_one_that_was_away(self) -> None:
        self.membership.drain(self.first)
        self.empty(self.first)
        self.lab.take_away(self.devices[1])
        gone = self.identity(self.first).device_id
        self.membership.remove(self.first)
        self.lab.bring_back(self.devices[1])
        self.assertNotIn(gone, members.Members(self.fleet).refresh())
        self.assertNotIn(gone, members.Members(
            self.restart().fleet).known())

    def test_brought_back_by_hand(self) -> None:
        self.membership.drain(self.first)
        gone = self.identity(self.first).device_id
        self.empty(self.first)
        self.membership.remove(self.first)
        os.rename(f'{self.first}/{device_module.REMOVED}',
                  f'{self.first}/{device_module.IDENTITY}')
        self.membership.activate(self.first)
        self.assertIn(gone, members.Members(self.fleet).known())
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()

    def test_unknown(self) -> None:
        self.assertRaises(exceptions.ConfigurationError,
                          self.membership.remove, self.more[0])


class ReplaceTest(MembershipTest):

    def setUp(self) -> None:
        super().setUp()
        self.before = {image_id: self.holders(image_id)
                       for image_id in self.images}
        self.old = self.identity(self.first)

    def check_replaced(self, new: str) -> None:
        """See the new device where the old one was, and no other change."""
        self.check_settled()
        for image_id, devices in self.before.items():
            self.assertEqual(
                {new if path == self.first else path for path in devices},
                self.holders(image_id))
        identity = self.identity(new)
        self.assertNotEqual(self.old.device_id, identity.device_id)
        self.assertEqual((self.old.zone, self.old.weight),
                         (identity.zone, identity.weight))

    def test_dead_at_the_same_path(self) -> None:
        self.kill_disk(self.first)
        with self.watch.every_step():
            self.membership.replace(self.first, self.first)
            self.rebalance()
        self.check_replaced(self.first)

    def test_dead_at_the_same_path_by_a_new_process(self) -> None:
        self.kill_disk(self.first)
        self.engine = self.restart()
        self.membership = self.engine.membership
        with self.watch.every_step():
            self.membership.replace(self.first, self.first)
            self.rebalance()
        self.check_replaced(self.first)

    def test_dead_at_a_new_path(self) -> None:
        self.kill_disk(self.first)
        with self.watch.every_step():
            self.membership.replace(self.first, self.more[0])
            self.rebalance()
        self.check_replaced(self.more[0])

    def test_alive_at_a_new_path(self) -> None:
        with self.watch.every_step():
            self.membership.replace(self.first, self.more[0])
            self.assertEqual('draining', self.identity(self.first).state)
            self.rebalance()
        self.check_replaced(self.more[0])
        self.membership.remove(self.first)

    def test_the_old_one_returns(self) -> None:
        self.lab.take_away(self.first)
        self.membership.replace(self.first, self.more[0])
        self.rebalance()
        # Meanwhile, something is deleted.
        deleted = next(image_id for image_id in self.images
                       if self.first in self.before[image_id])
        self.engine.delete(deleted)
        self.watch.forget(deleted)
        del self.images[deleted], self.before[deleted]
        self.lab.bring_back(self.first)
        self.engine.sweeper.expect_return()
        self.engine.sweeper.sweep()
        self.assertNotIn(deleted, self.engine.list_images())
        self.assertEqual(set(), self.holders(deleted))
        # It does not take part any more, and is emptied.
        self.assertTrue(self.fleet.leaving(self.first))
        with self.watch.every_step():
            self.rebalance()
        self.check_replaced(self.more[0])
        self.membership.remove(self.first)

    def test_the_old_one_returns_elsewhere(self) -> None:
        # Somebody mounts it once more, to see what is on it.
        away = f'{self.first}.dead'
        os.rename(self.first, away)
        os.mkdir(self.first)
        self.membership.replace(self.first, self.first)
        self.rebalance()
        os.rmdir(self.more[0])
        os.rename(away, self.more[0])
        self.engine = self.restart()
        with self.watch.every_step():
            self.rebalance()
        self.check_replaced(self.first)

    def test_cut_short(self) -> None:
        # Between the preparation and the note of it.
        self.kill_disk(self.first)
        identity = self.membership.check_replace(self.first, self.first)
        device_module.initialise(self.first, identity)
        self.engine = self.restart()
        self.membership = self.engine.membership
        self.membership.replace(self.first, self.first)
        self.rebalance()
        self.check_replaced(self.first)
        # The one before it is forgotten all the same.
        self.assertNotIn(self.old.device_id,
                         members.Members(self.fleet).known())

    def test_cut_short_with_the_old_one_there(self) -> None:
        identity = self.membership.check_replace(self.first, self.more[0])
        device_module.initialise(self.more[0], identity)
        self.engine = self.restart()
        self.engine.membership.replace(self.first, self.more[0])
        self.assertEqual('draining', self.identity(self.first).state)
        self.rebalance()
        self.check_replaced(self.more[0])

    def test_successor_that_is_well(self) -> None:
        """It is not taken for one that is to be replaced at its path."""
        self.membership.replace(self.first, self.more[0])
        self.assertRaises(
            exceptions.ConfigurationError, self.membership.replace,
            self.more[0], self.more[0])

    def test_twice(self) -> None:
        self.kill_disk(self.first)
        self.membership.replace(self.first, self.more[0])
        error = self.assertRaises(
            exceptions.ConfigurationError, self.membership.replace,
            self.first, self.more[1])
        self.assertIn('replaced already', str(error))
        self.assertEqual([], os.listdir(self.more[1]))
        # The same again is no mistake.
        self.membership.replace(self.first, self.more[0])
        self.rebalance()
        self.check_replaced(self.more[0])

    def test_the_successor_dies_too(self) -> None:
        self.kill_disk(self.first)
        self.membership.replace(self.first, self.more[0])
        self.rebalance()
        self.kill_disk(self.more[0])
        with self.watch.every_step():
            self.membership.replace(self.more[0], self.more[1])
            self.rebalance()
        self.check_replaced(self.more[1])

    def test_refused(self) -> None:
        error = self.assertRaises(
            exceptions.ConfigurationError, self.membership.replace,
            self.more[0], self.more[1])
        self.assertIn('no device of the set', str(error))
        self.assertRaises(exceptions.ConfigurationError,
                          self.membership.replace, self.first,
                          self.devices[1])
        self.assertEqual('active', self.identity(self.first).state)

    def test_other_zone_and_weight(self) -> None:
        self.kill_disk(self.first)
        self.membership.replace(self.first, self.first, 'cellar', 4.0)
        identity = self.identity(self.first)
        self.assertEqual(('cellar', 4.0), (identity.zone, identity.weight))


class TwoAtOnePathTest(MembershipTest):
    """A disk died, and another device was prepared in its place."""

    def setUp(self) -> None:
        super().setUp()
        self.old = self.identity(self.first).device_id
        self.kill_disk(self.first)
        device_module.initialise(self.first, device_module.new_identity(
            self.engine.store_id))
        self.new = self.identity(self.first).device_id
        self.engine = self.restart()
        self.membership = self.engine.membership
        self.membership.remember()

    def known(self) -> set[str]:
        return set(members.Members(self.fleet).known())

    def test_path_does_not_tell_which(self) -> None:
        for function, more in ((self.membership.remove, ()),
                               (self.membership.replace, (self.more[0],))):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      function, self.first, *more)
            self.assertIn(f'{self.new} (is there), {self.old} (is away)',
                          str(error))
        self.assertLessEqual({self.old, self.new}, self.known())

    def test_forget_the_dead_one(self) -> None:
        error = self.assertRaises(exceptions.Refused,
                                  self.membership.remove, self.old)
        self.assertIn('fewer than 3 copies', str(error))
        self.rebalance()
        self.check_settled()
        gone = self.membership.remove(self.old)
        self.assertEqual((self.first, False, self.new),
                         (gone.path, gone.there, gone.instead))
        self.assertNotIn(self.old, self.known())
        self.assertEqual(self.new, self.identity(self.first).device_id)
        self.membership.drain(self.first)
        self.assertEqual(0, self.empty(self.first))
        self.membership.remove(self.first)
        self.assertNotIn(self.new, self.known())

    def test_forget_the_dead_one_by_force(self) -> None:
        self.assertRaises(exceptions.Refused, self.membership.remove,
                          self.old, self.first)
        self.membership.remove(self.old, self.old)
        self.assertNotIn(self.old, self.known())

    def test_the_new_one_goes(self) -> None:
        self.store_some(8)
        self.assertRaises(exceptions.Refused, self.membership.remove,
                          self.new)
        self.assertEqual(self.first, self.membership.drain(self.new))
        self.assertEqual(0, self.empty(self.first))
        self.membership.remove(self.new)
        self.assertIn(self.old, self.known())
        # The path tells again which one is meant.
        self.assertEqual(self.old, self.membership.find(
            self.first).identity.device_id)

    def test_replace_the_dead_one(self) -> None:
        """At another path; the one that is at its path stays."""
        before = self.identity(self.first)
        planned = self.engine.forecast.replace(
            self.old, self.more[0], None, None, work.Job())
        with self.watch.every_step():
            self.assertTrue(self.membership.replace(self.old, self.more[0]))
            self.rebalance()
        self.assertEqual(before, self.identity(self.first))
        self.assertLessEqual({plan.image_id for plan in planned}, {
            image_id for image_id in self.images
            if self.more[0] in self.holders(image_id)})
        self.check_settled()
        # The same once more is no mistake.
        self.membership.replace(self.old, self.more[0])
        self.membership.remove(self.old)
        self.assertNotIn(self.old, self.known())

    def test_the_other_one_is_not_overwritten(self) -> None:
        error = self.assertRaises(
            exceptions.ConfigurationError, self.membership.replace,
            self.old, self.first)
        self.assertIn(f'device remove {self.old}', str(error))
        self.assertEqual(self.new, self.identity(self.first).device_id)

    def test_the_dead_one_cannot_be_drained(self) -> None:
        for function in (self.membership.drain, self.membership.activate):
            error = self.assertRaises(exceptions.DeviceUnavailable,
                                      function, self.old)
            self.assertIn('is not there', str(error))

    def test_both_away(self) -> None:
        self.rebalance()
        self.lab.take_away(self.first)
        self.engine = self.restart()
        self.membership = self.engine.membership
        error = self.assertRaises(exceptions.ConfigurationError,
                                  self.membership.remove, self.first)
        self.assertIn('(is away)', str(error))
        # An image may be on these two only.
        for image_id in list(self.images):
            self.engine.delete(image_id)
            self.watch.forget(image_id)
        error = self.assertRaises(exceptions.Refused,
                                  self.membership.remove, self.old)
        self.assertIn(self.first, str(error))


class ReturnedTest(MembershipTest):
    """A device was replaced at its path, and is mounted there again."""

    def setUp(self) -> None:
        super().setUp()
        self.old = self.identity(self.first).device_id
        aside = f'{self.first}.old'
        os.rename(self.first, aside)
        os.mkdir(self.first)
        self.membership.replace(self.first, self.first)
        self.rebalance()
        self.new = self.identity(self.first).device_id
        self.away = f'{self.first}.new'
        self.addCleanup(shutil.rmtree, self.away, ignore_errors=True)
        os.rename(self.first, self.away)
        os.rename(aside, self.first)
        self.engine = self.restart()
        self.membership = self.engine.membership

    def test_path_does_not_tell_which(self) -> None:
        check = self.membership
        for function, arguments in (
                (check.remove, (self.first,)),
                (check.remove, (self.first, self.first)),
                (check.drain, (self.first,)),
                (check.drain, (self.first, True)),
                (check.activate, (self.first,)),
                (check.replace, (self.first, self.more[0]))):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      function, *arguments)
            self.assertIn(f'{self.old} (is there), {self.new} (is away)',
                          str(error))
        self.assertEqual(self.old, self.identity(self.first).device_id)
        self.assertLessEqual({self.old, self.new},
                             set(members.Members(self.fleet).known()))

    def test_told_by_its_id(self) -> None:
        error = self.assertRaises(exceptions.Refused,
                                  self.membership.activate, self.old)
        self.assertIn(f'{self.new} took the place of {self.old}', str(error))
        self.assertEqual(self.first, self.membership.drain(self.old))
        self.assertEqual(0, self.empty(self.first))
        gone = self.membership.remove(self.old)
        self.assertTrue(gone.there)
        os.rename(self.first, f'{self.first}.old')
        self.addCleanup(shutil.rmtree, f'{self.first}.old')
        os.rename(self.away, self.first)
        self.engine = self.restart()
        self.rebalance()
        self.check_settled()

    def test_no_copy_is_placed_on_it(self) -> None:
        known = set(self.images)
        self.store_some(8)
        for image_id in set(self.images) - known:
            self.assertEqual({*self.devices} - {self.first},
                             self.holders(image_id))
            self.flip(self.devices[1], image_id)
            self.engine.repairer.repair(image_id)
            self.assertNotIn(self.first, self.holders(image_id))
        self.rebalance()
        self.assertFalse([image_id for image_id in self.images
                          if self.first in self.holders(image_id)])


class ByIdTest(MembershipTest):

    def test_life(self) -> None:
        device_id = self.identity(self.first).device_id
        self.membership.drain(device_id)
        self.assertEqual('draining', self.identity(self.first).state)
        self.membership.activate(device_id)
        self.assertEqual('active', self.identity(self.first).state)
        self.membership.drain(device_id)
        self.empty(self.first)
        self.membership.remove(device_id)
        self.assertIn(device_module.REMOVED, os.listdir(self.first))

    def test_dead_at_the_same_path(self) -> None:
        """Cut short and begun again, by the same id."""
        device_id = self.identity(self.first).device_id
        self.kill_disk(self.first)
        for _ in range(2):
            path = self.membership.path_of(device_id)
            self.assertEqual(self.first, path)
            self.assertFalse(self.membership.replace(device_id, path))
            self.assertEqual(device_id, self.identity(self.first).replaces)
        self.rebalance()
        self.check_settled()

    def test_unknown(self) -> None:
        error = self.assertRaises(exceptions.ConfigurationError,
                                  self.membership.remove, self.image_id())
        self.assertIn(self.first, str(error))


class RememberedPathTest(MembershipTest):
    """Nobody prepares a device where another one may come back."""

    def test_add(self) -> None:
        self.kill_disk(self.first)
        error = self.assertRaises(exceptions.ConfigurationError,
                                  self.membership.add, self.first)
        self.assertIn(f'device replace {self.first}', str(error))
        self.assertEqual([], os.listdir(self.first))

    def test_replace_another(self) -> None:
        self.kill_disk(self.first)
        self.assertRaises(exceptions.ConfigurationError,
                          self.membership.replace, self.devices[1],
                          self.first)
        self.assertEqual([], os.listdir(self.first))

    def test_add_where_one_was_replaced(self) -> None:
        device_id = self.identity(self.first).device_id
        self.kill_disk(self.first)
        self.membership.replace(self.first, self.more[0])
        error = self.assertRaises(exceptions.ConfigurationError,
                                  self.membership.add, self.first)
        self.assertIn(f'device remove {device_id}', str(error))
        self.rebalance()
        self.membership.remove(device_id)
        self.membership.add(self.first)
        self.rebalance()
        self.check_settled()

    def test_within_a_device(self) -> None:
        inner = f'{self.first}/inner'
        os.mkdir(inner)
        self.addCleanup(shutil.rmtree, inner)
        self.all = [*self.all, inner]
        self.engine = self.restart()
        for function, arguments in (
                (self.engine.membership.add, (inner,)),
                (self.engine.membership.replace, (self.devices[1], inner)),
                (self.engine.membership.check_replace,
                 (self.devices[1], inner))):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      function, *arguments)
            self.assertIn(f'inside the device {self.first}', str(error))
        self.assertEqual([], os.listdir(inner))


class ReplacedTest(MembershipTest):

    def test_not_active_again(self) -> None:
        """Its images belong to another device now."""
        self.membership.replace(self.first, self.more[0])
        for function in (self.membership.activate,
                         self.membership.check_activate):
            error = self.assertRaises(exceptions.Refused, function,
                                      self.first)
            self.assertIn(self.more[0], str(error))
        self.assertEqual('draining', self.identity(self.first).state)


class MovedDiskTest(MembershipTest):

    def test_disk_that_is_mounted_elsewhere(self) -> None:
        """The paths change, the devices do not: nothing is moved."""
        os.rmdir(self.more[0])
        os.rename(self.first, self.more[0])
        os.mkdir(self.first)
        before = {image_id: self.holders(image_id)
                  for image_id in self.images}
        for engine in (self.engine, self.restart()):
            self.engine = engine
            self.assertEqual([], self.rebalance())
        self.assertEqual(before, {image_id: self.holders(image_id)
                                  for image_id in self.images})
        shutil.rmtree(self.first)
        os.rename(self.more[0], self.first)
        os.mkdir(self.more[0])
        self.assertEqual([], self.rebalance())
