"""Deleting: marks first, copies afterwards, and never by halves."""

from __future__ import annotations

import errno
import os

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import removal
from tests.contract import local
from tests.unit.blockstore.local import base

DATA = b'the plain bytes'
OTHER = '123e4567-e89b-12d3-a456-426614174000'


class RemovalTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()
        self.manifest = local.describe(self.image, DATA)
        self.upload = layout.Upload(self.image, self.manifest.generation)
        self.device = self.devices[0]

    def plant(self, *devices: str) -> None:
        """Put copies on devices."""
        for device in devices or self.devices[:3]:
            self.lab.plant(device, self.manifest, DATA)

    def attached(self) -> device_module.Attached:
        """Return the first device, held open."""
        attached = device_module.Device(self.device, 60).attach()
        self.addCleanup(attached.close)
        return attached

    def deleted(self) -> list[str]:
        """Return the devices that have a mark."""
        return [device for device in self.devices if self.upload.name in
                self.names(device, layout.deleted_directory(self.image))]

    def forbid(self, name: str, device: str,
               number: int = errno.EIO) -> list[int]:
        """Make a function of fsio fail on a device; returns how often."""
        real = getattr(fsio, name)
        calls: list[int] = []

        def call(*args: object) -> object:
            if any(isinstance(arg, int) and os.path.exists(
                    f'/proc/self/fd/{arg}') and os.readlink(
                    f'/proc/self/fd/{arg}').startswith(device)
                    for arg in args):
                calls.append(1)
                raise OSError(number, os.strerror(number))
            return real(*args)

        self.useFixture(fixtures.MonkeyPatch(
            f'easystack_image.fsio.{name}', call))
        return calls


class MarkTest(RemovalTest):

    def test_mark(self) -> None:
        attached = self.attached()
        with base.nothing_left_behind():
            for _ in range(2):
                removal.mark_deleted(attached, self.upload)
        self.assertEqual([self.device], self.deleted())
        self.assertEqual(0, os.path.getsize(
            f'{self.device}/{layout.deleted_directory(self.image)}/'
            f'{self.upload.name}'))

    def test_on_a_full_disk(self) -> None:
        self.lab.fill(self.device)
        removal.mark_deleted(self.attached(), self.upload)
        self.assertEqual([self.device], self.deleted())

    def test_is_durable_even_if_it_was_there(self) -> None:
        # Whoever made it may not have come to sync it.
        removal.mark_deleted(self.attached(), self.upload)
        calls = self.forbid('fsync', self.device)
        self.assertRaises(OSError, removal.mark_deleted, self.attached(),
                          self.upload)
        self.assertEqual([1], calls)


class RemoveTest(RemovalTest):

    def test_remove(self) -> None:
        self.plant()
        attached = self.attached()
        with base.nothing_left_behind():
            for _ in range(2):
                removal.remove_copy(attached, self.image)
        self.assertEqual(self.devices[1:3], self.lab.holders(self.image))
        self.assertEqual([], self.lab.leftovers())

    def test_leaves_its_place_as_a_whole(self) -> None:
        self.plant()
        self.forbid('unlink', self.device)
        self.assertRaises(OSError, removal.remove_copy, self.attached(),
                          self.image)
        self.assertEqual(self.devices[1:3], self.lab.holders(self.image))
        name, = self.names(self.device, layout.TMP)
        self.assertTrue(layout.is_ours(name))

    def test_aside(self) -> None:
        self.plant()
        attached = self.attached()
        with base.nothing_left_behind():
            removal.aside(attached, self.image, 'block 5 is bad')()
            removal.aside(attached, self.image, 'not there any more')()
        name, = self.names(self.device, layout.QUARANTINE)
        self.assertTrue(name.startswith(f'{self.image}.'))
        place = f'{self.device}/{layout.QUARANTINE}/{name}'
        with open(f'{place}/data', 'rb') as file:
            self.assertEqual(DATA, file.read())
        with open(f'{place}/reason') as file:
            self.assertEqual('block 5 is bad\n', file.read())
        self.assertTrue(os.path.exists(f'{place}/manifest'))
        self.assertEqual(self.devices[1:3], self.lab.holders(self.image))

    def test_aside_is_durable(self) -> None:
        self.plant()
        synced: list[str] = []
        real = fsio.fsync

        def fsync(fd: int) -> None:
            synced.append(os.path.relpath(
                os.readlink(f'/proc/self/fd/{fd}'), self.device))
            real(fd)

        self.useFixture(fixtures.MockPatchObject(fsio, 'fsync', fsync))
        removal.aside(self.attached(), self.image, 'bad')()
        self.assertEqual(
            [layout.QUARANTINE, layout.images_directory(self.image)],
            synced[:2])

    def test_aside_again_and_again(self) -> None:
        for _ in range(3):
            self.plant(self.device)
            removal.aside(self.attached(), self.image, 'bad')()
        self.assertEqual(3, len(self.names(self.device,
                                           layout.QUARANTINE)))

    def test_aside_without_room_for_the_note(self) -> None:
        self.plant()
        self.lab.fill(self.device)
        removal.aside(self.attached(), self.image, 'block 5 is bad')()
        name, = self.names(self.device, layout.QUARANTINE)
        self.assertTrue(os.path.exists(
            f'{self.device}/{layout.QUARANTINE}/{name}/data'))
        self.assertIn('block 5 is bad', self.log.output)
        self.assertIn('No space left', self.log.output)


class HoldsTest(RemovalTest):

    def test_holds(self) -> None:
        attached = self.attached()
        other = layout.Upload(self.image, OTHER)
        self.assertFalse(removal.holds(attached, self.upload))
        self.plant()
        with base.nothing_left_behind():
            self.assertTrue(removal.holds(attached, self.upload))
            self.assertFalse(removal.holds(attached, other))
        # It can be told which upload damaged data belongs to.
        os.truncate(self.lab.place(self.device, self.image, 'data'), 3)
        self.assertTrue(removal.holds(attached, self.upload))
        self.assertFalse(removal.holds(attached, other))
        # With a damaged manifest it cannot; the caller must know.
        os.truncate(self.lab.place(self.device, self.image, 'manifest'), 3)
        for upload in (self.upload, other):
            self.assertFalse(removal.holds(attached, upload))
            self.assertTrue(removal.holds(attached, upload, True))
        self.lab.drop(self.device, self.image)
        self.assertFalse(removal.holds(attached, self.upload, True))


class RemoverTest(RemovalTest):

    def setUp(self) -> None:
        super().setUp()
        self.remover = removal.Remover(self.fleet())

    def test_everywhere(self) -> None:
        self.plant()
        for device in self.devices[:2]:
            with open(f'{device}/{layout.REPAIR}/{self.upload.name}', 'w'):
                pass
        with base.nothing_left_behind():
            self.remover.delete(self.upload)
        self.assertEqual(self.devices, self.deleted())
        self.assertEqual([], self.lab.holders(self.image))
        self.assertEqual([], self.lab.leftovers())
        # Nothing waits for repair any more.
        self.assertEqual(set(), self.marks(layout.REPAIR))
        # Once more does no harm.
        self.remover.delete(self.upload)

    def test_damaged_copies(self) -> None:
        self.plant()
        os.truncate(self.lab.place(self.device, self.image, 'manifest'), 3)
        self.remover.delete(self.upload)
        self.assertEqual([self.device], self.lab.holders(self.image))
        self.remover.delete(self.upload, damaged_too=True)
        self.assertEqual([], self.lab.holders(self.image))

    def test_says_whether_all_know_it(self) -> None:
        self.plant()
        self.assertIs(True, self.remover.delete(self.upload))
        self.lab.take_away(self.devices[3])
        self.assertIs(False, self.remover.delete(self.upload))

    def test_another_upload_is_left_alone(self) -> None:
        self.plant()
        self.remover.delete(layout.Upload(self.image, OTHER))
        self.assertEqual(self.devices[:3], self.lab.holders(self.image))
        self.assertEqual([], self.deleted())

    def test_device_away(self) -> None:
        self.plant()
        self.lab.take_away(self.device)
        self.remover.delete(self.upload)
        self.assertEqual(self.devices[1:], self.deleted())
        self.assertEqual([self.device], self.lab.holders(self.image))
        self.assertIn('when the device is back', self.log.output)

    def test_marked_before_anything_is_removed(self) -> None:
        self.plant()
        events = []
        for name in ('mark_deleted', 'remove_copy'):
            real = getattr(removal, name)

            def call(attached: device_module.Attached, *args: object,
                     name: str = name, real: object = real) -> None:
                events.append(name)
                real(attached, *args)

            self.useFixture(fixtures.MonkeyPatch(
                f'easystack_image.blockstore.local.removal.{name}', call))
        self.remover.delete(self.upload)
        self.assertEqual(['mark_deleted'] * 4 + ['remove_copy'] * 3, events)

    def test_one_mark_is_enough(self) -> None:
        self.plant()
        for device in self.devices[1:]:
            self.forbid('write_file', device)
        self.remover.delete(self.upload)
        self.assertEqual([self.device], self.deleted())
        self.assertEqual([], self.lab.holders(self.image))

    def test_no_mark_but_no_copy_either(self) -> None:
        # Disks too full for a mark have room once the copies are gone.
        self.plant()
        for device in self.devices:
            self.forbid('write_file', device, errno.ENOSPC)
        self.remover.delete(self.upload)
        self.assertEqual([], self.lab.holders(self.image))

    def test_no_mark_and_a_copy_that_stays(self) -> None:
        self.plant()
        self.lab.take_away(self.device)
        calls = [self.forbid('write_file', device, errno.ENOSPC)
                 for device in self.devices[1:]]
        error = self.assertRaises(exceptions.NotEnoughCopies,
                                  self.remover.delete, self.upload)
        self.assertIn(self.image, str(error))
        # Tried once before and once after the copies went.
        self.assertEqual([2, 2, 2], [len(each) for each in calls])
        self.assertIn(errno.ENOSPC, [cause.errno for cause in error.causes])
        self.assertIn(self.device, [cause.device for cause in error.causes])
        self.lab.bring_back(self.device)

    def test_mark_at_the_second_attempt(self) -> None:
        self.plant()
        self.lab.take_away(self.device)
        full = set(self.devices[1:])
        real_write, real_tree = fsio.write_file, fsio.remove_tree

        def write_file(name: str, data: bytes, dir_fd: int) -> None:
            path = os.readlink(f'/proc/self/fd/{dir_fd}')
            if any(path.startswith(device) for device in full):
                raise OSError(errno.ENOSPC, 'No space left on device')
            real_write(name, data, dir_fd)

        def remove_tree(name: str, dir_fd: int) -> None:
            real_tree(name, dir_fd)
            full.clear()

        for name, function in (('write_file', write_file),
                               ('remove_tree', remove_tree)):
            self.useFixture(fixtures.MonkeyPatch(
                f'easystack_image.fsio.{name}', function))
        self.remover.delete(self.upload)
        self.assertEqual(self.devices[1:], self.deleted())
