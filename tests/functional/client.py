"""Glance's Images API over plain HTTP, for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
import hashlib
import http.client
import random
import time
from typing import Any
import urllib.parse

import requests

from tests.functional import processes

#: Seconds without a byte after which a request has failed.
TIMEOUT = 60

Body = bytes | Iterable[bytes]


def content(size: int, seed: int = 0) -> bytes:
    """Return ``size`` bytes that look random and are the same each time."""
    return random.Random(seed).randbytes(size)


def sha512(data: bytes) -> str:
    """Return the digest that Glance reports as ``os_hash_value``."""
    return hashlib.sha512(data).hexdigest()


def md5(data: bytes) -> str:
    """Return the digest that Glance reports as ``checksum``."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def pieces(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    """Cut ``data`` so that it is sent with chunked encoding."""
    for start in range(0, len(data), size):
        yield data[start:start + size]


def _error(method: str, path: str,
           answer: requests.Response) -> requests.HTTPError:
    return requests.HTTPError(
        f'{method} {path}: {answer.status_code} {answer.text[:500]}',
        response=answer)


class Images:
    """The calls of one user; one object per thread.

    :param url: of Glance, without a version
    :param headers: sent with every request, such as a token
    """

    def __init__(self, url: str,
                 headers: Mapping[str, str] | None = None) -> None:
        self.url = f'{url}/v2'
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(headers or {})

    def request(self, method: str, path: str,
                **arguments: Any) -> requests.Response:
        """Send a request, whatever the answer."""
        arguments.setdefault('timeout', TIMEOUT)
        return self._session.request(method, f'{self.url}{path}', **arguments)

    def _ok(self, method: str, path: str,
            **arguments: Any) -> requests.Response:
        answer = self.request(method, path, **arguments)
        if not answer.ok:
            raise _error(method, path, answer)
        return answer

    def create(self, **properties: Any) -> str:
        """Create an image without data, and return its id."""
        body = {'disk_format': 'raw', 'container_format': 'bare'} | properties
        image_id: str = self._ok('POST', '/images', json=body).json()['id']
        return image_id

    def show(self, image_id: str) -> dict[str, Any]:
        """Return the image's record."""
        record: dict[str, Any] = self._ok('GET', f'/images/{image_id}').json()
        return record

    def put(self, image_id: str, data: Body, path: str = 'file',
            **headers: str) -> requests.Response:
        """Send the data of an image, whatever the answer.

        Bytes are sent with their length, an iterable with chunked encoding.

        :param path: ``file``, or ``stage``
        """
        named = {'Content-Type': 'application/octet-stream'} | {
            name.replace('_', '-'): value for name, value in headers.items()}
        return self.request('PUT', f'/images/{image_id}/{path}', data=data,
                            headers=named)

    def upload(self, data: Body, path: str = 'file', **headers: str) -> str:
        """Create an image, send its data, and return its id."""
        image_id = self.create()
        answer = self.put(image_id, data, path, **headers)
        if answer.status_code != 204:
            raise _error('PUT', path, answer)
        return image_id

    def begin_put(self, image_id: str, data: bytes,
                  sent: int) -> http.client.HTTPConnection:
        """Announce all of ``data``, and send the first ``sent`` bytes of it.

        :returns: the connection, for the caller to close
        """
        place = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(
            place.hostname or '', place.port, timeout=TIMEOUT)
        connection.putrequest('PUT', f'{place.path}/images/{image_id}/file')
        connection.putheader('Content-Type', 'application/octet-stream')
        connection.putheader('Content-Length', str(len(data)))
        connection.endheaders()
        connection.send(data[:sent])
        return connection

    def get(self, image_id: str, byte_range: str | None = None,
            **arguments: Any) -> requests.Response:
        """Ask for the data of an image, whatever the answer.

        :param byte_range: such as ``0-99``
        """
        headers = {'Range': f'bytes={byte_range}'} if byte_range else {}
        return self.request('GET', f'/images/{image_id}/file',
                            headers=headers, **arguments)

    def download(self, image_id: str) -> bytes:
        """Return all the data of an image."""
        return self._ok('GET', f'/images/{image_id}/file').content

    def delete(self, image_id: str) -> None:
        """Delete an image.

        On SQLite, Glance answers 500 ("database is locked") while the end of
        an import is being written down; the same request succeeds then.
        """
        answer = self.request('DELETE', f'/images/{image_id}')
        if answer.status_code == 500:
            time.sleep(1)
            self._ok('DELETE', f'/images/{image_id}')
        elif not answer.ok:
            raise _error('DELETE', f'/images/{image_id}', answer)

    def start_import(self, image_id: str, method: Mapping[str, Any],
                     **body: Any) -> None:
        """Begin to import an image.

        :param method: such as ``{'name': 'glance-direct'}``
        """
        self._ok('POST', f'/images/{image_id}/import',
                 json={'method': method} | body)

    def wait(self, image_id: str, timeout: float = 60,
             **expected: Any) -> dict[str, Any]:
        """Poll an image until its record says what is expected.

        :param timeout: seconds
        :raises TimeoutError: naming what was expected
        """
        def expected_record() -> dict[str, Any]:
            record = self.show(image_id)
            return record if all(record.get(key) == value for key, value
                                 in expected.items()) else {}

        return processes.poll(expected_record, f'image {expected}', timeout)
