"""A new instance is used as a user would, before it gets any user.

Over its private socket, an image is made, uploaded, shown, listed,
downloaded, compared and deleted.  It is private and hidden, so nobody else
sees it, and it is tagged, so that the next canary finds and deletes what an
earlier one left that was killed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
import http.client
import json
import logging
import os
from pathlib import Path
import random
import socket
import time
from typing import Any
from urllib import parse

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.serving import instance as instances
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import private
from easystack_image.ota.upgrade import keystone

LOG = logging.getLogger(__name__)

TAG = 'easystack-image-canary'
#: Of the pieces in which it is sent and read, in bytes.
_PIECE = 1 << 20
#: The first bytes are zeros, so that no format is seen in them.
_QUIET = 1 << 16
#: More than the record of any image, or a page of them, in bytes.
_LIMIT = 4 << 20
#: Seconds that cleaning up may take after a failure, and between two tries.
_CLEANING, _PAUSE = 10.0, 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class CanarySettings:
    """What the canary has to know.

    :param credentials: a file, see
        :mod:`easystack_image.ota.upgrade.keystone`; None where there is no
        Keystone
    :param release: what the instance should name in its answers, if it names
        any; '' for whatever it is
    :param timeout: seconds for all of it
    """

    credentials: Path | None = None
    release: str = ''
    timeout: float = 120.0


def configured(found: settings_module.Settings,
               release: str = '') -> CanarySettings:
    """Return what the configuration says.

    :param release: the version that the instance should be of
    """
    return CanarySettings(
        Path(found.canary_credentials) if found.canary_credentials else None,
        release, found.canary_timeout)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What the canary found.

    :param release: what the instance names in its answers, '' if it does not
    :param size: bytes sent and compared
    :param seconds: what each part took, by its name
    :param swept: how many images of earlier canaries were deleted
    """

    release: str
    size: int
    seconds: Mapping[str, float]
    swept: int


def run(instance: instances.Instance, settings: CanarySettings,
        size: int) -> Report:
    """Use an instance as a user would, over its private socket.

    :param size: bytes of the image
    :raises easystack_image.exceptions.CanaryFailed: if it does not work
    :raises easystack_image.exceptions.NotNow: if Keystone does not work
    :raises easystack_image.exceptions.ConfigurationError: if the credentials
        cannot be used
    """
    headers = {'Accept': 'application/json', **authenticate(settings)}
    return _Canary(instance, settings, headers, size).run()


def authenticate(settings: CanarySettings) -> dict[str, str]:
    """Return the headers that say who asks; none without credentials.

    :raises easystack_image.exceptions.NotNow: if Keystone does not work
    :raises easystack_image.exceptions.ConfigurationError: if the credentials
        cannot be used
    """
    if not settings.credentials:
        return {}
    return {'X-Auth-Token': keystone.token(
        keystone.read(settings.credentials), settings.timeout)}


class _Canary:
    """One try.

    :param headers: of each request
    """

    def __init__(self, instance: instances.Instance,
                 settings: CanarySettings, headers: Mapping[str, str],
                 size: int) -> None:
        self._instance = instance
        self._settings = settings
        self._headers = headers
        self._size = size
        self._seed = int.from_bytes(os.urandom(8), 'big')
        self._client = private.Client(instance.place, settings.timeout,
                                      headers)
        self._seconds: dict[str, float] = {}
        self._swept = 0
        self._image: dict[str, Any] = {}

    def run(self) -> Report:
        release = self._do('versions', self._check_release)
        try:
            self._do('create', self._create)
            self._do('sweep', self._sweep)
            self._do('upload', self._upload)
            self._do('show', self._show)
            self._do('list', self._list)
            self._do('download', self._download)
            self._do('delete', self._delete)
        except exceptions.CanaryFailed as error:
            left = self._clean_up()
            raise exceptions.CanaryFailed(f'{error}{left}') from error
        return Report(release, self._size, self._seconds, self._swept)

    def _do(self, what: str, part: Any) -> Any:
        """Do a part; remember how long it took, or say which it was."""
        began = time.monotonic()
        try:
            return part()
        except (OSError, http.client.HTTPException, ValueError,
                LookupError, TypeError) as error:
            raise exceptions.CanaryFailed(
                f'instance {self._instance.name} fails at "{what}": '
                f'{error or repr(error)}') from error
        finally:
            self._seconds[what] = round(time.monotonic() - began, 3)

    def _ask(self, method: str, path: str, expected: int,
             body: Any = None, **headers: str) -> Any:
        """Make a request; return what came as JSON, or nothing.

        :raises ValueError: if the answer is another than expected
        """
        with self._client.ask(method, path, body, headers) as answer:
            data = answer.read(_LIMIT)
            if answer.status != expected:
                raise ValueError(
                    f'{method} {path} is answered with {answer.status}, not '
                    f'{expected}: {data[:300].decode(errors="replace")}')
        return json.loads(data) if data else {}

    def _check_release(self) -> str:
        with self._client.ask('GET', '/') as answer:
            answer.read(_LIMIT)
            if answer.status not in (200, 300):
                raise ValueError(f'GET / is answered with {answer.status}')
            named: str = answer.headers.get(layout.RELEASE_HEADER, '')
        wanted = self._settings.release
        if named and wanted and named != wanted:
            raise ValueError(f'it is release {named}, not {wanted}')
        return named

    def _create(self) -> None:
        self._image = self._ask(
            'POST', '/v2/images', 201, json.dumps(record()).encode(),
            **{'Content-Type': 'application/json'})

    def _sweep(self) -> None:
        """Delete what earlier canaries of this node left."""
        for each in self._listed():
            # Anybody may give an image our tag: only our own are deleted.
            if (each['id'] != self._image['id']
                    and each['name'] == self._image['name']
                    and each['owner'] == self._image['owner']
                    and each['visibility'] == 'private'):
                try:
                    self._ask('DELETE', f'/v2/images/{each["id"]}', 204)
                except ValueError as error:
                    # No fault of this release, perhaps: what it can delete
                    # is seen by its own image.
                    LOG.warning('A canary left an image: %s', error)
                else:
                    self._swept += 1

    def _listed(self) -> list[dict[str, Any]]:
        """Return our images, those of other nodes too."""
        path = '/v2/images?' + parse.urlencode({
            'tag': TAG, 'os_hidden': 'true', 'visibility': 'private',
            'limit': 100})
        found: list[dict[str, Any]] = []
        while path:
            page = self._ask('GET', path, 200)
            found += page['images']
            path = page.get('next', '')
        return found

    @property
    def _path(self) -> str:
        return f'/v2/images/{self._image["id"]}'

    def _pieces(self) -> Iterator[bytes]:
        """Yield the data: the same, each time."""
        source = random.Random(self._seed)  # noqa: S311 (no secret)
        left = self._size
        quiet = _QUIET
        while left:
            # As long as something moves, no socket is late.
            self._client.left()
            size = min(left, _PIECE)
            piece = source.randbytes(size)
            if quiet:
                piece = bytes(min(quiet, size)) + piece[quiet:]
                quiet = 0
            yield piece
            left -= size

    def _upload(self) -> None:
        """Send it in chunks, as the ordinary client does."""
        self._ask('PUT', f'{self._path}/file', 204, self._pieces(),
                  **{'Content-Type': 'application/octet-stream'})

    def _show(self) -> None:
        shown = self._ask('GET', self._path, 200)
        found = (shown['status'], shown['size'])
        if found != ('active', self._size):
            raise ValueError(f'it is {found[0]} with {found[1]} bytes, not '
                             f'active with {self._size}')
        digest = hashlib.new(shown['os_hash_algo'])
        for piece in self._pieces():
            digest.update(piece)
        if shown['os_hash_value'] != digest.hexdigest():
            raise ValueError('its hash is not that of what was sent')

    def _list(self) -> None:
        if self._image['id'] not in [each['id'] for each in self._listed()]:
            raise ValueError('the image is not in the list')

    def _download(self) -> None:
        with self._client.ask('GET', f'{self._path}/file') as answer:
            if answer.status != 200:
                raise ValueError(f'it is answered with {answer.status}')
            place = 0
            for piece in self._pieces():
                if answer.read(len(piece)) != piece:
                    raise ValueError('other bytes come back than were sent, '
                                     f'after byte {place}')
                place += len(piece)
            if answer.read(1):
                raise ValueError('more bytes come back than were sent')

    def _delete(self) -> None:
        path = self._path
        self._ask('DELETE', path, 204)
        self._image = {}
        self._ask('GET', path, 404)

    def _clean_up(self) -> str:
        """Delete the image after a failure; return what to say of it."""
        if not self._image:
            return ''
        self._client = private.Client(self._instance.place, _CLEANING,
                                      self._headers)
        deadline = time.monotonic() + _CLEANING
        while True:
            try:
                # While Glance gives an upload up, it may put back what was
                # deleted: only that the image is gone counts.
                with self._client.ask('DELETE', self._path) as answer:
                    answer.read(_LIMIT)
                self._ask('GET', self._path, 404)
                time.sleep(_PAUSE)
                self._ask('GET', self._path, 404)
                return ''
            except (OSError, http.client.HTTPException, ValueError) as error:
                if time.monotonic() + _PAUSE > deadline:
                    return (f'; its image {self._image["id"]} is left, for '
                            f'the next canary to delete: {error}')
            time.sleep(_PAUSE)


def record() -> dict[str, Any]:
    """Return what an image is made with: those of a node have one name."""
    return {'name': f'{TAG} {socket.gethostname()}'[:255],
            'disk_format': 'raw', 'container_format': 'bare',
            'visibility': 'private', 'os_hidden': True, 'tags': [TAG]}
