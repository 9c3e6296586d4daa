"""The local engine as a whole: what the contract does not ask of others."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import threading
import time
from typing import Any
import uuid

import crc32c
import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import provision
from tests.contract import local
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local.base import MIB

OTHER = '123e4567-e89b-12d3-a456-426614174000'


class StartTest(base.LabTest):
    """One clear message that says what to do."""

    def engine(self, devices: list[str] | None = None,
               **changes: Any) -> engine_module.LocalEngine:
        """Return an engine that is not started."""
        made = base.engine_on(devices or self.devices, **changes)
        self.addCleanup(made.close)
        return made

    def assertRefused(self, *words: str, devices: list[str] | None = None,
                      **changes: Any) -> None:
        engine = self.engine(devices, **changes)
        with base.nothing_left_behind():
            error = self.assertRaises(exceptions.ConfigurationError,
                                      engine.start)
        for word in words:
            self.assertIn(word, str(error))
        self.assertNotIn('\n', str(error))

    def test_before_it_is_started(self) -> None:
        engine = self.engine()
        error = self.assertRaises(exceptions.BlockStoreError,
                                  lambda: engine.store_id)
        self.assertIn('not started', str(error))

    def test_started_twice(self) -> None:
        engine = self.engine()
        engine.start()
        engine.start()
        self.assertEqual(local.STORE_ID, engine.store_id)

    def test_no_device_is_prepared(self) -> None:
        home = self.useFixture(fixtures.TempDir()).path
        paths = [f'{home}/{number}' for number in range(3)]
        self.assertRefused('device init', *paths, 'No such file',
                           devices=paths)
        for path in paths:
            os.mkdir(path)
        self.assertRefused('device init', *paths, 'not mounted',
                           devices=paths)
        for path in paths:
            self.assertEqual([], os.listdir(path))

    def test_devices_of_different_sets(self) -> None:
        self.set_identity(self.devices[3], device_module.Identity(
            OTHER, OTHER, 'zone', 1.0))
        self.assertRefused('different sets', local.STORE_ID, OTHER,
                           self.devices[3])

    def set_identity(self, device: str,
                     identity: device_module.Identity) -> None:
        """Give a device another identity."""
        path = f'{device}/{device_module.IDENTITY}'
        with open(path, 'rb') as file:
            before = file.read()

        def write(data: bytes) -> None:
            with open(path, 'wb') as file:
                file.write(data)

        self.addCleanup(write, before)
        write(identity.pack())

    def test_one_device_under_two_names(self) -> None:
        self.set_identity(self.devices[3], local.identity(1))
        self.assertRefused(self.devices[1], self.devices[3],
                           'the same device', 'list it once')

    def test_link_to_another_device(self) -> None:
        home = self.useFixture(fixtures.TempDir()).path
        os.symlink(self.devices[1], f'{home}/link')
        self.assertRefused(self.devices[1], f'{home}/link', 'list it once',
                           devices=[*self.devices, f'{home}/link'])

    def test_devices_on_one_disk(self) -> None:
        self.assertRefused('same disk', *self.devices,
                           'allow_shared_disk', allow_shared_disk=False)

    def test_disk_that_hangs_when_it_is_asked_for_its_name(self) -> None:
        gate = threading.Event()
        self.addCleanup(gate.set)

        def disk_of(path: str) -> str:
            if path == self.devices[0]:
                gate.wait(60)
            return path

        self.useFixture(fixtures.MockPatchObject(
            device_module, 'disk_of', disk_of))
        began = time.monotonic()
        self.engine(allow_shared_disk=False,
                    io_timeout=base.SHORT).start()
        self.assertLess(time.monotonic() - began, 30)
        self.assertIn(f'Device {self.devices[0]}', self.log.output)

    def test_devices_that_keep_no_locks(self) -> None:
        def flock(fd: int, operation: int) -> None:
            if device_module.IDENTITY in os.readlink(f'/proc/self/fd/{fd}'):
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))

        self.engine().start()
        self.assertNotIn('lock', self.log.output)
        self.useFixture(fixtures.MonkeyPatch('fcntl.flock', flock))
        self.engine().start()
        for device in self.devices:
            self.assertIn(f'Device {device}: its file system cannot lock',
                          self.log.output)

    def test_device_that_is_away(self) -> None:
        self.lab.take_away(self.devices[0])
        self.engine().start()
        self.assertIn(self.devices[0], self.log.output)
        self.assertIn('not mounted', self.log.output)
        self.assertNotIn('uploads', self.log.output)

    def test_too_few_for_uploads(self) -> None:
        for device in self.devices[1:]:
            self.lab.take_away(device)
        engine = self.engine()
        engine.start()
        self.assertIn('Only 1 of 4', self.log.output)
        error = self.assertRaises(
            exceptions.NotEnoughCopies, engine.write, self.image_id(),
            base.Source(b'data'))
        self.assertEqual(set(self.devices[1:]),
                         {cause.device for cause in error.causes})

    def test_sweeps_what_a_crash_left(self) -> None:
        name = layout.upload_name(OTHER)
        os.mkdir(f'{self.devices[0]}/{layout.TMP}/{name}')
        self.engine().start()
        self.assertEqual([], self.lab.leftovers())

    def test_hung_device(self) -> None:
        self.lab.hang(self.devices[0])
        engine = self.engine(io_timeout=base.SHORT)
        with base.nothing_left_behind():
            engine.start()
            self.lab.wake(self.devices[0])
        self.assertIn('no answer within', self.log.output)

    def test_set_is_fixed_from_then_on(self) -> None:
        engine = self.engine()
        engine.start()
        info = engine.write(self.image_id(), base.Source(b'data'))
        for device in self.devices:
            self.lab.take_away(device)
        foreign = f'{self.devices[0]}.foreign'
        os.rmdir(self.devices[0])
        local.prepare(foreign, local.identity(0, OTHER))
        os.rename(foreign, self.devices[0])
        self.addCleanup(os.mkdir, self.devices[0])
        self.addCleanup(shutil.rmtree, self.devices[0])
        self.assertRaises(exceptions.ImageUnavailable, engine.info,
                          info.image_id)
        infos = engine.devices()
        self.assertFalse(infos[0].available, infos[0])
        self.assertIn('another set', infos[0].reason)

    def test_made_from_options(self) -> None:
        made = engine_module.LocalEngine.from_options({
            'engine': 'local', 'devices': self.devices, 'copies': 2,
            'min_copies': 1, 'io_timeout': 7, 'allow_shared_disk': True,
            'direct_io': False, 'self_repair': False, 'sweep_interval': 9,
            'ceph_pool': 'images'})
        self.assertEqual(
            (2, 1, 7, True, False, False, 9, self.devices),
            (made.settings.copies, made.settings.min_copies,
             made.settings.io_timeout, made.settings.allow_shared_disk,
             made.settings.direct_io, made.settings.self_repair,
             made.settings.sweep_interval, made.settings.devices))


class FilesTest(base.EngineTest):
    """What an operator finds on the devices."""

    def test_plain_bytes(self) -> None:
        data = base.noise(MIB + 7)
        info = self.store(data)
        for copy in self.engine.list_copies(info.image_id):
            self.assertEqual(
                f'{copy.device}/images/{info.image_id[:2]}/{info.image_id}'
                '/data', copy.path)
            with open(copy.path, 'rb') as file:
                self.assertTrue(file.read() == data)
            self.assertEqual({'data', 'manifest'},
                             set(os.listdir(os.path.dirname(copy.path))))

    def test_without_direct_io(self) -> None:
        engine = self.lab.engine(direct_io=False)
        data = base.noise(5 * MIB + 7)
        info = self.store(data, engine=engine)
        self.assertEqual(3, len(self.good(info.image_id)))
        self.assertTrue(self.read(info.image_id) == data)

    def test_zeros_take_no_room(self) -> None:
        data = bytes(2 * MIB) + b'x' * MIB + bytes(20 * MIB + 3)
        info = self.store(data)
        for copy in self.engine.list_copies(info.image_id, verify=True):
            self.assertEqual('good', copy.state.value)
            self.assertEqual(len(data), os.path.getsize(copy.path))
            self.assertLess(os.stat(copy.path).st_blocks * 512, 2 * MIB)
        # Nor do those of a repaired copy.
        self.lab.drop(self.lab.holders(info.image_id)[0], info.image_id)
        self.engine.repair(info.image_id)
        for copy in self.engine.list_copies(info.image_id, verify=True):
            self.assertLess(os.stat(copy.path).st_blocks * 512, 2 * MIB)
        self.assertTrue(self.read(info.image_id) == data)

    def test_zeros_are_verified_like_everything(self) -> None:
        info = self.store(bytes(2 * MIB))
        device = self.lab.holders(info.image_id)[0]
        self.lab.damage(device, info.image_id, MIB + 1)
        self.assertEqual('damaged', self.states(info.image_id)[device])
        self.assertEqual(bytes(2 * MIB), self.read(info.image_id))

    def test_copies_are_all_alike(self) -> None:
        info = self.store(b'data')
        found = set()
        for device in self.lab.holders(info.image_id):
            with open(self.lab.place(device, info.image_id, 'manifest'),
                      'rb') as file:
                found.add(file.read())
        self.assertEqual(1, len(found))

    def test_what_is_in_the_way_is_put_aside(self) -> None:
        # Stale copies and damaged ones, where the new ones belong.
        image = self.image_id()
        self.lab.plant(self.devices[0], local.describe(
            image, b'old', OTHER), b'old')
        self.lab.plant(self.devices[1], local.describe(
            image, b'old', OTHER), b'cut')
        os.truncate(self.lab.place(self.devices[1], image, 'data'), 1)
        self.lab.plant(self.devices[2], local.describe(
            image, b'old', OTHER), b'old')
        self.lab.plant(self.devices[3], local.describe(
            image, b'old', OTHER), b'old')
        with open(f'{self.devices[3]}/{layout.deleted_directory(image)}/'
                  f'{image}.{OTHER}', 'w'):
            pass
        info = self.store(b'new', image)
        self.assertEqual(3, len(self.good(image)))
        self.assertEqual(b'new', self.read(image))
        self.assertEqual(info, self.engine.info(image))
        self.assertEqual(3, self.lab.put_aside(image))

    def test_nothing_goes_out_by_a_link(self) -> None:
        """Wherever somebody put one: the device cannot be used then."""
        elsewhere = self.useFixture(fixtures.TempDir()).path
        image_id = self.image_id()
        for name in (layout.images_directory(image_id), layout.IMAGES,
                     layout.TMP):
            place = f'{self.devices[0]}/{name}'
            there = f'{elsewhere}/{name.replace("/", "-")}'
            shutil.copytree(place, there)
            before = sorted(os.walk(there))
            os.rename(place, place + '.real')
            os.symlink(there, place)
            self.store(b'data', image_id)
            self.assertEqual(b'data', self.read(image_id))
            self.assertNotIn(self.devices[0], [
                copy.device for copy in self.engine.list_copies(image_id)
                if not copy.reason])
            self.engine.delete(image_id)
            self.engine.sweeper.sweep()
            self.assertEqual(before, sorted(os.walk(there)))
            os.unlink(place)
            os.rename(place + '.real', place)

    def test_list_images_knows_its_own(self) -> None:
        info = self.store(b'data')
        for name in ('README', 'lost+found', info.image_id.upper(),
                     f'{info.image_id}.bak'):
            with open(f'{self.devices[0]}/'
                      f'{layout.images_directory(info.image_id)}/{name}',
                      'w'):
                pass
        self.assertEqual([info.image_id], list(self.engine.list_images()))


class LargeTest(base.EngineTest):
    """Images larger than the memory of the machine: holes, all of them."""

    def plant(self, size: int) -> str:
        """Put a copy of nothing but zeros on a device."""
        image = self.image_id()
        self.lab.plant(self.devices[0], local.describe(
            image, b'', size=size, checksums=crc32c.crc32c(
                bytes(MIB)).to_bytes(4, 'little') * (size // MIB)), b'')
        os.truncate(self.lab.place(self.devices[0], image, 'data'), size)
        return image

    def assertReads(self, size: int) -> None:
        image = self.plant(size)
        for offset in (0, size // 2 + 5, size - 7):
            self.assertEqual(bytes(7), self.read(image, offset, 7))
        # A block that is not in the page cache, and one that is.
        self.assertEqual(bytes(3 * MIB), self.read(image, 5 * MIB, 3 * MIB))
        self.assertEqual(bytes(5 * MIB), self.read(image, 4 * MIB, 5 * MIB))

    def test_terabyte(self) -> None:
        with base.nothing_left_behind():
            self.assertReads(1 << 40)

    def test_little_address_space(self) -> None:
        # As uWSGI's limit-as leaves it.
        with open('/proc/self/statm') as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_AS, before)
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
        with base.nothing_left_behind():
            self.assertReads(64 << 30)


class RoomTest(base.EngineTest):

    def test_devices_without_room_are_the_last_choice(self) -> None:
        real = os.fstatvfs

        def fstatvfs(fd: int) -> Any:
            found = list(real(fd))
            path = os.readlink(f'/proc/self/fd/{fd}')
            if path in (self.devices[0], self.devices[2]):
                # f_bavail: what others than root may take.
                found[4] = 0
            return os.statvfs_result(found)

        self.useFixture(fixtures.MonkeyPatch('os.fstatvfs', fstatvfs))
        for _ in range(5):
            info = self.store(b'data')
            # Of unknown size: it may fit or not.
            self.assertEqual(3, len(self.lab.holders(info.image_id)))
            info = self.engine.write(self.image_id(), base.Source(b'data'),
                                     4)
            self.assertLessEqual(
                {self.devices[1], self.devices[3]},
                set(self.lab.holders(info.image_id)))
        self.assertEqual(
            [0, 0], [each.free for each in self.engine.devices()[::2]])

    def test_figures(self) -> None:
        usage = os.statvfs(self.devices[0])
        for info in self.engine.devices():
            self.assertEqual(usage.f_blocks * usage.f_frsize, info.total)
            self.assertLessEqual(info.free, info.total)
            self.assertEqual(1.0, info.weight)


class HungTest(base.EngineTest):
    """Devices that do not answer."""

    def setUp(self) -> None:
        super().setUp()
        self.data = base.noise(3 * MIB)
        self.info = self.store(self.data)
        self.engine = self.lab.engine(io_timeout=base.SHORT)
        self.release = threading.Event()
        self.addCleanup(self.release.set)

    def hang_reads(self, device: str) -> None:
        """Make reading the data on a device hang."""
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            if os.readlink(f'/proc/self/fd/{fd}').startswith(f'{device}/'):
                self.release.wait()
            return real(fd, length, offset)

        self.useFixture(fixtures.MonkeyPatch('os.pread', pread))
        # What hangs is not in the page cache.
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.residency.cached',
            lambda fd, offset, length: False))

    def test_device_that_cannot_be_opened(self) -> None:
        device = self.lab.holders(self.info.image_id)[0]
        self.lab.hang(device)
        with base.nothing_left_behind():
            self.assertTrue(self.read(self.info.image_id) == self.data)
            # From now on it is left alone for a while.
            begin = time.monotonic()
            self.assertEqual(self.info,
                             self.engine.info(self.info.image_id))
            self.assertLess(time.monotonic() - begin, base.SHORT)
            self.assertFalse(self.engine.devices()[
                self.devices.index(device)].available)
            self.lab.wake(device)
        base.eventually(lambda: all(info.available for info in
                                    self.engine.devices()), 'back')

    def test_device_that_cannot_be_read(self) -> None:
        # The first that would be read, whichever that is.
        with self.engine.fleet.survey(self.info.image_id) as survey:
            first = survey.sound()[0].path
        self.hang_reads(first)
        with base.nothing_left_behind():
            self.assertTrue(self.read(self.info.image_id) == self.data)
            self.assertTrue(self.engine.fleet.devices[first].avoided())
            self.release.set()
        self.assertIn('going on from another copy', self.log.output)

    def test_upload_goes_on_without_it(self) -> None:
        self.lab.hang(self.devices[2])
        image = self.image_id()
        with base.nothing_left_behind():
            self.store(self.data, image)
            self.assertEqual({*self.devices} - {self.devices[2]},
                             set(self.lab.holders(image)))
            self.lab.wake(self.devices[2])

    def test_write_that_hangs(self) -> None:
        real = fsio.write_at

        def write_at(fd: int, data: Any, offset: int) -> None:
            if os.readlink(f'/proc/self/fd/{fd}').startswith(
                    f'{self.devices[1]}/'):
                self.release.wait()
            real(fd, data, offset)

        self.lab.take_away(self.devices[0])
        image = self.image_id()
        with fixtures.MonkeyPatch(
                'easystack_image.fsio.write_at', write_at):
            with base.nothing_left_behind():
                self.store(self.data, image)
                self.assertEqual(self.devices[2:], self.lab.holders(image))
                # Nobody waits for it again soon.
                self.assertTrue(self.engine.fleet.devices[
                    self.devices[1]].avoided())
                self.release.set()
        self.lab.bring_back(self.devices[0])
        base.eventually(lambda: all(info.available for info in
                                    self.engine.devices()), 'back')
        self.lab.housekeeping(self.engine)
        self.assertEqual([], self.lab.leftovers())

    def test_all_of_them(self) -> None:
        for device in self.devices:
            self.lab.hang(device)
        with base.nothing_left_behind():
            begin = time.monotonic()
            self.assertRaises(exceptions.ImageUnavailable, self.engine.info,
                              self.info.image_id)
            self.assertRaises(exceptions.ImageUnavailable, list,
                              self.engine.list_images())
            self.assertRaises(
                exceptions.NotEnoughCopies, self.engine.write,
                self.image_id(), base.Source(b''))
            self.assertRaises(exceptions.BlockStoreError,
                              self.engine.delete, self.info.image_id)
            # Together, not one after the other, and not anew each time.
            self.assertLess(time.monotonic() - begin, 4 * base.SHORT)
            for device in self.devices:
                self.lab.wake(device)


class NoticeTest(base.EngineTest):
    """What is found out in passing is noted on the devices."""

    def noticed(self) -> set[str]:
        return self.marks(layout.REPAIR)

    def test_nothing_to_notice(self) -> None:
        info = self.store(b'data')
        self.read(info.image_id)
        self.assertEqual(set(), self.noticed())

    def test_upload_with_too_few_copies(self) -> None:
        for device in self.devices[:2]:
            self.lab.take_away(device)
        info = self.store(b'data')
        self.assertEqual({self.upload(info).name}, self.noticed())

    def test_copy_that_is_missing(self) -> None:
        info = self.store(b'data')
        self.lab.drop(self.lab.holders(info.image_id)[0], info.image_id)
        self.read(info.image_id)
        self.assertEqual({self.upload(info).name}, self.noticed())

    def test_copy_on_a_device_that_is_away(self) -> None:
        # It may well come back; that would be much copying for nothing.
        info = self.store(b'data')
        self.lab.take_away(self.lab.holders(info.image_id)[0])
        self.read(info.image_id)
        self.assertEqual(set(), self.noticed())

    def test_damage(self) -> None:
        info = self.store(b'data')
        for device in self.lab.holders(info.image_id):
            self.lab.damage(device, info.image_id, 0)
        self.assertRaises(exceptions.DamagedImage, self.engine.open,
                          info.image_id)
        self.assertEqual({self.upload(info).name}, self.noticed())

    def test_stale_copy(self) -> None:
        info = self.store(b'data')
        spare, = {*self.devices} - {*self.lab.holders(info.image_id)}
        self.lab.plant(spare, local.describe(
            info.image_id, b'old', OTHER), b'old')
        self.read(info.image_id)
        self.assertEqual({self.upload(info).name}, self.noticed())


class CommitTest(base.EngineTest):

    def test_too_few_can_be_committed(self) -> None:
        # What is in its place already must not stay there.
        image = self.image_id()

        def action() -> None:
            for device in self.devices[:3]:
                os.rename(f'{device}/{layout.images_directory(image)}',
                          f'{device}/images/hidden')

        with base.nothing_left_behind():
            error = self.assertRaises(
                exceptions.NotEnoughCopies, self.engine.write, image,
                base.Source(b'data', at=4, action=action))
        for device in self.devices[:3]:
            os.rename(f'{device}/images/hidden',
                      f'{device}/{layout.images_directory(image)}')
        self.assertGreaterEqual(len(error.causes), 2)
        self.assertRaises(exceptions.ImageNotFound, self.engine.info, image)
        self.assertEqual([], self.lab.holders(image))
        self.assertEqual([], self.lab.leftovers())

    def test_what_a_device_kept_of_an_upload_that_failed(self) -> None:
        # Committed on one device, which then went away; never served.
        image = self.image_id()
        generations = []
        real = engine_module.transfer_module.Transfer.commit

        def commit(transfer: Any) -> Any:
            generations.append(transfer.upload.generation)
            done = real(transfer)
            for lane in done[1:]:
                self.lab.take_away(lane.path)
            return done[:1]

        with fixtures.MonkeyPatch(
                'easystack_image.blockstore.local.transfer.Transfer.commit',
                commit):
            self.assertRaises(exceptions.NotEnoughCopies, self.engine.write,
                              image, base.Source(b'data'))
        for device in list(self.lab._away):
            self.lab.bring_back(device)
        self.assertEqual(2, len(self.lab.holders(image)))
        for generation in (None, generations[0]):
            self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                              image, generation)
        self.assertEqual([], list(self.engine.list_images()))
        self.lab.housekeeping(self.engine)
        self.assertEqual([], self.lab.holders(image))


class DeleteTest(base.EngineTest):

    def test_cut_short_and_called_again(self) -> None:
        info = self.store(b'data')
        calls = []

        def fail(*args: Any) -> None:
            calls.append(args)
            raise KeyboardInterrupt

        with fixtures.MonkeyPatch(
                'easystack_image.blockstore.local.removal.remove_copy',
                fail):
            try:
                self.engine.delete(info.image_id, info.generation)
            except KeyboardInterrupt:
                pass
            else:
                self.fail('not cut short')
            # Or the slowest would come when it does not fail any more.
            deadline = time.monotonic() + 60
            while len(calls) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
        self.assertEqual(3, len(self.lab.holders(info.image_id)))
        # Deleted all the same, whoever asks.
        for engine in (self.engine, self.lab.engine()):
            self.assertRaises(exceptions.ImageNotFound, engine.info,
                              info.image_id)
        self.assertRaises(exceptions.ImageNotFound, self.engine.delete,
                          info.image_id, info.generation)
        self.assertEqual([], self.lab.holders(info.image_id))

    def test_with_its_generation_while_its_devices_are_away(self) -> None:
        # Glance knows that it is there, and so it can be deleted.
        info = self.store(b'data')
        holders = self.lab.holders(info.image_id)
        for device in holders:
            self.lab.take_away(device)
        self.engine.delete(info.image_id, info.generation)
        for device in holders:
            self.lab.bring_back(device)
        self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                          info.image_id)
        self.lab.housekeeping(self.engine)
        self.assertEqual([], self.lab.holders(info.image_id))

    def test_nothing_can_be_noted(self) -> None:
        info = self.store(b'data')
        for device in self.devices:
            directory = f'{device}/{layout.deleted_directory(info.image_id)}'
            os.rmdir(directory)
            self.addCleanup(os.mkdir, directory)
        device = self.lab.holders(info.image_id)[0]
        self.lab.take_away(device)
        self.assertRaises(exceptions.NotEnoughCopies, self.engine.delete,
                          info.image_id)
        self.lab.bring_back(device)


class ProvisionedTest(base.LabTest):

    def test_from_nothing_to_an_image(self) -> None:
        home = self.useFixture(fixtures.TempDir()).path
        devices = [f'{home}/{number}' for number in range(3)]
        for device in devices:
            os.mkdir(device)
        provision.initialise(devices)
        engine = base.engine_on(devices)
        self.addCleanup(engine.close)
        engine.start()
        self.assertEqual(str(uuid.UUID(engine.store_id)), engine.store_id)
        image = self.image_id()
        engine.write(image, base.Source(b'data'))
        self.assertEqual(b'data', b''.join(engine.open(image)))
        # One device only, and one copy.
        single = base.engine_on(devices[:1])
        single.start()
        self.assertEqual(b'data', b''.join(single.open(image)))
