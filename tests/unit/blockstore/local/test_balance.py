"""Moving copies to where they belong."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import threading
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import work
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import operating


class BalanceTest(operating.OperatingTest):

    def setUp(self) -> None:
        super().setUp()
        self.store_some()

    def misplaced(self) -> list[str]:
        return self.engine.balancer.misplaced(inventory.take(self.fleet))

    def test_nothing_to_do(self) -> None:
        self.assertEqual([], self.misplaced())
        for image_id in self.images:
            self.assertFalse(self.engine.balancer.settle(image_id))
        self.assertEqual([], self.rebalance())

    def test_damage_that_was_read_on_the_way_is_repaired_later(self) -> None:
        away = self.devices[0]
        for image_id in self.images:
            for device in self.wanted(image_id) - {away}:
                # Whichever copy is read from.
                self.flip(device, image_id)
                break
        self.engine.membership.add(self.more[0])
        self.engine.membership.drain(away)
        self.engine.membership.empty(away, work.Job())
        self.engine.membership.rebuild(work.Job())
        healer = self.engine.healer(lambda status: None)
        status = healer.round(threading.Event())
        self.assertEqual(0, status.waiting)
        moved = [image_id for image_id in self.images
                 if self.more[0] in self.holders(image_id)]
        self.assertTrue(moved)
        self.assertGreater(status.repaired, 0)

    def test_new_device_takes_its_share(self) -> None:
        before = {image_id: self.holders(image_id)
                  for image_id in self.images}
        self.engine.membership.add(self.more[0], 'new')
        expected = [image_id for image_id in self.images
                    if self.wanted(image_id) != before[image_id]]
        # Otherwise this shows nothing.
        self.assertTrue(0 < len(expected) < len(self.images))
        self.assertEqual(sorted(expected), self.misplaced())
        with self.watch.every_step(), base.nothing_left_behind():
            done = self.rebalance()
        self.assertEqual(sorted(expected),
                         sorted(plan.image_id for plan in done))
        self.check_settled()
        # No more than that was moved.
        for image_id, devices in before.items():
            gained = self.holders(image_id) - devices
            self.assertIn(gained, ({self.more[0]}, set()))
        self.assertEqual([], self.rebalance())

    def test_plan_is_what_is_done(self) -> None:
        self.engine.membership.add(self.more[0], 'new')
        for image_id in self.misplaced():
            before = self.holders(image_id)
            plan = self.engine.balancer.plan(image_id)
            self.assertEqual(before, self.holders(image_id))
            self.assertEqual(len(self.images[image_id]), plan.size)
            self.assertEqual(plan, self.engine.balancer.settle(image_id))
            self.assertEqual((before | {*plan.make}) - {*plan.remove},
                             self.holders(image_id))

    def test_interrupted_and_resumed(self) -> None:
        self.engine.membership.add(self.more[0], 'new')
        first, *rest = self.misplaced()
        stop = threading.Event()

        class Stopping(work.Silent):
            def advance(self, images: int, size: int) -> None:
                if images:
                    stop.set()

        with self.watch.every_step():
            self.assertRaises(exceptions.Interrupted, self.rebalance,
                              work.Job(stop=stop, progress=Stopping()))
        self.assertEqual([], self.left())
        self.assertEqual(rest, self.misplaced())
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()

    def test_interrupted_amid_a_copy(self) -> None:
        self.engine.membership.add(self.more[0], 'new')
        image_id = self.misplaced()[0]
        job = work.Job()
        real = job.take
        before = self.holders(image_id)

        def take(size: int) -> None:
            job.stop.set()
            real(size)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.work.Job.take',
            lambda this, size: take(size)))
        self.assertRaises(exceptions.Interrupted,
                          self.engine.balancer.settle, image_id, job)
        self.assertEqual(before, self.holders(image_id))
        self.assertEqual([], self.left())

    def test_full_target(self) -> None:
        # The image stays where it is, and others can be moved.
        self.engine.membership.add(self.more[0], 'new')
        self.lab.fill(self.more[0])
        before = {image_id: self.holders(image_id)
                  for image_id in self.images}
        with self.watch.every_step():
            self.assertEqual([], self.rebalance())
        self.assertEqual(before, {image_id: self.holders(image_id)
                                  for image_id in self.images})
        self.assertEqual([], self.left())
        self.lab.make_room(self.more[0])
        self.rebalance()
        self.check_settled()

    def test_no_room_is_known_before_anything_is_read(self) -> None:
        self.engine.membership.add(self.more[0], 'new')
        image_id = self.misplaced()[0]
        real = os.fstatvfs

        def fstatvfs(fd: int) -> Any:
            usage = list(real(fd))
            if os.readlink(f'/proc/self/fd/{fd}') == self.more[0]:
                usage[4] = 0
            return os.statvfs_result(usage)

        self.useFixture(fixtures.MonkeyPatch('os.fstatvfs', fstatvfs))
        taken: list[int] = []
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.work.Job.take',
            lambda this, size: taken.append(size)))
        error = self.assertRaises(exceptions.NotEnoughCopies,
                                  self.engine.balancer.settle, image_id)
        self.assertEqual([errno.ENOSPC],
                         [cause.errno for cause in error.causes])
        self.assertEqual([], taken)

    def test_full_target_of_a_missing_copy(self) -> None:
        # Better anywhere than nowhere.
        image_id = next(iter(self.images))
        lost = min(self.wanted(image_id))
        spare = (set(self.devices) - self.wanted(image_id)).pop()
        self.lab.drop(lost, image_id)
        self.lab.fill(lost)
        with self.watch.every_step():
            plan = self.engine.balancer.settle(image_id)
        self.assertEqual((spare,), plan.make)
        self.assertEqual(3, len(self.watch.good(image_id)))
        # And where it belongs, when that is possible again.
        self.lab.make_room(lost)
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()

    def test_lost_copy(self) -> None:
        image_id = next(iter(self.images))
        self.lab.drop(min(self.wanted(image_id)), image_id)
        self.assertEqual([image_id], self.misplaced())
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()

    def test_deleted_meanwhile(self) -> None:
        for path in self.more:
            self.engine.membership.add(path)
        image_id = self.misplaced()[0]
        self.engine.delete(image_id)
        self.assertRaises(exceptions.ImageNotFound,
                          self.engine.balancer.settle, image_id)
        # Whoever moves many goes on with the others.
        self.watch.forget(image_id)
        del self.images[image_id]
        self.engine.balancer.run([image_id, *self.images], work.Job())
        self.check_settled()

    def test_uploads_and_downloads_go_on(self) -> None:
        self.engine.membership.add(self.more[0], 'new')
        ended = threading.Event()
        errors: list[BaseException] = []

        def serve() -> None:
            engine = self.restart()
            try:
                while not ended.is_set():
                    for image_id, data in list(self.images.items()):
                        self.assertEqual(data, b''.join(
                            engine.open(image_id)))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        with self.watch.every_step():
            self.rebalance()
        ended.set()
        thread.join()
        self.assertEqual([], errors)


class SurplusTest(operating.OperatingTest):
    """A device was away for so long that its copies were made up for."""

    def setUp(self) -> None:
        super().setUp()
        self.store_some(4)
        self.gone = self.devices[0]
        self.affected = [image_id for image_id in self.images
                         if self.gone in self.holders(image_id)]
        self.assertNotEqual([], self.affected)

    def make_up(self) -> None:
        self.lab.take_away(self.gone)
        self.fleet.out = frozenset([self.gone])
        self.rebalance()
        for image_id in self.affected:
            self.assertEqual(set(self.devices), self.watch.good(image_id)
                             | {self.gone})
        self.lab.bring_back(self.gone)
        self.fleet.out = frozenset()

    def test_a_short_absence_moves_nothing(self) -> None:
        self.lab.take_away(self.gone)
        self.assertEqual([], self.rebalance())
        # Nor if it was away already when the process started.
        self.lab.bring_back(self.gone)
        self.engine.membership.remember()
        self.lab.take_away(self.gone)
        self.engine = self.restart()
        self.assertEqual([], self.rebalance())

    def test_trimmed(self) -> None:
        self.make_up()
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()

    def test_not_trimmed_while_another_is_bad(self) -> None:
        self.make_up()
        image_id = self.affected[0]
        bad = min(self.wanted(image_id))
        self.flip(bad, image_id)
        with self.watch.every_step():
            self.engine.balancer.settle(image_id)
        # All good ones are still there, and the bad one will be repaired.
        self.assertEqual(set(self.devices) - {bad},
                         self.watch.good(image_id))
        self.assertIn(image_id, {upload.image_id for upload in
                                 self.engine.repairer.marked()})
        self.engine.repairer.repair(image_id, patient=True)
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()

    def test_the_bad_one_is_trimmed(self) -> None:
        self.make_up()
        image_id = self.affected[0]
        surplus = (set(self.devices) - self.wanted(image_id)).pop()
        self.flip(surplus, image_id)
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()

    def test_what_stays_is_read_first(self) -> None:
        self.make_up()
        read: list[int] = []
        real = work.Job.take

        def take(job: work.Job, size: int) -> None:
            read.append(size)
            real(job, size)

        with fixtures.MonkeyPatch(
                'easystack_image.blockstore.local.work.Job.take', take):
            self.engine.balancer.settle(self.affected[0])
        self.assertEqual([3000] * 4, read)

    def test_a_device_fails_before_the_copy_is_removed(self) -> None:
        self.make_up()
        image_id = self.affected[0]
        rest = sorted(self.wanted(image_id))
        real = self.engine.balancer._good

        def good(*arguments: Any) -> set[str]:
            result = real(*arguments)
            self.lab.take_away(rest[0])
            return result

        with fixtures.MonkeyPatch('easystack_image.blockstore.local.balance.'
                                  'Balancer._good',
                                  lambda this, *arguments: good(*arguments)):
            plan = self.engine.balancer.settle(image_id)
        self.assertEqual((), plan.remove)
        self.assertEqual(set(self.devices), self.watch.good(image_id))


class ZonesTest(operating.OperatingTest):
    """Six devices in three zones; copies move, and some cannot."""

    def setUp(self) -> None:
        super().setUp()
        for device in self.devices:
            self.rezone(device, f'zone{self.devices.index(device) % 3}')
        self.engine = self.restart()
        self.store_some(8)

    def rezone(self, device: str, zone: str) -> None:
        fd = os.open(device, os.O_RDONLY)
        device_module.write_identity(fd, dataclasses.replace(
            self.identity(device), zone=zone))
        os.close(fd)

    def test_some_targets_fail(self) -> None:
        # One zone has another device, and so has a second, which is full.
        self.engine.membership.add(self.more[0], 'zone1')
        self.engine.membership.add(self.more[1], 'zone2')
        self.lab.fill(self.more[1])
        with self.watch.every_step():
            self.rebalance()
        for image_id in self.images:
            self.assertEqual(3, len(self.watch.zones(image_id)))
            self.assertEqual(3, len(self.watch.good(image_id)))
        self.lab.make_room(self.more[1])
        with self.watch.every_step():
            self.rebalance()
        self.check_settled()


class OddCopiesTest(operating.OperatingTest):

    def setUp(self) -> None:
        super().setUp()
        self.store_some(1)
        self.image = next(iter(self.images))
        self.spare = (set(self.devices) - self.holders(self.image)).pop()

    def plant_damaged(self) -> None:
        place = self.lab.place(self.spare, self.image)
        os.mkdir(place)
        for name in (layout.DATA, layout.MANIFEST):
            with open(f'{place}/{name}', 'wb') as file:
                file.write(b'nonsense')

    def test_damaged_where_none_belongs(self) -> None:
        self.plant_damaged()
        with self.watch.every_step():
            self.assertFalse(self.engine.balancer.settle(self.image))
            # It is left to repair, which reads the others first.
            self.assertEqual({self.image}, {
                upload.image_id for upload in self.engine.repairer.marked()})
            self.engine.repairer.repair(self.image)
        self.check_settled()
        self.assertEqual(1, self.lab.put_aside(self.image))

    def test_surplus_that_is_the_only_good_one(self) -> None:
        """All stay, and that is told."""
        shutil.copytree(self.lab.place(min(self.holders(self.image)),
                                       self.image),
                        self.lab.place(self.spare, self.image))
        others = self.holders(self.image) - {self.spare}
        for path in others:
            self.flip(path, self.image)
        before = self.holders(self.image)
        told: list[str] = []

        class Telling(work.Silent):
            def note(self, message: str) -> None:
                told.append(message)

        self.assertEqual([], self.rebalance(work.Job(progress=Telling())))
        self.assertEqual(before, self.holders(self.image))
        message, = told
        self.assertIn(f'{self.image}: what it has on {self.spare} stays',
                      message)
        self.assertIn('1 of its copies is known to be good', message)
        self.assertIn(message.split(': ', 1)[1], self.log.output)
        # As it says, a repair helps.
        self.engine.repairer.repair(self.image)
        told.clear()
        self.rebalance(work.Job(progress=Telling()))
        self.assertEqual([], told)
        self.check_settled()

    def test_damaged_where_one_belongs(self) -> None:
        wanted = min(self.wanted(self.image))
        os.truncate(self.lab.place(wanted, self.image, layout.DATA), 5)
        with self.watch.every_step():
            self.engine.balancer.settle(self.image)
        self.check_settled()
        self.assertEqual(1, self.lab.put_aside(self.image))
