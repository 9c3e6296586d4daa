"""The archive of a release: a plain tar file, the same for the same content.

POSIX pax without compression (wheels are compressed), ``release.json`` first,
then the files by name; times, owners and modes are always the same.
Nothing in it is believed: only what the declaration lists comes out, each
file with its size and SHA-256 checked, under names that lead nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import hashlib
import io
import os
from pathlib import Path
import struct
import tarfile
from typing import IO

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import lock
from easystack_image.ota.release import wheel

DECLARATION = 'release.json'
#: 1980-01-01, the earliest time that a wheel can have.
_TIME = 315532800
_PIECE = 1024 * 1024
#: What tarfile raises for archives that are none.
_MALFORMED = (tarfile.TarError, EOFError, ValueError, ArithmeticError,
              LookupError, struct.error)


def describe(path: Path) -> declarations.File:
    """Return the size and SHA-256 of a file."""
    with path.open('rb') as file:
        sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
        return declarations.File(os.fstat(file.fileno()).st_size, sha256)


def write(target: IO[bytes], declaration: declarations.Declaration,
          sources: Mapping[str, Path]) -> None:
    """Write an archive.

    :param sources: where each of the declaration's files is read from
    """
    with tarfile.open(fileobj=target, mode='w',
                      format=tarfile.PAX_FORMAT) as tar:
        data = declaration.dump()
        tar.addfile(_member(DECLARATION, len(data)), io.BytesIO(data))
        for name, file in sorted(declaration.files.items()):
            with sources[name].open('rb') as source:
                tar.addfile(_member(name, file.size), source)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = _TIME
    member.mode = 0o644
    return member


def inspect(path: Path) -> declarations.Declaration:
    """Read all of an archive, and return its declaration.

    :raises easystack_image.exceptions.InvalidRelease: unless it has exactly
        what it declares, and its wheels are those of its lock file
    """
    with _open(path) as (declaration, members):
        text = b''
        for name, pieces in members:
            data = b''.join(pieces if name == declarations.LOCK else
                            (piece[:0] for piece in pieces))
            text = data or text
        _check_lock(declaration, text)
        return declaration


def unpack(path: Path, directory: int) -> declarations.Declaration:
    """Unpack an archive, checked as :func:`inspect` does.

    Whoever calls this makes it durable, and removes what there is after an
    error.

    :param directory: descriptor of an empty directory
    :raises easystack_image.exceptions.InvalidRelease: if it is not as it
        should be
    """
    with _open(path) as (declaration, members):
        for name, pieces in members:
            _unpack(name, pieces, directory)
            _check_wheel(name, directory)
    text = fsio.read_file(declarations.LOCK, directory, declarations.LIMIT)
    _check_lock(declaration, text)
    return declaration


def _check_wheel(name: str, directory: int) -> None:
    if name.startswith(f'{declarations.WHEELS}/'):
        with fsio.parent(name, directory) as (fd, last), os.fdopen(
                fsio.open_file(last, fd), 'rb') as file:
            wheel.check(name, file)


def _unpack(name: str, pieces: Iterator[bytes], directory: int) -> None:
    *above, _ = name.split('/')
    for depth in range(len(above)):
        with fsio.parent('/'.join(above[:depth + 1]), directory) as (
                fd, last), contextlib.suppress(FileExistsError):
            fsio.mkdir(last, fd)
    with fsio.parent(name, directory) as (fd, last):
        file = fsio.create(last, fd)
        try:
            offset = 0
            for piece in pieces:
                fsio.write_at(file, piece, offset)
                offset += len(piece)
        finally:
            os.close(file)


def _check_lock(declaration: declarations.Declaration, text: bytes) -> None:
    wheels = {name.partition('/')[2]: file.sha256
              for name, file in declaration.files.items()
              if name.startswith(declarations.WHEELS + '/')}
    try:
        lock.check(text.decode(), wheels)
    except UnicodeDecodeError:
        raise exceptions.InvalidRelease(
            'the lock file is not UTF-8') from None


Members = Iterator[tuple[str, Iterator[bytes]]]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[declarations.Declaration, Members]]:
    """Open an archive: what it declares, and its files, to be read in turn.

    Each file must be read to its end before the next.
    """
    try:
        with tarfile.open(path, 'r:') as tar:
            first = tar.next()
            if first is None or first.name != DECLARATION:
                raise _bad(path, f'it does not begin with {DECLARATION}')
            _check_plain(path, first, declarations.LIMIT)
            declaration = declarations.load(b''.join(_pieces(tar, first)))
            yield declaration, _members(path, tar, declaration)
    except _MALFORMED as error:
        raise _bad(path, f'it is no tar archive ({error})') from None


def _members(path: Path, tar: tarfile.TarFile,
             declaration: declarations.Declaration) -> Members:
    """Yield the files, and raise unless they are those that are declared."""
    waiting = dict(declaration.files)
    while (member := tar.next()) is not None:
        expected = waiting.pop(member.name, None)
        if expected is None:
            raise _bad(path, f'{member.name[:80]!r} is not declared, or '
                             'there twice')
        _check_plain(path, member, expected.size)
        yield member.name, _checked(path, tar, member, expected)
    if waiting:
        raise _bad(path, f'{min(waiting)} is declared, but lacking')
    _check_end(path, tar)


def _check_end(path: Path, tar: tarfile.TarFile) -> None:
    """Raise unless nothing but the end of the archive follows.

    That is two blocks of zeros, and more up to a whole record.
    """
    last = tar.getmembers()[-1]
    end = last.offset_data + -(-last.size // tarfile.BLOCKSIZE
                               ) * tarfile.BLOCKSIZE
    size = -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE
             ) * tarfile.RECORDSIZE
    with path.open('rb') as file:
        file.seek(end)
        rest = file.read(size - end + 1)
    if len(rest) != size - end or any(rest):
        raise _bad(path, 'something else follows where it should end, or '
                         'its end is lacking')


def _checked(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo,
             expected: declarations.File) -> Iterator[bytes]:
    digest = hashlib.sha256()
    size = 0
    for piece in _pieces(tar, member):
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != expected.size or digest.hexdigest() != expected.sha256:
        raise _bad(path, f'{member.name} is not the file that is declared: '
                         f'it has {size} bytes and SHA-256 '
                         f'{digest.hexdigest()}')


def _check_plain(path: Path, member: tarfile.TarInfo, limit: int) -> None:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise _bad(path, f'{member.name[:80]!r} is no plain file')
    if member.size > limit:
        raise _bad(path, f'{member.name[:80]!r} has {member.size} bytes, at '
                         f'most {limit} were expected')


def _pieces(tar: tarfile.TarFile, member: tarfile.TarInfo,
            ) -> Iterator[bytes]:
    # Not None: it is a plain file.
    source = tar.extractfile(member) or io.BytesIO()
    while piece := source.read(_PIECE):
        yield piece


def _bad(path: Path, reason: str) -> exceptions.InvalidRelease:
    return exceptions.InvalidRelease(f'{path}: {reason}')
