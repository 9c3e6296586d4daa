"""Asking one instance, over its private socket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import http.client
from pathlib import Path
import time
from typing import Any

from easystack_image.ota.serving import deadline
from easystack_image.ota.serving import layout


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket, until a moment of CLOCK_MONOTONIC."""

    def __init__(self, path: Path, moment: float) -> None:
        super().__init__('localhost')
        self._path = path
        self._moment = moment

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock: Any = deadline.Connection(self._path, self._moment)


class Client:
    """Makes requests of an instance, all of them within a time.

    :param place: the directory of the instance
    :param timeout: seconds for all requests together
    :param headers: of each request
    """

    def __init__(self, place: layout.Place, timeout: float,
                 headers: Mapping[str, str]) -> None:
        self._path = place.private
        self._deadline = time.monotonic() + timeout
        self._headers = dict(headers)

    def left(self) -> float:
        """Return how many seconds are left.

        :raises TimeoutError: if there are none
        """
        return deadline.left(self._deadline)

    @contextlib.contextmanager
    def ask(self, method: str, path: str,
            body: bytes | Iterable[bytes] | None = None,
            headers: Mapping[str, str] | None = None,
            ) -> Iterator[http.client.HTTPResponse]:
        """Make a request; yield the answer, its body unread.

        :param body: what is no bytes is sent in chunks
        :raises OSError: or http.client.HTTPException, if there is no answer;
            so may reading it, which ends in time too
        """
        connection = _Connection(self._path, self._deadline)
        with contextlib.closing(connection):
            yield _send(connection, method, path, body,
                        {**self._headers, **(headers or {})})


def _send(connection: http.client.HTTPConnection, method: str, path: str,
          body: bytes | Iterable[bytes] | None,
          headers: Mapping[str, str]) -> http.client.HTTPResponse:
    """Send a request; return the answer."""
    try:
        connection.request(method, path, body, headers)
    except (BrokenPipeError, ConnectionResetError) as error:
        # Whoever refuses need not hear all before: what he says counts, if
        # he says anything.
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException):
            raise error from None
    return connection.getresponse()
