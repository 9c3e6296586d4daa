"""Downloads that go where they were allowed to go, and come to an end.

The standard library's HTTP client does the talking; this module makes the
connection itself, to an address that it has looked up and checked just now,
so no name can come to mean something else in between.  Redirects are new
URLs, and are checked like the first.  Proxies of the environment are not
used: they would connect in our place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import http.client
import io
import socket
import ssl
import time
from typing import Any
import urllib.parse

from easystack_image import exceptions
from easystack_image.content import urls

#: Family, type, protocol, canonical name and address, as getaddrinfo has it.
Place = tuple[int, int, int, str, tuple[Any, ...]]
Resolver = Callable[..., Sequence[Place]]

_BUFFER = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How long a download may take, in seconds, and how large it may be."""

    #: In bytes.
    size: int = 1 << 40
    connect_timeout: float = 10
    #: How long a server may send nothing.
    read_timeout: float = 60
    #: For all of it.
    time_limit: float = 21600
    #: How many redirects are followed.
    redirects: int = 5


class Download:
    """What a URL holds, as a source of bytes; close it.

    :param response: whose body is to be read
    :param connection: that it comes by
    """

    def __init__(self, response: http.client.HTTPResponse,
                 connection: _Connection, limits: Limits) -> None:
        self._response = response
        self._connection = connection
        self._limits = limits
        #: How many bytes there will be; None if the server did not say.
        self.size = _length(response, limits)
        #: How many bytes were read.
        self.received = 0

    def read(self, size: int, /) -> bytes:
        """Return the next bytes: as many as asked for, fewer at the end.

        :raises easystack_image.exceptions.DownloadFailed: if the server
            ends early, or takes too long
        :raises easystack_image.exceptions.ContentTooLarge: if it sends more
            than allowed
        """
        try:
            data = self._response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise exceptions.DownloadFailed(
                f'The download broke off after {self.received} bytes: '
                f'{error or type(error).__name__}') from error
        self.received += len(data)
        if self.received > self._limits.size:
            raise _too_large(self._limits)
        if len(data) < size and self.size is not None and (
                self.received != self.size):
            raise exceptions.DownloadFailed(
                f'The server ended the download after {self.received} of '
                f'{self.size} bytes')
        return data

    def close(self) -> None:
        """Hang up; again does no harm."""
        self._response.close()
        self._connection.hang_up()

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class _Wire(io.RawIOBase):
    """A socket of which every read ends in time, for ``http.client``.

    :param deadline: by ``time.monotonic()``
    """

    def __init__(self, connected: socket.socket, limits: Limits,
                 deadline: float) -> None:
        self.socket = connected
        self._limits = limits
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the side that is read from."""
        del mode
        return io.BufferedReader(self, _BUFFER)

    def sendall(self, data: bytes) -> None:
        """Send a request."""
        self.socket.sendall(data)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Receive what there is, or wait for it as long as is allowed."""
        left = self._deadline - time.monotonic()
        waiting = min(left, self._limits.read_timeout)
        try:
            if waiting <= 0:
                raise TimeoutError
            self.socket.settimeout(waiting)
            return self.socket.recv_into(buffer)
        except TimeoutError:
            if left <= self._limits.read_timeout:
                raise TimeoutError('it took longer than '
                                   f'{self._limits.time_limit} seconds'
                                   ) from None
            raise TimeoutError('the server sent nothing for '
                               f'{self._limits.read_timeout} seconds'
                               ) from None

    def close(self) -> None:
        """Do nothing: http.client hangs up before it reads the last body."""


class _Connection(http.client.HTTPConnection):
    """A connection to one of the permitted addresses of a URL's host."""

    def __init__(self, url: urls.Url, rules: urls.UrlRules, limits: Limits,
                 resolve: Resolver | None, deadline: float) -> None:
        super().__init__(url.host, url.port)
        self._url = url
        self._rules = rules
        self._limits = limits
        self._resolve = resolve
        self._deadline = deadline
        self._wire: _Wire | None = None

    def connect(self) -> None:
        """Connect, as ``http.client`` asks."""
        connected = self._reach()
        if self._url.scheme == 'https':
            context = ssl.create_default_context()
            try:
                connected = context.wrap_socket(
                    connected, server_hostname=self._url.host)
            except BaseException:
                connected.close()
                raise
        self._wire = _Wire(connected, self._limits, self._deadline)
        self.sock = self._wire

    def _reach(self) -> socket.socket:
        last: OSError | None = None
        for family, kind, protocol, _, place in permitted(
                self._url, self._rules, self._resolve):
            candidate = socket.socket(family, kind, protocol)
            try:
                candidate.settimeout(max(0.001, min(
                    self._limits.connect_timeout,
                    self._deadline - time.monotonic())))
                candidate.connect(place)
            except OSError as error:
                candidate.close()
                last = error
            else:
                return candidate
        raise exceptions.DownloadFailed(
            f'{self._url.authority} cannot be reached: {last}') from last

    def hang_up(self) -> None:
        """Close the connection for good; again does no harm."""
        self.close()
        if self._wire is not None:
            self._wire.socket.close()


def permitted(url: urls.Url, rules: urls.UrlRules,
              resolve: Resolver | None = None) -> list[Place]:
    """Return the addresses of a URL's host that may be connected to.

    :param resolve: how names are looked up, if not by the system
    :raises easystack_image.exceptions.UrlRefused: if there is none; it does
        not tell what the name stands for
    :raises easystack_image.exceptions.DownloadFailed: if it is unknown
    """
    try:
        found = (resolve or socket.getaddrinfo)(
            url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise exceptions.DownloadFailed(
            f'The name {url.host} is not known') from error
    allowed = [each for each in found
               if rules.networks.permit(str(each[4][0]))]
    if not allowed:
        raise exceptions.UrlRefused(
            f'Images are not downloaded from the address of {url.host}')
    return allowed


def open_url(text: str, rules: urls.UrlRules, limits: Limits,
             resolve: Resolver | None = None) -> Download:
    """Ask for what a URL holds.

    :param resolve: how names are looked up, if not by the system
    :raises easystack_image.exceptions.UrlRefused: if it, or where it
        redirects to, must not be fetched
    :raises easystack_image.exceptions.DownloadFailed: if it cannot be
    :raises easystack_image.exceptions.ContentTooLarge: if it is too large
    """
    deadline = time.monotonic() + limits.time_limit
    for _ in range(limits.redirects + 1):
        url = rules.check(text)
        connection = _Connection(url, rules, limits, resolve, deadline)
        try:
            response = _ask(url, connection)
            if response.status not in _REDIRECTS:
                _check_answer(response)
                return Download(response, connection, limits)
            text = urllib.parse.urljoin(
                str(url), response.headers.get('Location', ''))
        except BaseException:
            connection.hang_up()
            raise
        connection.hang_up()
    raise exceptions.DownloadFailed(
        f'The server redirects more than {limits.redirects} times')


def _ask(url: urls.Url,
         connection: _Connection) -> http.client.HTTPResponse:
    try:
        connection.request('GET', url.target, headers={
            'Host': url.authority, 'Accept-Encoding': 'identity',
            'Accept': '*/*', 'User-Agent': 'easystack-image'})
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise exceptions.DownloadFailed(
            f'{url.authority} does not answer: '
            f'{error or type(error).__name__}') from error


def _check_answer(response: http.client.HTTPResponse) -> None:
    if response.status != 200:
        raise exceptions.DownloadFailed(
            f'The server answers {response.status} {response.reason}')
    encoding = response.headers.get('Content-Encoding', 'identity').lower()
    if encoding != 'identity':
        raise exceptions.DownloadFailed(
            'The server sends the image compressed, although it was asked '
            'not to')


def _length(response: http.client.HTTPResponse,
            limits: Limits) -> int | None:
    size = response.length
    if size is not None and size > limits.size:
        raise _too_large(limits)
    return size


def _too_large(limits: Limits) -> exceptions.ContentTooLarge:
    return exceptions.ContentTooLarge(
        f'More than {limits.size} bytes are not downloaded here')
