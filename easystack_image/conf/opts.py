"""The options of this package, for ``oslo-config-generator``."""

import copy

from oslo_config import cfg

from easystack_image.conf import api
from easystack_image.conf import content
from easystack_image.conf import ota
from easystack_image.conf import properties
from easystack_image.conf import store

#: The group under which the options of a store are shown in samples; in a
#: deployment it is the name of the store.
STORE_GROUP = 'easystack_block_store'


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (group, options) pairs, as ``oslo.config.opts`` wants them."""
    return [(STORE_GROUP, copy.deepcopy(store.OPTS)),
            (api.GROUP, copy.deepcopy(api.OPTS)),
            (properties.GROUP, copy.deepcopy(properties.OPTS)),
            (content.GROUP, copy.deepcopy(content.OPTS)),
            (ota.GROUP, copy.deepcopy(ota.OPTS))]
