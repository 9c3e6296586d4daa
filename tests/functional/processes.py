"""Programs that run beside the tests, each in a process group of its own."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Collection, Mapping, Sequence
import contextlib
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
from typing import TypeVar
import weakref

#: The root of the source tree; ``tests`` is imported from there.
ROOT = Path(__file__).resolve().parents[2]

#: Ports that the kernel never hands out by itself, so that a server that is
#: restarted finds its port free.
PORTS = range(20000, 30000)

T = TypeVar('T')

_running: weakref.WeakSet[Process] = weakref.WeakSet()


class ProcessFailed(Exception):
    """A program ended, or did not get ready, with its last words."""


def environment(**extra: str) -> dict[str, str]:
    """Return the environment for a program: small, and without proxies.

    Byte code is written, whatever the caller's habit: it makes each start
    of Glance but the first one three seconds faster.
    """
    kept = {name: os.environ[name] for name in ('HOME', 'LANG', 'TMPDIR')
            if name in os.environ}
    search = [str(Path(sys.executable).parent), os.environ.get('PATH', '')]
    return kept | {'PATH': os.pathsep.join(search), 'PYTHONPATH': str(ROOT),
                   'PYTHONUNBUFFERED': '1'} | extra


def poll(question: Callable[[], T], what: str, timeout: float = 60,
         interval: float = 0.1) -> T:
    """Ask again and again, and return the first answer that is true.

    :param timeout: seconds, the slowness of a busy machine included
    :param interval: seconds
    :raises TimeoutError: naming ``what`` was waited for
    """
    deadline = time.monotonic() + timeout
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(f'{what}: not within {timeout} s')
        time.sleep(interval)
    return answer


def script(name: str) -> str:
    """Return the path of a command of this Python environment."""
    return str(Path(sys.executable).parent / name)


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        # Connections that ended a moment ago do not count, as with servers.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    first = int.from_bytes(os.urandom(4)) % len(PORTS)
    for step in range(len(PORTS)):
        port = PORTS[(first + step) % len(PORTS)]
        if is_free(port):
            return port
    raise ProcessFailed('no free port on 127.0.0.1')


def run(arguments: Sequence[str], timeout: float = 120,
        **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it said.

    :param timeout: seconds
    :param extra: environment variables
    """
    return subprocess.run(arguments, env=environment(**extra), cwd=ROOT,
                          text=True, capture_output=True, timeout=timeout,
                          check=False)


def check(arguments: Sequence[str], timeout: float = 120,
          accept: Collection[int] = (0,), **extra: str) -> str:
    """Run a command that must succeed, and return its standard output.

    :param accept: the exit codes that are a success
    :raises ProcessFailed: with all that it said
    """
    result = run(arguments, timeout, **extra)
    if result.returncode not in accept:
        raise ProcessFailed(
            f'{" ".join(arguments)} ended with {result.returncode}:\n'
            f'{result.stdout}{result.stderr}')
    return result.stdout


class Process:
    """One program with its children, and the file they log to.

    :param arguments: the command
    :param log: appended to
    :param env: the whole environment of the program
    :param cwd: the directory to run in
    """

    def __init__(self, arguments: Sequence[str], log: Path,
                 env: Mapping[str, str] | None = None,
                 cwd: Path = ROOT) -> None:
        self.arguments = list(arguments)
        self.log = log
        self.env = dict(env or environment())
        self.cwd = cwd
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, which is the id of the process group too."""
        if self._child is None:
            raise ProcessFailed(f'{self.arguments[0]} is not running')
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the program has been started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the program; its log goes on where it was."""
        with self.log.open('ab') as log:
            self._child = subprocess.Popen(
                self.arguments, env=self.env, cwd=self.cwd, stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        _running.add(self)

    def stop(self, timeout: float = 30) -> None:
        """Ask the program to end; kill it when it has not after a while.

        :param timeout: seconds
        """
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill the whole process group, at once and without a warning."""
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._wait_for_group()
        self._child = None
        _running.discard(self)

    def _wait_for_group(self, timeout: float = 10) -> None:
        """Wait until the children are gone too, with their ports and locks."""
        # Whoever adopts orphans may never reap them: a zombie holds nothing,
        # so it does not count.
        poll(lambda: not _living(self.pid), f'the end of {self.pid}',
             timeout, interval=0.02)

    def tail(self, lines: int = 60) -> str:
        """Return the end of the log."""
        if not self.log.exists():
            return ''
        text = self.log.read_text(errors='replace')
        return '\n'.join(text.splitlines()[-lines:])


def _living(group: int) -> bool:
    """Tell whether a thread of the process group is more than a zombie.

    A thread that waits for a disk lives on for a while, and keeps the
    process's ports and locks, when the process itself is a zombie already.
    """
    for status in Path('/proc').glob('[0-9]*/task/*/stat'):
        with contextlib.suppress(OSError):
            # The fields after the name, which may hold blanks itself.
            fields = status.read_text().rpartition(')')[2].split()
            if int(fields[2]) == group and fields[0] not in 'ZX':
                return True
    return False


@atexit.register
def _stop_all() -> None:
    """Leave nothing behind when the tests end early."""
    for process in list(_running):
        process.kill()
