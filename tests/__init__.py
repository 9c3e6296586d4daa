"""The tests of easystack-image; README.rst tells how they are laid out."""

from __future__ import annotations

import sys
import threading
from typing import Any


def _settrace(function: Any) -> None:
    """Install a trace function, again if that is refused."""
    for _ in range(1000):
        try:
            sys.settrace(function)
        except RuntimeError:
            # Another thread is at the same. CPython 3.11 does not wait for
            # it, but fails; the thread would end before it began, and
            # whoever waits for it would wait for long.
            continue
        return
    sys.settrace(function)


class _Sys:
    """The module ``sys``, but for the function above."""

    settrace = staticmethod(_settrace)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


if sys.version_info < (3, 12) and sys.gettrace() is not None:
    # Coverage is being measured.
    threading._sys = _Sys()  # type: ignore[attr-defined]
