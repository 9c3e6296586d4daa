"""Talking with an instance until a moment, however slowly it talks.

The time of a socket is that of one call: who sends a byte now and then could
keep the updater for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from pathlib import Path
import socket
import time
from typing import Any

_LATE = 'it takes too long'


def left(moment: float) -> float:
    """Return how many seconds are left.

    :param moment: when all must be over, in seconds of :func:`time.monotonic`
    :raises TimeoutError: if there are none
    """
    seconds = moment - time.monotonic()
    if seconds <= 0:
        raise TimeoutError(_LATE)
    return seconds


class Connection(socket.socket):
    """A connection to a Unix socket.

    :param path: of the socket
    :param moment: see :func:`left`
    :raises OSError: if there is no connection; TimeoutError, from this and
        all that is done with it, when it is late
    """

    def __init__(self, path: Path, moment: float) -> None:
        super().__init__(socket.AF_UNIX)
        self._moment = moment
        try:
            with self._hurried():
                self.connect(str(path))
        except OSError:
            self.close()
            raise

    @contextlib.contextmanager
    def _hurried(self) -> Iterator[None]:
        """Let one call take what is left."""
        self.settimeout(left(self._moment))
        try:
            yield
        except TimeoutError:
            # Sockets have other words for it.
            raise TimeoutError(_LATE) from None

    def recv(self, *arguments: Any) -> bytes:
        """See socket."""
        with self._hurried():
            return super().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        """See socket; what makefile() returned reads by it."""
        with self._hurried():
            return super().recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        """See socket."""
        with self._hurried():
            super().sendall(*arguments)
