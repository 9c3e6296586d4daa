"""What lies on all devices, told by names and times alone.

One look at the directories of each device, side by side: some seconds for a
hundred thousand images; no content is read, and of manifests the size only.
"""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import dataclasses
import os

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import timed

#: Seconds that a look at everything on a device may take.
LONG = 600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What lies in the place of a copy."""

    #: Size of the data file in bytes; 0 if there is none.
    size: int
    #: What the file takes on the disk, in bytes: less, if it has holes.
    allocated: int
    #: When it was verified last, in seconds since the epoch; 0: unknown.
    verified_at: float
    #: Whether the manifest, not read but for its size, is of such data.
    whole: bool = True


@dataclasses.dataclass(slots=True)
class Inventory:
    """What lies on the devices that could be asked."""

    #: By image id, then by device path.
    images: dict[str, dict[str, Entry]]
    #: Ids of images of which some upload was deleted.
    deleted: set[str]
    #: Devices that could not be asked.
    failures: dict[str, exceptions.DeviceError]

    def whole(self, image_id: str) -> set[str]:
        """Return the devices whose copy of an image is as long as it says.

        A truncated one is not, nor one without a manifest.
        """
        return {path for path, entry in self.images[image_id].items()
                if entry.whole}

    def size(self) -> int:
        """Return how many bytes all copies have together."""
        return sum(entry.size for copies in self.images.values()
                   for entry in copies.values())


def take(fleet: fleet_module.Fleet,
         paths: Iterable[str] | None = None) -> Inventory:
    """Look at all devices.

    Copies of deleted uploads are counted until they are removed.

    :param paths: of the devices to look at, by default all
    :raises easystack_image.exceptions.ImageUnavailable: if none can be asked
    """
    def look(device: device_module.Device) -> tuple[
            device_module.Identity, dict[str, Entry], set[str]]:
        with contextlib.closing(device.attach(fleet.store_id)) as attached:
            return attached.identity, _images(attached), _deleted(attached)

    found, failures = fleet.run(look, paths=paths, patience=LONG)
    fleet.without_clones(found, failures, lambda answer: answer[0])
    if not found:
        raise exceptions.ImageUnavailable(
            'no device can be asked: '
            + '; '.join(map(str, failures.values())))
    images: dict[str, dict[str, Entry]] = {}
    deleted: set[str] = set()
    for path, (_, entries, marked) in found.items():
        deleted |= marked
        for image_id, entry in entries.items():
            images.setdefault(image_id, {})[path] = entry
    return Inventory(images, deleted, failures)


def count(attached: device_module.Attached) -> int:
    """Return how many copies lie on a device, told by names alone."""
    with attached.directory(layout.IMAGES) as images:
        return sum(layout.is_image_id(name)
                   for shard in device_module.SHARDS
                   for name in _names(images, shard))


def _images(attached: device_module.Attached) -> dict[str, Entry]:
    entries = {}
    with attached.directory(layout.IMAGES) as images:
        for shard in device_module.SHARDS:
            for name in _names(images, shard):
                if layout.is_image_id(name):
                    timed.beat()
                    entries[name] = _entry(images, f'{shard}/{name}')
    return entries


def _names(directory: int, shard: str) -> list[str]:
    timed.beat()
    with fsio.directory(shard, directory) as fd:
        return os.listdir(fd)


def _entry(images: int, place: str) -> Entry:
    size = allocated = 0
    verified_at, whole = 0.0, False
    # What is missing or odd is found by whoever looks closer.
    with contextlib.suppress(OSError), \
            fsio.directory(place, images) as directory:
        data = fsio.status(layout.DATA, directory)
        size, allocated = data.st_size, data.st_blocks * 512
        manifest = fsio.open_file(layout.MANIFEST, directory)
        try:
            status = os.fstat(manifest)
            verified_at = status.st_mtime
            whole = (status.st_size == manifest_module.length(size)
                     and manifest_module.peek(os.pread(
                         manifest, manifest_module.HEADER.size, 0)) == size)
        finally:
            os.close(manifest)
    return Entry(size, allocated, verified_at, whole)


def _deleted(attached: device_module.Attached) -> set[str]:
    with attached.directory('deleted') as deleted:
        return {upload.image_id for shard in device_module.SHARDS
                for name in _names(deleted, shard)
                if (upload := layout.upload_of_mark(name))}
