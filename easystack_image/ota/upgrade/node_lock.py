"""One node after another, in the order of the configuration.

The lock is tooz's, whose drivers need more than the updater's environment
has.  So a child of the slot's own Python holds it
(:mod:`easystack_image.ota.upgrade.lock_holder`), as long as its standard
input is open: it lets go when the updater does, or dies.

A lock knows no order.  That a node's predecessors are done is asked of
themselves: each answer of the image service names its release.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
import select
import ssl
import subprocess
import time
from types import TracebackType
from typing import Any

import urllib3

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.serving import layout

LOG = logging.getLogger(__name__)

_HOLDER = 'easystack_image.ota.upgrade.lock_holder'
#: Seconds between two looks at other nodes, and for each of their answers.
_PACE, _ANSWER = 5.0, 10.0
#: Seconds that the child may take to start, and to say that it gives up.
_START = 60.0
_LIMIT = 1 << 20


class NodeLock:
    """Held by the node that is upgraded; nothing without coordination_url.

    :param slot: whose Python has tooz
    :param release: what the nodes before this one have to serve already; ''
        if their order does not matter
    """

    def __init__(self, settings: settings_module.Settings, slot: Path | None,
                 release: str = '') -> None:
        self._settings = settings
        self._slot = slot
        self._release = release
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NodeLock:
        """Wait for the turn of this node.

        :raises easystack_image.exceptions.NotOurTurn: if it does not come
            in time
        :raises easystack_image.exceptions.NotNow: if what coordinates the
            nodes cannot be reached
        :raises easystack_image.exceptions.ConfigurationError: if the slot
            has not what it takes
        """
        deadline = time.monotonic() + self._settings.node_timeout
        try:
            self._wait_for_predecessors(deadline)
            if self._settings.coordination_url:
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

    def _wait_for_predecessors(self, deadline: float) -> None:
        waited = False
        while behind := self._behind():
            if time.monotonic() + _PACE > deadline:
                raise exceptions.NotOurTurn(
                    f'{behind[0]} comes first, and does not serve '
                    f'{self._release}: {behind[1]}')
            if not waited:
                LOG.info('Waiting for %s: %s', *behind)
                waited = True
            time.sleep(_PACE)

    def _behind(self) -> tuple[str, str] | None:
        """Return the first node before this one that is not done, and why."""
        nodes = self._settings.nodes.split()
        if not self._release or not nodes:
            return None
        for url in nodes[:nodes.index(self._settings.node_url)]:
            found = release_of(url, self._settings.ca_file)
            if found != self._release:
                return url, found or 'it does not say what it serves'
        return None

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
        error = (exceptions.NotOurTurn if answer.get('busy') else
                 exceptions.NotNow if answer else
                 exceptions.ConfigurationError)
        raise error(answer.get(
            'reason', f'{self._slot} cannot hold the lock of the nodes: '
                      'what it printed says why'))

    def _answer(self, timeout: float) -> dict[str, Any]:
        """Return the next line of the child; nothing if there is none."""
        child = self._child
        if child is None or not _readable(child, timeout):
            return {}
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
            child.wait(_ANSWER)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _readable(child: subprocess.Popen[bytes], timeout: float) -> bool:
    return child.stdout is not None and bool(
        select.select([child.stdout], [], [], timeout)[0])


def release_of(url: str, ca_file: str = '') -> str:
    """Return the release that a node serves; '' if it does not say.

    :param url: of its image service
    :param ca_file: certificates to trust; '' for the system's
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    try:
        with urllib3.PoolManager(ssl_context=context) as pool:
            answer = pool.request('GET', url, timeout=_ANSWER, retries=False,
                                  redirect=False, preload_content=False)
            found: str = answer.headers.get(layout.RELEASE_HEADER, '')
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        LOG.info('%s does not answer: %s', url, error)
        return ''
    return found
