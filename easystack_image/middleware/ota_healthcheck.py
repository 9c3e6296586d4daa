"""``easystack_ota``: a backend of oslo.middleware's health check.

While the updater has a node stand aside, the load balancer is told to send
its users elsewhere (503): but only if there is an elsewhere.  The health
checks of the other nodes are asked, and unless one of them answers with 200,
this node goes on as ever.  Nobody has to know how many nodes live, and the
last one is never taken out, whatever becomes of the others meanwhile.

A node that has no power does not answer at all, and the load balancer does
not wait until that is certain: it would take this node out as well.  So all
are asked at once, in threads, and it is told what is known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
import http.client
import logging
import os
from pathlib import Path
import threading
import time
from typing import Any
import urllib.request

from oslo_config import cfg
from oslo_middleware.healthcheck import pluginbase

from easystack_image.conf import ota as options
from easystack_image.middleware import healthcheck
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import layout

LOG = logging.getLogger(__name__)

#: Seconds for which other nodes may hold up an answer: some load balancers
#: give up after one, and other backends take their time, too.  A node that
#: serves needs some milliseconds.
PATIENCE = 0.5

_SERVING = pluginbase.HealthcheckResult(available=True, reason='OK')


class OtaHealthcheck(healthcheck.CachedHealthcheck):
    """Tells whether the node stands aside while it is upgraded.

    :param oslo_conf: see the base class
    :param conf: see the base class
    """

    def __init__(self, oslo_conf: cfg.ConfigOpts,
                 conf: dict[str, Any]) -> None:
        super().__init__(oslo_conf, conf)
        self._others = _Others()
        self._patient_until = 0.0
        #: Until when it counts that another node served when last looked at.
        self._elsewhere_until = 0.0
        self._fresh_for = 0.0

    def healthcheck(self, server_port: int) -> pluginbase.HealthcheckResult:
        """See the base class.

        What the others say counts for some seconds; whether this node stands
        aside at all is looked up each time.  Another one that begins to do so
        would be told by one process that this node serves, while the load
        balancer hears from the next that it does not.
        """
        directory = os.environ.get(layout.DIRECTORY_VARIABLE)
        if not (directory and aside.is_aside(Path(directory).parent)):
            # Answers are those of another time, the next time.
            self._elsewhere_until = self._fresh_until = 0.0
            return _SERVING
        return super().healthcheck(server_port)

    def _look(self) -> pluginbase.HealthcheckResult:
        group = options.register(self.oslo_conf)
        if not group.other_nodes:
            self._fresh_for = healthcheck.CACHED_FOR
            return _SERVING
        return self._ask(group.other_nodes, group.other_nodes_timeout)

    def _counts_for(self) -> float:
        """See the base class."""
        return self._fresh_for

    def _ask(self, urls: Sequence[str], timeout: float,
             ) -> pluginbase.HealthcheckResult:
        """Return what the others say, or said last."""
        now = time.monotonic()
        if now >= self._others.known_at() + healthcheck.CACHED_FOR:
            self._others.ask(urls, timeout)
            self._patient_until = now + PATIENCE
        if not self._others.wait(self._patient_until):
            # Whoever asks next is told what came meanwhile.
            self._fresh_for = 0.0
            if self._result and time.monotonic() < self._elsewhere_until:
                return self._result
            return _SERVING
        until = self._others.known_at() + healthcheck.CACHED_FOR
        self._fresh_for = until - time.monotonic()
        url = self._others.serving()
        if url is None:
            LOG.warning('The node is upgraded, and serves on: no other node '
                        'does. Asked: %s', ', '.join(urls))
            return _SERVING
        # Not for longer than it takes to find that it has died since.
        self._elsewhere_until = until + timeout
        return pluginbase.HealthcheckResult(
            available=False, reason='BEING UPGRADED',
            details=f'{url} serves meanwhile')


class _Others:
    """The other nodes, which are asked all at once.

    The outcome is known when one of them serves, or all have answered, or
    their time is over.  None has more than one thread, however long that
    hangs.
    """

    def __init__(self) -> None:
        #: Notified of each answer; held for what is below.
        self._told = threading.Condition()
        #: Those that have a thread.
        self._asked: set[str] = set()
        #: By URLs; None for those that have not answered.
        self._answers: dict[str, bool | None] = {}
        self._over_at = 0.0
        self._known_at: float | None = float('-inf')

    def ask(self, urls: Sequence[str], timeout: float) -> None:
        """Ask them anew.  Who has not answered before is not asked twice.

        :param timeout: seconds
        """
        with self._told:
            self._answers = dict.fromkeys(urls)
            self._over_at = time.monotonic() + timeout
            self._known_at = None
            new = self._answers.keys() - self._asked
            self._asked |= new
        for url in new:
            thread = threading.Thread(
                target=self._ask_one, args=(url, timeout), daemon=True,
                name='other-node')
            try:
                thread.start()
            except RuntimeError:
                # There are too many threads.
                self._enter(url, False)
                LOG.warning('There is no thread to ask %s', url)

    def wait(self, until: float) -> bool:
        """Wait for the outcome; tell whether it is known.

        :param until: that time at most
        """
        with self._told:
            until = min(until, self._over_at)
            return self._told.wait_for(
                self._is_known, max(0.0, until - time.monotonic()))

    def known_at(self) -> float:
        """Return since when the outcome is known; infinity if it is not."""
        with self._told:
            self._is_known()
            return float('inf') if self._known_at is None else self._known_at

    def serving(self) -> str | None:
        """Return the URL of one that serves."""
        with self._told:
            return next((url for url, serves in self._answers.items()
                         if serves), None)

    def _ask_one(self, url: str, timeout: float) -> None:
        over_at = time.monotonic() + timeout
        serves = False
        try:
            # One that is a little late each time may be late in all.
            serves = _serves(url, timeout) and time.monotonic() < over_at
        finally:
            self._enter(url, serves)

    def _enter(self, url: str, serves: bool) -> None:
        with self._told:
            self._asked.discard(url)
            if url in self._answers:
                self._answers[url] = serves
            self._is_known()
            self._told.notify_all()

    def _is_known(self) -> bool:
        """Tell whether the outcome is known, and keep since when."""
        if self._known_at is None:
            now = time.monotonic()
            answers = self._answers.values()
            if any(answers) or None not in answers:
                self._known_at = now
            elif now >= self._over_at:
                self._known_at = self._over_at
        return self._known_at is not None


def _serves(url: str, timeout: float) -> bool:
    """Ask the health check of another node.

    :param timeout: seconds that each step may take
    """
    # Not by way of a proxy: the nodes are side by side.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        if not url.startswith(('http://', 'https://')):
            raise ValueError('it begins with neither http:// nor https://')
        with opener.open(url, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, http.client.HTTPException) as error:
        # The last of them is what speaks something else, such as TLS.
        LOG.info('The health check %(url)s does not say that it serves: '
                 '%(error)r', {'url': url, 'error': error})
        return False
