"""``easystack_block``: a backend of oslo.middleware's health check.

It looks at all stores of this package.  A Glance whose uploads or downloads
would fail is unavailable (503); whatever else an operator should know is a
detail, shown where ``detailed = true``, and no reason to take a Glance that
serves its users away from them.
"""

from __future__ import annotations

import abc
import logging
import threading
import time
from typing import Any

from oslo_config import cfg
from oslo_middleware.healthcheck import pluginbase

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore import loading
from easystack_image.conf import stores
from easystack_image.middleware import engines

LOG = logging.getLogger(__name__)

#: Seconds for which a result counts: several load balancers that ask each
#: second must not keep the disks busy.
CACHED_FOR = 5.0
CRITICAL = engine_module.Severity.CRITICAL


class CachedHealthcheck(pluginbase.HealthcheckBaseExtension, abc.ABC):
    """Looks once in a while, however often it is asked.

    :param oslo_conf: the configuration of the health check's application:
        Glance's, or one that it read with ``oslo_config_project = glance``
    :param conf: the application's section in the paste file
    """

    def __init__(self, oslo_conf: cfg.ConfigOpts,
                 conf: dict[str, Any]) -> None:
        super().__init__(oslo_conf, conf)
        self._lock = threading.Lock()
        self._result: pluginbase.HealthcheckResult | None = None
        self._fresh_until = 0.0

    def healthcheck(self, server_port: int) -> pluginbase.HealthcheckResult:
        """Return what there is to see, or was a few seconds ago.

        While one thread looks, the others are told what was seen last.
        """
        if time.monotonic() < self._fresh_until and self._result:
            return self._result
        if self._lock.acquire(blocking=self._result is None):
            try:
                if time.monotonic() >= self._fresh_until:
                    self._result = self._look()
                    self._fresh_until = time.monotonic() + self._counts_for()
            finally:
                self._lock.release()
        if self._result is None:
            raise exceptions.EasystackImageError('nothing was looked at')
        return self._result

    @abc.abstractmethod
    def _look(self) -> pluginbase.HealthcheckResult:
        """Return what there is to see."""

    def _counts_for(self) -> float:
        """Return for how many seconds what was just seen counts."""
        return CACHED_FOR


class BlockHealthcheck(CachedHealthcheck):
    """Tells whether the stores of this Glance can be used.

    :param oslo_conf: see the base class
    :param conf: see the base class
    """

    def __init__(self, oslo_conf: cfg.ConfigOpts,
                 conf: dict[str, Any]) -> None:
        super().__init__(oslo_conf, conf)
        #: Engines of stores that this process does not run itself.
        self._engines: dict[str, engine_module.Engine] = {}

    def _look(self) -> pluginbase.HealthcheckResult:
        problems = [(name, problem) for name in stores.names(self.oslo_conf)
                    for problem in self._problems(name)]
        details = [f'{name}: {problem.severity.value}: {problem.what}: '
                   f'{problem.message}' for name, problem in problems]
        outage = any(problem.outage for _, problem in problems)
        if outage and not (self._result and not self._result.available):
            LOG.error('Health check: uploads or downloads fail. %s',
                      ' | '.join(details))
        return pluginbase.HealthcheckResult(
            available=not outage,
            reason='IMAGE STORE UNAVAILABLE' if outage else 'OK',
            details='\n'.join(details))

    def _problems(self, name: str) -> list[engine_module.Problem]:
        try:
            running = engines.running(name)
        except exceptions.ConfigurationError as error:
            return [_outage('store-not-configured', error),
                    *self._from_outside(name)]
        if running is not None:
            return running.problems()
        return self._from_outside(name)

    def _from_outside(self, name: str) -> list[engine_module.Problem]:
        """Return what is wrong with a store that we do not run."""
        try:
            if name not in self._engines:
                self._engines[name] = loading.load(
                    stores.options(self.oslo_conf, name)
                    | {'self_repair': False})
        except (exceptions.ConfigurationError, cfg.Error) as error:
            return [_outage('store-misconfigured', error)]
        return self._engines[name].problems()


def _outage(what: str, error: Exception) -> engine_module.Problem:
    return engine_module.Problem(CRITICAL, what, None, str(error),
                                 outage=True)
