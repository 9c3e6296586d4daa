"""What the machine can do at best, without any store."""

from __future__ import annotations

from collections.abc import Callable
import functools
import hashlib
import os
from pathlib import Path
import subprocess
import threading

import crc32c

from tests.bench import meter
from tests.bench import results
from tests.bench import sources

_BLOCK = 4 * results.MIB
#: Hashed again and again: small enough to hold, too large for the caches of
#: most processors.
_BUFFER = 64 * results.MIB

#: What is measured, and which operation of a driver it is a limit of.
OPERATIONS = {
    'md5': 'add',
    'sha512': 'add',
    'md5 ∥ sha512': 'add',
    'dd, fsync': 'add',
    'dd O_DIRECT, fsync': 'add',
    '3 × dd O_DIRECT, fsync': 'add',
    'crc32c': 'get',
    'page cache': 'get',
}


def _takes_direct_io(directory: Path) -> bool:
    """Tell whether a file system knows O_DIRECT."""
    path = directory / 'direct'
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)
    return True


class Limits:
    """Measures the limits.

    :param source: random data
    :param directory: a directory on the disk where the stores are
    """

    def __init__(self, source: sources.Source, directory: Path) -> None:
        self._source = source
        self._directory = directory
        with source.path.open('rb') as data:
            self._buffer = memoryview(data.read(_BUFFER))
        self._cached = directory / 'cached'
        self._work: dict[str, Callable[[], None]] = {
            'md5': functools.partial(self._hash, 'md5'),
            'sha512': functools.partial(self._hash, 'sha512'),
            'md5 ∥ sha512': functools.partial(self._hash, 'md5', 'sha512'),
            'dd, fsync': functools.partial(self._dd, 1),
            'crc32c': lambda: self._feed(crc32c.crc32c),
            'page cache': functools.partial(sources.warm, self._cached),
        }
        if _takes_direct_io(directory):
            self._work |= {
                'dd O_DIRECT, fsync': functools.partial(
                    self._dd, 1, 'oflag=direct'),
                '3 × dd O_DIRECT, fsync': functools.partial(
                    self._dd, 3, 'oflag=direct'),
            }

    @property
    def operations(self) -> list[str]:
        """What can be measured here, in the order of the table."""
        return [name for name in OPERATIONS if name in self._work]

    def measure(self, operation: str) -> results.Sample:
        """Measure one limit, with the disk at rest."""
        if operation == 'page cache':
            self._copy(self._cached).wait()
            sources.warm(self._cached)
        os.sync()
        sample = meter.measure_here(self._run(operation))
        for path in self._directory.iterdir():
            path.unlink()
        return sample

    def _run(self, operation: str) -> Callable[[], int]:
        def run() -> int:
            self._work[operation]()
            return self._source.size

        return run

    def _feed(self, update: Callable[[memoryview], object]) -> None:
        """Hand as many bytes to a function as the image file has."""
        left = self._source.size
        while left:
            piece = self._buffer[:left]
            for offset in range(0, len(piece), _BLOCK):
                update(piece[offset:offset + _BLOCK])
            left -= len(piece)

    def _hash(self, *algorithms: str) -> None:
        """Compute several digests of the same bytes, each in a thread."""
        threads = [
            threading.Thread(target=self._feed, args=(
                hashlib.new(name, usedforsecurity=False).update,))
            for name in algorithms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _copy(self, target: Path, *flags: str) -> subprocess.Popen[bytes]:
        # What dd has to say goes where our own errors go.
        return subprocess.Popen(
            ['dd', f'if={self._source.path}', f'of={target}', 'bs=4M',
             'conv=fsync', 'status=none', *flags])

    def _dd(self, copies: int, *flags: str) -> None:
        """Copy the image file some times at once."""
        running = [self._copy(self._directory / f'dd-{number}', *flags)
                   for number in range(copies)]
        if any([process.wait() for process in running]):
            raise RuntimeError('dd failed')
