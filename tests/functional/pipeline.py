"""Loads a pipeline as Glance does, and prints what stands in it, as JSON.

``python -m tests.functional.pipeline CONFIG-FILE FLAVOR``
"""

from __future__ import annotations

import json
import sys
from typing import Any

from glance.common import config
import glance.common.wsgi_app  # noqa: F401  (registers Glance's options)
from oslo_config import cfg


def chain(app: Any) -> list[str]:
    """Return the classes of the filters, from the outside in."""
    found = []
    while app is not None:
        found.append(type(app).__name__)
        app = next((inner for name in ('application', '_app', 'app')
                    if callable(inner := getattr(app, name, None))), None)
    return found


def main() -> None:
    """Load it, and print."""
    path, flavor = sys.argv[1:]
    cfg.CONF(['--config-file', path], project='glance', prog='glance-api')
    if flavor != 'default':
        cfg.CONF.set_override('flavor', flavor, 'paste_deploy')
    places = dict(config.load_paste_app('glance-api').applications)
    print(json.dumps({
        'chain': chain(places[None, '']),
        'healthcheck': places[None, '/healthcheck']._backends.names()}))


if __name__ == '__main__':
    main()
