"""Commands without the start of a Python of their own.

``python -m tests.unit.forked`` imports what the commands need, reads calls
(JSON, one per line) and forks a process for each, which does what the script
of the command does.  What becomes of it is written as a line, too.  To start
Python and to import takes most of a second of processor time, and much more
while lines are counted; tests of the commands make hundreds of calls.

Those that depend on how Python starts, on signals or on terminals start the
scripts themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
import functools
import importlib
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
from typing import Any, BinaryIO

#: By command, the module of what its script calls, and of what that imports
#: when it is called.
COMMANDS = {
    'easystack-image-manage': (
        'easystack_image.cmd.manage', 'easystack_image.cmd.app'),
    'easystack-image-ota': (
        'easystack_image.cmd.ota.main', *(
            f'easystack_image.cmd.ota.{name}' for name in (
                'boot', 'client', 'hold', 'hooks', 'merge', 'releases',
                'upgrade'))),
}


class Server:
    """The process that forks, as its users see it."""

    def __init__(self) -> None:
        # Whatever the language, as where none is set.
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(('LC_', 'LANG'))}
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'tests.unit.forked'], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
            cwd=Path(__file__).parents[2])

    def run(self, words: list[str], cwd: Path,
            environment: Mapping[str, str], timeout: int,
            ) -> subprocess.CompletedProcess[str]:
        """Run a command; return what :func:`subprocess.run` returns.

        :param words: the path of its script, and its arguments
        :param timeout: seconds until it is killed
        """
        assert self._process.stdin and self._process.stdout
        with tempfile.TemporaryFile() as output, \
                tempfile.TemporaryFile() as errors:
            files = [f'/proc/{os.getpid()}/fd/{file.fileno()}'
                     for file in (output, errors)]
            call = {'argv': words, 'cwd': str(cwd), 'files': files,
                    'environment': dict(environment), 'timeout': timeout}
            self._process.stdin.write(json.dumps(call) + '\n')
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(
                words, code, _text(output), _text(errors))


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


@functools.cache
def server() -> Server:
    """Return the server of this process, which ends with it."""
    return Server()


def _begin(call: dict[str, Any]) -> None:
    """Become the process of a call."""
    signal.alarm(call['timeout'])
    os.environ.clear()
    os.environ.update(call['environment'])
    os.chdir(call['cwd'])
    for number, path, flags in ((0, os.devnull, os.O_RDONLY),
                                (1, call['files'][0], os.O_WRONLY),
                                (2, call['files'][1], os.O_WRONLY)):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    sys.argv = call['argv']


def main() -> int:
    """Fork a process for each call; end with the standard input."""
    scripts = {}
    for name, modules in COMMANDS.items():
        # What is imported may keep the name.
        sys.argv[0] = name
        scripts[name] = [importlib.import_module(each) for each in modules][0]
    for line in sys.stdin:
        call = json.loads(line)
        pid = os.fork()
        if not pid:
            _begin(call)
            return int(scripts[Path(call['argv'][0]).name].main())
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
