"""Counting what this process is at, and does: see ``counts``."""

from __future__ import annotations

from collections.abc import MutableSequence
import mmap
import os
from pathlib import Path
import threading
import time

from easystack_image import fsio
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout

#: How often to try to lock a file, and seconds in between.
_TRIES, _PAUSE = 20, 0.01


class Counter:
    """Counts the requests of this process, from any of its threads.

    :param row: of as many counters as a file has
    """

    def __init__(self, row: MutableSequence[int] | memoryview[int]) -> None:
        self._row = row
        self._lock = threading.Lock()
        #: Where in the row a request that waits can be put down.
        self._free = list(range(counts.LENGTH, counts.LENGTH
                                + counts.WAITING))

    def begin(self, kind: counts.Kind) -> int | None:
        """Hear that a request came in.

        :returns: what :meth:`answered` and :meth:`end` are to be given
        """
        place = counts.KINDS[kind]
        with self._lock:
            self._row[counts.IN_FLIGHT + place] += 1
            self._row[counts.BEGUN + place] += 1
            if kind in counts.TRANSFERS or not self._free:
                return None
            ticket = self._free.pop()
            self._row[ticket] = counts.pack(kind, time.monotonic())
            return ticket

    def answered(self, kind: counts.Kind, seconds: float,
                 ticket: int | None = None) -> None:
        """Hear how long a request waited for the first byte."""
        place = (counts.TIMES + counts.KINDS[kind] * counts.BUCKETS
                 + counts.bucket(seconds))
        with self._lock:
            self._row[place] += 1
            if ticket is not None:
                # It waits no more; how long the rest takes, the client says.
                self._row[ticket] = 0

    def end(self, kind: counts.Kind, result: counts.Result,
            ticket: int | None = None) -> None:
        """Hear that a request is done with, or given up."""
        place = counts.KINDS[kind]
        answer = (counts.ANSWERS + place * len(counts.RESULTS)
                  + counts.RESULTS[result])
        with self._lock:
            self._row[counts.IN_FLIGHT + place] -= 1
            self._row[answer] += 1
            if ticket is not None:
                self._row[ticket] = 0
                self._free.append(ticket)

    def now(self) -> counts.Counts:
        """Return what this process is at, and has done."""
        with self._lock:
            return counts.decode(self._row, True)


def open_counter(place: layout.Place, number: int) -> Counter:
    """Return the counter of this process, which is to call it once.

    :param number: of the worker
    :raises OSError: if its file cannot be made
    """
    path = place.path / f'{counts.NAME}.{number}'
    fd = _take(path)
    if fd is None:
        # Its worker goes on though its master died, and another one began.
        fd = _take(path.with_name(f'{path.name}.{os.getpid()}'))
    if fd is None:
        raise FileExistsError(f'{path} is in use by this process')
    if not counts.is_whole(os.pread(fd, counts.SIZE, 0)):
        os.ftruncate(fd, 0)
    os.ftruncate(fd, counts.WHOLE)
    # The descriptor stays open, and locked, until the process ends.
    row = memoryview(mmap.mmap(fd, counts.WHOLE)).cast('Q')
    for place_in_row in (*range(counts.IN_FLIGHT, counts.BEGUN),
                         *range(counts.LENGTH, len(row))):
        row[place_in_row] = 0
    row[counts.PID] = os.getpid()
    row[0] = counts.MAGIC
    return Counter(row)


def _take(path: Path) -> int | None:
    """Open a file, and lock it; return None if another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_TRIES):
        if fsio.try_lock(fd):
            return fd
        # Perhaps somebody looks, right now, whether it is locked.
        time.sleep(_PAUSE)
    os.close(fd)
    return None


def private_counter() -> Counter:
    """Return a counter of which no file tells."""
    return Counter([0] * (counts.LENGTH + counts.WAITING))
