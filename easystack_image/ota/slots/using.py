"""Which slots are in use: by a lease, or by processes that have its files.

A process that Python runs from a slot has loaded modules of it, and may load
more at any time.  It has to be found even if it was started by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import fcntl
import os
from pathlib import Path

from easystack_image.ota.slots import seal

_PROC = Path('/proc')


def lease(slot: Path) -> int:
    """Take a lease: nobody removes the slot while the descriptor is open.

    It can be inherited, so that a process that is started from the slot has
    it as long as it lives.

    :returns: the descriptor
    :raises OSError: if the slot is not there
    """
    fd = os.open(slot / seal.NAME, os.O_RDONLY)
    os.set_inheritable(fd, True)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


@contextlib.contextmanager
def to_remove(slot: Path) -> Iterator[bool]:
    """Keep others from taking a lease; tell whether there is none."""
    try:
        fd = os.open(slot / seal.NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Unfinished: nobody can have used it.
        yield True
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


def processes(slot: Path) -> list[int]:
    """Return the processes that have something of a slot.

    Of those of other users only the command line can be seen, unless root
    asks.
    """
    prefix = f'{slot}/'
    return sorted(int(entry.name) for entry in _PROC.iterdir()
                  if entry.name.isdigit() and int(entry.name) != os.getpid()
                  and any(text.startswith(prefix)
                          for text in _mentioned(entry)))


def _mentioned(process: Path) -> Iterator[str]:
    """Yield the paths that a process has: run, given, mapped, open."""
    # It may end meanwhile, or be another user's.
    for name in ('exe', 'cwd'):
        with contextlib.suppress(OSError):
            yield os.readlink(process / name) + '/'
    with contextlib.suppress(OSError):
        yield from (process / 'cmdline').read_bytes().decode(
            errors='surrogateescape').split('\0')
    with contextlib.suppress(OSError):
        for line in (process / 'maps').read_text(
                errors='surrogateescape').splitlines():
            yield line.partition('/')[1] + line.partition('/')[2]
    with contextlib.suppress(OSError):
        for file in (process / 'fd').iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(file)
