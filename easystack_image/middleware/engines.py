"""The engines of the stores that Glance runs in this process.

There is one engine per store and process, that of glance_store's store
object: a second one would not know which disks hang, and repair beside it.
"""

from __future__ import annotations

from typing import cast

import glance_store
from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module


def running(name: str) -> engine_module.Engine | None:
    """Return the engine of a store.

    :param name: of a store that uses our driver, as in ``enabled_backends``
    :returns: None if this process has not made the store: it is not Glance,
        or not yet
    :raises easystack_image.exceptions.ConfigurationError: if the store was
        made, and could not be configured
    """
    if not getattr(cfg.CONF, 'enabled_backends', None):
        # glance_store counts on it.
        return None
    try:
        store = glance_store.get_store_from_store_identifier(name)
    except (glance_store.UnknownScheme, cfg.Error, KeyError):
        return None
    try:
        return cast(engine_module.Engine, store.engine)
    except glance_store.RemoteServiceUnavailable:
        raise exceptions.ConfigurationError(
            f'store {name} could not be configured when this process '
            'started: see its log, mend what it says and restart Glance'
            ) from None
