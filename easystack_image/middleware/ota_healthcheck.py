"""``easystack_ota``: a backend of oslo.middleware's health check.

While the updater has a node stand aside, the load balancer is told to send
its users elsewhere (503): but only if there is an elsewhere.  The health
checks of the other nodes are asked, and unless one of them answers with 200,
this node goes on as ever.  Nobody has to know how many nodes live, and the
last one is never taken out, whatever becomes of the others meanwhile.
"""

from __future__ import annotations

import http.client
import logging
import os
from pathlib import Path
import urllib.request

from oslo_middleware.healthcheck import pluginbase

from easystack_image.conf import ota as options
from easystack_image.middleware import healthcheck
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import layout

LOG = logging.getLogger(__name__)

_SERVING = pluginbase.HealthcheckResult(available=True, reason='OK')


class OtaHealthcheck(healthcheck.CachedHealthcheck):
    """Tells whether the node stands aside while it is upgraded."""

    def _look(self) -> pluginbase.HealthcheckResult:
        group = options.register(self.oslo_conf)
        directory = os.environ.get(layout.DIRECTORY_VARIABLE)
        if not group.other_nodes or not directory:
            return _SERVING
        if not aside.is_aside(Path(directory).parent):
            return _SERVING
        for url in group.other_nodes:
            if _serves(url, group.other_nodes_timeout):
                return pluginbase.HealthcheckResult(
                    available=False, reason='BEING UPGRADED',
                    details=f'{url} serves meanwhile')
        LOG.warning('The node is upgraded, and serves on: no other node '
                    'does. Asked: %s', ', '.join(group.other_nodes))
        return _SERVING


def _serves(url: str, timeout: float) -> bool:
    """Ask the health check of another node.

    :param timeout: seconds
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
