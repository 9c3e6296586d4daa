"""Requests that a worker makes of itself before it serves any other.

The first request of a fresh process reads policy files, opens a connection
to the database and imports what nobody imported before.  Users should not
wait for that.  Whoever controls the instance writes the requests into a file;
each worker that waits at the gate makes them of its own application, and
writes down what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import io
import json
import os
from pathlib import Path
import sys
import threading
from typing import Any

from easystack_image.ota.serving import layout

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A ``GET``, with a token perhaps: it is kept in a file with mode 0600.

    :param path: with its query string
    """

    path: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def ask(place: layout.Place, requests: Sequence[Request]) -> None:
    """Have all workers that wait at the gate make requests.

    :raises OSError: if the file cannot be written
    """
    text = json.dumps([dataclasses.asdict(each) for each in requests])
    temporary = place.warm.with_suffix('.new')
    temporary.unlink(missing_ok=True)
    # Root must not be led elsewhere by the user of the service, who has to
    # read it.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                         0o600)
    with os.fdopen(descriptor, 'w') as file:
        if os.geteuid() == 0:
            owner = place.path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(text)
    temporary.replace(place.warm)


def forget(place: layout.Place) -> None:
    """Remove the requests, and the tokens in them."""
    place.warm.unlink(missing_ok=True)


def results(place: layout.Place) -> dict[int, list[str]]:
    """Return what came of the requests: status lines, by worker.

    A worker that has not made them yet is not in it.
    """
    found = {}
    for path in place.path.glob(f'{layout.WARM}.[0-9]*'):
        found[int(path.suffix[1:])] = json.loads(path.read_text())
    return found


def answer(place: layout.Place, application: Application, worker: int,
           done: bytes | None, threads: int = 1) -> bytes | None:
    """Make the requests, if there are any that were not made yet.

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
    requests = [Request(**each) for each in json.loads(asked)]
    found = [_make(application, request) for request in requests]
    _make_at_once(application, requests, threads)
    temporary = Path(f'{place.warm}.new.{worker}')
    temporary.write_text(json.dumps(found))
    temporary.rename(f'{place.warm}.{worker}')
    return asked


def _make_at_once(application: Application, requests: Sequence[Request],
                  threads: int) -> None:
    """Make the requests in several threads, whatever comes of it.

    Each opens a connection to the database, which stays in the pool: to do
    so takes several times as long as to answer a request.
    """
    started = [threading.Thread(target=lambda: [
        _make(application, request) for request in requests])
        for _ in range(threads if threads > 1 else 0)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def _make(application: Application, request: Request) -> str:
    """Make one request; return its status line, or why there is none."""
    heard: list[str] = []

    def start_response(status: str, headers: Any, error: Any = None,
                       ) -> Callable[[bytes], None]:
        heard.append(status)
        return lambda data: None

    try:
        answered = application(_environ(request), start_response)
        try:
            for _ in answered:
                pass
        finally:
            getattr(answered, 'close', lambda: None)()
    except Exception as error:  # The worker must not die of it.
        return f'{type(error).__name__}: {error}'
    return heard[-1] if heard else 'no answer'


def _environ(request: Request) -> dict[str, Any]:
    """Return a request as PEP 3333 has it."""
    path, _, query = request.path.partition('?')
    environ = {
        'REQUEST_METHOD': 'GET', 'SCRIPT_NAME': '', 'PATH_INFO': path,
        'QUERY_STRING': query, 'SERVER_NAME': 'localhost',
        'SERVER_PORT': '80', 'SERVER_PROTOCOL': 'HTTP/1.1',
        'HTTP_HOST': 'localhost', 'REMOTE_ADDR': '127.0.0.1',
        'wsgi.version': (1, 0), 'wsgi.url_scheme': 'http',
        'wsgi.input': io.BytesIO(), 'wsgi.errors': sys.stderr,
        'wsgi.multithread': True, 'wsgi.multiprocess': True,
        'wsgi.run_once': False, layout.WARMING: True}
    for name, value in request.headers.items():
        environ['HTTP_' + name.upper().replace('-', '_')] = value
    return environ
