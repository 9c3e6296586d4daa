"""Long work: at a bounded rate, watched, and stopped when asked to."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from easystack_image import exceptions


class Progress(Protocol):
    """Who is told how far a job is; called from several threads."""

    def begin(self, images: int, size: int) -> None:
        """Hear what lies ahead: a number of images, and of bytes to read."""

    def advance(self, images: int, size: int) -> None:
        """Hear that so many more images, and bytes, are done."""

    def note(self, message: str) -> None:
        """Hear of something that an operator wants to know."""


class Silent:
    """Passes over all that it is told; a base for who wants some of it."""

    def begin(self, images: int, size: int) -> None:
        """See :class:`Progress`."""

    def advance(self, images: int, size: int) -> None:
        """See :class:`Progress`."""

    def note(self, message: str) -> None:
        """See :class:`Progress`."""


class Job:
    """What a piece of long work goes through as it reads.

    :param rate: bytes per second that may be read, or None for any
    :param stop: set it to have the work end
    :param progress: who is told how far it is
    """

    def __init__(self, rate: float | None = None,
                 stop: threading.Event | None = None,
                 progress: Progress | None = None) -> None:
        self.rate = rate
        self.stop = stop or threading.Event()
        self.progress: Progress = progress or Silent()
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def take(self, size: int) -> None:
        """Account for bytes that were read; wait if they came too fast.

        :raises easystack_image.exceptions.Interrupted: if the work is to end
        """
        self.check()
        self.progress.advance(0, size)
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            # What was not used while nothing was read is not saved up.
            self._next = max(self._next, now) + size / self.rate
            wait = self._next - now
        if wait > 0:
            self.stop.wait(wait)
            self.check()

    def check(self) -> None:
        """Raise Interrupted if the work is to end."""
        if self.stop.is_set():
            raise exceptions.Interrupted(
                'stopped on request; nothing is half done')
