"""The command, in processes that are killed: ``python -m tests.ota.killed``.

It reads what to run (JSON, one per line), forks a process for each, and says
how that ended.  The process kills itself when it comes to a certain point: a
change of a file that must survive a crash (before it, and in the middle of a
write), or something that an instance, or who starts them, is told (before it,
and after).
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import json
import os
from pathlib import Path
import signal
import sys
from typing import Any

from easystack_image import fsio
from easystack_image.cmd.ota import main
from easystack_image.ota.serving import instance
from easystack_image.ota.serving import launcher
from tests.crash import steps

#: What is asked only, and changes nothing.
_QUESTION = 'list'


class Points:
    """Counts the points, and kills the process at one.

    :param last: its number, from 1; 0 for none
    """

    def __init__(self, last: int) -> None:
        self._last = last
        #: What happened at each, in order.
        self.passed: list[str] = []

    def install(self) -> None:
        """Put this between the command and what it changes, for good."""
        for name in steps.CHANGES:
            setattr(fsio, name, functools.partial(
                self._change, name, getattr(fsio, name)))
        for owner, name in ((launcher.HolderLauncher, '_ask'),
                            (instance.Instance, 'serve'),
                            (instance.Instance, '_tell'),
                            (Path, 'touch')):
            setattr(owner, name, self._told(name, getattr(owner, name)))

    def _pass(self, what: str) -> None:
        self.passed.append(what)
        if len(self.passed) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def _change(self, name: str, real: Callable[..., Any], *args: Any,
                **kwargs: Any) -> Any:
        self._pass(name)
        if name == 'write_at':
            fd, data, offset = args
            real(fd, memoryview(data)[:len(data) // 2], offset)
            self._pass('the middle of it')
        return real(*args, **kwargs)

    def _told(self, name: str, real: Callable[..., Any]) -> Any:
        def tell(*args: Any, **kwargs: Any) -> Any:
            what = args[1].get('do') if name == '_ask' else name
            if what == _QUESTION:
                return real(*args, **kwargs)
            self._pass(f'before {what}')
            result = real(*args, **kwargs)
            self._pass(f'after {what}')
            return result
        return tell


def _run(job: dict[str, Any]) -> None:
    """Run the command in this process, and end it."""
    points = Points(job['kill_at'])
    points.install()
    for stream, name in ((1, 'output'), (2, 'errors')):
        fd = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(fd, stream)
    code = 70
    try:
        code = main.main(job['argv'])
        sys.stdout.flush()
        sys.stderr.flush()
        Path(job['points']).write_text(json.dumps(points.passed))
    finally:
        os._exit(code)


def serve() -> None:
    """Do what standard input says, until it ends."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _run(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f'{os.waitstatus_to_exitcode(status)}\n')
        sys.stdout.flush()


if __name__ == '__main__':
    serve()
