"""Whether there is room for a release."""

from __future__ import annotations

from pathlib import Path
import shutil

from easystack_image import exceptions
from easystack_image.ota.hooks import base

#: A slot takes so many times the size of its archive: wheels are compressed,
#: and byte code comes on top.  With Glance 33 the archive has 33 MiB and the
#: slot 248.  The rest is for the unpacked archive and uv's cache, which are
#: there while it is built.
SLOT = 12
#: What stays free, in bytes: journals, logs and the like are written, too.
RESERVE = 64 * 1024 * 1024
_MIB = 1024 * 1024


class DiskSpace(base.Hook):
    """See whether there is room for the archive, and for the slot."""

    name = 'disk-space'
    points = ('at-preflight', 'before-stage')
    kinds = base.FORWARD
    overridable = True

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        if not context.archive_bytes:
            return 'the size of the release is not known yet'
        if context.slot and Path(context.slot).exists():
            return None
        wanted = {context.slots_directory: context.archive_bytes * SLOT,
                  context.state_directory: context.archive_bytes}
        found = shortage(wanted)
        if found:
            raise exceptions.HookFailed(found)
        return None


def shortage(wanted: dict[str, int]) -> str:
    """Return where there is not enough room, or ''.

    :param wanted: bytes by directories, which need not exist; what is on
        one file system counts together
    """
    by_device: dict[int, tuple[Path, int]] = {}
    for directory, size in wanted.items():
        place = _existing(Path(directory))
        device = place.stat().st_dev
        first, sum = by_device.get(device, (place, 0))
        by_device[device] = first, sum + size
    return '; '.join(
        f'{place} has {free // _MIB} MiB free, and '
        f'{(size + RESERVE) // _MIB} MiB are needed: make room, or remove '
        'old releases with "easystack-image-ota slots collect"'
        for place, size in by_device.values()
        if (free := shutil.disk_usage(place).free) < size + RESERVE)


def _existing(path: Path) -> Path:
    """Return a directory, or the first above it that exists."""
    while not path.exists():
        path = path.parent
    return path
