"""One node after another, in the order of the configuration.

The lock is tooz's, whose drivers need more than the updater's environment
has.  So a child of the slot's own Python holds it
(:mod:`easystack_image.ota.upgrade.lock_holder`), as long as its standard
input is open: it lets go when the updater does, or dies.

A lock knows no order.  That a node's predecessors are done, and that those
that follow are not left behind, is asked of themselves
(:mod:`easystack_image.ota.upgrade.peers`), once more when the lock is ours:
whoever had it may have gone back.
"""

from __future__ import annotations

from collections.abc import Callable
import json
import logging
from pathlib import Path
import select
import subprocess
import time
from types import TracebackType
from typing import Any

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.upgrade import peers

LOG = logging.getLogger(__name__)

_HOLDER = 'easystack_image.ota.upgrade.lock_holder'
#: Seconds between two looks at other nodes, and whether to wait on.
_PACE, _LOOK = 5.0, 0.2
#: Seconds that the child may take to let go.
_END = 10.0
#: Seconds that the child may take to start, and to say that it gives up.
_START = 60.0
_LIMIT = 1 << 20


class NodeLock:
    """Held by the node that is upgraded; nothing without coordination_url.

    :param slot: whose Python has tooz
    :param release: what the nodes before this one have to have settled on
        already; '' if their order does not matter
    :param pause: sleeps, or raises what has to interrupt any waiting
    :param say: tells the operator what is waited for
    :param trailing: returns which node after this one must not be left
        behind, and why; '' for none
    """

    def __init__(self, settings: settings_module.Settings, slot: Path | None,
                 release: str = '',
                 pause: Callable[[float], None] = time.sleep,
                 say: Callable[[str], None] = LOG.info,
                 trailing: Callable[[], str] = str) -> None:
        self._settings = settings
        self._slot = slot
        self._release = release
        self._pause = pause
        self._say = say
        self._trailing = trailing
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NodeLock:
        """Wait for the turn of this node.

        :raises easystack_image.exceptions.NotOurTurn: if it does not come
            in time
        :raises easystack_image.exceptions.NotNow: if what coordinates the
            nodes cannot be reached, or what holds the lock is killed
        :raises easystack_image.exceptions.ConfigurationError: if the slot
            has not what it takes
        """
        deadline = time.monotonic() + self._settings.node_timeout
        try:
            self._wait_for_others(deadline)
            if not self._settings.coordination_url:
                return self
            self._acquire(deadline)
            # Whoever had the lock until now may have gone back.
            while self._awaited():
                self._release_lock()
                self._wait_for_others(deadline)
                self._acquire(deadline)
        except BaseException:
            self._release_lock()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._release_lock()

    def check(self) -> None:
        """See that the lock is still ours.

        :raises easystack_image.exceptions.NotNow: if it was lost
        """
        if self._child is None:
            return
        if self._child.poll() is not None or _readable(self._child, 0):
            raise exceptions.NotNow(
                'the lock of the node was lost: '
                + self._answer(_START).get('reason', 'its holder has died'))

    def _wait_for_others(self, deadline: float) -> None:
        waited = False
        while awaited := self._awaited():
            if time.monotonic() + _PACE > deadline:
                raise exceptions.NotOurTurn(awaited)
            if not waited:
                self._say(f'waiting: {awaited}')
                waited = True
            self._pause(_PACE)

    def _awaited(self) -> str:
        """Return which other node is waited for, and why; '' for none."""
        behind = peers.behind(
            self._settings, peers.before(self._settings), self._release,
        ) if self._release else None
        if behind is None:
            return self._trailing()
        url, why = behind
        return (f'{url} comes first, and does not serve {self._release} for '
                f'good: {why}')

    def _acquire(self, deadline: float) -> None:
        if self._slot is None:
            raise exceptions.ConfigurationError(
                'coordination_url needs a slot, whose Python has tooz')
        self._child = subprocess.Popen(  # noqa: S603 (our own module)
            # What libraries warn of is nothing that an operator can mend.
            [str(self._slot / 'bin' / 'python'), '-I', '-W', 'ignore', '-m',
             _HOLDER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            # Not to be ended by a Ctrl-C that the updater bears with.
            start_new_session=True)
        left = max(deadline - time.monotonic(), 0.0)
        self._say('waiting until no other node is being upgraded')
        assert self._child.stdin is not None  # noqa: S101 (it is a pipe)
        try:
            self._child.stdin.write(json.dumps({
                'url': self._settings.coordination_url, 'seconds': left,
            }).encode() + b'\n')
        except BrokenPipeError:
            # It has ended, and what it said is asked for next.
            LOG.info('The holder of the lock ended at once')
        answer = self._answer(left + _START)
        if answer.get('held'):
            return
        if answer:
            raise (exceptions.NotOurTurn if answer.get('busy') else
                   exceptions.NotNow)(answer.get('reason', ''))
        if self._gave_up():
            raise exceptions.ConfigurationError(
                f'{self._slot} cannot hold the lock of the nodes: what it '
                'printed says why')
        # No fault of the release: the next one may live.
        raise exceptions.NotNow(
            'the holder of the lock of the nodes was killed, or does not '
            'answer')

    def _gave_up(self) -> bool:
        """Whether the child, which said nothing, ended by itself."""
        child = self._child
        if child is None or not _readable(child, 0):
            return False
        try:
            return child.wait(_END) >= 0
        except subprocess.TimeoutExpired:
            return False

    def _answer(self, timeout: float) -> dict[str, Any]:
        """Return the next line of the child; nothing if there is none."""
        child = self._child
        if child is None:
            return {}
        end = time.monotonic() + timeout
        while not _readable(child, _LOOK):
            if time.monotonic() > end:
                return {}
            self._pause(0)
        line = child.stdout.readline(_LIMIT) if child.stdout else b''
        try:
            found: dict[str, Any] = json.loads(line) if line else {}
        except ValueError:
            LOG.warning('The holder of the lock says %r', line[:200])
            found = {}
        return found

    def _release_lock(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        try:
            child.wait(_END)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _readable(child: subprocess.Popen[bytes], timeout: float) -> bool:
    return child.stdout is not None and bool(
        select.select([child.stdout], [], [], timeout)[0])
