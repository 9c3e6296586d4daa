"""Processes that are nobody's children: which they are, whether they live."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import os
from pathlib import Path

from easystack_image.ota import procfs


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A process, which no later one with the same number is taken for.

    :param pid: its number
    :param started: when it was started, in ticks since the machine was: field
        22 of ``/proc/PID/stat``.  It stays the same when another program is
        executed
    """

    pid: int
    started: int

    @property
    def lives(self) -> bool:
        """Whether it is more than a zombie."""
        stat = procfs.stat(self.pid)
        return (stat is not None and stat.started == self.started
                and stat.lives)


def identify(pid: int) -> Process | None:
    """Return a process; None if there is none.

    Of a child that was not waited for, there is always one.
    """
    stat = procfs.stat(pid)
    return None if stat is None else Process(pid, stat.started)


def leaders(path: Path) -> Iterator[Process]:
    """Yield who leads a session and has a file open.

    Only processes of this user can be looked into, see proc(5); root's holder
    can look into all.
    """
    wanted = os.path.realpath(path)
    for pid in procfs.pids():
        stat = procfs.stat(pid)
        if (stat is not None and stat.session == pid and stat.lives
                and wanted in procfs.open_files(pid)):
            yield Process(pid, stat.started)
