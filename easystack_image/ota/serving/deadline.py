"""Talking with an instance until a moment, however slowly it talks.

The time of a socket is that of one call: who sends a byte now and then could
keep the updater for ever.
"""

from __future__ import annotations

from pathlib import Path
import socket
import time
from typing import Any


class Connection(socket.socket):
    """A connection to a Unix socket.

    :param path: of the socket
    :param moment: when all must be over, in seconds of :func:`time.monotonic`
    :raises OSError: if there is no connection; TimeoutError, from this and
        all that is done with it, when it is late
    """

    def __init__(self, path: Path, moment: float) -> None:
        super().__init__(socket.AF_UNIX)
        self._moment = moment
        try:
            self._hurry()
            self.connect(str(path))
        except OSError:
            self.close()
            raise

    def _hurry(self) -> None:
        """Let the next call take what is left."""
        left = self._moment - time.monotonic()
        if left <= 0:
            raise TimeoutError('it takes too long')
        self.settimeout(left)

    def recv(self, *arguments: Any) -> bytes:
        """See socket."""
        self._hurry()
        return super().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        """See socket; what makefile() returned reads by it."""
        self._hurry()
        return super().recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        """See socket."""
        self._hurry()
        super().sendall(*arguments)
