"""Which stores of this package Glance's configuration has, and their options.

For whoever works on a store from outside of glance_store: the commands and
the health check.
"""

from __future__ import annotations

import os
from typing import Any

from glance_store import driver as store_driver
from oslo_config import cfg

from easystack_image.conf import store

#: The driver, as ``enabled_backends`` names it.
DRIVER = 'easystack_block'


def names(conf: cfg.ConfigOpts) -> list[str]:
    """Return the names of the stores that use our driver, as configured.

    :param conf: a configuration that was read already, by Glance or by the
        caller
    """
    try:
        backends = conf.enabled_backends
    except cfg.NoSuchOptError:
        # Glance registers it; whoever is not Glance has to.
        conf.register_opt(cfg.DictOpt('enabled_backends', default={}))
        backends = conf.enabled_backends
    return [name for name, kind in (backends or {}).items()
            if kind == DRIVER]


def options(conf: cfg.ConfigOpts, name: str) -> dict[str, Any]:
    """Return the options of a store, without prefix, and its name.

    What the store's group does not say is taken from ``backend_defaults``,
    as glance_store does.

    :param name: of the store; becomes ``store_name``
    """
    # glance_store would register them with the global configuration only.
    conf.register_opts(store.OPTS, group=name)
    conf.register_opts(store.OPTS, group=store_driver.SHARED_CONF_GROUP)
    group = store_driver.BackendGroupConfiguration(store.OPTS, name,
                                                   conf=conf)
    return store.options_of(group) | {'store_name': name}


def where_glance_looks() -> list[str]:
    """Return the files that Glance's WSGI application would read.

    See ``glance/common/wsgi_app.py``.
    """
    directory = os.environ.get('OS_GLANCE_CONFIG_DIR', '').strip()
    if not directory:
        return list(cfg.find_config_files('glance', 'glance-api'))
    optional = os.path.join(directory, 'glance-image-import.conf')
    return ([optional] if os.path.exists(optional) else []) + [
        os.path.join(directory, 'glance-api.conf')]
