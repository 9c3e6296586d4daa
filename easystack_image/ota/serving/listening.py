"""The listening socket: bound, taken over from instances, and closed."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import errno
import logging
from pathlib import Path
import socket
import struct
import time

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import sharing

LOG = logging.getLogger(__name__)

#: Seconds for which the address may be in use by an instance that does not
#: hand its socket over yet: Python has to start in it.
_PATIENCE, _PACE = 20.0, 0.05
#: Seconds for which connections that wait are let in when it closes.
_QUEUE = 5.0
#: Where ``tcpi_unacked`` is in ``struct tcp_info`` (linux/tcp.h): of a socket
#: that listens, the number of connections that nobody has accepted yet.
_UNACKED = 24


def bind(host: str, port: int) -> socket.socket:
    """Return a new listening socket.

    :raises ConfigurationError: if the address cannot be had
    """
    try:
        return _bind(host, port)
    except OSError as error:
        raise exceptions.ConfigurationError(
            f'cannot listen at {host}:{port}: {error}') from error


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(_family(host))
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(command.backlog())
    except OSError:
        listener.close()
        raise
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ':' in host else socket.AF_INET


def obtain(host: str, port: int, instances: Path) -> socket.socket:
    """Return the socket of instances that live, or a new one if none has it.

    While one of them has it, the kernel gives the address to nobody else.

    :param instances: the directory with those of the instances
    :raises ConfigurationError: if the address cannot be had, or they listen
        elsewhere
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        for found in _shared(instances):
            _check(found, host, port)
            # Whoever closes the address lets few in, and may be killed then.
            found.listen(command.backlog())
            LOG.info('Took the listening socket over')
            return found
        try:
            return _bind(host, port)
        except OSError as error:
            living = error.errno == errno.EADDRINUSE and any(
                instances.iterdir())
            if not living or time.monotonic() > deadline:
                raise exceptions.ConfigurationError(
                    f'cannot listen at {host}:{port}: {error}') from error
        time.sleep(_PACE)


def _shared(instances: Path) -> Iterator[socket.socket]:
    """Yield a listening socket of TCP from each worker that hands it over."""
    for path in sorted(instances.glob(f'*/{layout.SHARED}.[0-9]*')):
        found = sharing.take(path)
        if found is None:
            continue
        if _listens(found):
            yield found
        else:
            # The address was closed; its last requests are being answered.
            found.close()


def _listens(found: socket.socket) -> bool:
    return (found.family in (socket.AF_INET, socket.AF_INET6)
            and found.type == socket.SOCK_STREAM
            and found.proto in (0, socket.IPPROTO_TCP)
            and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1)


def _check(found: socket.socket, host: str, port: int) -> None:
    """Raise if a socket is bound to another address."""
    there = found.getsockname()[:2]
    wanted = socket.getaddrinfo(host, port, _family(host),
                                socket.SOCK_STREAM)
    if there in [address[:2] for *_, address in wanted]:
        return
    found.close()
    raise exceptions.ConfigurationError(
        f'instances that live listen at {there[0]}:{there[1]}, not at '
        f'{host}:{port}: end them first (start "hold" with the address that '
        'they have, and end it by SIGTERM), or set listen back')


class Closing:
    """Closes the address, so that whoever waits already is still let in.

    A connection that was made, and is cut before anybody has accepted it, is
    one that no load balancer tries elsewhere; one that is refused, is.  So
    from now on the kernel queues one connection at most, and answers no
    others; when none is queued, all are refused.

    :param listener: the shared socket
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._deadline = time.monotonic() + _QUEUE
        listener.listen(0)

    @property
    def ready(self) -> bool:
        """Whether nobody waits, or has done so for too long."""
        return time.monotonic() > self._deadline or not self._queue()

    def _queue(self) -> int:
        info = self._listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO,
                                         _UNACKED + 4)
        return int(struct.unpack_from('=I', info, _UNACKED)[0])

    def finish(self) -> None:
        """Have the kernel refuse connections, whoever has the socket."""
        # It may be closed already.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
