"""Finding the engine that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import stevedore

from easystack_image import exceptions
from easystack_image.blockstore import engine

NAMESPACE = 'easystack_image.block_engines'


def load(options: Mapping[str, Any]) -> engine.Engine:
    """Make the engine that the options of a store name.

    It is not started.

    :param options: by name, without prefix; ``engine`` is an entry point
        of ``easystack_image.block_engines``
    :raises easystack_image.exceptions.ConfigurationError: if there is no
        such engine, it cannot be loaded, or its options cannot work
    """
    name = options['engine']
    try:
        manager: stevedore.DriverManager[Any] = stevedore.DriverManager(
            NAMESPACE, name, warn_on_missing_entrypoint=False)
    except Exception as error:
        # Whatever it is, the operator named an engine that is not to be had.
        known = ', '.join(sorted(
            stevedore.ExtensionManager(NAMESPACE).entry_points_names()))
        raise exceptions.ConfigurationError(
            f'there is no block store engine {name!r}, or it cannot be '
            f'loaded ({error}); installed are: {known}') from error
    made: engine.Engine = cast(Any, manager.driver).from_options(options)
    return made
