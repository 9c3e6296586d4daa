"""Ceph's own Python modules, loaded when they are first needed.

They are no packages of PyPI, and not installed where no Ceph is used.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from easystack_image import exceptions


@functools.cache
def rados() -> Any:
    """Return the module ``rados``."""
    return _load('rados')


@functools.cache
def rbd() -> Any:
    """Return the module ``rbd``."""
    # It needs the other one.
    rados()
    return _load('rbd')


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise exceptions.ConfigurationError(
            f'the engine "ceph" needs the Python module {name} ({error}): '
            f"install Debian's package python3-{name}, and let the Python "
            'that runs Glance find it; a slot of an upgrade over the air '
            'finds only what its release has') from error
