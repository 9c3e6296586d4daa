"""Runs a command on a leash, and has what it printed; see ``leash``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import select
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO

from easystack_image.ota.hooks import leash

#: How much of what a hook prints is kept: the last so many bytes.
KEPT = 16 * 1024
#: The most bytes that its answer may have.
ANSWER = 1024 * 1024
#: Seconds between two looks whether something else matters more, and for the
#: leash to end when it has told how it went.
_PACE, _PATIENCE = 0.1, 1.0
#: What a hook gets of the updater's environment.
_ENVIRONMENT = ('HOME', 'LANG', 'LC_ALL', 'PATH', 'TMPDIR', 'TZ',
                'http_proxy', 'https_proxy', 'no_proxy')
#: A path for those who were started without one.
_PATH = '/usr/sbin:/usr/bin:/sbin:/bin'


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    #: Its exit code, negative for a signal; None if it did not end by itself.
    code: int | None
    #: Why it did not, in words.
    reason: str
    seconds: float
    stdout: str
    stderr: str


def run(command: Sequence[str], timeout: float, *, stdin: str = '',
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (), finish: bool = False, share: bool = False,
        pause: Callable[[float], None] | None = None) -> Ended:
    """Run a command, and whatever it starts, to its end.

    :param timeout: seconds, after which it is killed
    :param stdin: what it reads
    :param environment: variables besides the few that all get
    :param keep: descriptors that the leash holds as long as anything lives,
        and the command itself, if it goes on
    :param finish: whether it goes on if this process is killed
    :param share: whether the command holds the descriptors in any case: it
        would go on if its leash were killed
    :param pause: called again and again, with no time to sleep: raises what
        has to interrupt any waiting, and the command is killed then, unless
        it finishes
    """
    begun = time.monotonic()
    with tempfile.TemporaryFile() as given, \
            tempfile.TemporaryFile() as stdout, \
            tempfile.TemporaryFile() as stderr:
        given.write(stdin.encode())
        given.seek(0)
        result = _lead(command, timeout, given, stdout, stderr,
                       small_environment() | dict(environment or {}), keep,
                       finish, finish or share, None if finish else pause)
        code, reason = _judge(result, timeout)
        return Ended(code, reason, round(time.monotonic() - begun, 3),
                     _end_of(stdout, ANSWER), _end_of(stderr, KEPT))


def small_environment() -> dict[str, str]:
    """Return what every hook gets of the environment: nothing secret."""
    return {'PATH': _PATH} | {name: os.environ[name] for name
                              in _ENVIRONMENT if name in os.environ}


def _lead(command: Sequence[str], timeout: float, stdin: IO[bytes],
          stdout: IO[bytes], stderr: IO[bytes],
          environment: Mapping[str, str], keep: Sequence[int], finish: bool,
          share: bool, pause: Callable[[float], None] | None,
          ) -> dict[str, object]:
    """Start the leash, and wait for what it tells.

    If this ends early, nobody has the other end of the leash any more.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(  # noqa: S603  # see leash
                [sys.executable, '-I', '-S', str(Path(leash.__file__)),
                 str(theirs.fileno()), str(timeout),
                 leash.FINISH if finish else 'end',
                 ','.join(map(str, keep)) if share else '', *command],
                stdin=stdin, stdout=stdout, stderr=stderr, cwd='/',
                env=dict(environment), start_new_session=True,
                pass_fds=(theirs.fileno(), *keep))
        while pause and not select.select([ours], [], [], _PACE)[0]:
            pause(0)
        with ours.makefile('rb') as told:
            line = told.readline(ANSWER)
    # It may have to wait for what cannot be killed: a disk that hangs.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    if not line:
        return {'error': 'what watches it was killed'}
    result: dict[str, object] = json.loads(line)
    return result


def _judge(result: Mapping[str, object], timeout: float,
           ) -> tuple[int | None, str]:
    code = result.get('code')
    if isinstance(code, int):
        return code, ''
    if 'error' in result:
        return None, f'it cannot be run: {result["error"]}'
    return None, f'it took more than {timeout:g} s, and was killed'


def _end_of(file: IO[bytes], limit: int) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - limit))
    return file.read().decode(errors='replace')
