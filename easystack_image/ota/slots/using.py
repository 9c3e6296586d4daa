"""Which slots are in use: by processes that have files of theirs.

A process that Python runs from a slot has loaded modules of it, and may load
more at any time.  It has to be found even if it was started by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
import contextlib
import os
from pathlib import Path

from easystack_image.ota import procfs


def processes(slot: Path) -> list[int]:
    """Return the processes that have something of a slot.

    Of those of other users only the command line can be seen, unless root
    asks.
    """
    prefix = f'{slot}/'
    return sorted(pid for pid in procfs.pids() if pid != os.getpid()
                  and any(text.startswith(prefix)
                          for text in _mentioned(pid)))


def name(process: int) -> str:
    """Return what the kernel calls a process: 15 bytes; '' if it is gone."""
    try:
        return (procfs.ROOT / str(process) / 'comm').read_text(
            errors='replace').strip()
    except OSError:
        return ''


def descends(process: int, ancestors: Collection[int]) -> bool:
    """Whether a process is one of those, or a child of one, at any depth."""
    while process > 1:
        if process in ancestors:
            return True
        stat = procfs.stat(process)
        if stat is None:
            return False
        process = stat.parent
    return False


def _mentioned(pid: int) -> Iterator[str]:
    """Yield the paths that a process has: run, given, mapped, open."""
    process = procfs.ROOT / str(pid)
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
        yield from procfs.open_files(pid)
