"""A web server on 127.0.0.1 that serves a folder, and may misbehave."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import http.server
from pathlib import Path
import re
import ssl
import sys
import threading
import time
from typing import Any
from urllib import parse

#: Answers a request in another way than with the file.
Trick = Callable[[Any, bytes], None]


class Server:
    """Serves a folder; a context manager.

    :param folder: what is served; may be set to another at any time
    :param tls: for https
    """

    def __init__(self, folder: Path,
                 tls: ssl.SSLContext | None = None) -> None:
        self.folder = folder
        #: Tricks by a part of the path.
        self.tricks: dict[str, Trick] = {}
        #: The paths that were asked for, and from which byte on.
        self.requests: list[tuple[str, int]] = []
        #: What proxies are asked for: whole URLs, and the header.
        self.proxied: list[tuple[str, str | None]] = []
        self.ended = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            server_ended = outer.ended

            def do_GET(self) -> None:
                # A client that has had enough just goes.
                with contextlib.suppress(ConnectionError):
                    outer._answer(self)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *args: Any) -> None:
                """Say nothing of clients that have gone."""
                if not isinstance(sys.exc_info()[1],
                                  ConnectionError | ssl.SSLError):
                    super().handle_error(*args)

        self._server = Quiet(('127.0.0.1', 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True,
                do_handshake_on_connect=False)
        self._scheme = 'https' if tls else 'http'
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f'{self._scheme}://127.0.0.1:{self.port}'

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: Any) -> None:
        if handler.path.startswith('http:'):
            self.proxied.append((
                handler.path, handler.headers.get('Proxy-Authorization')))
        path = parse.unquote(parse.urlsplit(handler.path).path)
        match = re.fullmatch('bytes=([0-9]+)-',
                             handler.headers.get('Range', ''))
        begin = int(match[1]) if match else 0
        self.requests.append((path, begin))
        file = self.folder / path.lstrip('/')
        data = file.read_bytes() if file.is_file() else None
        for part, trick in self.tricks.items():
            if part in path:
                trick(handler, data or b'')
                return
        if data is None:
            send(handler, b'', 404)
        elif begin and begin >= len(data):
            send(handler, b'', 416)
        else:
            send_part(handler, data, begin)


def send(handler: Any, data: bytes, code: int = 200,
         **headers: str) -> None:
    """Send an answer."""
    handler.send_response(code)
    handler.send_header('Content-Length', str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace('_', '-'), value)
    handler.end_headers()
    handler.wfile.write(data)


def send_part(handler: Any, data: bytes, begin: int) -> None:
    """Send a file, from some byte on."""
    if begin:
        send(handler, data[begin:], 206, Content_Range=(
            f'bytes {begin}-{len(data) - 1}/{len(data)}'))
    else:
        send(handler, data)


def begin_of(handler: Any) -> int:
    """Return the byte from which on a file is asked for."""
    return int(handler.headers.get('Range', 'bytes=0-')[6:-1])


def drip(handler: Any, data: bytes) -> None:
    """Send a file, byte by byte."""
    handler.send_response(200)
    handler.send_header('Content-Length', str(max(len(data), 100000)))
    handler.end_headers()
    while not handler.server_ended.wait(0.05):
        handler.wfile.write(b'{')


def drip_header(handler: Any, data: bytes) -> None:
    """Send a header that does not end, byte by byte."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nX: ')
    while not handler.server_ended.wait(0.05):
        handler.wfile.write(b'x')


def drip_chunk(handler: Any, data: bytes) -> None:
    """Send the size of a chunk that does not end, byte by byte."""
    handler.send_response(200)
    handler.send_header('Transfer-Encoding', 'chunked')
    handler.end_headers()
    while not handler.server_ended.wait(0.05):
        handler.wfile.write(b'0')


def hang(handler: Any, data: bytes) -> None:
    """Say nothing at all."""
    handler.server_ended.wait(60)


def endless(handler: Any, data: bytes) -> None:
    """Send a file, and then something else, for ever."""
    handler.send_response(200)
    handler.send_header('Transfer-Encoding', 'chunked')
    handler.end_headers()
    piece = data or b' '
    until = time.monotonic() + 60
    while not handler.server_ended.is_set() and time.monotonic() < until:
        handler.wfile.write(b'%x\r\n%s\r\n' % (len(piece), piece))
        piece = b' ' * 65536


def break_off(size: int) -> Trick:
    """Return a trick: send but ``size`` bytes of what is asked for."""
    def trick(handler: Any, data: bytes) -> None:
        begin = begin_of(handler)
        rest = data[begin:]
        handler.send_response(206 if begin else 200)
        handler.send_header('Content-Length', str(len(rest)))
        if begin:
            handler.send_header(
                'Content-Range', f'bytes {begin}-{len(data) - 1}/{len(data)}')
        handler.end_headers()
        handler.wfile.write(rest[:size])
        handler.wfile.flush()
        handler.close_connection = True

    return trick


def pause_after(size: int) -> Trick:
    """Return a trick: send ``size`` bytes, and then nothing for long."""
    def trick(handler: Any, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header('Content-Length', str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:size])
        handler.wfile.flush()
        handler.server_ended.wait(60)

    return trick


def move_to(url: str) -> Trick:
    """Return a trick: lead elsewhere."""
    def trick(handler: Any, data: bytes) -> None:
        send(handler, b'', 302, Location=url)

    return trick
