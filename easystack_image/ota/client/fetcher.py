"""Getting bytes from a repository that is not trusted: https, http, file.

Whatever it does, the client goes on in time.  A thread asks and reads; who
waits for it counts the bytes, and gives up if there are too few in the time
limit: it catches what never answers, what drips, in the header, too, and a
disk that hangs.  How much may come altogether is up to whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import queue
import ssl
import threading
import time
from typing import Any
from urllib import parse
from urllib import request

from tuf.api import exceptions as tuf_errors
from tuf.ngclient import FetcherInterface
import urllib3

from easystack_image import exceptions

#: The most bytes that are read at once.
_PIECE = 64 * 1024
#: How many pieces wait to be taken.
_AHEAD = 16
_REDIRECTS = 3
_MOVED = (301, 302, 303, 307, 308)


@dataclasses.dataclass(frozen=True)
class Limits:
    """How slow a repository may be."""

    #: In seconds.
    timeout: float
    #: In bytes per second, on average over each time of ``timeout``.
    minimum_rate: int


class Pace:
    """Judges whether bytes come fast enough; keeps no time by itself."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waited = 0.0
        self._bytes = 0

    def left(self) -> float:
        """Return for how many seconds the next bytes may be waited for."""
        return max(self._limits.timeout - self._waited, 0.0)

    def waited(self, seconds: float, size: int) -> None:
        """Hear how long the last bytes were waited for.

        :param size: how many they are; 0 if none came
        :raises tuf.api.exceptions.SlowRetrievalError: if that was too few
        """
        self._waited += seconds
        self._bytes += size
        if self._waited < self._limits.timeout:
            return
        least = self._limits.minimum_rate * self._limits.timeout
        if self._bytes < least:
            raise tuf_errors.SlowRetrievalError(
                f'the repository is too slow: {self._bytes} bytes in '
                f'{self._limits.timeout:g} s, at least {least:.0f} were '
                'expected (see timeout and minimum_rate)')
        self._waited = 0.0
        self._bytes = 0


class Fetcher(FetcherInterface):
    """Fetches what tuf's client and the downloads ask for.

    :param limits: how slow the repository may be
    :param proxy: URL of a proxy; '' for what the environment says
    :param ca_file: path of certificates to trust; '' for the system's
    :raises easystack_image.exceptions.ConfigurationError: if ``ca_file``
        cannot be used
    """

    def __init__(self, limits: Limits, proxy: str = '',
                 ca_file: str = '') -> None:
        self._limits = limits
        self._proxy = proxy
        try:
            self._tls = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise exceptions.ConfigurationError(
                f'ca_file {ca_file} cannot be used: {error}') from None
        self._pools: dict[str, urllib3.PoolManager] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self.open(url, 0)[1]

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return all of a small file, from memory.

        :param max_length: in bytes; more is an error
        """
        found = b''
        for piece in self.fetch(url):
            found += piece
            if len(found) > max_length:
                raise tuf_errors.DownloadLengthMismatchError(
                    f'{shown(url)} has more than the {max_length} bytes that '
                    'it may have')
        return found

    def open(self, url: str, offset: int) -> tuple[int, Iterator[bytes]]:
        """Begin to read a file, from ``offset`` on if that can be done.

        :returns: where it begins, and the bytes from there on, which have to
            be read to their end, or closed
        :raises tuf.api.exceptions.DownloadError: here or while it is read
        """
        reader = _Reader(self._source(url), url, offset)
        pieces = _paced(reader, Pace(self._limits), url)
        begin = next(pieces)
        return int(begin), pieces

    def _source(self, url: str) -> Callable[[str, int], Iterator[Any]]:
        return _read_file if url.startswith('file:') else self._read_http

    def _read_http(self, url: str, offset: int) -> Iterator[Any]:
        """Yield where an answer begins, then its bytes."""
        headers = {'Accept-Encoding': 'identity',
                   'User-Agent': 'easystack-image-ota'}
        if offset:
            headers['Range'] = f'bytes={offset}-'
        response = self._ask(url, headers)
        try:
            if response.status not in (200, 206):
                # 416: what was there is as long, or longer.
                raise tuf_errors.DownloadHTTPError(
                    f'{shown(url)}: the server answers {response.status}',
                    response.status)
            yield offset if response.status == 206 and _begins(
                response, offset) else 0
            while piece := response.read1(_PIECE, decode_content=False):
                yield piece
            if response.length_remaining:
                raise ConnectionError('the answer broke off')
        finally:
            response.close()

    def _ask(self, url: str, headers: dict[str, str],
             ) -> urllib3.BaseHTTPResponse:
        for _ in range(_REDIRECTS + 1):
            response = self._pool(url).request(
                'GET', url, headers=headers, redirect=False, retries=False,
                preload_content=False, timeout=self._limits.timeout)
            if response.status not in _MOVED:
                return response
            response.close()
            target = parse.urljoin(url, response.headers.get('Location', ''))
            schemes = {'https', parse.urlsplit(url).scheme}
            if parse.urlsplit(target).scheme not in schemes:
                break
            url = target
        raise tuf_errors.DownloadError(
            f'{shown(url)}: the server leads elsewhere, too often or to an '
            'unsafe place')

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = self._proxy or _environment_proxy(url)
        if proxy not in self._pools:
            self._pools[proxy] = self._make_pool(proxy)
        return self._pools[proxy]

    def _make_pool(self, proxy: str) -> urllib3.PoolManager:
        if not proxy:
            return urllib3.PoolManager(ssl_context=self._tls)
        parts = parse.urlsplit(proxy)
        host = parts.netloc.rpartition('@')[2]
        headers = None
        if parts.username is not None:
            headers = urllib3.make_headers(proxy_basic_auth=':'.join(
                parse.unquote(each or '')
                for each in (parts.username, parts.password)))
        return urllib3.ProxyManager(f'{parts.scheme}://{host}',
                                    proxy_headers=headers,
                                    ssl_context=self._tls)


def _environment_proxy(url: str) -> str:
    parts = parse.urlsplit(url)
    if request.proxy_bypass(parts.netloc):
        return ''
    return request.getproxies().get(parts.scheme, '')


def _begins(response: urllib3.BaseHTTPResponse, offset: int) -> bool:
    """Tell whether a partial answer is the part that was asked for."""
    described = response.headers.get('Content-Range', '')
    return described.startswith(f'bytes {offset}-')


def _read_file(url: str, offset: int) -> Iterator[Any]:
    path = request.url2pathname(parse.urlsplit(url).path)
    try:
        with open(path, 'rb') as file:
            file.seek(offset)
            yield offset
            while piece := file.read(_PIECE):
                yield piece
    except (FileNotFoundError, NotADirectoryError):
        # As a web server would have it: tuf asks for the next root so.
        raise tuf_errors.DownloadHTTPError(f'there is no {path}',
                                           404) from None


class _Reader:
    """Reads in a thread; what it read, and how it ended, is in a queue."""

    def __init__(self, source: Callable[[str, int], Iterator[Any]],
                 url: str, offset: int) -> None:
        self.found: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._source = source
        # If it hangs for good, it must not keep the command from ending.
        threading.Thread(target=self._run, args=(url, offset), name='fetch',
                         daemon=True).start()

    def _run(self, url: str, offset: int) -> None:
        end: Exception | None = None
        try:
            with contextlib.closing(
                    self._source(url, offset)) as pieces:  # type: ignore
                for piece in pieces:
                    if not self._put(piece):
                        return
        except Exception as error:
            # It is raised where the bytes are waited for.
            end = error
        self._put(end)

    def _put(self, item: object) -> bool:
        """Return whether somebody still wants it."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self.found.put(item, timeout=0.1)
                return True
        return False

    def stop(self) -> None:
        """Read no further."""
        self._stop.set()


def _paced(reader: _Reader, pace: Pace, url: str) -> Iterator[Any]:
    """Yield what a reader finds, unless that takes too long."""
    try:
        while True:
            began = time.monotonic()
            try:
                item = reader.found.get(timeout=pace.left())
            except queue.Empty:
                pace.waited(max(time.monotonic() - began, pace.left()), 0)
                continue
            if item is None:
                return
            if isinstance(item, tuf_errors.DownloadError):
                raise item
            if isinstance(item, Exception):
                raise tuf_errors.DownloadError(
                    f'{shown(url)}: {_reason(item)}') from item
            pace.waited(time.monotonic() - began,
                        len(item) if isinstance(item, bytes) else 0)
            yield item
    finally:
        reader.stop()


def _reason(error: Exception) -> str:
    """Say what went wrong, without what urllib3 wraps it in."""
    inner = getattr(error, 'reason', None)
    return str(inner if isinstance(inner, Exception) else error) or repr(
        error)


def shown(url: str) -> str:
    """Return a URL as it may be shown: without user and password."""
    parts = parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()
