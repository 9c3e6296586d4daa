"""Measure a store through the HTTP of a real Glance.

Each kind of store has a Glance of its own, so that its memory and its CPU
time are those of transfers with this store, and the one with the file driver
is as good as untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import http.client
import os
from pathlib import Path

import psutil

from tests.bench import meter
from tests.bench import results
from tests.bench import sources
from tests.bench import stores
from tests.functional import client
from tests.functional import server

#: Seconds without a byte after which a transfer has failed.
_TIMEOUT = 300

_BLOCK = results.MIB

_WARM_UP = os.urandom(65536)


def _request(port: int, method: str, image_id: str, body: Path | None = None,
             headers: Mapping[str, str] | None = None,
             ) -> http.client.HTTPResponse:
    """Send a request for the data of an image, as cheaply as can be.

    :param body: a file, which the kernel sends by itself
    """
    connection = http.client.HTTPConnection('127.0.0.1', port,
                                            timeout=_TIMEOUT)
    connection.putrequest(method, f'/v2/images/{image_id}/file')
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader('Content-Type', 'application/octet-stream')
        connection.putheader('Content-Length', str(body.stat().st_size))
    connection.endheaders()
    if body is not None:
        with body.open('rb') as data:
            connection.sock.sendfile(data)
    return connection.getresponse()


def put(port: int, image_id: str, source: sources.Source,
        headers: Mapping[str, str] | None = None) -> int:
    """Upload an image; return its size.

    :raises RuntimeError: if it is refused
    """
    with contextlib.closing(_request(port, 'PUT', image_id, source.path,
                                     headers)) as answer:
        if answer.status != 204:
            raise RuntimeError(f'PUT: {answer.status} '
                               f'{answer.read(500).decode()}')
    return source.size


def _receive(port: int, image_id: str,
             buffer: memoryview) -> Iterator[memoryview]:
    """Download an image, piece by piece, into always the same buffer."""
    with contextlib.closing(_request(port, 'GET', image_id)) as answer:
        if answer.status != 200:
            raise RuntimeError(f'GET: {answer.status} '
                               f'{answer.read(500).decode()}')
        while count := answer.readinto(buffer):
            yield buffer[:count]


class Service:
    """A running Glance with one store."""

    def __init__(self, glance: server.Glance) -> None:
        self._glance = glance
        self._images = client.Images(glance.url)
        self._buffer = memoryview(bytearray(_BLOCK))
        self._warm_up()
        master = psutil.Process(glance.pid)
        self._processes = [master, *master.children(recursive=True)]
        # Taken once: memory that a transfer does not give back counts
        # against the store in all later ones.
        self._idle_mib = meter.resident_mib(self._processes)

    def _warm_up(self) -> None:
        """Send a tiny image there and back, so that all is imported."""
        image_id = self._images.upload(_WARM_UP)
        if self._images.download(image_id) != _WARM_UP:
            raise sources.WrongBytes('Glance returned other bytes than it '
                                     'was given')
        self._images.delete(image_id)

    def measure(self, source: sources.Source) -> dict[str, results.Sample]:
        """Upload an image, compare it, download it and delete it."""
        image_id = self._images.create()
        upload = self._measure(
            lambda: put(self._glance.port, image_id, source))
        self._check_record(image_id, source)
        # Reads all of it, so the page cache holds it afterwards.
        sources.compare(self._chunks(image_id), source.path)
        download = self._measure(
            lambda: sum(sum(map(len, self._chunks(image_id)))
                        for _ in range(results.GETS)))
        sources.check_length(download.size, results.GETS * source.size)
        self._images.delete(image_id)
        return {'put': upload, 'get': download}

    def _chunks(self, image_id: str) -> Iterator[memoryview]:
        return _receive(self._glance.port, image_id, self._buffer)

    def _measure(self, work: Callable[[], int]) -> results.Sample:
        # What others left to be written would be written meanwhile.
        os.sync()
        return meter.measure(work, self._processes, self._idle_mib)

    def _check_record(self, image_id: str, source: sources.Source) -> None:
        record = self._images.show(image_id)
        digests = record['checksum'], record['os_hash_value']
        if digests != (source.md5, source.sha512):
            raise sources.WrongBytes('Glance has other digests than the '
                                     'data')


class HTTPLevel:
    """Measures the stores of a run.

    :param directory: where their images go; existing and empty
    """

    operations = ('put', 'get')

    def __init__(self, directory: Path) -> None:
        self._glances = {kind.name: stores.make(kind, directory / kind.name)
                         for kind in stores.KINDS}
        self._services: dict[str, Service] = {}

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start the services.

        :param stack: will stop them
        """
        for name, glance in self._glances.items():
            glance.prepare()
            glance.init_devices()
            stack.callback(glance.stop)
            glance.start()
            self._services[name] = Service(glance)

    def measure(self, name: str,
                source: sources.Source) -> dict[str, results.Sample]:
        """Send an image through a store; see ``operations``.

        :raises RuntimeError: with the end of Glance's log
        """
        try:
            return self._services[name].measure(source)
        except Exception as error:
            raise RuntimeError(f'HTTP, {name}: {error!r}\n'
                               f'{self._glances[name].log_tail()}') from error
