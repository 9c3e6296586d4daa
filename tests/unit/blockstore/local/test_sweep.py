"""What is left over, and what becomes of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import threading
import time
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import sweep
from tests.contract import local
from tests.crash import steps
from tests.unit.blockstore.local import base

DATA = b'the plain bytes'
OTHER = '123e4567-e89b-12d3-a456-426614174000'


class SweepTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()
        self.manifest = local.describe(self.image, DATA)
        self.sweeper = sweep.Sweeper(self.fleet(), 3)

    def leave(self, device: str, name: str = '', data: bytes | None = DATA,
              manifest: bytes | None = None) -> str:
        """Leave something in a device's tmp; returns its name."""
        name = name or layout.upload_name(self.manifest.generation)
        place = f'{self.lab.root(device)}/{layout.TMP}/{name}'
        os.mkdir(place)
        for file_name, content in ((layout.DATA, data),
                                   (layout.MANIFEST, manifest)):
            if content is not None:
                with open(f'{place}/{file_name}', 'wb') as file:
                    file.write(content)
        return name

    def leave_complete(self, *devices: str) -> None:
        """Leave uploads that lack nothing but their rename."""
        for device in devices:
            self.leave(device, manifest=manifest_module.pack(self.manifest))

    def plant(self, *devices: str) -> None:
        """Put copies on devices."""
        for device in devices:
            self.lab.plant(device, self.manifest, DATA)

    def mark_deleted(self, device: str, generation: str = '') -> None:
        """Mark the upload as deleted."""
        name = layout.Upload(
            self.image, generation or self.manifest.generation).name
        with open(f'{self.lab.root(device)}/'
                  f'{layout.deleted_directory(self.image)}/{name}', 'w'):
            pass

    def tmp(self) -> list[str]:
        """Return everything in the tmp of every device."""
        return [name for device in self.devices
                for name in self.names(device, layout.TMP)]


class UploadsTest(SweepTest):

    def test_unfinished(self) -> None:
        for name, data, manifest in (
                ('', b'some', None), ('', None, None), ('', None, b'x'),
                ('', DATA, b'damaged'), ('', b'', b''),
                (layout.trash_name(), DATA, b'any'),
                (layout.trash_name(), None, None)):
            self.leave(self.devices[0], name, data, manifest)
        with base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual([], self.lab.holders(self.image))
        self.assertIn('Removed the leftover', self.log.output)

    def test_more_than_may_be_held_open(self) -> None:
        for _ in range(150):
            self.leave(self.devices[0])
        kept = self.leave(self.devices[0])
        fd = os.open(f'{self.devices[0]}/{layout.TMP}/{kept}/{layout.DATA}',
                     os.O_RDWR)
        self.addCleanup(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE,
                        (soft, hard))
        with base.nothing_left_behind():
            resource.setrlimit(resource.RLIMIT_NOFILE, (
                max(map(int, os.listdir('/proc/self/fd'))) + 60, hard))
            self.assertEqual(150, len(sweep.leftovers(
                self.sweeper._fleet.devices[self.devices[0]],
                local.STORE_ID)))
            self.sweeper.sweep_uploads()
        self.assertEqual([kept], self.tmp())

    def test_complete_but_never_committed(self) -> None:
        self.leave_complete(*self.devices[:3])
        with base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual([], self.lab.holders(self.image))

    def test_committed_elsewhere(self) -> None:
        for committed in (1, 2):
            self.plant(*self.devices[:committed])
            self.leave_complete(*self.devices[committed:3])
            with base.nothing_left_behind():
                self.sweeper.sweep_uploads()
            self.assertEqual([], self.tmp())
            self.assertEqual(self.devices[:3],
                             self.lab.holders(self.image))
            for device in self.devices[:3]:
                self.lab.drop(device, self.image)
        self.assertIn('completed its copy', self.log.output)

    def test_no_more_copies_than_wanted(self) -> None:
        # Repair was faster.
        self.plant(*self.devices[:3])
        self.leave_complete(self.devices[3])
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual(self.devices[:3], self.lab.holders(self.image))

    def test_place_is_taken(self) -> None:
        self.plant(*self.devices[:2])
        self.leave_complete(self.devices[0])
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual(self.devices[:2], self.lab.holders(self.image))

    def test_place_is_taken_by_a_damaged_copy(self) -> None:
        self.plant(*self.devices[:2])
        os.truncate(self.lab.place(self.devices[0], self.image, 'manifest'),
                    5)
        self.leave_complete(self.devices[0])
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual(DATA, self.lab.content(self.devices[1], self.image))

    def test_half_removed(self) -> None:
        # Its process was killed as it gave it up; the data goes first, or
        # not.
        self.plant(*self.devices[:2])
        for data in (None, DATA[:-1]):
            self.leave(self.devices[2], '', data,
                       manifest_module.pack(self.manifest))
            self.sweeper.sweep_uploads()
            self.assertEqual([], self.tmp())
            self.assertEqual(self.devices[:2],
                             self.lab.holders(self.image))

    def test_deleted_since(self) -> None:
        self.plant(self.devices[0])
        self.leave_complete(self.devices[1])
        self.mark_deleted(self.devices[2])
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual([self.devices[0]], self.lab.holders(self.image))

    def test_another_upload_has_the_place(self) -> None:
        self.lab.plant(self.devices[0], local.describe(
            self.image, DATA, OTHER, 5.0), DATA)
        self.leave_complete(self.devices[1])
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual([self.devices[0]], self.lab.holders(self.image))

    def test_kept_while_a_device_is_away_that_may_tell(self) -> None:
        self.leave_complete(self.devices[1])
        unfinished = self.leave(self.devices[2])
        self.plant(self.devices[0])
        self.lab.take_away(self.devices[0])
        for _ in range(2):
            self.sweeper.sweep_uploads()
            self.assertEqual(1, len(self.names(self.devices[1],
                                               layout.TMP)))
        # What is not complete could never become a copy.
        self.assertNotIn(unfinished, self.tmp())
        self.lab.bring_back(self.devices[0])
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual(self.devices[:2], self.lab.holders(self.image))

    def test_under_way(self) -> None:
        name = self.leave(self.devices[0])
        with open(f'{self.devices[0]}/{layout.TMP}/{name}/data') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with base.nothing_left_behind():
                self.sweeper.sweep_uploads()
            self.assertEqual([name], self.tmp())
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())

    def test_what_is_not_ours(self) -> None:
        for name in ('mine', 'upload.x', '.nfs0001', 'lost+found'):
            self.leave(self.devices[0], name)
        before = self.tmp()
        self.sweeper.sweep_uploads()
        self.assertEqual(before, self.tmp())

    def test_directory_where_only_files_should_be(self) -> None:
        name = self.leave(self.devices[0])
        os.mkdir(f'{self.devices[0]}/{layout.TMP}/{name}/directory')
        self.leave(self.devices[1])
        with base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())

    def test_file_that_stood_in_the_place_of_a_copy(self) -> None:
        with open(f'{self.devices[0]}/{layout.TMP}/{layout.trash_name()}',
                  'wb'):
            self.leave(self.devices[1])
        with base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())

    def test_what_cannot_be_removed(self) -> None:
        # All else is swept all the same.
        name = self.leave(self.devices[0])
        for _ in range(8):
            self.leave(self.devices[0], data=None)
            self.leave(self.devices[1])
        real = fsio.unlink

        def unlink(entry: str, dir_fd: int) -> None:
            if os.readlink(f'/proc/self/fd/{dir_fd}').startswith(
                    self.devices[0]):
                raise OSError(5, 'Input/output error')
            real(entry, dir_fd)

        with fixtures.MonkeyPatch(
                'easystack_image.fsio.unlink', unlink), \
                base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        self.assertEqual([name], self.tmp())
        self.assertIn(f'{name} stays on {self.devices[0]} for now',
                      self.log.output)

    def test_links_and_the_like_named_data(self) -> None:
        for make in (lambda path: os.symlink('/etc/passwd', path),
                     lambda path: os.symlink(path, path), os.mkdir):
            name = self.leave(self.devices[0], data=None)
            make(f'{self.devices[0]}/{layout.TMP}/{name}/{layout.DATA}')
        self.leave(self.devices[0])
        with base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())

    def test_is_durable_before_it_is_in_its_place(self) -> None:
        # It was killed before it synced its manifest, as far as we know.
        self.plant(self.devices[0])
        name = self.leave(self.devices[1],
                          manifest=manifest_module.pack(self.manifest))
        done: list[str] = []

        def observe(function: str, given: dict[str, Any], _: Any) -> None:
            if function == 'fsync':
                done.append(os.readlink(f'/proc/self/fd/{given["fd"]}'))
            elif function == 'rename':
                done.append('renamed')

        with steps.observed(observe):
            self.sweeper.sweep_uploads()
        place = f'{self.devices[1]}/{layout.TMP}/{name}'
        self.assertEqual(
            [f'{place}/{layout.MANIFEST}', place, 'renamed'], done[:3])

    def test_device_that_fails_while_it_is_looked_at(self) -> None:
        for device in self.devices[:2]:
            self.leave(device)
        real = os.listdir

        def listdir(fd: Any) -> Any:
            if isinstance(fd, int) and os.readlink(
                    f'/proc/self/fd/{fd}').startswith(self.devices[0]):
                raise OSError(5, 'Input/output error')
            return real(fd)

        with fixtures.MonkeyPatch('os.listdir', listdir), \
                base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        self.assertEqual(1, len(self.tmp()))

    def test_leftover_that_vanishes(self) -> None:
        # Another process removes it just before we look into it.
        for _ in range(3):
            self.leave(self.devices[0])
        real = fsio.directory

        def directory(path: str, dir_fd: int) -> object:
            if layout.is_ours(path):
                left = self.names(self.devices[0], layout.TMP)
                if path in left and len(left) == 3:
                    shutil.rmtree(f'{self.devices[0]}/{layout.TMP}/{path}')
            return real(path, dir_fd)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.directory', directory))
        with base.nothing_left_behind():
            self.sweeper.sweep_uploads()
        # The others are none the worse for it.
        self.assertEqual([], self.tmp())

    def test_devices_away(self) -> None:
        self.leave(self.devices[1])
        self.lab.take_away(self.devices[0])
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        for device in self.devices[1:]:
            self.lab.take_away(device)
        with base.nothing_left_behind():
            self.sweeper.sweep()

    def test_deleted_between_two_looks(self) -> None:
        # After it was seen on another device, before it is locked.
        self.plant(self.devices[0])
        self.leave_complete(self.devices[1])
        real = fleet_module.Fleet.locked

        def locked(fleet: fleet_module.Fleet, *args: object) -> object:
            self.mark_deleted(self.devices[2])
            return real(fleet, *args)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.fleet.Fleet.locked', locked))
        self.sweeper.sweep_uploads()
        self.assertEqual([], self.tmp())
        self.assertEqual([self.devices[0]], self.lab.holders(self.image))


class UploadedAnewTest(base.EngineTest):

    def test_while_the_old_copy_is_removed(self) -> None:
        image = self.store(DATA).image_id
        away = self.lab.holders(image)[0]
        self.lab.take_away(away)
        self.engine.delete(image)
        self.lab.bring_back(away)

        def upload() -> None:
            with contextlib.suppress(exceptions.ImageBusy):
                self.store(b'other data', image)

        thread = threading.Thread(target=upload)
        real = removal.mark_deleted

        def mark(attached: Any, what: layout.Upload) -> None:
            if threading.current_thread() is not thread:
                thread.start()
                # It gets as far as it can.
                thread.join(1.0)
            real(attached, what)

        self.useFixture(fixtures.MockPatchObject(
            removal, 'mark_deleted', mark))
        self.lab.engine().sweeper.sweep_deleted()
        thread.join()
        self.assertEqual(3, len(self.good(image)))


class DeletedTest(SweepTest):

    def test_copies_of_deleted_uploads(self) -> None:
        self.plant(*self.devices[:2])
        other = self.image_id()
        self.lab.plant(self.devices[0], local.describe(other, DATA), DATA)
        self.mark_deleted(self.devices[3])
        with base.nothing_left_behind():
            self.sweeper.sweep_deleted()
        self.assertEqual([], self.lab.holders(self.image))
        self.assertEqual([self.devices[0]], self.lab.holders(other))
        # Those that had a copy know it themselves now.
        self.assertTrue(all(
            self.names(device, layout.deleted_directory(self.image))
            for device in self.devices[:2]))
        self.assertIn('was away when', self.log.output)

    def test_another_upload_of_the_same_image(self) -> None:
        self.plant(*self.devices[:2])
        self.mark_deleted(self.devices[3], OTHER)
        self.sweeper.sweep_deleted()
        self.assertEqual(self.devices[:2], self.lab.holders(self.image))

    def test_damaged_copies_are_left_to_repair(self) -> None:
        # They are of another upload: written after that one was deleted.
        self.mark_deleted(self.devices[3])
        # Files have the time of the last tick of the clock.
        time.sleep(0.05)
        for device in self.devices[:2]:
            self.plant(device)
            os.truncate(self.lab.place(device, self.image, 'manifest'), 5)
        self.sweeper.sweep_deleted()
        self.assertEqual(self.devices[:2], self.lab.holders(self.image))

    def damaged_and_alone(self) -> None:
        self.plant(self.devices[0])
        os.truncate(self.lab.place(self.devices[0], self.image, 'manifest'),
                    5)
        self.mark_deleted(self.devices[3])

    def test_damaged_copy_of_a_deleted_image(self) -> None:
        # It was away when the image was deleted, and its manifest rotted.
        self.damaged_and_alone()
        with base.nothing_left_behind():
            self.sweeper.sweep_deleted()
        self.assertEqual([], self.lab.holders(self.image))
        self.assertEqual(1, self.lab.put_aside(self.image))

    def test_damaged_copy_while_a_device_is_away(self) -> None:
        self.damaged_and_alone()
        self.lab.take_away(self.devices[1])
        self.sweeper.sweep_deleted()
        self.assertEqual([self.devices[0]], self.lab.holders(self.image))
        self.lab.bring_back(self.devices[1])
        self.sweeper.sweep_deleted()
        self.assertEqual([], self.lab.holders(self.image))

    def test_older_upload_of_an_image_that_was_uploaded_anew(self) -> None:
        # The old one's device was away then, and will be away again when
        # the new one is deleted.
        self.plant(self.devices[0])
        newer = local.describe(self.image, b'others', OTHER, 2.0)
        for device in self.devices[1:]:
            self.lab.plant(device, newer, b'others')
        with base.nothing_left_behind():
            self.sweeper.sweep_deleted()
        self.assertEqual(self.devices[1:], self.lab.holders(self.image))
        self.assertEqual(
            {layout.Upload(self.image, self.manifest.generation).name},
            self.marks('deleted', self.image))

    def test_surplus_copies_are_left_to_the_balancer(self) -> None:
        self.plant(*self.devices)
        self.sweeper.sweep_deleted()
        self.assertEqual(self.devices, self.lab.holders(self.image))
        self.assertEqual(set(), self.marks('deleted', self.image))

    def test_looks_again_when_the_devices_are_others(self) -> None:
        self.mark_deleted(self.devices[3])
        self.lab.take_away(self.devices[0])
        self.sweeper.sweep_deleted()
        self.lab.bring_back(self.devices[0])
        self.plant(self.devices[0])
        self.sweeper.sweep_deleted()
        self.assertEqual([], self.lab.holders(self.image))

    def test_looks_at_nothing_while_they_are_the_same(self) -> None:
        # It would read 256 directories of each, every few minutes.
        self.sweeper.sweep_deleted()
        opened = []
        real = fsio.directory

        def directory(path: str, dir_fd: int) -> object:
            opened.append(path)
            return real(path, dir_fd)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.directory', directory))
        self.sweeper.sweep_deleted()
        self.assertEqual([], opened)

    def test_looks_again_after_a_failure(self) -> None:
        # The copy could not be removed; the devices are the same.
        self.plant(self.devices[0])
        self.mark_deleted(self.devices[3])
        real = fsio.rename
        failing = [True]

        def rename(*args: object) -> None:
            if failing:
                raise OSError(5, 'Input/output error')
            real(*args)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.rename', rename))
        self.sweeper.sweep_deleted()
        self.assertEqual([self.devices[0]], self.lab.holders(self.image))
        failing.clear()
        self.sweeper.sweep_deleted()
        self.assertEqual([], self.lab.holders(self.image))

    def test_foreign_names_among_the_marks(self) -> None:
        for name in ('x', f'{self.image}.x', 'README'):
            with open(f'{self.devices[0]}/'
                      f'{layout.deleted_directory(self.image)}/{name}', 'w'):
                pass
        self.plant(self.devices[0])
        self.sweeper.sweep()
        self.assertEqual([self.devices[0]], self.lab.holders(self.image))
