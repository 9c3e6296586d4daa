"""Runs a command for the updater, and ends it with all that it started.

``python -I -S leash.py FD SECONDS WHETHER LOCKS COMMAND...``

The command is killed when its time is up, and when the updater dies, however
it dies, unless WHETHER is ``finish``: then it goes on.  This process, and
with it the lock that it inherited, lives as long as anything of the command,
so that nothing is done twice at once when the upgrade is resumed.  What goes
on without the updater would go on without this process as well, if somebody
kills that: it gets the descriptors LOCKS, comma-separated, and finds them in
its environment, to pass them on.
FD is one end of a pair of sockets; the updater is gone when nobody has the
other.  How it went is told there, in a line of JSON::

    {"code": 0}              as subprocess has it: -9 if a signal 9 ended it
    {"timeout": true}
    {"error": "Permission denied"}

It is run as a file, and imports no more than the standard library, since it
starts many times.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import ctypes
import json
import os
from pathlib import Path
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

#: See prctl(2).
_PR_SET_CHILD_SUBREAPER = 36
#: What WHETHER is for a command that goes on without the updater.
FINISH = 'finish'
#: The variable that names the descriptors of the locks.
LOCKS = 'EASYSTACK_IMAGE_HOOK_LOCKS'
#: Seconds to wait for killed processes before the updater is told all the
#: same: a disk that hangs may keep them for long.
_PATIENCE = 10.0
_PACE = 0.01
#: How much the command yields to others (nice(2)): on a busy machine each of
#: those gets three times as much of a processor.  Where control groups have
#: shares of their own, it is those that count.
_YIELD = 5
#: A session may be a group that nice values are compared in: see sched(7).
_GROUP = Path('/proc/self/autogroup')


def main(argv: Sequence[str]) -> int:
    """Run the command; tell how it went."""
    fd, timeout, whether, locks, *command = argv
    _yield()
    # What the command starts, and leaves, becomes a child of this process.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0,
                                            0)
    with socket.socket(fileno=int(fd)) as updater:
        os.set_inheritable(updater.fileno(), False)
        try:
            # The updater's user decided what is run.
            process = subprocess.Popen(  # noqa: S603
                command, process_group=0, pass_fds=descriptors(locks),
                env={**os.environ, LOCKS: locks} if locks else None)
        except OSError as error:
            _tell(updater, {'error': error.strerror})
            return 0
        result = _watch(process, updater, float(timeout),
                        whether == FINISH)
        if _end_all(_PATIENCE):
            _tell(updater, result)
        else:
            _tell(updater, result)
            # As long as this process lives, so does its lock.
            _end_all(float('inf'))
    return 0


def _yield() -> None:
    """Have users of the service go first."""
    os.nice(_YIELD)
    # There is none, or this is no session of its own, which it is here.
    with contextlib.suppress(OSError):
        _GROUP.write_text(str(_YIELD))


def descriptors(locks: str) -> list[int]:
    """Return the descriptors that LOCKS names."""
    return [int(each) for each in locks.split(',') if each]


def _watch(process: subprocess.Popen[bytes], updater: socket.socket,
           timeout: float, finish: bool) -> dict[str, Any]:
    """Wait until the command ends, its time is up, or the updater dies."""
    ended = os.pidfd_open(process.pid)
    watched = [ended] if finish else [ended, updater.fileno()]
    try:
        ready, _, _ = select.select(watched, [], [], timeout)
    finally:
        os.close(ended)
    if ended in ready:
        return {'code': process.wait()}
    return {'timeout': not ready}


def _end_all(patience: float) -> bool:
    """Kill all children, and theirs; tell whether they are gone."""
    # Of a process that is killed the children come here, in the next round.
    children = Path(f'/proc/self/task/{os.getpid()}/children')
    until = time.monotonic() + patience
    while time.monotonic() < until:
        for pid in map(int, children.read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return True
        time.sleep(_PACE)
    return False


def _tell(updater: socket.socket, result: dict[str, Any]) -> None:
    # Nobody listens any more if the updater died.
    with contextlib.suppress(OSError):
        updater.sendall(json.dumps(result).encode() + b'\n')


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
