"""Clients that use the image service all the time, and check every answer.

``python -m tests.ota.load PORT FILE PATIENCE`` runs until it is told to end
(SIGTERM), in a process of its own so that the clients wait for nobody but the
service.  ``FILE`` gets a line of JSON for each request: see :class:`Answer`.
``PATIENCE`` is how many times as long as usual clients wait between two
requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import http.client
import json
from pathlib import Path
import random
import signal
import sys
import threading
import time
from typing import Any, TextIO

from tests.functional import noauth

#: Seconds without a byte after which a request has failed.
TIMEOUT = 60
#: What is uploaded, in bytes: each time, and to be read slowly.
SMALL, LARGE = 128 << 10, 16 << 20
_PIECE = 64 << 10
#: What a slow reader takes, in bytes per second.
_RATE = 2 << 20
#: Seconds between two requests of one client.
_PAUSES = {'show': 0.03, 'list': 0.1, 'upload': 0.2}
#: Seconds between the pieces of long uploads, and how many one has whose
#: length is known.
_STEP, _STEPS = 0.25, 60
#: Kinds of requests that end soon, so that it matters how soon.
SHORT = ('show', 'list', 'create', 'put', 'put-chunked', 'get', 'delete')


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of one request.

    :param kind: one of :data:`SHORT`, or ``slow-get``, ``long-put``,
        ``endless-put``
    :param begin: when it was sent, seconds of the monotonic clock, which all
        processes of a machine share
    :param seconds: until the last byte was there
    :param outcome: ``ok``, ``failed``, ``refused`` (no connection) or
        ``truncated``
    :param reason: why it is not ok
    :param process: the id of the process that answered, '' if nobody did
    """

    kind: str
    begin: float
    seconds: float
    outcome: str = 'ok'
    reason: str = ''
    process: str = ''


class WrongAnswer(Exception):
    """An answer came, and is not as it should be."""


class Truncated(WrongAnswer):
    """An answer has fewer bytes than it should have."""


class Client:
    """Makes requests, one a connection, as uWSGI wants it.

    :param note: is told of every one
    """

    def __init__(self, port: int, note: Callable[[Answer], None]) -> None:
        self._port = port
        self._note = note

    def ask(self, kind: str, method: str, path: str, expected: int,
            body: bytes | Iterable[bytes] | None = None,
            headers: Mapping[str, str] | None = None,
            check: Callable[[http.client.HTTPResponse], Any] | None = None,
            ) -> Any:
        """Make a request.

        :param expected: the status
        :param check: reads the answer, and raises :class:`WrongAnswer`
        :returns: what ``check`` returns; None if the request failed
        """
        begin, process = time.monotonic(), ''
        outcome, reason, found = 'ok', '', None
        connection = http.client.HTTPConnection('127.0.0.1', self._port,
                                                timeout=TIMEOUT)
        with contextlib.closing(connection):
            try:
                connection.request(method, f'/v2/images{path}', body,
                                   dict(headers or {}))
                answer = connection.getresponse()
                process = answer.headers.get(noauth.PROCESS, '')
                if answer.status != expected:
                    raise WrongAnswer(f'{answer.status}: '
                                      f'{answer.read(200)!r}')
                found = (check or _whole)(answer)
            except (OSError, WrongAnswer, http.client.HTTPException) as error:
                outcome, reason = _judge(error), f'{method} {error!r}'
        self._note(Answer(kind, begin, time.monotonic() - begin, outcome,
                          reason, process))
        return found


def _judge(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return 'refused'
    if isinstance(error, Truncated | http.client.IncompleteRead):
        return 'truncated'
    return 'failed'


def _whole(answer: http.client.HTTPResponse) -> bytes:
    """Read an answer, and see that it has as many bytes as it says."""
    data = answer.read()
    announced = answer.headers.get('Content-Length')
    if announced is not None and len(data) != int(announced):
        raise Truncated(f'{len(data)} bytes of {announced}')
    return data


def _json(answer: http.client.HTTPResponse) -> Any:
    data = _whole(answer)
    try:
        return json.loads(data)
    except ValueError:
        # Without a length, only this tells that something is lacking.
        raise Truncated(f'no JSON: {data[-80:]!r}') from None


class Load:
    """The clients.

    :param record: gets a line for each answer
    """

    def __init__(self, port: int, record: TextIO,
                 patience: float = 1.0) -> None:
        self._patience = patience
        self._record = record
        self._lock = threading.Lock()
        self._client = Client(port, self._note)
        self._ended = threading.Event()
        self._small = random.Random(1).randbytes(SMALL)
        self._large = random.Random(2).randbytes(LARGE)

    def _note(self, answer: Answer) -> None:
        line = json.dumps(dataclasses.asdict(answer))
        with self._lock:
            self._record.write(line + '\n')
            self._record.flush()

    def end(self, *_: object) -> None:
        """Have the clients end when what they are at is done."""
        self._ended.set()

    def run(self, ready: Callable[[], None]) -> None:
        """Run until told to end.

        :param ready: is called when all clients are at it
        """
        small, large = self._prepare(self._small), self._prepare(self._large)
        jobs = [
            *[lambda: self._show(small)] * 3, self._list,
            lambda: self._upload('put', self._small),
            lambda: self._upload('put-chunked', _Pieces(self._small)),
            *[lambda: self._read_slowly(large)] * 2,
            self._put_long, self._put_endless]
        threads = [threading.Thread(target=self._repeat, args=(job,))
                   for job in jobs]
        for thread in threads:
            thread.start()
        ready()
        for thread in threads:
            thread.join()

    def _rest(self, kind: str) -> None:
        self._ended.wait(_PAUSES[kind] * self._patience)

    def _repeat(self, job: Callable[[], None]) -> None:
        while not self._ended.is_set():
            job()

    def _prepare(self, data: bytes) -> str:
        image = self._create()
        if not image or self._put('put', image, data) is None:
            raise SystemExit('The service does not take images.')
        return image

    def _create(self) -> str:
        found = self._client.ask(
            'create', 'POST', '', 201, json.dumps({
                'disk_format': 'raw', 'container_format': 'bare'}).encode(),
            {'Content-Type': 'application/json'}, _json)
        return str(found['id']) if found else ''

    def _put(self, kind: str, image: str,
             data: bytes | Iterable[bytes], length: int = 0) -> bytes | None:
        headers = {'Content-Type': 'application/octet-stream'} | (
            {'Content-Length': str(length)} if length else {})
        sent: bytes | None = self._client.ask(
            kind, 'PUT', f'/{image}/file', 204, data, headers)
        return sent

    def _show(self, image: str) -> None:
        def check(answer: http.client.HTTPResponse) -> None:
            record = _json(answer)
            if (record['id'], record['size']) != (image, SMALL):
                raise WrongAnswer(f'another record: {record}')

        self._client.ask('show', 'GET', f'/{image}', 200, check=check)
        self._rest('show')

    def _list(self) -> None:
        def check(answer: http.client.HTTPResponse) -> None:
            # Two were there before the load began.
            if len(_json(answer)['images']) < 2:
                raise WrongAnswer('images are lacking')

        self._client.ask('list', 'GET', '?limit=20', 200, check=check)
        self._rest('list')

    def _upload(self, kind: str, data: bytes | Iterable[bytes]) -> None:
        """Upload, download, compare, delete."""
        image = self._create()
        if image and self._put(kind, image, data) is not None:
            self._client.ask('get', 'GET', f'/{image}/file', 200,
                             check=lambda answer: _compare(
                                 _whole(answer), self._small))
        if image:
            self._client.ask('delete', 'DELETE', f'/{image}', 204)
        self._rest('upload')

    def _read_slowly(self, image: str) -> None:
        def check(answer: http.client.HTTPResponse) -> None:
            data = bytearray()
            while part := answer.read(_PIECE):
                data += part
                time.sleep(_PIECE / _RATE)
            _compare(bytes(data), self._large)

        self._client.ask('slow-get', 'GET', f'/{image}/file', 200,
                         check=check)

    def _put_long(self) -> None:
        """Upload slowly, with a known length, over hand-overs."""
        self._put_steps('long-put', self._steps(_STEPS), _STEPS * _PIECE)

    def _put_endless(self) -> None:
        """Upload in chunks until all the others have ended."""
        self._put_steps('endless-put', self._steps(None), 0)

    def _put_steps(self, kind: str, steps: Iterator[bytes],
                   length: int) -> None:
        image = self._create()
        digest = hashlib.md5(usedforsecurity=False)
        if image and self._put(kind, image, _digested(steps, digest.update),
                               length) is not None:
            self._client.ask('show', 'GET', f'/{image}', 200,
                             check=lambda answer: _compare(
                                 _json(answer)['checksum'],
                                 digest.hexdigest()))
        if image:
            self._client.ask('delete', 'DELETE', f'/{image}', 204)
        self._ended.wait(_STEP)

    def _steps(self, count: int | None) -> Iterator[bytes]:
        """Yield pieces, slowly.

        :param count: how many; None for as long as the load goes on
        """
        done = 0
        while done < count if count else not self._ended.is_set():
            place = done * _PIECE % LARGE
            yield self._large[place:place + _PIECE]
            done += 1
            # The last ones need not be slow when all others have ended.
            self._ended.wait(_STEP)


class _Pieces:
    """Bytes in pieces, to be sent in chunks, any number of times."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        step = len(self._data) // 4
        for place in range(0, len(self._data), step):
            yield self._data[place:place + step]


def _digested(steps: Iterable[bytes],
              update: Callable[[bytes], None]) -> Iterator[bytes]:
    for step in steps:
        update(step)
        yield step


def _compare(found: bytes | str, expected: bytes | str) -> None:
    if len(found) < len(expected):
        raise Truncated(f'{len(found)} bytes of {len(expected)}')
    if found != expected:
        raise WrongAnswer('other bytes')


def read(path: Path) -> list[Answer]:
    """Return what a load has recorded."""
    return [Answer(**json.loads(line))
            for line in path.read_text().splitlines()]


def main() -> None:
    """Run a load; say so on stdout once it is under way."""
    port, path, patience = sys.argv[1:]
    with open(path, 'a') as record:
        load = Load(int(port), record, float(patience))
        signal.signal(signal.SIGTERM, load.end)
        load.run(lambda: print('ready', flush=True))


if __name__ == '__main__':
    main()
