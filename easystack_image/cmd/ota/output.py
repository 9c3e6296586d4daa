"""What ``easystack-image-ota`` prints: tables, JSON, and how far it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import io
import json
import os
import signal
import sys
import syslog
import time
from typing import Any, TextIO

#: The exit code of what is done, and needs somebody's attention.
ATTENTION = 3
_MIB = 1024 * 1024
_WIDTH = 30
#: Seconds from one line to the next, where there is no terminal.
_EVERY = 10.0
#: Why something could not be printed, if so.
lost: list[Exception] = []


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a format."""
    parser.add_argument(
        '-f', '--format', choices=('table', 'json'), default='table',
        help='How to print it (default: table).')


def table(arguments: argparse.Namespace, names: Sequence[str],
          rows: Sequence[Sequence[Any]]) -> None:
    """Print rows, with a name for each column.

    Where there is nothing, JSON has null, and a table nothing.
    """
    if arguments.format == 'json':
        _print(json.dumps([dict(zip(names, row, strict=True))
                           for row in rows], indent=2))
        return
    lines = [list(names), *([_cell(value) for value in row]
                            for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        _print('  '.join(text.ljust(width) for text, width in zip(
            line, widths, strict=True)).rstrip())


def record(arguments: argparse.Namespace, values: dict[str, Any]) -> None:
    """Print values by their names."""
    if arguments.format == 'json':
        _print(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for name, value in values.items():
        _print(f'{name.ljust(width)}  {_cell(value)}'.rstrip())


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ', '.join(map(_cell, value))
    return '' if value is None else str(value)


def say(text: str) -> None:
    """Tell an operator something, on stderr.

    Where nobody reads that any more (a connection that dropped, a terminal
    that was closed), the system's log has it instead, and all that follows:
    what is done must not depend on who watches it.
    """
    words = f'easystack-image-ota: {text}\n'
    try:
        sys.stderr.write(words)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        sys.stderr = _SystemLog()
        sys.stderr.write(words)


def can_ask() -> bool:
    """Return whether an operator sees what is said, and can answer."""
    return all(stream is not None and stream.isatty()
               for stream in (sys.stdin, sys.stderr))


def ask(question: str) -> bool:
    """Ask an operator; return whether the answer was "yes", and no other."""
    sys.stderr.write(f'{question} (yes/no) ')
    sys.stderr.flush()
    return sys.stdin.readline().strip() == 'yes'


class _SystemLog(io.TextIOBase):
    """Writes to the system's log what was meant for an operator."""

    def write(self, text: str, /) -> int:
        if words := text.strip():
            syslog.syslog(syslog.LOG_NOTICE | syslog.LOG_DAEMON, words)
        return len(text)


def outlive_terminal() -> None:
    """Go on when the terminal is closed, as whatever is begun should.

    A handler that does nothing: to ignore SIGHUP would be inherited by the
    processes that are started.
    """
    signal.signal(signal.SIGHUP, lambda number, frame: None)


def attention(warning: str) -> int:
    """Say a warning if there is one; return the exit code."""
    if not warning:
        return 0
    say(warning)
    return ATTENTION


def line(text: str) -> None:
    """Print a line."""
    _print(text)


def _print(text: str) -> None:
    with _heeding():
        sys.stdout.write(text + '\n')


def end() -> bool:
    """Print what is left; return whether all of it could be printed."""
    with _heeding():
        sys.stdout.flush()
    return not lost


@contextlib.contextmanager
def _heeding() -> Iterator[None]:
    """Go on if nothing can be printed: what was done is done all the same."""
    try:
        yield
    except (OSError, AttributeError) as error:
        lost.append(error)
        # Python writes what is left once more at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if sys.stdout is None:
            sys.stdout = open(nowhere, 'w')
        else:
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        # Who closes a pipe has enough.
        if not isinstance(error, BrokenPipeError):
            say(f'what should be printed is lost: {error}')


class Bar:
    """Shows how far a download is: a bar, or a line now and then.

    rich draws nicer ones, but is not where this runs.

    :param stream: usually stderr; None if that was closed
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or io.StringIO()
        self._terminal = self._stream.isatty()
        self._next = time.monotonic() + (0 if self._terminal else _EVERY)
        self._drawn = False

    def __call__(self, done: int, size: int) -> None:
        """Hear that ``done`` of ``size`` bytes are there."""
        now = time.monotonic()
        if now < self._next and not (self._drawn and done == size):
            return
        self._next = now + (0.2 if self._terminal else _EVERY)
        # Nobody may look any more.
        with contextlib.suppress(OSError):
            self._draw(done, size)

    def _draw(self, done: int, size: int) -> None:
        share = done / size if size else 1.0
        words = (f'{share:4.0%}  {done / _MIB:.1f} of {size / _MIB:.1f} MiB')
        if self._terminal:
            full = int(share * _WIDTH)
            self._drawn = True
            self._stream.write(f'\r[{"#" * full}{" " * (_WIDTH - full)}] '
                               f'{words}')
        else:
            self._stream.write(f'downloading: {words.strip()}\n')
        self._stream.flush()

    def close(self) -> None:
        """End the line of the bar."""
        if self._drawn:
            with contextlib.suppress(OSError):
                self._stream.write('\n')
