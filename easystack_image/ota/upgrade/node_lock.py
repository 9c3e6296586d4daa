"""One node after another."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from easystack_image.ota import settings as settings_module


class NodeLock:
    """Held by the node that is upgraded; nothing without coordination_url.

    :param slot: whose Python has tooz
    :param release: what the nodes before this one have to serve already; ''
        if their order does not matter
    """

    def __init__(self, settings: settings_module.Settings, slot: Path | None,
                 release: str = '') -> None:
        self._settings = settings
        self._slot = slot
        self._release = release

    def __enter__(self) -> NodeLock:
        """Wait for our turn.

        :raises easystack_image.exceptions.NotNow: if it does not come
            in time
        """
        raise NotImplementedError

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 trace: TracebackType | None) -> None:
        raise NotImplementedError

    def check(self) -> None:
        """See that it is still ours.

        :raises easystack_image.exceptions.NotNow: if it was lost
        """
        raise NotImplementedError
