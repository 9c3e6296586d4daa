"""File systems with and without direct I/O."""

from __future__ import annotations

from collections.abc import Iterator
import errno
import os
from pathlib import Path

from easystack_image.blockstore.local import layout
from tests.faults import base
from tests.faults import workspace
from tests.functional import processes

MIB = base.MIB
DATA = base.content(9 * MIB, seed=8)
#: The last bytes of an image rarely fill a sector.
SIZES = (1, 511, 512, 4095, 4096, 4097, MIB - 1, MIB, 4 * MIB + 1, 9 * MIB)


class MemoryDevice:
    """A file system that has nothing but memory.

    :param kind: ``tmpfs`` or ``ramfs``; the latter refuses O_DIRECT, after
        it created the file
    """

    def __init__(self, space: workspace.Workspace, kind: str) -> None:
        self.mount_point = space.mount_point(kind)
        workspace.run('mount', '-t', kind, 'faults', self.mount_point)

    @property
    def path(self) -> str:
        """The directory that is given to the store."""
        return str(self.mount_point)

    @property
    def inside(self) -> Path:
        """Where what lies on it can be looked at."""
        return self.mount_point

    def close(self) -> None:
        """Unmount it."""
        workspace.run('umount', '-l', self.mount_point)


def uploads() -> Iterator[tuple[str, bool]]:
    """Yield device path and whether O_DIRECT is on, of uploads under way."""
    for number in os.listdir('/proc/self/fd'):
        try:
            target = os.readlink(f'/proc/self/fd/{number}')
            info = Path(f'/proc/self/fdinfo/{number}').read_text()
        except FileNotFoundError:
            continue
        device, found, _ = target.partition(f'/{layout.TMP}/upload.')
        if found and target.endswith(f'/{layout.DATA}'):
            flags = int(info.split('flags:')[1].split()[0], 8)
            yield device, bool(flags & os.O_DIRECT)


class TestDirectIO(base.TestCase):

    def memory(self, kind: str) -> MemoryDevice:
        device = MemoryDevice(self.space, kind)
        self.addCleanup(device.close)
        return device

    def flags(self, client: base.Client) -> dict[str, bool]:
        """Return, by device path, whether an upload goes past the cache."""
        found: dict[str, bool] = {}
        self.upload(client, DATA, {8 * MIB: lambda: found.update(uploads())})
        return found

    def check_sizes(self, client: base.Client) -> None:
        for size in SIZES:
            image_id, uri = self.upload(client, DATA[:size])
            self.check_image(client, uri, DATA[:size])
            self.check_copies(client.engine, image_id, good=3)
            client.delete(uri)

    def test_where_it_is_possible(self) -> None:
        client = self.client_on(*self.loops())
        self.assertEqual({device.path: True for device in self.devices},
                         self.flags(client))
        self.check_sizes(client)

    def test_switched_off(self) -> None:
        client = self.client_on(*self.loops(), direct_io=False)
        self.assertEqual({device.path: False for device in self.devices},
                         self.flags(client))
        self.check_sizes(client)

    def test_refused_by_the_file_system(self) -> None:
        ramfs, disk = self.memory('ramfs'), self.loop()
        self.assertRaises(OSError, os.open, ramfs.inside / 'probe',
                          os.O_CREAT | os.O_RDWR | os.O_DIRECT)
        (ramfs.inside / 'probe').unlink()
        client = self.client_on(ramfs, self.memory('tmpfs'), disk)
        flags = self.flags(client)
        self.assertFalse(flags[ramfs.path])
        self.assertTrue(flags[disk.path])
        self.check_sizes(client)

    def test_refused_on_opening(self) -> None:
        fuse = self.fuse()
        client = self.client_on(fuse, *self.loops(2))
        for done in (False, True):
            # Some create the file all the same.
            fuse.fail('create', '/data$', errno.EINVAL, done=done,
                      flag=os.O_DIRECT)
            self.assertFalse(self.flags(client)[fuse.path])
            self.assertEqual(1, fuse.hits())
            fuse.release()
        fuse.fail('create', '/data$', errno.EINVAL, flag=os.O_DIRECT)
        self.check_sizes(client)

    def test_refused_on_writing(self) -> None:
        fuse = self.fuse()
        client = self.client_on(fuse, *self.loops(2))
        fuse.fail('write', '/data$', errno.EINVAL, flag=os.O_DIRECT)

        def see_it_switched_off() -> None:
            processes.poll(lambda: not dict(uploads())[fuse.path],
                           'O_DIRECT being switched off', 10, 0.01)

        self.upload(client, DATA, {8 * MIB: see_it_switched_off})
        self.assertNotEqual(0, fuse.hits())
        self.check_sizes(client)
