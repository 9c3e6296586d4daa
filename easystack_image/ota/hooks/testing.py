"""For tests of hooks, ours and yours: whether a hook is idempotent.

The updater may be killed while a hook runs, and runs it once more when the
upgrade is resumed.  So a hook that was done, or half done, has to lead to
the same end when it is run again::

    from easystack_image.ota.hooks import testing

    class MyHookTest(unittest.TestCase):

        def test_idempotent(self):
            testing.check_idempotent(
                MyHook, testing.context('at-start', state_directory=...),
                reset=self.prepare, observe=self.what_it_changed)
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import multiprocessing
import os
from pathlib import Path
import signal
import subprocess
import time
from typing import Any

from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import executables
from easystack_image.ota.hooks import leashed
from easystack_image.ota.hooks import runner
from easystack_image.ota.journal.records import Kind

#: A class, or the path of an executable.
Subject = type[base.Hook] | Path
#: Exit codes of the process that runs a class.
_CODES = {base.State.DONE: executables.GO_ON,
          base.State.RETRY: executables.RETRY_LATER}


def context(point: str, **others: Any) -> base.Context:
    """Return what a hook is told, of an upgrade from 1.0.0 to 2.0.0.

    :param others: what is to be different, see :class:`base.Context`
    """
    values: dict[str, Any] = {'kind': Kind.UPGRADE, 'origin': '1.0.0',
                              'target': '2.0.0'}
    return base.Context(point=base.Point(point), **values | others)


def check_idempotent(hook: Subject, context: base.Context, *,
                     reset: Callable[[], object],
                     observe: Callable[[], object], kills: int = 10) -> None:
    """Run a hook twice, and killed half-way and once more; compare.

    :param hook: a class, or the path of an executable
    :param reset: brings about what there is before the hook runs
    :param observe: returns what the hook changes, so that it can be compared
    :param kills: how many times it is killed: after so many parts of the
        time that it took at first
    :raises AssertionError: if it is not idempotent; it says how
    """
    reset()
    begun = time.monotonic()
    _expect_done(_Run(hook, context), 'the first time')
    took = time.monotonic() - begun
    expected = observe()
    _expect_done(_Run(hook, context), 'the second time')
    _expect_same(expected, observe(), 'it was run twice')
    for number in range(1, kills + 1):
        reset()
        after = took * number / (kills + 1)
        _Run(hook, context).kill(after)
        told = f'it was killed after {after:.3f} s'
        _expect_done(_Run(hook, context), f'after {told}')
        _expect_same(expected, observe(), told)


class _Run:
    """A run of a hook, in a process group of its own."""

    def __init__(self, hook: Subject, context: base.Context) -> None:
        self._process: Any
        if isinstance(hook, Path):
            self._process = subprocess.Popen(  # noqa: S603  # the tester's
                [hook], stdin=subprocess.DEVNULL, process_group=0,
                env=leashed.small_environment()
                | executables.environment(context))
        else:
            # A class of a test need not be installed anywhere.
            self._process = multiprocessing.get_context('fork').Process(
                target=_run_class, args=(hook, context))
            self._process.start()

    def wait(self) -> int:
        """Return the exit code."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.wait()
        self._process.join()
        return int(self._process.exitcode)

    def kill(self, seconds: float) -> None:
        """Kill it, and what it started, after a while."""
        time.sleep(seconds)
        # It may be done, or have no group yet.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()


def _run_class(hook: type[base.Hook], context: base.Context) -> None:
    os.setpgid(0, 0)
    answer = runner.run(hook, context)
    os._exit(_CODES.get(base.State(answer['state']), executables.ROLL_BACK))


def _expect_done(run: _Run, when: str) -> None:
    code = run.wait()
    if code != executables.GO_ON:
        raise AssertionError(f'the hook failed {when} (exit code {code})')


def _expect_same(expected: object, found: object, when: str) -> None:
    if found != expected:
        raise AssertionError(
            f'the hook is not idempotent: {found!r} is there after {when}, '
            f'not {expected!r}')
