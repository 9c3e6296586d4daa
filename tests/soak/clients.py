"""Clients that upload, download, delete and list, and check every byte."""

from __future__ import annotations

from collections.abc import Iterator
import random
import threading
import time

import requests

from tests.functional import client
from tests.functional import noauth
from tests.soak import catalogue
from tests.soak import faults as faults_module
from tests.soak import report as report_module
from tests.soak import world as world_module

#: Bytes: the smallest and the largest image.
SIZES = 100_000, 8 * catalogue.MIB
#: How often a client does what, out of their sum.
WEIGHTS = {'upload': 30, 'upload chunked': 15, 'download': 30, 'range': 20,
           'delete': 12, 'list': 6}
#: How many images a client keeps at most.
MOST = 6
#: Seconds without a byte after which a request has failed.
PATIENCE = 60
#: Bytes that a client sends or receives at a time.
PIECE = 1 << 16
#: Out of how many transfers one is slow, and how many seconds that takes at
#: most: so that faults come in the middle of it.
SLOW = 3
SLOWEST = 8.0


class WrongBytes(Exception):
    """A client received what was never sent."""


class Client:
    """One client; :meth:`run` is for a thread of its own.

    :param number: from 0; what it does is drawn from this and the seed
    """

    def __init__(self, number: int, seed: int, world: world_module.World,
                 images: catalogue.Catalogue, faults: faults_module.Faults,
                 report: report_module.Report,
                 stop: threading.Event) -> None:
        self.name = f'client {number}'
        self._draw = random.Random(f'{seed}/client/{number}')
        self._world = world
        self._images = images
        self._faults = faults
        self._report = report
        self._stop = stop
        self._api = client.Images(world.glance.url)
        self._own: list[catalogue.Image] = []
        #: How long the present transfer is to take, in seconds.
        self._pace = 0.0

    def run(self) -> None:
        """Do one thing after the other."""
        while not self._stop.wait(self._draw.uniform(0.05, 0.6)):
            (kind,) = self._draw.choices(list(WEIGHTS), list(
                WEIGHTS.values()))
            # The same number of draws, whatever becomes of them.
            which, begin, end = (self._draw.random() for _ in range(3))
            seed = self._draw.getrandbits(32)
            slow = self._draw.randrange(SLOW) == 0
            self._pace = SLOWEST * self._draw.random() if slow else 0.0
            if kind.startswith('upload') and len(self._own) >= MOST:
                kind = 'delete'
            try:
                self._do(kind, which, begin, end, seed)
            except Exception as error:
                self._report.fail(f'{self.name}: {kind}: '
                                  f'{type(error).__name__}: {error}')

    def _do(self, kind: str, which: float, begin: float, end: float,
            seed: int) -> None:
        if kind.startswith('upload'):
            self._upload(seed, begin, kind)
        elif kind == 'list':
            self._list()
        elif kind == 'delete':
            if self._own:
                self._delete(self._own.pop(int(which * len(self._own))))
        else:
            # Those of the others as well.
            images = self._images.all(catalogue.STORED)
            if images:
                self._download(images[int(which * len(images))],
                               (begin, end) if kind == 'range' else None)

    def _upload(self, seed: int, length: float, kind: str) -> None:
        least, most = SIZES
        size = int(least * (most / least) ** length)
        if seed % 5 == 0:
            # Nothing but whole blocks.
            size = max(1, size // catalogue.MIB) * catalogue.MIB
        data = catalogue.content(size, seed)
        begin = time.monotonic()
        try:
            image = catalogue.Image(self._api.create(), data)
        except requests.RequestException as error:
            self._explain('create', begin, error)
            return
        self._images.add(image)
        failure = self._put(image, kind)
        if failure is None:
            self._images.change(image, catalogue.STORED)
            self._own.append(image)
            self._report.done(kind, size)
        else:
            self._explain('upload', begin, failure)
            self._delete(image)

    def _put(self, image: catalogue.Image,
             kind: str) -> Exception | None:
        chunked = kind == 'upload chunked'
        try:
            answer = self._api.put(
                image.image_id,
                self._pieces(image.data) if chunked else image.data)
        except requests.RequestException as error:
            return error
        if answer.status_code != 204:
            return requests.HTTPError(
                f'{answer.status_code} {answer.text[:200]}', response=answer)
        return None

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        for piece in client.pieces(data, PIECE):
            self._wait(len(data))
            yield piece

    def _wait(self, size: int) -> None:
        """Be as slow as it is meant to be, once for each piece.

        :param size: of everything, in bytes
        """
        if self._pace:
            time.sleep(self._pace / -(-size // PIECE))

    def _delete(self, image: catalogue.Image) -> None:
        """Delete an image; what fails is done again in the end."""
        self._images.change(image, catalogue.DELETING)
        begin = time.monotonic()
        try:
            self._api.delete(image.image_id)
        except requests.RequestException as error:
            self._explain('delete', begin, error)
        else:
            self._images.change(image, catalogue.DELETED)
            self._report.done('delete')

    def _list(self) -> None:
        begin = time.monotonic()
        expected = {image.image_id for image in self._own}
        try:
            listed = list_images(self._api)
        except requests.RequestException as error:
            self._explain('list', begin, error)
            return
        missing = {image_id for image_id in expected
                   if listed.get(image_id) != 'active'}
        if missing:
            self._report.fail(f'not listed as active: {missing}')
        self._report.done('list')

    def _explain(self, what: str, begin: float, error: Exception) -> None:
        """Count an error, if there is a fault that explains it.

        Any will do for a change of the store; what only asks the database
        fails with its process alone.
        """
        if what in ('create', 'list'):
            excused = self._killed(begin, 0, error)
        else:
            excused = any(fault.kind in faults_module.CHANGE
                          for fault in self._faults.since(begin))
        if not excused:
            self._report.fail(f'{what} failed, though nothing was wrong: '
                              f'{error}')
        self._report.error(f'{what}: {_name(error)}')

    def _download(self, image: catalogue.Image,
                  part: tuple[float, float] | None) -> None:
        """Download an image, or a part, and compare as far as it comes."""
        size = len(image.data)
        first, last = 0, size - 1
        if part is not None:
            first, last = sorted(int(each * (size - 1)) for each in part)
        # Kept, because a deletion by its owner lets go of it.
        data = memoryview(image.data)[first:last + 1]
        if len(data) != last + 1 - first:
            return
        begin, since = time.monotonic(), time.time()
        process = [0]
        kind = 'download' if part is None else 'range'
        try:
            self._receive(image.image_id,
                          None if part is None else f'{first}-{last}', data,
                          process)
        except WrongBytes as error:
            self._report.fail(f'WRONG BYTES: image {image.image_id}: {error}')
        except requests.RequestException as error:
            self._judge(image, begin, since, process[0], error)
        else:
            self._report.done(kind, len(data))

    def _receive(self, image_id: str, byte_range: str | None,
                 expected: memoryview, process: list[int]) -> None:
        with self._api.get(image_id, byte_range, stream=True,
                           timeout=PATIENCE) as answer:
            process[0] = int(answer.headers.get(noauth.PROCESS, 0))
            wanted = 200 if byte_range is None else 206
            if answer.status_code != wanted:
                raise requests.HTTPError(
                    f'{answer.status_code} {answer.text[:200]}',
                    response=answer)
            received = 0
            for piece in answer.iter_content(PIECE):
                self._wait(len(expected))
                if piece != expected[received:received + len(piece)]:
                    raise WrongBytes(f'{byte_range or "all"}: between '
                                     f'{received} and '
                                     f'{received + len(piece)}')
                received += len(piece)
            if received != len(expected):
                raise WrongBytes(f'{byte_range or "all"}: {received} bytes '
                                 f'of {len(expected)}, and no error')

    def _judge(self, image: catalogue.Image, begin: float, since: float,
               process: int, error: requests.RequestException) -> None:
        """Tell whether a download had to fail."""
        if image.state != catalogue.STORED:
            self._report.error('download: deleted meanwhile')
            return
        if self._killed(begin, process, error):
            self._report.error('download: its worker was killed')
            return
        holders = self._world.holders(
            image, self._faults.unreachable(begin), True, since)
        if image.state != catalogue.STORED:
            self._report.error('download: deleted meanwhile')
        elif holders or not self._faults.unreachable(begin):
            self._report.fail(
                f'download of {image.image_id} (process {process}) failed '
                f'after {time.monotonic() - begin:.1f} s, though there was a '
                f'good copy on {", ".join(map(str, holders)) or "none"}: '
                f'{error}')
        else:
            self._report.error('download: no good copy within reach: '
                               + _name(error))

    def _killed(self, begin: float, process: int,
                error: Exception) -> bool:
        """Tell whether the worker that served it was killed.

        If no answer had begun it is not known which one it was.
        """
        if getattr(error, 'response', None) is not None:
            return False
        return any(fault.kind == 'kill-worker'
                   and process in (0, fault.pid)
                   # It is noted a little before it happens.
                   and fault.begin > begin - 1
                   for fault in self._faults.since(begin))


def _name(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return str(error.response.status_code)
    return type(error).__name__


def list_images(api: client.Images) -> dict[str, str]:
    """Return the status of all images, by id.

    :raises requests.RequestException: if Glance does not tell
    """
    found: dict[str, str] = {}
    path = '/images?limit=50'
    while path:
        answer = api.request('GET', path)
        answer.raise_for_status()
        page = answer.json()
        found |= {each['id']: each['status'] for each in page['images']}
        path = page.get('next', '').removeprefix('/v2')
    return found
