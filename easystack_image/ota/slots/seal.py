"""The seal of a slot: what is in it, byte by byte, written last.

A slot without a seal is unfinished.  With one it is whole, durable, and never
changed again: its files and directories are read-only, and what is in it can
be compared with the seal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
import json
import os
from pathlib import Path
import stat
from typing import Any

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.release import archive
from easystack_image.ota.release import declaration as declarations

NAME = 'seal.json'
FORMAT = 1
#: What to do with a slot that is not as it was.
ADVICE = ('when nothing runs from it, "download" the release, and "slots '
          'build" its archive: that replaces it')
_LIMIT = 256 * 1024 * 1024
#: Whoever runs it may read it.
_READERS = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_RUNNERS = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_WRITERS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
#: How many seals this process remembers.
_KEPT_MOST = 4


@dataclasses.dataclass(frozen=True)
class Seal:
    """What a slot is."""

    release: declarations.Declaration
    #: The release of Python that it was built with, as '3.11'.
    python: str
    #: What is in it, by path: the SHA-256 of a file, where a link leads to
    #: (after '-> '), or '/' for a directory.
    contents: Mapping[str, str]


#: What was read, by what :func:`_read` knows of the files.
_KEPT: dict[tuple[str | int, ...], Seal] = {}


def describe(slot: Path) -> dict[str, str]:
    """Return what is in a slot, but for its seal.

    :raises easystack_image.exceptions.SlotError: if there is something that
        no release has
    """
    found = {}
    for path in _walk(slot):
        name = path.relative_to(slot).as_posix()
        if path.is_symlink():
            found[name] = '-> ' + os.readlink(path)
        elif path.is_dir():
            found[name] = '/'
        elif path.is_file():
            found[name] = archive.describe(path).sha256
        else:
            raise exceptions.SlotError(f'{path} is no file')
    found.pop(NAME, None)
    return found


def _walk(slot: Path) -> Iterator[Path]:
    for directory, directories, files in os.walk(slot):
        for name in sorted([*directories, *files]):
            yield Path(directory, name)


def write(slot: Path, release: declarations.Declaration,
          python: str) -> Seal:
    """Seal a slot: durable as it is now, and read-only.

    :raises OSError: if that fails; it has no seal then
    """
    seal = Seal(release, python, describe(slot))
    protect(slot, top=False)
    fd = fsio.open_directory(str(slot))
    try:
        # All that is in it, before what says that it is whole.
        fsio.sync_file_system(fd)
        fsio.replace_file(NAME, json.dumps({
            'format': FORMAT, 'release': release.record(), 'python': python,
            'contents': seal.contents}, indent=0).encode(), fd, _READERS)
    finally:
        os.close(fd)
    protect(slot)
    return seal


def protect(slot: Path, top: bool = True) -> None:
    """Have nobody write to a slot.

    :param top: whether that is so for the slot itself, or what is in it
    """
    paths = [slot] if top else [path for path in _walk(slot)
                                if not path.is_symlink()]
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode) & ~_WRITERS | _READERS
        # Whatever the umask was.
        path.chmod(mode | _RUNNERS if mode & stat.S_IXUSR else mode)


def unprotect(slot: Path) -> None:
    """Let the owner remove what is in a slot."""
    if slot.is_dir() and not slot.is_symlink():
        slot.chmod(0o700)
        for path in _walk(slot):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)


def read(slot: Path, keep: bool = True) -> Seal | None:
    """Return the seal of a slot, or None if it has none.

    :param keep: whether this process remembers it, which takes some
        megabytes
    :raises easystack_image.exceptions.SlotError: if it is damaged
    """
    try:
        fd = fsio.open_directory(str(slot))
    except FileNotFoundError:
        return None
    try:
        about = os.stat(NAME, dir_fd=fd, follow_symlinks=False)
        return (_read(slot, fd, about) if keep
                else _parse(slot, fsio.read_file(NAME, fd, _LIMIT)))
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)


def _read(slot: Path, fd: int, about: os.stat_result) -> Seal:
    """Return what a seal says, read anew only if it is not as it was.

    Two megabytes of it take 20 ms of a processor, and an upgrade looks
    a hundred times, not seldom while users wait.

    :param fd: of the directory of the slot
    :param about: the file; whoever replaces or changes it changes this
    """
    key = (str(slot), about.st_dev, about.st_ino, about.st_size,
           about.st_mtime_ns, about.st_ctime_ns)
    found = _KEPT.get(key)
    if found is None:
        found = _parse(slot, fsio.read_file(NAME, fd, _LIMIT))
        while len(_KEPT) >= _KEPT_MOST:
            # The oldest; another thread may have been quicker.
            _KEPT.pop(next(iter(_KEPT), key), None)
        _KEPT[key] = found
    return found


def _parse(slot: Path, data: bytes) -> Seal:
    try:
        record: dict[str, Any] = json.loads(data)
        if record['format'] == FORMAT:
            return Seal(declarations.from_record(record['release']),
                        str(record['python']), dict(record['contents']))
        reason = f'it has format {record["format"]!r}'
    except (ValueError, KeyError, TypeError,
            exceptions.InvalidRelease) as error:
        reason = repr(error)
    raise exceptions.SlotError(
        f'the seal of {slot} is damaged ({reason}): {ADVICE}')


def verify(slot: Path, seal: Seal) -> None:
    """Compare all that is in a slot with its seal.

    :raises easystack_image.exceptions.SlotError: naming what differs
    """
    found = describe(slot)
    differing = sorted(name for name in {*found, *seal.contents}
                       if found.get(name) != seal.contents.get(name))
    if differing:
        raise exceptions.SlotError(
            f'{slot} is not as it was built: {len(differing)} differ, '
            f'{", ".join(differing[:5])} among them: {ADVICE}')
