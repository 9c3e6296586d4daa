"""The image data: random bytes, and random bytes with holes of zeros."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import hashlib
import os
from pathlib import Path
import shutil

import psutil

from tests.bench import results

#: Half-zero data alternates runs of this many bytes, random ones first: the
#: pattern of a file system that was written to here and there.
ZERO_RUN = 16 * results.MIB

_BLOCK = 4 * results.MIB

# A directory of our own is made in it, with an unforeseeable name.
_SHM = Path('/dev/shm')  # noqa: S108


class WrongBytes(Exception):
    """A store returned other bytes than it was given."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One prepared image file, and what Glance must say of it."""

    data: str
    path: Path
    size: int
    md5: str
    sha512: str


def choose_directory(size: int, fallback: Path) -> Path:
    """Return where the image files go: in memory if there is room.

    Memory is what makes the source as good as free for every store alike.
    Half of the free memory is left to the page cache, which the downloads
    are served from.

    :param size: of all image files together
    """
    if (_SHM.is_dir() and shutil.disk_usage(_SHM).free > 2 * size
            and psutil.virtual_memory().available > 4 * size):
        return _SHM
    return fallback


def _write(path: Path, data: str, size: int) -> tuple[str, str]:
    """Write an image file; return its md5 and its sha512."""
    md5 = hashlib.md5(usedforsecurity=False)
    sha512 = hashlib.sha512()
    zeros = bytes(_BLOCK)
    with path.open('xb') as out:
        for offset in range(0, size, _BLOCK):
            length = min(_BLOCK, size - offset)
            empty = data == 'half-zero' and offset // ZERO_RUN % 2
            block = zeros[:length] if empty else os.urandom(length)
            md5.update(block)
            sha512.update(block)
            out.write(block)
    return md5.hexdigest(), sha512.hexdigest()


def prepare(directory: Path, data: str, size: int) -> Source:
    """Make the image file of one kind of data (``random``, ``half-zero``)."""
    path = directory / f'{data}.raw'
    md5, sha512 = _write(path, data, size)
    return Source(data, path, size, md5, sha512)


def warm(path: Path) -> None:
    """Read a file to its end, so that the page cache holds it."""
    buffer = bytearray(_BLOCK)
    with path.open('rb', buffering=0) as source:
        while source.readinto(buffer):
            pass


def compare(chunks: Iterable[bytes], path: Path) -> None:
    """Compare what a store returned with the image file, byte for byte.

    :raises WrongBytes: naming the first offset of the piece that differs
    """
    offset = 0
    with path.open('rb') as source:
        for chunk in chunks:
            if source.read(len(chunk)) != chunk:
                raise WrongBytes(f'the bytes from {offset} differ from '
                                 f'those of {path.name}')
            offset += len(chunk)
        if source.read(1):
            raise WrongBytes(f'the data ended after {offset} bytes, '
                             f'{path.name} goes on')


def check_length(returned: int, wanted: int) -> None:
    """Raise WrongBytes if too much or too little was returned."""
    if returned != wanted:
        raise WrongBytes(f'{returned} bytes were returned, {wanted} are '
                         'right')
