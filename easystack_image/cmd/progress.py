"""Showing how far long work is, and stopping it.

On a terminal a bar, otherwise a line now and then; always on stderr, so that
what is printed on stdout can be parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import datetime
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TextIO

from rich import console as rich_console
from rich import progress as rich_progress
from rich import text as rich_text

from easystack_image.cmd import columns

MIB = 1024 * 1024
#: Seconds over which the rate is taken.
_RECENT = 30.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Report:
    """Counts what a job did; see :class:`.blockstore.local.work.Progress`.

    :param title: what is done, in one word
    """

    def __init__(self, title: str) -> None:
        self.title = title
        #: How many things went wrong; they are in the log.
        self.problems = 0
        self.images = self.all_images = 0
        self.size = self.all_size = 0
        self.lock = threading.Lock()
        self._began = time.monotonic()
        #: Recent points in time, and what was done by then.
        self._points: list[tuple[float, float]] = []

    def begin(self, images: int, size: int) -> None:
        """Hear what lies ahead."""
        with self.lock:
            self.images = self.size = 0
            self.all_images, self.all_size = images, size
            self._began = time.monotonic()
            self._points = [(self._began, 0.0)]
        self.show()

    def advance(self, images: int, size: int) -> None:
        """Hear what is done."""
        with self.lock:
            self.images += images
            self.size += size
            now = time.monotonic()
            if self._points and now - self._points[-1][0] > 0.5:
                self._points.append((now, float(self.size)))
                while now - self._points[1][0] > _RECENT:
                    del self._points[0]
        self.show()

    def note(self, message: str) -> None:
        """Count a problem; whoever found it has logged it."""
        with self.lock:
            self.problems += 1

    def show(self) -> None:
        """Show how far the job is; called often, from several threads."""

    def share(self) -> float:
        """Return how much is done, from 0 to 1.

        Told by bytes, where there are some to be read: images differ too
        much.  How many will be read is an estimate.
        """
        if self.all_images and self.images >= self.all_images:
            return 1.0
        if self.all_size:
            return min(self.size / self.all_size, 0.99)
        return self.images / self.all_images if self.all_images else 0.0

    def rate(self) -> float:
        """Return how many bytes per second were read recently."""
        with self.lock:
            if not self._points:
                return 0.0
            since, size = self._points[0]
            return (self.size - size) / max(time.monotonic() - since, 1e-3)

    def left(self) -> float | None:
        """Return how many seconds are left, or None if nobody can tell."""
        if self.all_size:
            rate = self.rate()
            return (max(self.all_size - self.size, 0) / rate
                    if rate > 0 else None)
        share = self.share()
        took = time.monotonic() - self._began
        return took * (1 - share) / share if share else None

    def words(self) -> list[str]:
        """Return how far it is, in words."""
        left = self.left()
        return [f'{self.images}/{self.all_images} images',
                f'{columns.size(self.size)}/{columns.size(self.all_size)}',
                f'{self.rate() / MIB:.1f} MiB/s',
                'time left ' + ('unknown' if left is None else str(
                    datetime.timedelta(seconds=round(left))))]


class Lines(Report):
    """Prints a line now and then.

    :param every: seconds from one line to the next
    """

    def __init__(self, title: str, stream: TextIO, every: float) -> None:
        super().__init__(title)
        self._stream = stream
        self._every = every
        self._next = time.monotonic() + every

    def show(self) -> None:
        """Print a line, if it is time."""
        with self.lock:
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + self._every
        self._stream.write(f'{self.title}: {", ".join(self.words())}\n')
        self._stream.flush()


class _Column(rich_progress.ProgressColumn):
    """A part of what is told in words."""

    def __init__(self, report: Report, number: int, width: int) -> None:
        super().__init__()
        self._report = report
        self._number = number
        self._width = width

    def render(self, task: rich_progress.Task) -> rich_text.Text:
        """Return it, always as wide, so that nothing jumps."""
        word = self._report.words()[self._number]
        return rich_text.Text(word.removeprefix('time left ').replace(
            'unknown', '-:--:--').rjust(self._width))


class Bar(Report):
    """Draws a bar."""

    def __init__(self, title: str, console: rich_console.Console) -> None:
        super().__init__(title)
        self._progress = rich_progress.Progress(
            rich_progress.TextColumn('{task.description}'),
            rich_progress.BarColumn(bar_width=None),
            rich_progress.TextColumn('{task.percentage:>3.0f}%'),
            _Column(self, 0, 10), _Column(self, 1, 9), _Column(self, 2, 10),
            _Column(self, 3, 7), console=console, expand=True,
            transient=True)
        self._task = self._progress.add_task(title, total=1.0)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Move the bar; it is drawn a few times a second."""
        self._progress.update(self._task, completed=self.share())


@contextlib.contextmanager
def report(title: str, stream: TextIO, every: float,
           verbosity: int) -> Iterator[Report]:
    """Show how far a job is while it runs.

    What is logged meanwhile is printed above the bar, and only if it is a
    warning, unless the operator wants to know more.

    :param stream: usually stderr
    :param every: seconds between lines, where no bar can be drawn
    :param verbosity: 0 for nothing but warnings, 1 for how far it is, too, 2
        or more for each step
    """
    console = rich_console.Console(file=stream)
    if not verbosity:
        yield Report(title)
    elif not console.is_terminal or console.is_dumb_terminal:
        with _log_to(None, verbosity):
            yield Lines(title, stream, every)
    else:
        # Room for the "^C" that the terminal writes, or it begins a new line.
        console.width -= 2
        with Bar(title, console) as bar, _log_to(sys.stderr, verbosity):
            yield bar


@contextlib.contextmanager
def _log_to(stream: TextIO | None, verbosity: int) -> Iterator[None]:
    """Have the console's log go elsewhere for a while, and be brief."""
    handlers = [(each, each.stream, each.level)
                for each in logging.getLogger().handlers
                if type(each) is logging.StreamHandler]
    for handler, old, level in handlers:
        handler.setStream(stream or old)
        if verbosity < 2:
            handler.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for handler, old, level in handlers:
            handler.setStream(old)
            handler.setLevel(level)


@contextlib.contextmanager
def until_signal() -> Iterator[threading.Event]:
    """Have SIGINT and SIGTERM set an event, for work to end cleanly.

    A second signal ends the process the usual way.

    The handler takes no lock: it runs in the main thread, which may hold
    that of the event at this moment.  A thread sets the event for it.
    """
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    reader, writer = os.pipe()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        os.write(writer, b'!')

    def watch() -> None:
        if os.read(reader, 1):
            stop.set()

    watcher = threading.Thread(target=watch, name='signals', daemon=True)
    watcher.start()
    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
        os.close(writer)
        watcher.join()
        os.close(reader)
