"""Options of the filter and the health check ``easystack_ota``.

The updater has a group of the same name in a file of its own; see
:mod:`easystack_image.ota.settings`.
"""

from typing import Any

from oslo_config import cfg

GROUP = 'easystack_ota'

OPTS = [
    cfg.BoolOpt(
        'name_release', default=True,
        help='Name the release in each answer, in the header '
             'X-Easystack-Image-Release. The updater looks there to see '
             'which release it talks to.'),
    cfg.StrOpt(
        'state_directory', default='/var/lib/easystack-image/ota',
        help='Absolute path of the directory in which the updater has its '
             'journal, as in its own configuration. GET /easystack/ota shows '
             'the last upgrade, if the user of this service may read it.'),
    cfg.ListOpt(
        'other_nodes', default=[],
        help='URLs of the health checks of the other nodes behind the same '
             'load balancer, such as http://10.0.0.12:9292/healthcheck, '
             'separated by commas. With them, the health check '
             '"easystack_ota" has this node left out while it is upgraded, '
             'but never if none of the others answers with 200. Empty: this '
             'node is never left out.'),
    cfg.IntOpt(
        'other_nodes_timeout', default=2, min=1, max=30,
        help='How long to wait for the health check of another node, in '
             'seconds. The load balancer that asks this node does not wait '
             'for it: it is told within half a second what is known.'),
]


def register(conf: cfg.ConfigOpts) -> Any:
    """Register the options, and return what they are set to."""
    conf.register_opts(OPTS, group=GROUP)
    return conf[GROUP]
