"""What a worker does with the requests by which it warms up: ``warmth``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import gc
import io
import json
import os
import sys
import threading
from typing import Any

from easystack_image.ota.serving import layout
from easystack_image.ota.serving import niceness
from easystack_image.ota.serving import warmth

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: The first bytes of data are zeros, so that no format is seen in them.
_QUIET = 1 << 16
#: The most of an answer that is looked at, in bytes.
_LIMIT = 1 << 20


def answer(place: layout.Place, application: Application, worker: int,
           done: bytes | None, threads: int = 1) -> bytes | None:
    """Make the requests, if there are any that were not made yet.

    Whatever else the machine does goes before.

    :param done: what this returned the last time
    :param threads: how many requests the worker will serve at once
    :returns: what has been asked for by now
    """
    try:
        asked = place.warm.read_bytes()
    except FileNotFoundError:
        return done
    if asked == done:
        return done
    requests, rounds = warmth.read(asked)
    with niceness.yielding():
        found = _Round(application).make(requests)
        for _ in range(rounds - 1):
            _Round(application).make(requests)
        _make_at_once(application, [
            each for each in requests if each.alone], threads)
        settle()
    warmth.write_results(place, worker, warmth.Results(os.getpid(), [
        (each.name, status)
        for each, status in zip(requests, found, strict=True)]))
    return asked


def settle() -> None:
    """Have the garbage collector leave alone what is there by now.

    A full collection goes through all objects of Glance, which takes a tenth
    of a second in which no thread of the process goes on, and would find
    next to nothing of theirs: they stay as long as the process does.
    """
    gc.collect()
    gc.freeze()


def _make_at_once(application: Application,
                  requests: Sequence[warmth.Request], threads: int) -> None:
    """Make the requests in several threads, whatever comes of it.

    Each opens a connection to the database, which stays in the pool: to do
    so takes several times as long as to answer a request.
    """
    started = [threading.Thread(
        target=_Round(application).make, args=(requests,))
        for _ in range(threads if threads > 1 else 0)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


class _Round:
    """Makes requests, one after the other."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._image = ''

    def make(self, requests: Sequence[warmth.Request]) -> list[str | None]:
        """Return a status line for each, or why there is none."""
        return [self._make(request) for request in requests]

    def _make(self, request: warmth.Request) -> str | None:
        if warmth.IMAGE in request.path and not self._image:
            return None
        heard: list[str] = []

        def start_response(status: str, headers: Any, error: Any = None,
                           ) -> Callable[[bytes], None]:
            heard.append(status)
            return lambda data: None

        path = request.path.replace(warmth.IMAGE, self._image)
        try:
            data = _read(self._application(_environ(request, path),
                                           start_response))
        except Exception as error:  # The worker must not die of it.
            return f'{type(error).__name__}: {error}'
        if not heard:
            return 'no answer'
        if request.method == 'POST':
            self._image = _id(data) if heard[-1].startswith('201') else ''
        return heard[-1]


def _read(answered: Iterable[bytes]) -> bytes:
    """Read all of an answer; return its beginning."""
    data = b''
    try:
        for piece in answered:
            if len(data) < _LIMIT:
                data += piece
    finally:
        getattr(answered, 'close', lambda: None)()
    return data


def _id(data: bytes) -> str:
    """Return the id of an image that was made; '' if it has none."""
    try:
        return str(json.loads(data)['id'])
    except (ValueError, LookupError, TypeError):
        return ''


def _environ(request: warmth.Request, path: str) -> dict[str, Any]:
    """Return a request as PEP 3333 has it."""
    data = request.body.encode() or _data(request.size)
    path, _, query = path.partition('?')
    environ = {
        'REQUEST_METHOD': request.method, 'SCRIPT_NAME': '',
        'PATH_INFO': path, 'QUERY_STRING': query,
        'SERVER_NAME': 'localhost', 'SERVER_PORT': '80',
        'SERVER_PROTOCOL': 'HTTP/1.1', 'HTTP_HOST': 'localhost',
        'REMOTE_ADDR': '127.0.0.1', 'wsgi.version': (1, 0),
        'wsgi.url_scheme': 'http', 'wsgi.input': io.BytesIO(data),
        'wsgi.errors': sys.stderr, 'wsgi.multithread': True,
        'wsgi.multiprocess': True, 'wsgi.run_once': False,
        layout.WARMING: True}
    if data:
        environ['CONTENT_LENGTH'] = str(len(data))
    for name, value in request.headers.items():
        key = name.upper().replace('-', '_')
        # The one that PEP 3333 calls otherwise.
        environ[key if key == 'CONTENT_TYPE' else f'HTTP_{key}'] = value
    return environ


def _data(size: int) -> bytes:
    quiet = min(size, _QUIET)
    return bytes(quiet) + os.urandom(size - quiet)
