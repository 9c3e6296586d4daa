"""Whether the service takes connections at all: it is asked ``GET /``.

That goes over the address that users have, so it sees what no counter does:
workers that are stuck, and connections that nobody takes from the queue.
Nothing here waits: whoever watches looks now and then.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import time

_REQUEST = (b'GET / HTTP/1.0\r\nHost: %b\r\nConnection: close\r\n'
            b'User-Agent: easystack-image-ota\r\n\r\n')
#: Seconds from an answer to the next question.
_EVERY = 2.0


class Finding(enum.Enum):
    """What a look saw."""

    #: Nothing new.
    NOTHING = enum.auto()
    ANSWERED = enum.auto()
    #: There was no answer in time, or the connection was cut.
    FAILED = enum.auto()
    #: The address cannot be reached from here, which is no fault of anybody.
    UNREACHABLE = enum.auto()


class Probe:
    """Asks again and again, one question at a time.

    :param address: where
    :param timeout: seconds that an answer may take
    """

    def __init__(self, address: tuple[str, int], timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._began = 0.0
        self._sent = False
        #: Whether a packet filter lets anything through.
        self._connected = False
        self._next = 0.0
        #: What the last answer said, such as 300.
        self.status = 0

    @property
    def pending(self) -> bool:
        """Whether there is no answer yet."""
        return self._socket is not None

    def look(self) -> Finding:
        """See how the present question stands; ask one if it is time to."""
        try:
            if self._socket is None:
                if time.monotonic() < self._next:
                    return Finding.NOTHING
                self._ask()
            return self._go_on()
        except BlockingIOError:
            pass
        except (ConnectionResetError, BrokenPipeError):
            return self._end(Finding.FAILED)
        except OSError:
            return self._end(Finding.UNREACHABLE)
        if time.monotonic() - self._began < self._timeout:
            return Finding.NOTHING
        return self._end(Finding.FAILED if self._connected
                         else Finding.UNREACHABLE)

    def close(self) -> None:
        """Ask no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self) -> None:
        host, _ = self._address
        self._began = time.monotonic()
        self._sent = False
        self._socket = socket.socket(
            socket.AF_INET6 if ':' in host else socket.AF_INET)
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._socket.connect(self._address)

    def _go_on(self) -> Finding:
        """Send what is to be sent, and read what has come.

        :raises BlockingIOError: if that takes longer
        :raises OSError: if the connection failed
        """
        assert self._socket is not None  # noqa: S101 (see above)
        if not self._sent:
            self._socket.send(_REQUEST % self._address[0].encode())
            self._sent = self._connected = True
        answer = self._socket.recv(64).split(b' ', 2)
        if len(answer) < 2 or not (answer[0].startswith(b'HTTP/')
                                   and answer[1][:3].isdigit()):
            return self._end(Finding.FAILED)
        self.status = int(answer[1][:3])
        return self._end(Finding.ANSWERED)

    def _end(self, finding: Finding) -> Finding:
        self.close()
        self._next = time.monotonic() + _EVERY
        return finding
