"""Ends a cluster whose owner did not live to do so.

``python -m tests.ceph.keeper CONF`` waits for the end of its standard input,
which comes when the process ends that holds the other end of the pipe,
however it ends.  Then it kills what is left of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import signal
import sys


def processes_of(conf: Path) -> Iterator[int]:
    """Yield the ids of the processes of a cluster.

    Those are the programs that were started with just this configuration
    file, whose folder belongs to one cluster only.
    """
    wanted = os.fsencode(conf)
    for directory in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            program, *arguments = (
                directory / 'cmdline').read_bytes().split(b'\0')
            if (os.path.basename(program).startswith(b'ceph-')
                    and wanted in arguments):
                yield int(directory.name)


def end(conf: Path) -> None:
    """Kill all processes of a cluster."""
    for pid in processes_of(conf):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == '__main__':
    # Whoever interrupts the owner is not to interrupt this.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(1):
        pass
    end(Path(sys.argv[1]))
