"""A device that can be told to hang, delay, fail and lie."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import errno
import json
import os
from pathlib import Path
import socket
import subprocess
import sys
from typing import Any

from tests.faults import workspace
from tests.functional import processes


class FuseDevice:
    """A directory behind a file system that misbehaves when told to.

    :param space: where it is mounted
    :param name: of the mount point, and of the directory behind it
    """

    def __init__(self, space: workspace.Workspace, name: str) -> None:
        self.mount_point = space.mount_point(name)
        self._directory = space.memory / name
        self._directory.mkdir()
        self._rules: list[dict[str, Any]] = []
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, '-m', 'tests.faults.passthrough',
                 self._directory, self.mount_point, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], cwd=processes.ROOT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {'FUSE_LIBRARY_NAME': 'fuse3',
                                  'PYTHONPATH': str(processes.ROOT)})
        self._connection = ours
        ours.settimeout(20)
        self._lines = ours.makefile('r')
        if not self._lines.readline():
            raise RuntimeError(f'no FUSE file system at {self.path}')

    @property
    def path(self) -> str:
        """The directory that is given to the store."""
        return str(self.mount_point)

    @property
    def inside(self) -> Path:
        """Where what lies on it can be looked at, even while it hangs."""
        return self._directory

    @property
    def running(self) -> bool:
        """Whether it is there: it ends when a call hangs for too long."""
        return self._child.poll() is None

    def _ask(self, **request: Any) -> dict[str, int]:
        self._connection.sendall(json.dumps(request).encode() + b'\n')
        answer: dict[str, int] = json.loads(self._lines.readline())
        return answer

    def _add(self, call: str, path: str, action: str, **rest: Any) -> None:
        self._rules.append({'call': call, 'path': path, 'action': action,
                            **rest})
        self._ask(rules=self._rules)

    def hang(self, call: str, path: str = '', offset: int = 0,
             skip: int = 0) -> None:
        """Let calls hang until :meth:`release`.

        :param call: as FUSE names it (``write``, ``fsyncdir``), ``*`` for
            all
        :param path: a pattern that is searched in the path on the device
        :param offset: reads and writes before it are not concerned (bytes)
        :param skip: how many calls are let through before
        """
        self._add(call, path, 'hang', offset=offset, skip=skip)

    def delay(self, call: str, seconds: float, path: str = '') -> None:
        """Let calls take longer."""
        self._add(call, path, 'delay', seconds=seconds)

    def fail(self, call: str, path: str = '', number: int = errno.EIO,
             offset: int = 0, done: bool = False, flag: int = 0,
             seconds: float = 0, skip: int = 0) -> None:
        """Let calls fail.

        :param skip: how many calls are let through before
        :param number: with which error
        :param seconds: after how long
        :param done: whether they do what was asked all the same
        :param flag: concern only files that were opened with it
        """
        self._add(call, path, 'fail', number=number, offset=offset,
                  done=done, flag=flag, seconds=seconds, skip=skip)

    def corrupt(self, path: str, offset: int) -> None:
        """Flip a bit of the byte at ``offset`` of a file when it is read."""
        self._add('read', path, 'corrupt', offset=offset)

    def hung(self) -> int:
        """Return how many calls hang."""
        return self._ask()['hung']

    def hits(self) -> int:
        """Return to how many calls a rule applied since rules changed."""
        return self._ask()['hits']

    @contextlib.contextmanager
    def counted(self) -> Iterator[list[int]]:
        """Count the calls that are made meanwhile; there are no rules then.

        The number is in the list afterwards.
        """
        # A rule that does nothing.
        self._add('*', '', 'delay', seconds=0)
        count: list[int] = []
        yield count
        count.append(self._ask()['seen'])
        self.release()

    def written(self) -> int:
        """Return how many bytes were written, since the beginning."""
        return self._ask()['written']

    def await_hung(self, timeout: float = 20) -> None:
        """Wait until a call hangs."""
        processes.poll(self.hung, f'a call hanging on {self.path}', timeout,
                       0.01)

    def release(self, timeout: float = 20) -> None:
        """Behave again; calls that hang go on."""
        self._rules = []
        self._ask(rules=[])
        processes.poll(lambda: not self.hung(),
                       f'{self.path} being released', timeout, 0.01)

    def kill(self) -> None:
        """Let it break down: calls that hang fail, and so do all others."""
        self._child.kill()
        self._child.wait()
        self._lines.close()
        self._connection.close()

    def restart(self) -> None:
        """Mount it again after it broke down, with all that is on it."""
        self.kill()
        workspace.run('umount', '-l', self.mount_point)
        self._rules = []
        self._start()

    def close(self) -> None:
        """Unmount and remove it; calls that hang fail."""
        self.kill()
        workspace.run('umount', '-l', self.mount_point)
