"""What lies on one device, entry by entry, and what of it is odd.

A part at a time: the root of the device, or one shard of the images.  What
it holds for a million images never has to be in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import errno
import os
import re
import stat

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore import engine
from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import problems
from easystack_image.blockstore.local import scrub
from easystack_image.blockstore.local import status as status_module
from easystack_image.blockstore.local import timed

Attached = device_module.Attached
Kind = problems.Kind
Problem = problems.Problem

#: Files that may lie in the root of a device, also while they are replaced.
ROOT_FILES = frozenset(
    name + suffix for suffix in ('', '.new')
    for name in (device_module.IDENTITY, members.MEMBERS,
                 status_module.STATUS, scrub.STATE, claims.CLAIMS))
#: What mkfs leaves there belongs to root and to nobody else.
_ELSEWHERE = {'lost+found'}
_LOCK = re.compile(r'[a-z-]+([.][0-9a-f]{2})?')
#: Of copies in quarantine.
_ASIDE = re.compile(r'[0-9a-f-]{36}[.]\d+')


def _of_repair(name: str) -> object:
    return (layout.upload_of_mark(name)
            or layout.is_tried(name.removesuffix(fsio.NEW)))


#: What tells whether an entry of a directory may be there.
_OURS: Mapping[str, Callable[[str], object]] = {
    'locks': _LOCK.fullmatch, layout.QUARANTINE: _ASIDE.fullmatch,
    layout.REPAIR: _of_repair, layout.TMP: layout.is_ours}


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What lies in the place of a copy."""

    #: What its manifest says, if that is sound.
    info: engine.ImageInfo | None
    #: The seal of the manifest: the same for all copies of an upload.
    seal: bytes
    #: What is wrong with it, or ''.
    damage: str
    #: What kind of damage that is.
    kind: Kind
    #: When it was written, in seconds since the epoch.
    written_at: float
    #: When all of it was read last, as well.
    verified_at: float
    #: What is odd about its files.
    oddities: tuple[Problem, ...]


@dataclasses.dataclass(slots=True)
class Shard:
    """What one device holds of the images of one shard."""

    copies: dict[str, Seen]
    #: Uploads that were deleted.
    deleted: set[layout.Upload]
    #: What is odd about its directories.
    odd: list[Problem]


class _Judge:
    """Tells what is odd about single entries of a device."""

    def __init__(self, attached: Attached) -> None:
        self._device = attached.path
        self._owner = os.fstat(attached.fd).st_uid

    def problem(self, kind: Kind, message: str, image: str = '') -> Problem:
        return Problem(kind, message, self._device, image)

    def look(self, place: str, status: os.stat_result, directory: bool,
             image: str = '') -> Iterator[Problem]:
        """Compare an entry with what it should be.

        :param directory: whether it should be a directory, or else a file
        """
        if stat.S_ISLNK(status.st_mode):
            yield self.problem(Kind.LINK, f'{place} is a link', image)
            return
        right = stat.S_ISDIR if directory else stat.S_ISREG
        if not right(status.st_mode):
            what = 'directory' if directory else 'file'
            yield self.problem(Kind.UNEXPECTED, f'{place} is no {what}',
                               image)
            return
        if not directory and status.st_nlink != 1:
            yield self.problem(
                Kind.LINK, f'{place} has {status.st_nlink} names', image)
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077 or mode & 0o600 != 0o600:
            yield self.problem(Kind.MODE, f'{place} has mode {mode:04o}',
                               image)
        if status.st_uid != self._owner:
            yield self.problem(
                Kind.OWNER, f'{place} belongs to user {status.st_uid}, the '
                            f'device to user {self._owner}', image)


def names(attached: Attached, directory: str) -> list[str]:
    """Return what is in a directory of a device, sorted.

    Nothing, if there is no such directory: :func:`root` tells so.
    """
    timed.beat()
    try:
        with attached.directory(directory) as fd:
            return sorted(os.listdir(fd))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return []
        raise


def _entries(attached: Attached,
             directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield what is in a directory; what goes meanwhile is passed over."""
    for name in names(attached, directory):
        timed.beat()
        with contextlib.suppress(FileNotFoundError):
            yield name, fsio.status(f'{directory}/{name}', attached.fd)


def root(attached: Attached) -> list[Problem]:
    """Look at all of a device but the images and the deleted ones."""
    judge = _Judge(attached)
    found = []
    there = set()
    for name, status in _entries(attached, '.'):
        there.add(name)
        if name in _ELSEWHERE:
            continue
        if name not in device_module.DIRECTORIES and name not in ROOT_FILES:
            found.append(judge.problem(
                Kind.UNEXPECTED, f'{name} is none of ours'))
        else:
            found += judge.look(name, status,
                                name in device_module.DIRECTORIES)
    for name in device_module.DIRECTORIES:
        if name not in there:
            found.append(judge.problem(Kind.MISSING_DIRECTORY,
                                       f'{name} is missing'))
        elif name in device_module.SHARDED:
            found += _shards(attached, judge, name)
        else:
            found += _flat(attached, judge, name)
    return found


def _shards(attached: Attached, judge: _Judge, name: str) -> list[Problem]:
    found = []
    there = dict(_entries(attached, name))
    for shard in device_module.SHARDS:
        if shard not in there:
            found.append(judge.problem(Kind.MISSING_DIRECTORY,
                                       f'{name}/{shard} is missing'))
    for shard, status in there.items():
        place = f'{name}/{shard}'
        if layout.is_image_id(shard):
            found.append(judge.problem(
                Kind.MISPLACED, f'{place} is in no shard', shard))
        elif shard not in device_module.SHARDS:
            found.append(judge.problem(Kind.UNEXPECTED,
                                       f'{place} is none of ours'))
        else:
            found += judge.look(place, status, directory=True)
    return found


def _flat(attached: Attached, judge: _Judge, name: str) -> list[Problem]:
    """Look at the entries of locks, repair, quarantine or tmp."""
    ours = _OURS[name]
    found = []
    for entry, status in _entries(attached, name):
        place = f'{name}/{entry}'
        if not ours(entry):
            found.append(judge.problem(Kind.UNEXPECTED,
                                       f'{place} is none of ours'))
        elif name == layout.QUARANTINE:
            # As odd as it was when it was put there.
            found.append(judge.problem(
                Kind.QUARANTINE, f'{place}: {_reason(attached, place)}',
                entry[:36]))
        elif name != layout.TMP:
            found += judge.look(place, status, directory=False)
    return found


def _reason(attached: Attached, place: str) -> str:
    try:
        with attached.directory(place) as directory:
            return fsio.read_file(layout.REASON, directory, 65536).decode(
                errors='replace').strip()
    except OSError:
        return 'put aside'


def shard(attached: Attached, name: str,
          only: Collection[str] | None = None) -> Shard:
    """Look at the images of one shard, and at the deleted ones.

    :param only: ids of the images to look at, by default all
    """
    judge = _Judge(attached)
    result = Shard({}, set(), [])
    if only is None:
        only = _images(attached, judge, name, result.odd)
    for image_id in only:
        seen = _copy(attached, judge, image_id)
        if seen is not None:
            result.copies[image_id] = seen
    for entry, status in _entries(attached, f'deleted/{name}'):
        upload = layout.upload_of_mark(entry)
        place = f'deleted/{name}/{entry}'
        if upload is None or layout.shard(upload.image_id) != name:
            result.odd.append(judge.problem(
                Kind.UNEXPECTED, f'{place} is none of ours'))
        else:
            result.deleted.add(upload)
            result.odd += judge.look(place, status, False)
    return result


def _images(attached: Attached, judge: _Judge, shard_name: str,
            odd: list[Problem]) -> list[str]:
    """Return the images of a shard; add what is odd among them."""
    found = []
    for name, status in _entries(attached, f'{layout.IMAGES}/{shard_name}'):
        place = f'{layout.IMAGES}/{shard_name}/{name}'
        if not layout.is_image_id(name):
            odd.append(judge.problem(Kind.UNEXPECTED,
                                     f'{place} is none of ours'))
        elif layout.shard(name) != shard_name:
            odd.append(judge.problem(
                Kind.MISPLACED, f'{place} is in the wrong shard', name))
        else:
            found.append(name)
            if stat.S_ISDIR(status.st_mode):
                odd += judge.look(place, status, True, name)
    return found


def _copy(attached: Attached, judge: _Judge, image_id: str) -> Seen | None:
    seen = _look(attached, judge, image_id)
    if seen is not None and seen.damage:
        # Perhaps it was being removed under us, which looks like damage.
        seen = _look(attached, judge, image_id)
    return seen


def _look(attached: Attached, judge: _Judge, image_id: str) -> Seen | None:
    finding = fleet_module.Finding(attached)
    try:
        fleet_module.inspect(finding, image_id)
        opened = finding.data >= 0
    except exceptions.DeviceError as error:
        return Seen(None, b'', error.reason, Kind.NEWER_COPY, 0.0, 0.0, ())
    finally:
        finding.close_data()
    if finding.manifest is None and not finding.damage:
        return None
    written_at, oddities = _files(attached, judge, image_id)
    manifest = finding.manifest
    if manifest is None:
        return Seen(None, b'', finding.damage,
                    Kind.FOREIGN_COPY if finding.foreign else
                    Kind.DAMAGED_COPY, written_at, 0.0, tuple(oddities))
    seal = manifest_module.pack(manifest)[-manifest_module.SEAL_LENGTH:]
    return Seen(copying.info_of(manifest), seal, finding.damage,
                Kind.WRONG_SIZE if opened else Kind.DAMAGED_COPY,
                written_at, finding.verified_at, tuple(oddities))


def _files(attached: Attached, judge: _Judge,
           image_id: str) -> tuple[float, list[Problem]]:
    """Return when a copy was written, and what is odd about its files."""
    place = layout.copy_directory(image_id)
    oddities: list[Problem] = []
    written_at = 0.0
    with contextlib.suppress(FileNotFoundError):
        written_at = fsio.status(place, attached.fd).st_mtime
    for name, status in _entries(attached, place):
        if name in (layout.DATA, layout.MANIFEST):
            oddities += judge.look(f'{place}/{name}', status, False,
                                   image_id)
        else:
            oddities.append(judge.problem(
                Kind.UNEXPECTED, f'{place}/{name} is none of ours',
                image_id))
    return written_at, oddities
