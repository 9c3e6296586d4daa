"""Downloading a release: resumed where it broke off, verified, durable.

The bytes go to ``SHA256.part``.  The file takes its name when it is whole, is
what the signed metadata says, and is on disk; so a file with that name is a
good one, whatever happened.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import os

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import TargetFile

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.client import fetcher as fetchers

PART = '.part'
#: How many answers may break off.
_ATTEMPTS = 5
#: How a web server says that it does not have the rest of a file.
_NO_SUCH_PART = 416
#: Called with how many bytes there are, and how many there will be.
Progress = Callable[[int, int], None]


class Download:
    """A file that is being downloaded.

    :param fetcher: gets the bytes
    :param url: where they are
    :param target: what they must be, as the signed metadata has it
    :param directory: descriptor of the directory for it
    """

    def __init__(self, fetcher: fetchers.Fetcher, url: str,
                 target: TargetFile, directory: int) -> None:
        self._fetcher = fetcher
        self._url = url
        self._target = target
        self._directory = directory
        self._part = target.hashes['sha256'] + PART

    def save(self, name: str, progress: Progress) -> None:
        """Have the file, under this name; it may be there already.

        :raises tuf.api.exceptions.DownloadError: if it cannot be got
        :raises tuf.api.exceptions.LengthOrHashMismatchError: if it is
            another file
        :raises OSError: if it cannot be written
        """
        if self._is_there(name):
            progress(self._target.length, self._target.length)
            return
        resumed = fsio.exists(self._part, self._directory)
        try:
            self._save(name, progress)
        except tuf_errors.LengthOrHashMismatchError:
            fsio.unlink(self._part, self._directory)
            if not resumed:
                raise
            # What was there before may be to blame.
            self._save(name, progress)

    def _is_there(self, name: str) -> bool:
        """Tell whether the file is there; remove one that is not it."""
        try:
            fd = fsio.open_file(name, self._directory)
        except FileNotFoundError:
            return False
        try:
            self._verify(fd)
        except tuf_errors.LengthOrHashMismatchError:
            fsio.unlink(name, self._directory)
            return False
        finally:
            os.close(fd)
        return True

    def _save(self, name: str, progress: Progress) -> None:
        fd = self._open_part()
        try:
            self._check_room(fd)
            self._fetch(fd, progress)
            fsio.fsync(fd)
            self._verify(fd)
        finally:
            os.close(fd)
        fsio.rename(self._part, name, self._directory, self._directory)
        fsio.fsync(self._directory)

    def _open_part(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return os.open(self._part, os.O_RDWR | os.O_CLOEXEC
                           | os.O_NOFOLLOW, dir_fd=self._directory)
        return fsio.create(self._part, self._directory)

    def _verify(self, fd: int) -> None:
        with os.fdopen(os.dup(fd), 'rb') as file:
            file.seek(0)
            self._target.verify_length_and_hashes(file)

    def _check_room(self, fd: int) -> None:
        lacking = self._target.length - os.fstat(fd).st_size
        disk = os.fstatvfs(fd)
        room = disk.f_bavail * disk.f_frsize
        if lacking > room:
            raise exceptions.RefusedRelease(
                f'the release takes {lacking} more bytes, the file system of '
                f'state_directory has {room} left')

    def _fetch(self, fd: int, progress: Progress) -> None:
        """Get what is lacking, in several attempts if need be."""
        failures = 0
        while (begin := os.fstat(fd).st_size) != self._target.length:
            try:
                self._fetch_once(fd, begin, progress)
            except tuf_errors.SlowRetrievalError:
                raise
            except tuf_errors.DownloadLengthMismatchError:
                fsio.truncate(fd, 0)
                raise
            except tuf_errors.DownloadError as error:
                if os.fstat(fd).st_size == begin:
                    if not begin or getattr(
                            error, 'status_code', None) != _NO_SUCH_PART:
                        raise
                    fsio.truncate(fd, 0)
                failures += 1
                if failures == _ATTEMPTS:
                    raise

    def _fetch_once(self, fd: int, begin: int, progress: Progress) -> None:
        length = self._target.length
        if begin > length:
            fsio.truncate(fd, 0)
            begin = 0
        offset, pieces = self._fetcher.open(self._url, begin)
        with contextlib.closing(pieces):  # type: ignore[type-var]
            if offset != begin:
                fsio.truncate(fd, offset)
            for piece in pieces:
                if offset + len(piece) > length:
                    raise tuf_errors.DownloadLengthMismatchError(
                        f'{fetchers.shown(self._url)} has more than the '
                        f'{length} bytes that it should have')
                fsio.write_at(fd, piece, offset)
                offset += len(piece)
                progress(offset, length)
        if offset < length:
            raise tuf_errors.DownloadError(
                f'{fetchers.shown(self._url)} ends after {offset} of '
                f'{length} bytes')
