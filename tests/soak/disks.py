"""The disks of the store: small file systems that things happen to."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import shutil

from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest
from tests.faults import fuse
from tests.faults import loop
from tests.faults import workspace
from tests.soak import catalogue

MIB = 1 << 20
#: Bytes that a full disk has left: room for notes, for no image.
LEFT = 64 * 1024


class Disk:
    """One device of the store.

    :param number: from 0
    :param zone: what fails together with it
    """

    #: The kinds of fault that it bears.
    bears: frozenset[str]

    def __init__(self, number: int, zone: str,
                 device: loop.LoopDevice | fuse.FuseDevice) -> None:
        self.number = number
        self.zone = zone
        self.path = device.path
        #: Whether it belongs to the set.
        self.member = True
        self._device = device

    def __str__(self) -> str:
        return f'disk {self.number} ({self.zone})'

    @property
    def inside(self) -> Path:
        """Where what lies on it can be looked at."""
        return self._device.inside

    def place(self, image_id: str) -> Path:
        """Return where the copy of an image is, or would be."""
        return self.inside / layout.copy_directory(image_id)

    def has(self, image: catalogue.Image, read: bool,
            before: float = float('inf')) -> bool:
        """Tell whether a good copy lies on the disk.

        :param read: whether to compare its bytes; else its manifest and its
            size do
        :param before: since when its data must lie there (seconds since
            1970)
        """
        place = self.place(image.image_id)
        try:
            described = manifest.unpack((place / layout.MANIFEST).read_bytes())
            status = os.stat(place / layout.DATA)
            data = (place / layout.DATA).read_bytes() if read else b''
        except (OSError, manifest.ManifestError):
            return False
        return (described.image_id == image.image_id
                and described.multihash.hex() == image.sha512
                and described.size == status.st_size
                and status.st_mtime < before
                and (not read or data == image.data))

    def images(self) -> set[str]:
        """Return the ids of all images that have something on it."""
        return {path.name for path in (self.inside / 'images').glob('*/*')}

    def leftovers(self) -> list[str]:
        """Return what lies in its tmp."""
        return os.listdir(self.inside / layout.TMP)

    def close(self) -> None:
        """Unmount and remove it."""
        self._device.close()

    def away(self) -> None:
        """Have it vanish, whoever uses it."""
        raise NotImplementedError

    def back(self) -> None:
        """Have it return as it was."""
        raise NotImplementedError

    def renew(self) -> None:
        """Lose it for good, and put an empty one in its place."""
        raise NotImplementedError

    def fill(self) -> None:
        """Take up all room on it."""
        raise NotImplementedError

    def make_room(self) -> None:
        """Undo :meth:`fill`."""
        raise NotImplementedError

    def slow(self, seconds: float) -> None:
        """Have each call on it take so long."""
        raise NotImplementedError

    def fast(self) -> None:
        """Undo :meth:`slow`."""
        raise NotImplementedError


class LoopDisk(Disk):
    """ext4 on a loop device."""

    bears = frozenset({'away', 'fill', 'drain', 'replace', 'add'})

    def __init__(self, number: int, zone: str, device: loop.LoopDevice,
                 ) -> None:
        super().__init__(number, zone, device)
        self._loop = device

    def away(self) -> None:
        """See the base class."""
        self._loop.unmount()

    def back(self) -> None:
        """See the base class."""
        self._loop.mount()

    def renew(self) -> None:
        """See the base class."""
        self._loop.renew()

    def fill(self) -> None:
        """See the base class."""
        self._loop.fill(LEFT)

    def make_room(self) -> None:
        """See the base class."""
        (self.inside / 'lost+found' / 'ballast').unlink()


class FuseDisk(Disk):
    """A file system that can be slow."""

    bears = frozenset({'away', 'slow', 'drain'})

    def __init__(self, number: int, zone: str, device: fuse.FuseDevice,
                 ) -> None:
        super().__init__(number, zone, device)
        self._fuse = device

    def away(self) -> None:
        """See the base class."""
        self._fuse.kill()

    def back(self) -> None:
        """See the base class."""
        self._fuse.restart()

    def slow(self, seconds: float) -> None:
        """See the base class."""
        self._fuse.delay('*', seconds)

    def fast(self) -> None:
        """See the base class."""
        self._fuse.release()


#: By the number of the disk; the last zone is that of the one on FUSE.
_ZONES = ('rack1', 'rack2', 'rack3', 'rack1', 'rack2', 'rack3')


def make(space: workspace.Workspace, count: int) -> list[Disk]:
    """Make the disks, and one more that is to be added later.

    :param count: at least 4
    """
    disks: list[Disk] = []
    for number in range(count - 1):
        disks.append(LoopDisk(
            number, _ZONES[number % len(_ZONES)],
            loop.LoopDevice(space, f'disk{number}', 256 * MIB)))
    disks.append(FuseDisk(count - 1, 'rack4',
                          fuse.FuseDevice(space, f'disk{count - 1}')))
    spare = LoopDisk(count, 'rack4',
                     loop.LoopDevice(space, f'disk{count}', 256 * MIB))
    spare.away()
    spare.member = False
    return [*disks, spare]


def flip(path: Path, place: float) -> None:
    """Change one bit of a file, unnoticed.

    :param place: where, from 0 to 1
    """
    times = os.stat(path)
    with path.open('r+b') as file:
        offset = int(place * (times.st_size - 1))
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << offset % 8]))
    # What rots by itself does not look any younger.
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def remove(place: Path) -> None:
    """Remove a copy, and leave no trace."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place)
