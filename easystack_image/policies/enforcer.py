"""Whether a request may do what this package adds to Glance's API.

Glance's own enforcers know Glance's rules only, and each of its filters
makes one of its own.  So do ours: this one reads the same policy file and
the same ``policy.d``, so that deployers override our rules where they
override Glance's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_policy import policy

from easystack_image import policies
from easystack_image.conf import stores
from easystack_image.policies import glance_rules


class Enforcer(policy.Enforcer):
    """Checks our rules.

    :param conf: Glance's configuration, read already
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf, use_conf=True, overwrite=False)
        # Our rules lean on Glance's, which are as deployers have them in
        # their file, or else as Glance has them.
        self.register_defaults(glance_rules.needed())
        self.register_defaults(policies.list_rules())

    def permits(self, context: Any, rule: str,
                image: Mapping[str, Any]) -> bool:
        """Tell whether a request may do something with an image.

        :param context: of the request, as Glance's ``context`` filter makes
            it
        :param rule: the name of one of our rules
        :param image: as ``GET /v2/images/{image_id}`` shows it; rules may
            compare with each of its properties, and with ``project_id``
        """
        target = {**image, 'project_id': image.get('owner')}
        try:
            return bool(self.authorize(rule, target, context))
        except policy.InvalidScope:
            # A token that is not of a project: our rules are not for it.
            return False


def for_tools() -> Enforcer:
    """Return an enforcer for oslo.policy's own commands.

    They are told no configuration, so it is read from where Glance looks.
    """
    cfg.CONF([], project='glance', prog='glance-api',
             default_config_files=stores.where_glance_looks())
    return Enforcer(cfg.CONF)
