"""What the kernel tells of a process: ``/proc/PID``, see proc(5)."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import os
from pathlib import Path

ROOT = Path('/proc')
#: What has ended, and was perhaps not buried.
_DEAD = 'ZXx'


@dataclasses.dataclass(frozen=True, slots=True)
class Stat:
    """What is used of ``/proc/PID/stat``.

    :param state: one letter
    :param parent: the number of the process that has to bury it
    :param session: the number of the process that leads its session
    :param started: when it was started, in ticks since the machine was
    """

    state: str
    parent: int
    session: int
    started: int

    @property
    def lives(self) -> bool:
        """Whether it is more than a zombie."""
        return self.state not in _DEAD


def stat(pid: int) -> Stat | None:
    """Return what is told of a process.

    :returns: None if it has ended, or is somebody else's and hidden (hidepid)
    """
    try:
        text = (ROOT / str(pid) / 'stat').read_text(errors='replace')
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # After the name, which may hold blanks and parentheses itself.
    fields = text.rpartition(')')[2].split()
    return Stat(fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def pids() -> Iterator[int]:
    """Yield the numbers of all processes that can be seen."""
    return (int(name) for name in os.listdir(ROOT) if name.isdigit())


def open_files(pid: int) -> Iterator[str]:
    """Yield what the descriptors of a process lead to.

    Nothing of one that has ended, or is somebody else's.
    """
    directory = ROOT / str(pid) / 'fd'
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    for name in names:
        with contextlib.suppress(OSError):
            yield os.readlink(directory / name)
