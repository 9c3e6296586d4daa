"""Imported once by the server that forks the measuring processes.

Loads every store driver, as glance_store does when it registers options.
"""

import warnings

from stevedore import extension

from tests.bench import driver_level  # noqa: F401


def _ignore(*_: object) -> None:
    """Do without a driver whose libraries this machine lacks."""


with warnings.catch_warnings():
    # What those libraries think of each other is not what we ask.
    warnings.simplefilter('ignore')
    extension.ExtensionManager('glance_store.drivers',
                               on_load_failure_callback=_ignore)
