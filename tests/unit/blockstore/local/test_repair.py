"""Making up for copies, whatever is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import errno
import os
from pathlib import Path
import shutil
import threading
import time
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import repair
from tests.contract import local
from tests.crash import steps
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import test_manifest
from tests.unit.blockstore.local.base import MIB

OTHER = '123e4567-e89b-12d3-a456-426614174000'


class RepairTest(base.EngineTest):
    """Tests that begin with one image of a bit more than two blocks."""

    def setUp(self) -> None:
        super().setUp()
        self.data = base.noise(2 * MIB + 5)
        self.info = self.store(self.data)
        self.image = self.info.image_id
        self.holders = self.lab.holders(self.image)
        self.spare, = set(self.devices) - set(self.holders)
        self.repairer = self.engine.repairer

    def path(self, device: str, name: str) -> str:
        """Return the path of a file of a copy."""
        return self.lab.place(device, self.image, name)

    def overwrite(self, device: str, name: str, content: bytes) -> None:
        """Replace a file of a copy."""
        with open(self.path(device, name), 'wb') as file:
            file.write(content)

    def manifests(self) -> set[bytes]:
        """Return the manifests that lie on the devices."""
        found = set()
        for device in self.lab.holders(self.image):
            with open(self.path(device, 'manifest'), 'rb') as file:
                found.add(file.read())
        return found

    def assertRepaired(self) -> None:
        self.assertEqual(3, len(self.good(self.image)))
        self.assertTrue(self.read(self.image) == self.data)
        self.assertEqual([], self.lab.leftovers())


class DamageTest(RepairTest):
    """Each kind of damage, and what must follow."""

    def damages(self) -> dict[str, Callable[[str], None]]:
        """Return ways to damage a copy so that it shows at once."""
        other = self.image_id()
        packed, = self.manifests()
        return {
            'no manifest': lambda device: os.unlink(
                self.path(device, 'manifest')),
            'no data': lambda device: os.unlink(self.path(device, 'data')),
            'nothing': lambda device: [
                os.unlink(self.path(device, name))
                for name in ('data', 'manifest')],
            'manifest empty': lambda device: os.truncate(
                self.path(device, 'manifest'), 0),
            'manifest flipped': lambda device: local.flip(
                self.path(device, 'manifest'), 100),
            'manifest of zeros': lambda device: self.overwrite(
                device, 'manifest', bytes(len(packed))),
            'manifest of another image': lambda device: self.overwrite(
                device, 'manifest', manifest_module.pack(
                    local.describe(other, self.data))),
            'manifest of another set': lambda device: self.overwrite(
                device, 'manifest', manifest_module.pack(local.describe(
                    self.image, self.data, store_id=OTHER))),
            'data cut off': lambda device: os.truncate(
                self.path(device, 'data'), 2 * MIB),
            'data empty': lambda device: os.truncate(
                self.path(device, 'data'), 0),
            'data too long': lambda device: os.truncate(
                self.path(device, 'data'), 3 * MIB)}

    def test_something_else_in_its_place(self) -> None:
        device, place = self.holders[0], self.path(
            self.holders[0], '').rstrip('/')
        for number, make in enumerate([
                lambda: open(place, 'w').close(),
                lambda: os.symlink('/etc', place),
                lambda: os.symlink('nowhere', place),
                lambda: os.makedirs(f'{place}/data/inner'),
                lambda: os.mkdir(place)], 1):
            self.lab.drop(device, self.image)
            make()
            self.assertEqual('damaged', self.states(
                self.image, verify=False)[device], number)
            self.assertTrue(self.read(self.image) == self.data)
            self.engine.repair(self.image)
            self.assertEqual(3, len(self.good(self.image)))
            self.assertEqual(number, self.lab.put_aside(self.image))
            if device not in self.lab.holders(self.image):
                # It is on the spare device now: let them change places.
                shutil.copytree(self.path(self.spare, ''), place)
                self.lab.drop(self.spare, self.image)
        self.assertTrue(os.path.exists('/etc/passwd'))

    def test_deleting_something_else_in_its_place(self) -> None:
        place = self.path(self.holders[0], '').rstrip('/')
        for make in (lambda: open(place, 'w').close(),
                     lambda: os.symlink('/etc', place),
                     lambda: os.makedirs(f'{place}/data/inner')):
            self.lab.drop(self.holders[0], self.image)
            make()
            self.engine.delete(self.image, self.info.generation)
            self.assertFalse(os.path.lexists(place))
            self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                              self.image)
            self.assertEqual([], self.lab.leftovers())
            self.info = self.store(self.data, self.image)
            if self.lab.content(self.holders[0], self.image) is None:
                shutil.copytree(self.path(self.spare, ''), place)
                self.lab.drop(self.spare, self.image)
        self.assertTrue(os.path.exists('/etc/passwd'))

    def test_each(self) -> None:
        before = self.manifests()
        for number, (name, damage) in enumerate(self.damages().items(), 1):
            device = self.lab.holders(self.image)[0]
            damage(device)
            states = self.states(self.image, verify=False)
            self.assertEqual('damaged', states[device], name)
            self.assertNotEqual(
                '', self.reasons(self.image)[device], name)
            # It can be read all the same.
            self.assertTrue(self.read(self.image) == self.data, name)
            self.assertEqual(self.info, self.engine.info(self.image), name)
            self.engine.repair(self.image)
            self.assertRepaired()
            # Put aside with everything that was left of it.
            self.assertEqual(number, self.lab.put_aside(self.image), name)
        self.assertEqual(before, self.manifests())

    def test_reason_is_noted_with_what_is_put_aside(self) -> None:
        device = self.holders[0]
        self.lab.damage(device, self.image, MIB)
        self.engine.repair(self.image)
        where, = (each for each in self.devices
                  if self.names(each, layout.QUARANTINE))
        self.assertEqual(device, where)
        name, = self.names(device, layout.QUARANTINE)
        with open(f'{device}/{layout.QUARANTINE}/{name}/reason') as file:
            self.assertIn('block 1', file.read())

    def test_all_but_one(self) -> None:
        for name, damage in self.damages().items():
            for device in self.lab.holders(self.image)[:2]:
                damage(device)
            self.engine.repair(self.image)
            self.assertRepaired()
            self.assertEqual(1, len(self.manifests()), name)

    def test_swapped_with_another_image(self) -> None:
        other = self.store(base.noise(len(self.data), 2))
        device = self.holders[0]
        if device not in self.lab.holders(other.image_id):
            device = self.lab.holders(other.image_id)[0]
        if device not in self.holders:
            device = self.holders[1]
        one, two = (self.lab.place(device, image)
                    for image in (self.image, other.image_id))
        os.rename(one, one.rstrip('/') + '.swap')
        os.rename(two, one)
        os.rename(one.rstrip('/') + '.swap', two)
        for image in (self.image, other.image_id):
            self.assertEqual('damaged',
                             self.states(image, verify=False)[device])
            self.assertIn('another image',
                          self.reasons(image, verify=False)[device])
        self.assertTrue(self.read(self.image) == self.data)
        for image in (self.image, other.image_id):
            self.engine.repair(image)
            self.assertEqual(3, len(self.good(image)))

    def test_bytes_of_another_image_of_the_same_size(self) -> None:
        # Only its checksums can tell.
        shutil.copyfile(
            self.lab.place(self.lab.holders(self.store(
                base.noise(len(self.data), 2)).image_id)[0],
                self.last(), 'data'), self.path(self.holders[0], 'data'))
        self.assertEqual('damaged', self.states(self.image)[self.holders[0]])
        self.engine.repair(self.image)
        self.assertRepaired()

    def last(self) -> str:
        """Return the image id that was made last."""
        self._ids -= 1
        return self.image_id()

    def test_every_description_is_damaged(self) -> None:
        for device in self.holders:
            local.flip(self.path(device, 'manifest'), 100)
        before = self.manifests()
        for call in (self.engine.info, self.engine.open, self.engine.repair):
            error = self.assertRaises(exceptions.DamagedImage, call,
                                      self.image)
            self.assertIn('seal', str(error))
        for verify in (False, True):
            self.assertEqual(
                ['damaged'] * 3, [
                    state for device, state in self.states(
                        self.image, verify=verify).items()
                    if device in self.holders])
        self.assertEqual(before, self.manifests())
        # Under this id a new image may be stored; the bytes are kept.
        info = self.store(b'new', self.image)
        self.assertEqual(b'new', self.read(self.image))
        self.assertEqual(info, self.engine.info(self.image))
        self.engine.repair(self.image)
        self.assertEqual(3, len(self.good(self.image)))
        self.assertEqual(3, self.lab.put_aside(self.image))

    def test_deleting_what_is_damaged(self) -> None:
        # Which upload it was of cannot be told, but Glance knows.
        for device in self.holders:
            local.flip(self.path(device, 'manifest'), 100)
        self.engine.delete(self.image, self.info.generation)
        self.assertEqual([], self.lab.holders(self.image))
        self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                          self.image)

    def test_deleting_what_is_stale_as_well(self) -> None:
        # A copy of an older upload would pass for the image otherwise, and
        # what is damaged is of this upload or of an older one.
        self.lab.plant(self.spare, local.describe(
            self.image, b'old', OTHER, 1.0), b'old')
        for named in (False, True):
            generation = self.info.generation if named else None
            local.flip(self.path(self.lab.holders(self.image)[0],
                                 'manifest'), 100)
            self.engine.delete(self.image, generation)
            self.assertEqual([], self.lab.holders(self.image))
            self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                              self.image)
            self.info = self.store(self.data, self.image)

    def test_deleting_another_upload_takes_nothing(self) -> None:
        local.flip(self.path(self.holders[0], 'manifest'), 100)
        self.assertRaises(exceptions.ImageNotFound, self.engine.delete,
                          self.image, OTHER)
        self.assertEqual(self.holders, self.lab.holders(self.image))
        self.assertEqual(set(), self.marks('deleted', self.image))

    def test_of_a_later_release(self) -> None:
        packed, = self.manifests()
        later = test_manifest.patched(8, b'\2\0', packed[:-32])
        self.overwrite(self.holders[0], 'manifest', later)
        self.assertTrue(self.read(self.image) == self.data)
        self.assertEqual(
            'unreachable', self.states(self.image)[self.holders[0]])
        self.assertIn('version 2',
                      self.reasons(self.image)[self.holders[0]])
        self.engine.repair(self.image)
        # A copy elsewhere makes up for it; it is not touched itself.
        self.assertEqual(0, self.lab.put_aside(self.image))
        with open(self.path(self.holders[0], 'manifest'), 'rb') as file:
            self.assertEqual(later, file.read())
        self.assertEqual({*self.holders[1:], self.spare},
                         set(self.good(self.image)))


class WhereTest(RepairTest):

    def test_into_a_zone_without_a_copy(self) -> None:
        # Three of four devices in one zone, two of them with good copies.
        home = self.useFixture(fixtures.TempDir()).path
        devices = [f'{home}/{number}' for number in range(4)]
        for number, device in enumerate(devices):
            who = local.identity(number)
            local.prepare(device, type(who)(
                who.device_id, who.store_id, 'rack' if number < 3 else
                'other', 1.0))
        engine = base.engine_on(devices)
        engine.start()
        for _ in range(12):
            info = self.store(b'data', engine=engine)
            place = layout.copy_directory(info.image_id)
            holders = [device for device in devices
                       if os.path.exists(f'{device}/{place}')]
            self.assertIn(devices[3], holders)
            shutil.rmtree(f'{devices[3]}/{place}')
            engine.repair(info.image_id)
            self.assertTrue(os.path.exists(f'{devices[3]}/{place}'))

    def test_where_it_was_or_on_the_spare_device(self) -> None:
        expected = next(
            device for device in self.engine.fleet.order(
                self.image, self.devices)
            if device in (self.holders[0], self.spare))
        self.lab.drop(self.holders[0], self.image)
        self.engine.repair(self.image)
        self.assertIn(expected, self.good(self.image))

    def test_device_that_cannot_be_attached_any_more(self) -> None:
        self.lab.drop(self.holders[0], self.image)
        self.lab.take_away(self.spare)
        real = fleet_module.Fleet.attach_targets

        def attach(fleet: Any, *args: Any) -> Any:
            # The first step of choosing where to write.
            if self.holders[0] not in self.lab._away:
                self.lab.take_away(self.holders[0])
            return real(fleet, *args)

        with fixtures.MonkeyPatch(
                'easystack_image.blockstore.local.fleet.Fleet.'
                'attach_targets', attach):
            with base.nothing_left_behind():
                self.assertRaises(exceptions.NotEnoughCopies,
                                  self.engine.repair, self.image)
        self.assertEqual(set(self.holders[1:]), set(self.good(self.image)))


class PatienceTest(RepairTest):
    """Repair in the background counts on devices that are away."""

    def test_device_away(self) -> None:
        self.lab.take_away(self.holders[0])
        self.assertIs(False, self.repairer.repair(self.image, patient=True))
        self.assertEqual(self.holders, self.lab.holders(self.image))
        self.assertIs(True, self.repairer.repair(self.image))
        self.assertIn(self.spare, self.lab.holders(self.image))

    def test_what_is_missing_besides(self) -> None:
        self.lab.take_away(self.holders[0])
        self.lab.drop(self.holders[1], self.image)
        self.repairer.repair(self.image, patient=True)
        # One more, and not two: the absent one may come back.
        self.assertEqual(2, len(self.good(self.image)))

    def test_device_given_up(self) -> None:
        # It held no copy; the one that rots must be made up for all the
        # same, once nobody counts on it any more.
        self.lab.take_away(self.spare)
        self.lab.damage(self.holders[0], self.image, 7)
        self.assertIs(False, self.repairer.repair(self.image, patient=True))
        self.engine.fleet.out = frozenset({self.spare})
        self.assertIs(True, self.repairer.repair(self.image, patient=True))
        self.assertRepaired()

    def test_hung_copy(self) -> None:
        release = threading.Event()
        self.addCleanup(release.set)
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            if os.readlink(f'/proc/self/fd/{fd}').startswith(
                    self.holders[0]):
                release.wait()
            return real(fd, length, offset)

        engine = self.lab.engine(io_timeout=base.SHORT)
        with base.nothing_left_behind():
            self.useFixture(fixtures.MonkeyPatch('os.pread', pread))
            begin = time.monotonic()
            states = {copy.device: copy.state.value for copy in
                      engine.list_copies(self.image, verify=True)}
            self.assertGreaterEqual(time.monotonic() - begin, base.SHORT)
            self.assertEqual('unreachable', states[self.holders[0]])
            # How it is cannot be told; nothing is done to it.
            self.assertIs(False, engine.repairer.repair(
                self.image, patient=True))
            self.assertEqual(self.holders, self.lab.holders(self.image))
            self.assertIs(True, engine.repairer.repair(self.image))
            self.assertIn(self.spare, self.lab.holders(self.image))
            self.assertEqual(0, self.lab.put_aside(self.image))
            release.set()


class LockTest(RepairTest):

    def test_one_at_a_time(self) -> None:
        self.lab.drop(self.holders[0], self.image)
        with self.fleet().locked(self.image, 'repair'):
            with base.nothing_left_behind():
                self.assertIsNone(self.repairer.repair(
                    self.image, wait=False))
            impatient = self.lab.engine(io_timeout=0.5)
            self.assertRaises(exceptions.BlockStoreError, impatient.repair,
                              self.image)
        self.assertEqual(2, len(self.good(self.image)))
        self.assertIs(True, self.repairer.repair(self.image, wait=False))

    def test_deleted_meanwhile(self) -> None:
        self.lab.drop(self.holders[0], self.image)
        real = fleet_module.Fleet.locked

        def locked(fleet: Any, image_id: str, purpose: str,
                   *args: Any) -> Any:
            if purpose == 'commit' and fleet is self.engine.fleet:
                other.delete(image_id)
            return real(fleet, image_id, purpose, *args)

        other = self.lab.engine()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.fleet.Fleet.locked', locked))
        with base.nothing_left_behind():
            self.assertRaises(exceptions.ImageNotFound, self.engine.repair,
                              self.image)
        self.assertEqual([], self.lab.holders(self.image))
        self.assertEqual([], self.lab.leftovers())

    def test_replaced_meanwhile(self) -> None:
        # Deleted and uploaded again, after the new copies were made.
        self.lab.drop(self.holders[0], self.image)
        real = repair.Repairer._rest
        done = []

        def rest(*args: Any) -> Any:
            if not done:
                done.append(True)
                other.delete(self.image)
                self.store(b'new', self.image, other)
            return real(*args)

        other = self.lab.engine()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.repair.Repairer._rest', rest))
        self.repairer.repair(self.image)
        self.assertEqual(b'new', self.read(self.image))
        self.assertEqual(3, len(self.good(self.image)))


class RestTest(RepairTest):
    """Copies that are in the way once enough good ones stand."""

    def test_stale_copy(self) -> None:
        self.lab.plant(self.spare, local.describe(
            self.image, b'old', OTHER, 1.0), b'old')
        self.assertEqual('stale', self.states(self.image)[self.spare])
        self.engine.repair(self.image)
        self.assertRepaired()
        self.assertEqual(1, self.lab.put_aside(self.image))
        self.assertNotIn(self.spare, self.lab.holders(self.image))

    def test_uploaded_anew_at_that_moment(self) -> None:
        self.lab.plant(self.spare, local.describe(
            self.image, b'old', OTHER, 1.0), b'old')
        other = self.lab.engine()

        def upload() -> None:
            with contextlib.suppress(exceptions.ImageBusy):
                other.delete(self.image)
                self.store(b'other data', self.image, other)

        thread = threading.Thread(target=upload)
        run = self.engine.fleet.run

        def late(function: Any, *args: Any, **options: Any) -> Any:
            if function.__name__ == 'aside':
                # The next upload will be on the spare device, too.
                self.lab.take_away(self.holders[0])
                thread.start()
                thread.join(1.0)
            return run(function, *args, **options)

        self.useFixture(fixtures.MockPatchObject(
            self.engine.fleet, 'run', late))
        self.repairer.repair(self.image)
        thread.join()
        self.assertEqual({*self.holders[1:], self.spare},
                         set(self.good(self.image)))
        self.assertEqual(1, self.lab.put_aside(self.image))

    def test_lock_is_not_to_be_had(self) -> None:
        self.lab.plant(self.spare, local.describe(
            self.image, b'old', OTHER, 1.0), b'old')
        locked = self.engine.fleet.locked

        def busy(image_id: str, purpose: str, wait: bool = True) -> Any:
            if purpose == 'commit':
                raise exceptions.ImageBusy('another process has it')
            return locked(image_id, purpose, wait)

        self.useFixture(fixtures.MockPatchObject(
            self.engine.fleet, 'locked', busy))
        self.assertTrue(self.repairer.repair(self.image))
        self.assertEqual('stale', self.states(self.image)[self.spare])
        self.assertIn('stay where they are', self.log.output)

    def test_stays_where_good_copies_are_too_few(self) -> None:
        self.lab.take_away(self.holders[0])
        self.lab.take_away(self.holders[1])
        self.lab.plant(self.spare, local.describe(
            self.image, b'old', OTHER, 1.0), b'old')
        self.repairer.repair(self.image, patient=True)
        self.assertEqual('stale', self.states(self.image)[self.spare])
        self.assertEqual(0, self.lab.put_aside(self.image))

    def test_what_cannot_be_moved_stays(self) -> None:
        self.lab.plant(self.spare, local.describe(
            self.image, b'old', OTHER, 1.0), b'old')
        os.rmdir(f'{self.spare}/{layout.QUARANTINE}')
        self.addCleanup(os.mkdir, f'{self.spare}/{layout.QUARANTINE}')
        with base.nothing_left_behind():
            self.engine.repair(self.image)
        self.assertEqual('stale', self.states(self.image)[self.spare])
        self.assertEqual(3, len(self.good(self.image)))
        self.assertIn('stays where it is', self.log.output)


class MarkTest(RepairTest):

    def test_marks(self) -> None:
        uploads = {layout.Upload(self.image_id(), OTHER) for _ in range(3)}
        with base.nothing_left_behind():
            for upload in uploads:
                for _ in range(2):
                    self.repairer.mark(upload)
            self.assertEqual(uploads, self.repairer.marked())
            one = uploads.pop()
            self.repairer.unmark({one})
            self.assertEqual(uploads, self.repairer.marked())
            self.repairer.unmark(set())
            self.repairer.unmark({one})
        self.assertEqual(uploads, self.repairer.marked())

    def test_asked_for_again_meanwhile(self) -> None:
        """Who asks while a repair is under way may mean what it read."""
        upload = self.upload(self.info)
        self.repairer.mark(upload)
        real = repair.diagnose

        def diagnose(*args: Any) -> repair.Diagnosis:
            self.repairer.mark(upload, anew=True)
            return real(*args)

        with fixtures.MonkeyPatch(
                'easystack_image.blockstore.local.repair.diagnose', diagnose):
            self.assertTrue(self.repairer.repair(self.image))
        self.assertEqual({upload}, self.repairer.marked())
        self.assertIsNotNone(self.repairer.waiting(self.image))
        self.assertTrue(self.repairer.repair(self.image))
        self.assertEqual(set(), self.repairer.marked())
        self.assertIsNone(self.repairer.waiting(self.image))

    def test_foreign_names(self) -> None:
        for name in ('README', f'{self.image}.x', 'x'):
            with open(f'{self.devices[0]}/{layout.REPAIR}/{name}', 'w'):
                pass
        self.assertEqual(set(), self.repairer.marked())

    def test_one_device_is_enough(self) -> None:
        upload = self.upload(self.info)
        self.repairer.mark(upload)
        for device in self.devices[1:]:
            self.lab.take_away(device)
        self.assertEqual({upload}, self.repairer.marked())
        self.assertEqual(frozenset(self.devices[:1]),
                         self.repairer.present())

    def test_no_device_can_take_it(self) -> None:
        # A hint that is lost loses no data.
        for device in self.devices:
            os.rmdir(f'{device}/{layout.REPAIR}')
            self.addCleanup(os.mkdir, f'{device}/{layout.REPAIR}')
        self.repairer.mark(self.upload(self.info))
        self.assertEqual(set(), self.repairer.marked())

    def test_mark_of_a_time_to_come(self) -> None:
        # The clock was wrong; the image must not be repaired until then.
        upload = self.upload(self.info)
        self.repairer.mark(upload)
        later = time.time() + 1e6
        for device in self.devices:
            os.utime(f'{self.lab.root(device)}/{layout.REPAIR}/'
                     f'{upload.name}', (later, later))
        self.assertTrue(self.repairer.repair(self.image))
        self.assertEqual(set(), self.repairer.marked())

    def test_repair_takes_the_marks_away(self) -> None:
        other = layout.Upload(self.image_id(), OTHER)
        for upload in (self.upload(self.info), other,
                       layout.Upload(self.image, OTHER)):
            self.repairer.mark(upload)
        self.lab.drop(self.holders[0], self.image)
        self.engine.repair(self.image)
        self.assertEqual({other}, self.repairer.marked())

    def test_deleted_while_a_device_was_away(self) -> None:
        self.lab.take_away(self.holders[0])
        # Also by somebody who read it just before.
        self.engine.delete(self.image)
        self.repairer.mark(self.upload(self.info))
        self.assertRaises(exceptions.ImageNotFound, self.repairer.repair,
                          self.image, patient=True)
        self.repairer.mark(layout.Upload(self.image, OTHER))
        self.assertRaises(exceptions.ImageUnavailable, self.repairer.repair,
                          self.image, patient=True)

    def test_unless_it_is_not_finished(self) -> None:
        self.repairer.mark(self.upload(self.info))
        self.lab.take_away(self.holders[0])
        self.lab.take_away(self.spare)
        self.engine.repair(self.image)
        self.assertEqual({self.upload(self.info)}, self.repairer.marked())


class AttemptCase(RepairTest):

    def attempt(self) -> Any:
        return self.engine.repair_attempt(self.image)

    def lose(self) -> None:
        for device in self.holders:
            self.lab.damage(device, self.image, MIB + 1)


class AttemptTest(AttemptCase):
    """What is told of repairs that were in vain."""

    def test_none(self) -> None:
        self.assertIsNone(self.attempt())
        self.engine.request_repair(self.image)
        self.assertIsNone(self.attempt())
        self.engine.repair(self.image)
        self.assertIsNone(self.attempt())

    def test_lost(self) -> None:
        self.lose()
        self.engine.request_repair(self.image)
        began = time.time()
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        attempt = self.attempt()
        self.assertTrue(attempt.lost)
        self.assertIn(self.image, attempt.reason)
        self.assertLessEqual(began, attempt.began_at)
        self.assertLessEqual(attempt.began_at, attempt.ended_at)
        self.assertLessEqual(attempt.ended_at, time.time())
        self.assertEqual({self.image}, self.repairer.lost())
        self.assertEqual({self.image}, self.repairer.given_up())
        # Another process knows as much.
        self.assertEqual({self.image}, self.lab.engine().repairer.lost())

    def test_lost_and_nobody_asked(self) -> None:
        """The healer is to know of it nevertheless."""
        self.lose()
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.assertTrue(self.attempt().lost)
        self.assertEqual({self.upload(self.info)}, self.repairer.marked())

    def test_lost_with_all_manifests(self) -> None:
        """Nothing tells of which upload it is: that is known at once."""
        for device in self.holders:
            self.overwrite(device, 'manifest', b'x')
        self.assertRaises(exceptions.DamagedImage,
                          self.engine.request_repair, self.image)
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.assertIsNone(self.attempt())

    def test_lost_and_mended(self) -> None:
        """An operator puts the good bytes back by hand."""
        self.lose()
        self.engine.request_repair(self.image)
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.overwrite(self.holders[0], 'data', self.data)
        time.sleep(0.05)
        self.engine.request_repair(self.image)
        self.assertIsNone(self.attempt())
        self.assertEqual(set(), self.repairer.given_up())
        self.engine.repair(self.image)
        self.assertRepaired()
        self.assertIsNone(self.attempt())
        self.assertEqual(set(), self.marks(layout.REPAIR))

    def test_lost_and_uploaded_anew(self) -> None:
        self.lose()
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.engine.delete(self.image)
        self.assertEqual(set(), self.repairer.lost())
        self.store(b'new', self.image)
        self.assertEqual(set(), self.repairer.lost())

    def test_another_device_is_there(self) -> None:
        self.lab.take_away(self.spare)
        self.lose()
        self.engine.request_repair(self.image)
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.assertEqual({self.image}, self.repairer.given_up())
        self.lab.bring_back(self.spare)
        self.assertEqual(({self.image}, set()), (
            self.repairer.lost(), self.repairer.given_up()))
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.assertEqual({self.image}, self.repairer.given_up())
        # It was asked; that it comes and goes tells nothing.
        self.lab.take_away(self.spare)
        self.lab.bring_back(self.spare)
        self.assertEqual({self.image}, self.repairer.given_up())

    def test_while_a_device_is_away(self) -> None:
        self.engine.request_repair(self.image)
        self.lab.take_away(self.holders[0])
        self.assertFalse(self.repairer.repair(self.image, patient=True))
        attempt = self.attempt()
        self.assertFalse(attempt.lost)
        self.assertIn('2 of 3 copies are good', attempt.reason)
        self.assertIn(self.holders[0], attempt.reason)
        self.assertEqual(set(), self.repairer.lost())
        self.lab.bring_back(self.holders[0])
        self.assertTrue(self.repairer.repair(self.image, patient=True))
        self.assertIsNone(self.attempt())
        self.assertEqual(set(), self.marks(layout.REPAIR))

    def test_no_room(self) -> None:
        self.lab.drop(self.holders[0], self.image)
        for device in self.devices:
            self.lab.fill(device)
        # Names are still to be had.
        self.engine.request_repair(self.image)
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.attempts.fsio.replace_file',
            lambda name, data, fd: Path(f'/proc/self/fd/{fd}/{name}'
                                        ).write_bytes(data)))
        self.assertRaises(exceptions.NotEnoughCopies, self.engine.repair,
                          self.image)
        self.assertFalse(self.attempt().lost)
        self.assertIn('No space', self.attempt().reason)

    def test_not_written_over_and_over(self) -> None:
        """While a device is away it is tried every few minutes."""
        self.engine.request_repair(self.image)
        self.lab.take_away(self.holders[0])
        self.repairer.repair(self.image, patient=True)
        before = self.attempt()
        self.repairer.repair(self.image, patient=True)
        self.assertEqual(before, self.attempt())
        self.engine.request_repair(self.image)
        self.repairer.repair(self.image, patient=True)
        self.assertLess(before.began_at, self.attempt().began_at)

    def test_damaged_file(self) -> None:
        """It is as if nobody had tried."""
        self.lose()
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        name = layout.tried_name(self.upload(self.info))
        for damage in (b'', b'{', b'[]', b'{"format": 2}', b'\xff',
                       b'{"format": 1, "began_at": "soon"}'):
            for device in self.devices:
                Path(device, layout.REPAIR, name).write_bytes(damage)
            self.assertIsNone(self.attempt())
            self.assertEqual(set(), self.repairer.lost())

    def test_it_cannot_be_noted(self) -> None:
        def fail(*args: Any) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        self.lose()
        with fixtures.MonkeyPatch('easystack_image.blockstore.local.attempts.'
                                  'fsio.replace_file', fail):
            self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                              self.image)
        self.assertIsNone(self.attempt())

    def test_request_of_a_time_to_come(self) -> None:
        """The clock was wrong; the answer is one nevertheless."""
        self.lose()
        self.engine.request_repair(self.image)
        later = time.time() + 1e6
        for device in self.devices:
            os.utime(f'{device}/{layout.REPAIR}/'
                     f'{self.upload(self.info).name}', (later, later))
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)
        self.assertTrue(self.attempt().lost)


class KnownTest(AttemptCase):
    """What a repair found out is told where nothing is read."""

    def setUp(self) -> None:
        super().setUp()
        self.lose()
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image)

    def states(self, engine: Any = None) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for copy in (engine or self.engine).list_copies(self.image):
            found.setdefault(copy.state.value, set()).add(copy.device)
        return found

    def test_copies(self) -> None:
        # Others that could hold a copy are told as well.
        for engine in (self.engine, self.lab.engine()):
            self.assertEqual(set(self.holders), self.states(engine)['damaged'])
            self.assertNotIn('good', self.states(engine))
        self.assertEqual(
            {'was bad when all of it was read'}, {
                copy.reason.partition(' (')[0] for copy
                in self.engine.list_copies(self.image)
                if copy.device in self.holders})

    def test_known_bad(self) -> None:
        listed = inventory.take(self.engine.fleet)
        self.assertEqual({self.image: set(self.holders)},
                         self.repairer.known_bad(listed))

    def test_verified_since(self) -> None:
        """An operator puts the good bytes of one back by hand."""
        self.overwrite(self.holders[0], 'data', self.data)
        self.assertNotIn('good', self.states())
        self.engine.list_copies(self.image, verify=True)
        self.assertEqual({self.holders[0]}, self.states()['good'])
        self.assertEqual({self.image: set(self.holders[1:])},
                         self.repairer.known_bad(
                             inventory.take(self.engine.fleet)))

    def test_device_that_was_not_asked(self) -> None:
        """It has a copy that nobody found bad."""
        attempt = self.attempt()
        asked = self.engine.fleet.devices[self.holders[0]].known.device_id
        self.engine.repairer._attempts.note(
            [self.upload(self.info)], dataclasses.replace(
                attempt, devices=attempt.devices - {asked}))
        self.assertEqual({self.holders[0]}, self.states()['good'])

    def test_stored_anew(self) -> None:
        self.engine.delete(self.image)
        self.store(b'new', self.image)
        self.assertEqual({'good'}, set(self.states()))


class VerifyTest(RepairTest):

    def test_no_good_copy_but_all_blocks(self) -> None:
        for number, device in enumerate(self.holders):
            self.lab.damage(device, self.image, number * MIB)
        diagnosis = self.diagnose()
        self.assertEqual([], diagnosis.good())
        self.assertEqual(set(self.holders), set(diagnosis.copies))
        self.assertEqual(self.info, copying.info_of(diagnosis.manifest))

    def diagnose(self) -> repair.Diagnosis:
        """Return how the copies are."""
        with base.nothing_left_behind():
            with self.engine.fleet.survey(self.image) as survey:
                return repair.diagnose(survey, 60)

    def test_reads_from_the_disk(self) -> None:
        # What the page cache holds may be better than what the disk does.
        events: list[tuple[str, int]] = []
        real_advise, real_read = os.posix_fadvise, os.pread

        def advise(fd: int, offset: int, length: int, advice: int) -> None:
            if (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED):
                events.append(('forget', os.fstat(fd).st_ino))
            real_advise(fd, offset, length, advice)

        def read(fd: int, length: int, offset: int) -> bytes:
            events.append(('read', os.fstat(fd).st_ino))
            return real_read(fd, length, offset)

        self.useFixture(fixtures.MonkeyPatch('os.posix_fadvise', advise))
        self.useFixture(fixtures.MonkeyPatch('os.pread', read))
        self.diagnose()
        for device in self.holders:
            number = os.stat(self.path(device, 'data')).st_ino
            self.assertLess(events.index(('forget', number)),
                            events.index(('read', number)))

    def test_nothing_to_diagnose(self) -> None:
        self.engine.delete(self.image)
        self.assertRaises(exceptions.ImageNotFound, self.diagnose)

    def test_first_fault_of_each_copy(self) -> None:
        self.lab.damage(self.holders[0], self.image, MIB + 7)
        self.lab.damage(self.holders[0], self.image, 2 * MIB)
        os.truncate(self.path(self.holders[1], 'data'), 1)
        copies = self.diagnose().copies
        self.assertEqual('block 1 does not match its checksum',
                         copies[self.holders[0]])
        self.assertIn('1 bytes', copies[self.holders[1]])
        self.assertEqual('', copies[self.holders[2]])

    def test_memory_that_fails_between_reading_and_writing(self) -> None:
        self.lab.drop(self.holders[0], self.image)
        real = copying._Joined.read

        def read(joined: Any, size: int) -> bytes:
            data = real(joined, size)
            return bytes([data[0] ^ 1]) + data[1:] if data else b''

        with fixtures.MonkeyPatch(
                'easystack_image.blockstore.local.copying._Joined.read',
                read):
            error = self.assertRaises(exceptions.DamagedImage,
                                      self.repairer.repair, self.image)
        self.assertIn('not what was read', str(error))
        self.assertEqual(set(self.holders[1:]), set(self.good(self.image)))
        self.assertEqual([], self.lab.leftovers())
        self.assertIs(True, self.repairer.repair(self.image))

    def test_disk_that_fails_while_the_new_copy_is_written(self) -> None:
        self.lab.drop(self.holders[0], self.image)
        self.lab.take_away(self.spare)
        real = fsio.rename

        def rename(source: str, target: str, source_fd: int,
                   target_fd: int) -> None:
            if target == self.image:
                raise OSError(5, 'Input/output error')
            real(source, target, source_fd, target_fd)

        with fixtures.MonkeyPatch(
                'easystack_image.fsio.rename', rename):
            with base.nothing_left_behind():
                self.assertRaises(exceptions.NotEnoughCopies,
                                  self.repairer.repair, self.image)
        self.assertEqual(set(self.holders[1:]), set(self.good(self.image)))
        self.assertEqual([], self.lab.leftovers())
        self.assertIs(True, self.repairer.repair(self.image))


class AllDamagedTest(base.EngineTest):
    """No copy is whole, but each block is good somewhere."""

    def test_never_out_of_their_places_all_at_once(self) -> None:
        # Or nobody would find the image then, and a crash would lose it.
        data = base.noise(3 * MIB)
        info = self.store(data)
        holders = self.lab.holders(info.image_id)
        for number, device in enumerate(holders):
            self.lab.damage(device, info.image_id, number * MIB)
        there: list[int] = []

        def observe(name: str, given: dict[str, Any], result: Any) -> None:
            there.append(len(self.lab.holders(info.image_id)))

        with steps.observed(observe):
            self.engine.repair(info.image_id)
        self.assertLessEqual(2, min(there))
        self.assertEqual(3, len(self.good(info.image_id)))
        self.assertEqual(3, self.lab.put_aside(info.image_id))
        self.assertTrue(data == self.read(info.image_id))
