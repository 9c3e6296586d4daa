"""Measure what keeps the copies good: scrub, rebuild, listing, fsck, healer.

Scrub and rebuild are compared with plain programs that move the same bytes on
the same disk, with nothing of them in the page cache in either case.  All
three devices are directories on one disk, so it is the disk of one device
that they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
import dataclasses
import io
import os
from pathlib import Path
import shutil
import subprocess
import threading
import uuid

import crc32c

from easystack_image.blockstore.local import engine as local_engine
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import provision
from easystack_image.blockstore.local import settings
from easystack_image.blockstore.local import work
from tests.bench import meter
from tests.bench import results
from tests.bench import sources

#: Each operation on large images, and the plain one it is compared with.
BASELINES = {'scrub': 'read + CRC32C', 'rebuild': 'cp, sync + CRC32C'}
#: Operations on many small images.
COUNTED = ('list', 'fsck', 'healer round')
OPERATIONS = (*BASELINES.values(), *BASELINES, *COUNTED)
LARGE, SMALL = 'large', 'small'
#: How much of the data is one image.
_IMAGES = 4
_COPIES = 3
_SMALL_SIZE = 4096
_BLOCK = 4 * results.MIB


def _forget(paths: list[Path]) -> None:
    """Have the page cache let go of files; they must have been synced."""
    for path in paths:
        with path.open('rb') as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _checksum(path: Path) -> None:
    """Read a file to its end, and compute what an engine would."""
    buffer = memoryview(bytearray(_BLOCK))
    with path.open('rb', buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while length := file.readinto(buffer):
            for begin in range(0, length, manifest_module.BLOCK_SIZE):
                crc32c.crc32c(buffer[begin:min(
                    begin + manifest_module.BLOCK_SIZE, length)])


class _Store:
    """A store of three devices, side by side in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.devices = [directory / f'device{number}'
                        for number in range(_COPIES)]
        for device in self.devices:
            device.mkdir(parents=True)
        provision.initialise([str(device) for device in self.devices])
        self.engine = local_engine.LocalEngine(settings.Settings(
            [str(device) for device in self.devices], copies=_COPIES,
            min_copies=_COPIES, allow_shared_disk=True, self_repair=False,
            scrub_rate=0.0))
        self.engine.start()
        # As "device init" does, so that a lost device can be replaced.
        self.engine.membership.remember()

    def files(self, device: Path) -> list[Path]:
        """Return the data of all copies on a device."""
        return sorted(device.glob(f'{layout.IMAGES}/*/*/{layout.DATA}'))

    def all_files(self) -> list[Path]:
        """Return the data of all copies."""
        return [path for device in self.devices
                for path in self.files(device)]


class _Large:
    """Some large images, scrubbed, lost and rebuilt.

    :param source: random data, which is cut into images
    """

    def __init__(self, source: sources.Source, directory: Path) -> None:
        self._store = _Store(directory)
        self._size = source.size
        piece = -(-source.size // _IMAGES)
        with source.path.open('rb') as data:
            while part := data.read(piece):
                self._store.engine.write(str(uuid.uuid4()),
                                         io.BytesIO(part), len(part))
        self.work: dict[str, Callable[[], int]] = {
            'read + CRC32C': self._read, 'scrub': self._scrub,
            'cp, sync + CRC32C': self._copy, 'rebuild': self._rebuild}

    def prepare(self, operation: str) -> None:
        """Bring about what the operation is measured on."""
        if operation == 'rebuild':
            # The directory itself stays: it stands for the mount point.
            for entry in self._store.devices[-1].iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(self._copied, ignore_errors=True)
        os.sync()
        _forget(self._store.all_files())

    @property
    def _copied(self) -> Path:
        return self._store.directory / 'copied'

    def _read(self) -> int:
        """Read all copies, one thread per device."""
        with futures.ThreadPoolExecutor(_COPIES) as pool:
            for _ in pool.map(lambda device: [
                    _checksum(path) for path in self._store.files(device)],
                    self._store.devices):
                pass
        return _COPIES * self._size

    def _scrub(self) -> int:
        result = self._store.engine.scrubber.run(work.Job(), restart=True)
        self._check(result.good, result.bad)
        return _COPIES * self._size

    def _copy(self) -> int:
        """Copy one device's images, and verify what was copied."""
        subprocess.run(['cp', '-r', self._store.devices[0] / layout.IMAGES,
                        self._copied], check=True)
        subprocess.run(['sync', '-f', self._copied], check=True)
        for path in sorted(self._copied.glob(f'*/*/{layout.DATA}')):
            _checksum(path)
        return self._size

    def _rebuild(self) -> int:
        """Replace the lost device by an empty one, and fill that."""
        lost = str(self._store.devices[-1])
        engine = self._store.engine
        engine.membership.replace(lost, lost)
        made = engine.membership.rebuild(work.Job())
        self._check(_COPIES * len(made), 0)
        return self._size

    def _check(self, good: int, bad: int) -> None:
        """See that nothing was left out."""
        if (good, bad, len(self._store.all_files())) != (
                _COPIES * _IMAGES, 0, _COPIES * _IMAGES):
            raise sources.WrongBytes(
                f'{good} copies good, {bad} bad, {_COPIES * _IMAGES} '
                'expected')


class _Small:
    """Many small images, of which nothing is wrong.

    One is written through the engine; the others have its data, and each a
    manifest of its own, as if they had been written one by one (which takes
    a quarter of an hour: each is synced).
    """

    def __init__(self, count: int, directory: Path) -> None:
        self._store = _Store(directory)
        self._count = count
        data = os.urandom(_SMALL_SIZE)
        first = str(uuid.uuid4())
        self._store.engine.write(first, io.BytesIO(data), len(data))
        place = self._store.devices[0] / layout.copy_directory(first)
        manifest = manifest_module.unpack(
            (place / layout.MANIFEST).read_bytes())
        for _ in range(count - 1):
            self._plant(dataclasses.replace(
                manifest, image_id=str(uuid.uuid4()),
                generation=str(uuid.uuid4())), data)
        self._healer = self._store.engine.healer(lambda status: None)
        # The first round finds all devices new, and looks at more.
        self._healer.round(threading.Event())
        self.work: dict[str, Callable[[], int]] = {
            'list': self._list, 'fsck': self._fsck,
            'healer round': self._heal}

    def prepare(self, operation: str) -> None:
        """Leave nothing to be written meanwhile."""
        os.sync()

    def _plant(self, manifest: manifest_module.Manifest,
               data: bytes) -> None:
        packed = manifest_module.pack(manifest)
        for device in self._store.devices:
            place = device / layout.copy_directory(manifest.image_id)
            place.mkdir(0o700)
            for name, content in ((layout.DATA, data),
                                  (layout.MANIFEST, packed)):
                fd = os.open(place / name, os.O_WRONLY | os.O_CREAT, 0o600)
                os.write(fd, content)
                os.close(fd)

    def _list(self) -> int:
        self._check(sum(1 for _ in self._store.engine.list_images()))
        return self._count

    def _fsck(self) -> int:
        checker = self._store.engine.checker()
        found = list(checker.check(work.Job()))
        if found:
            raise sources.WrongBytes(f'fsck finds {found[0]}')
        self._check(checker.images)
        return self._count

    def _heal(self) -> int:
        status = self._healer.round(threading.Event())
        if status.misplaced or status.below_copies:
            raise sources.WrongBytes(f'the healer finds {status}')
        self._check(status.images)
        return self._count

    def _check(self, count: int) -> None:
        if count != self._count:
            raise sources.WrongBytes(f'{count} images were found, '
                                     f'{self._count} are there')


class Upkeep:
    """Measures it.

    :param source: random data
    :param images: how many small images
    :param directory: on the disk where the stores are
    """

    operations = OPERATIONS

    def __init__(self, source: sources.Source, images: int,
                 directory: Path) -> None:
        self._large = _Large(source, directory / LARGE)
        self._small = _Small(images, directory / SMALL)

    def keys(self) -> Iterator[results.Key]:
        """Yield what is measured."""
        for operation in OPERATIONS:
            yield results.Key('upkeep', operation, SMALL if operation in
                              COUNTED else LARGE, '')

    def measure(self, operation: str) -> results.Sample:
        """Measure one operation."""
        part = self._small if operation in COUNTED else self._large
        part.prepare(operation)
        if part is self._large:
            return meter.measure_here(part.work[operation])
        sample = meter.measure_here(part.work[operation])
        return dataclasses.replace(sample, size=sample.size * _SMALL_SIZE,
                                   images=sample.size)
