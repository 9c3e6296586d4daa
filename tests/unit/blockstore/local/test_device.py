"""Devices: who they are, and when they are refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
import time
from typing import Any
import uuid

import fixtures
import hypothesis
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device
from tests.contract import base
from tests.contract import local
from tests.unit.blockstore import examples

STORE = 'fedcba98-7654-3210-0123-456789abcdef'


def make(path: str, *arguments: Any) -> device.Identity:
    """Prepare a device; return its identity."""
    identity = device.new_identity(*arguments)
    device.initialise(path, identity)
    return identity


SAMPLE = device.Identity('00112233-4455-6677-8899-aabbccddeeff', STORE,
                         'rack 1', 2.5)
#: SAMPLE as it lies on a device, for ever.
GOLDEN = b"""\
{
 "device_id": "00112233-4455-6677-8899-aabbccddeeff",
 "format": 1,
 "placement_key": "",
 "replaces": "",
 "sha256": "eb44a57cf813de2ced7c81c2801a4857e4ec04f75c932dcadb0043c7c8f7080b",
 "state": "active",
 "store_id": "fedcba98-7654-3210-0123-456789abcdef",
 "weight": 2.5,
 "zone": "rack 1"
}
"""

identities = strategies.builds(
    device.Identity, strategies.uuids().map(str),
    strategies.uuids().map(str), strategies.text(min_size=1),
    strategies.floats(0.001, 1e6))


class IdentityTest(testtools.TestCase):

    def test_golden(self) -> None:
        self.assertEqual(GOLDEN, SAMPLE.pack())
        self.assertEqual(SAMPLE, device.Identity.unpack(GOLDEN))

    @hypothesis.given(identities)
    @examples(100)
    def test_round_trip(self, identity: device.Identity) -> None:
        self.assertEqual(identity, device.Identity.unpack(identity.pack()))

    def test_as_placement_sees_it(self) -> None:
        candidate = SAMPLE.candidate()
        self.assertEqual((SAMPLE.device_id, 'rack 1', 2.5), (
            candidate.key, candidate.zone, candidate.weight))

    def test_every_byte(self) -> None:
        for offset in range(len(GOLDEN)):
            damaged = bytearray(GOLDEN)
            for mask in range(1, 256):
                damaged[offset] = GOLDEN[offset] ^ mask
                try:
                    found = device.Identity.unpack(bytes(damaged))
                except (ValueError, TypeError):
                    continue
                # White space for white space changes nothing.
                self.assertEqual(SAMPLE, found, bytes(damaged))

    def test_every_length(self) -> None:
        # The last byte is a newline.
        for length in range(len(GOLDEN) - 1):
            self.assertRaises(ValueError, device.Identity.unpack,
                              GOLDEN[:length])

    def test_no_identity_at_all(self) -> None:
        for data in (b'', b'[]', b'null', b'5', b'"x"', b'{}', b'\xff\xfe',
                     bytes(100), b'{"format": 1}'):
            self.assertRaises(ValueError, device.Identity.unpack, data)

    def test_another_format(self) -> None:
        for number in (0, 2, '1', None):
            error = self.assertRaises(
                ValueError, device.Identity.unpack,
                sealed({**fields(SAMPLE), 'format': number}))
            self.assertIn(repr(number), str(error))

    def test_too_much_or_too_little(self) -> None:
        for change in ({'more': 5}, {'zone': None}):
            changed = {**fields(SAMPLE), **change}
            changed = {name: value for name, value in changed.items()
                       if value is not None}
            self.assertRaises((ValueError, TypeError),
                              device.Identity.unpack, sealed(changed))


def fields(identity: device.Identity) -> dict[str, Any]:
    """Return what is in an identity file, without the seal."""
    found = json.loads(identity.pack())
    del found['sha256']
    return dict(found)


def sealed(content: dict[str, Any]) -> bytes:
    """Return an identity file with any content, and a seal that matches."""
    return json.dumps({**content, 'sha256': device._digest(content)}).encode()


class HomeTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.home = self.useFixture(fixtures.TempDir()).path
        self.path = f'{self.home}/disk'
        os.mkdir(self.path)

    def identity(self) -> device.Identity:
        """Return what the identity file says."""
        with open(f'{self.path}/{device.IDENTITY}', 'rb') as file:
            return device.Identity.unpack(file.read())

    def set_identity(self, data: bytes) -> None:
        with open(f'{self.path}/{device.IDENTITY}', 'wb') as file:
            file.write(data)


class InitialiseTest(HomeTest):

    def assertRefused(self, *words: str, path: str = '',
                      weight: float = 1.0) -> str:
        with base.nothing_left_behind():
            error = self.assertRaises(
                exceptions.ConfigurationError, make, path or self.path,
                STORE, None, weight)
        for word in words:
            self.assertIn(word, str(error))
        return str(error)

    def test_makes_a_device(self) -> None:
        with base.nothing_left_behind():
            made = make(self.path, STORE, 'rack 1', 3)
        self.assertEqual(made, self.identity())
        self.assertEqual((STORE, 'rack 1', 3.0),
                         (made.store_id, made.zone, made.weight))
        self.assertEqual(
            {*device.DIRECTORIES, device.IDENTITY},
            set(os.listdir(self.path)))
        for name in device.SHARDED:
            self.assertEqual(set(device.SHARDS),
                             set(os.listdir(f'{self.path}/{name}')))

    def test_only_its_owner_may_enter(self) -> None:
        os.chmod(self.path, 0o777)  # noqa: S103
        make(self.path, STORE)
        for name in ('', 'images', 'images/00', 'tmp'):
            self.assertEqual(0o700, stat.S_IMODE(
                os.stat(f'{self.path}/{name}').st_mode), name)

    def test_each_is_somebody_else(self) -> None:
        other = f'{self.home}/other'
        os.mkdir(other)
        one, two = (make(path, STORE)
                    for path in (self.path, other))
        self.assertNotEqual(one.device_id, two.device_id)
        # By default each fails alone.
        self.assertNotEqual(one.zone, two.zone)
        self.assertEqual(str(uuid.UUID(one.device_id)), one.device_id)

    def test_weights(self) -> None:
        for weight in (0, -1, 1e7, float('nan'), float('inf')):
            self.assertRefused('weight', str(weight), weight=weight)
        self.assertEqual([], os.listdir(self.path))

    def test_no_directory(self) -> None:
        for path in (f'{self.home}/not there', __file__):
            self.assertRefused(path, 'create the directory', path=path)
        self.assertFalse(os.path.exists(f'{self.home}/not there'))

    def test_prepared_already(self) -> None:
        made = make(self.path, STORE)
        self.assertRefused(self.path, 'prepared already')
        self.assertEqual(made, self.identity())

    def test_damaged_identity_is_not_replaced(self) -> None:
        self.set_identity(b'damaged')
        self.assertRefused('prepared already')
        with open(f'{self.path}/{device.IDENTITY}', 'rb') as file:
            self.assertEqual(b'damaged', file.read())

    def test_not_empty(self) -> None:
        for number in range(5):
            os.mkdir(f'{self.path}/foreign{number}')
        message = self.assertRefused('not empty', 'foreign0, foreign1')
        self.assertNotIn('foreign4', message)
        self.assertEqual(5, len(os.listdir(self.path)))

    def test_what_a_new_file_system_has(self) -> None:
        os.mkdir(f'{self.path}/lost+found')
        make(self.path, STORE)

    def test_images_without_an_identity(self) -> None:
        make(self.path, STORE)
        os.mkdir(f'{self.path}/images/ac/some image')
        os.unlink(f'{self.path}/{device.IDENTITY}')
        self.assertRefused('images', 'identity')
        self.assertFalse(os.path.exists(f'{self.path}/{device.IDENTITY}'))

    def test_again_after_a_crash(self) -> None:
        # At the system calls that change something.
        real = {name: getattr(fsio, name) for name in (
            'mkdir', 'create', 'write_at', 'rename')}
        # The machine itself does not crash here.
        real['fsync'] = lambda fd: None
        calls: list[str] = []
        limit = [10_000]

        def counted(name: str) -> Any:
            def call(*args: Any) -> Any:
                if len(calls) == limit[0]:
                    raise KeyboardInterrupt
                calls.append(name)
                return real[name](*args)
            return call

        for name in real:
            self.useFixture(fixtures.MonkeyPatch(
                f'easystack_image.fsio.{name}',
                counted(name)))
        make(self.path, STORE)
        whole = list(calls)
        # The first and the last of each kind, and all that make the identity.
        steps = {*(whole.index(name) for name in real),
                 *(len(whole) - 1 - whole[::-1].index(name)
                   for name in real),
                 *range(whole.index('create') + 1, len(whole))}
        self.assertLess(6, len(steps))
        for step in sorted(steps):
            shutil.rmtree(self.path)
            os.mkdir(self.path)
            limit[0] = step
            calls.clear()
            with testtools.ExpectedException(KeyboardInterrupt):
                make(self.path, STORE)
            # Not a device unless it is a whole one.
            if os.path.exists(f'{self.path}/{device.IDENTITY}'):
                self.assertEqual(STORE, self.identity().store_id)
                continue
            limit[0] = 10_000
            made = make(self.path, STORE)
            self.assertEqual(made, self.identity())
            self.assertEqual({*device.DIRECTORIES, device.IDENTITY},
                             set(os.listdir(self.path)))

    def test_cannot_be_written(self) -> None:
        def fail(fd: int) -> None:
            raise OSError(30, 'Read-only file system')

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.fsync', fail))
        self.assertRefused(self.path, 'cannot be prepared', 'Read-only')


class AttachTest(HomeTest):

    def setUp(self) -> None:
        super().setUp()
        os.rmdir(self.path)
        local.prepare(self.path, local.identity(0))
        self.device = device.Device(self.path, 60)

    def assertRefused(self, *words: str, store_id: str | None = None,
                      ) -> exceptions.DeviceUnavailable:
        with base.nothing_left_behind():
            error = self.assertRaises(exceptions.DeviceUnavailable,
                                      self.device.attach, store_id)
        self.assertEqual(self.path, error.device)
        for word in words:
            self.assertIn(word, str(error))
        return error

    def test_attach(self) -> None:
        self.assertIsNone(self.device.known)
        with base.nothing_left_behind():
            attached = self.device.attach()
            self.assertEqual(self.path, attached.path)
            self.assertEqual(local.identity(0), attached.identity)
            with attached.directory('tmp') as tmp:
                self.assertEqual([], os.listdir(tmp))
            attached.close()
            attached.close()
            del attached
        self.assertEqual(local.identity(0), self.device.known)

    def test_of_the_right_set(self) -> None:
        self.device.attach(local.STORE_ID).close()

    def test_of_another_set(self) -> None:
        self.assertRefused('another set', local.STORE_ID, STORE,
                           store_id=STORE)
        self.assertIsNone(self.device.known)

    def test_no_directory(self) -> None:
        os.rename(self.path, self.path + '.away')
        error = self.assertRefused('No such file')
        self.assertEqual(2, error.errno)

    def test_mount_point_without_its_disk(self) -> None:
        os.rename(self.path, self.path + '.away')
        os.mkdir(self.path)
        self.assertRefused('not mounted')
        self.assertEqual([], os.listdir(self.path))

    def test_file_in_its_place(self) -> None:
        os.rename(self.path, self.path + '.away')
        with open(self.path, 'wb'):
            pass
        self.assertRefused('Not a directory')

    def test_damaged_identity(self) -> None:
        packed = local.identity(0).pack()
        for data in (b'', packed[:-10], packed.replace(b'zone0', b'zone1'),
                     b'x' * 70_000, b'\xff' * 10,
                     sealed({**fields(local.identity(0)), 'more': 1}),
                     sealed({**fields(local.identity(0)), 'format': 2})):
            self.set_identity(data)
            self.assertRefused()
        self.set_identity(packed)
        self.device.attach().close()

    def test_identity_that_cannot_be_read(self) -> None:
        os.unlink(f'{self.path}/{device.IDENTITY}')
        os.symlink('/etc/passwd', f'{self.path}/{device.IDENTITY}')
        self.assertRefused()
        os.unlink(f'{self.path}/{device.IDENTITY}')
        os.mkdir(f'{self.path}/{device.IDENTITY}')
        self.assertRefused('not a regular file')

    def test_who_it_was_is_remembered(self) -> None:
        self.device.attach().close()
        os.rename(self.path, self.path + '.away')
        self.assertRefused()
        self.assertEqual(local.identity(0), self.device.known)

    def test_check_mounted(self) -> None:
        attached = self.device.attach()
        self.addCleanup(attached.close)
        attached.check_mounted()
        os.rename(self.path, self.path + '.away')
        self.assertRaises(OSError, attached.check_mounted)
        os.mkdir(self.path)
        error = self.assertRaises(exceptions.DeviceUnavailable,
                                  attached.check_mounted)
        self.assertIn('unmounted or replaced', str(error))
        os.rmdir(self.path)
        os.rename(self.path + '.away', self.path)
        attached.check_mounted()

    def test_avoided_for_a_while(self) -> None:
        other = device.Device(self.path, 0.05)
        self.assertFalse(other.avoided())
        self.device.avoid()
        other.avoid()
        self.assertTrue(self.device.avoided())
        base.eventually(lambda: not other.avoided(), 'the while is over')
        self.assertTrue(self.device.avoided())

    def test_directory_that_may_not_be_entered(self) -> None:
        # Root may enter all of them, so the system call is made to say so.
        def refuse(path: str, dir_fd: int | None = None) -> int:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.open_directory', refuse))
        error = self.assertRefused('Permission denied', 'chown')
        self.assertEqual(errno.EACCES, error.errno)

    def test_pipe_instead_of_identity(self) -> None:
        # Nobody writes to it, so whoever waited for that would hang.
        os.unlink(f'{self.path}/{device.IDENTITY}')
        os.mkfifo(f'{self.path}/{device.IDENTITY}')
        with base.nothing_left_behind():
            self.assertRefused('is not a regular file')


class HungTest(testtools.TestCase):
    """How many calls may hang on a device before it is left alone."""

    def setUp(self) -> None:
        super().setUp()
        self.device = device.Device('/disk', 0.05)
        self.release = threading.Event()
        self.addCleanup(self.release.set)

    def call(self) -> None:
        """Begin a call that hangs."""
        begun = threading.Event()

        def hang(which: device.Device) -> None:
            begun.set()
            self.release.wait()

        threading.Thread(target=self.device.watch, args=[hang]).start()
        self.assertTrue(begun.wait(60))

    def test_watch(self) -> None:
        self.assertEqual('/disk', self.device.watch(
            lambda which: which.path))
        with testtools.ExpectedException(ZeroDivisionError):
            self.device.watch(lambda which: 1 / 0)
        self.assertFalse(self.device.avoided())

    def test_most(self) -> None:
        with base.nothing_left_behind():
            for _ in range(device.MOST_HUNG - 1):
                self.call()
            time.sleep(2 * self.device.retry_after)
            self.assertFalse(self.device.avoided())
            self.call()
            # Not at once: it may be but slow.
            base.eventually(self.device.avoided, 'one too many')
            self.release.set()
            base.eventually(lambda: not self.device.avoided(), 'all ended')

    def test_hang(self) -> None:
        ended = [self.device.hang() for _ in range(device.MOST_HUNG)]
        time.sleep(2 * self.device.retry_after)
        # However long ago the first began.
        self.assertTrue(self.device.avoided())
        ended[0]()
        self.assertFalse(self.device.avoided())
        ended[0]()
        self.device.hang()
        # For a while, because it has just hung.
        self.assertTrue(self.device.avoided())


class DiskOfTest(HomeTest):

    def test_one_disk(self) -> None:
        os.mkdir(f'{self.home}/other')
        self.assertEqual(device.disk_of(self.path),
                         device.disk_of(f'{self.home}/other'))

    def test_another_one(self) -> None:
        # /proc is on no disk, and surely not on that of this directory.
        self.assertNotEqual(device.disk_of('/proc'),
                            device.disk_of(self.path))

    def refuse_shared(self, *paths: str) -> None:
        device.refuse_shared({path: device.disk_of(path) for path in paths})

    def test_refuse_shared(self) -> None:
        os.mkdir(f'{self.home}/other')
        self.refuse_shared()
        self.refuse_shared(self.path, '/proc')
        error = self.assertRaises(
            exceptions.ConfigurationError, self.refuse_shared,
            '/proc', self.path, f'{self.home}/other')
        self.assertIn(f'{self.path} and {self.home}/other', str(error))
        self.assertNotIn('/proc', str(error))

    def test_missing(self) -> None:
        self.assertRaises(OSError, device.disk_of, f'{self.home}/not there')

    def test_partitions_of_one_disk(self) -> None:
        # As the kernel shows them: a directory per disk, and in it one per
        # partition, with a file that tells its number.
        sysfs = f'{self.home}/sys'
        os.makedirs(f'{sysfs}/devices/pci/block/sda/sda1')
        os.makedirs(f'{sysfs}/devices/pci/block/sda/sda2')
        os.makedirs(f'{sysfs}/devices/pci/block/sdb')
        for name in ('sda1', 'sda2'):
            with open(f'{sysfs}/devices/pci/block/sda/{name}/partition',
                      'w'):
                pass
        numbers = {'/one': (8, 1), '/two': (8, 2), '/three': (8, 16),
                   '/whole': (8, 0), '/network': (0, 50)}
        links = {(8, 1): 'sda/sda1', (8, 2): 'sda/sda2', (8, 16): 'sdb',
                 (8, 0): 'sda'}
        os.makedirs(f'{sysfs}/dev/block')
        for (major, minor), target in links.items():
            os.symlink(f'../../devices/pci/block/{target}',
                       f'{sysfs}/dev/block/{major}:{minor}')
        self._show(sysfs, numbers)
        disks = {path: device.disk_of(path) for path in numbers}
        self.assertEqual(disks['/one'], disks['/two'])
        self.assertEqual(disks['/one'], disks['/whole'])
        self.assertEqual(3, len(set(disks.values())))
        self.assertEqual('0:50', disks['/network'])

    def _show(self, sysfs: str,
              numbers: dict[str, tuple[int, int]]) -> None:
        """Have the paths lie on these devices, as a made-up sysfs tells."""
        real_stat, real_path = os.stat, os.path.realpath

        def fake_stat(path: Any, *args: Any, **kwargs: Any) -> Any:
            if path in numbers:
                result = list(real_stat(self.path))
                result[2] = os.makedev(*numbers[path])
                return os.stat_result(result)
            return real_stat(path, *args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch('os.stat', fake_stat))
        self.useFixture(fixtures.MonkeyPatch(
            'os.path.realpath', lambda path, **kwargs: real_path(
                path.replace('/sys/', f'{sysfs}/', 1)
                if path.startswith('/sys/dev') else path, **kwargs)))
