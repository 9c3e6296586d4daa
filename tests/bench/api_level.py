"""Measure what the pipeline costs, and what a list as CSV takes.

Two Glances share a Keystone and a MariaDB, and differ in their pipeline only:
Glance's own, and ours.  Requests are sent to them in turn, one at a time, so
that whatever else the machine does falls on both.  A third one, with ours,
has many images; they are listed as CSV, and by clients that page through
JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import http.client
import json
from pathlib import Path
import statistics
import time
from typing import Any
import urllib.parse

import psutil

from tests.bench import http_level
from tests.bench import meter
from tests.bench import results
from tests.bench import run
from tests.bench import sources
from tests.bench import targets
from tests.deployment import deployment as deployment_module
from tests.functional import mariadb
from tests.functional import records
from tests.functional import server

LEVEL, EXPORT = 'api', 'export'
VANILLA, OURS = results.BASELINES[LEVEL], 'easystack'
LARGEST, SMALLEST, CSV = results.BASELINES[EXPORT], 'JSON, 20 a page', 'CSV'
SHOW, LIST, PUT = 'show', 'list 25 of 1000', 'put'
ALL, FIRST = 'all', 'first byte'
#: What a client of pages of 20 gets, which would take half an hour for all.
PART = 'the first 1000'

_USER = 'member'
#: Who wants long lists.
_LISTER = 'admin'
_IMAGES = 1000
_PART = 1000
_REQUESTS, _QUICK_REQUESTS = 200, 40
_TIMEOUT = 300
_ACCEPT = {CSV: 'text/csv', LARGEST: '*/*', SMALLEST: '*/*'}

TARGETS: tuple[targets.Target, ...] = (
    *(targets.CostTarget(f'cost of the pipeline, {operation}', results.Key(
        LEVEL, operation, '', OURS), at_most)
      for operation, at_most in ((SHOW, 1.05), (LIST, 1.05), (PUT, 1.03))),
    targets.TimeTarget('first byte of CSV', results.Key(
        EXPORT, FIRST, '', CSV), 1),
    targets.PairTarget('CSV against pages of 1000', results.Key(
        EXPORT, ALL, '', CSV), results.Key(EXPORT, ALL, '', LARGEST), 1,
        by='images'),
    targets.PairTarget('CSV against pages of 20', results.Key(
        EXPORT, ALL, '', CSV), results.Key(EXPORT, PART, '', SMALLEST), 1,
        by='images'),
    targets.MemoryTarget('memory, CSV', EXPORT, 30, CSV),
)


class _Service:
    """A running Glance, and a user of it.

    :param deployment: prepared and not started
    """

    def __init__(self, deployment: deployment_module.Deployment,
                 user: str = _USER) -> None:
        self._deployment = deployment
        self._user = user
        self.images = deployment.client(user)
        self._workers: list[psutil.Process] = []
        self._idle_mib = 0.0
        self.start()

    def start(self) -> None:
        """Start it, and let it serve some requests first."""
        self._deployment.start()
        master = psutil.Process(self._deployment.glance.pid)
        self._workers = master.children(recursive=True)
        # So that all is imported and compiled, and every worker has served.
        for _ in range(10):
            self.time('/v2/images?limit=100')
        self._idle_mib = meter.resident_mib(self._workers)

    def restart(self) -> None:
        """Start it anew, with all of its memory given back."""
        self._deployment.stop()
        self.start()

    def get(self, path: str, accept: str = '*/*') -> Iterator[bytes]:
        """Yield what comes, as it comes.

        :raises RuntimeError: if it is an error, with the end of the log
        """
        place = urllib.parse.urlsplit(self._deployment.url)
        connection = http.client.HTTPConnection(
            place.hostname or '', place.port, timeout=_TIMEOUT)
        with contextlib.closing(connection):
            connection.request('GET', path, headers={
                'Accept': accept,
                'X-Auth-Token': self._deployment.token(self._user)})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(
                    f'GET {path}: {answer.status}\n'
                    f'{self._deployment.glance.log_tail()}')
            while piece := answer.read1():
                yield piece

    def time(self, path: str) -> tuple[float, int]:
        """Return the seconds that a request takes, and the bytes it gets."""
        began = time.perf_counter()
        size = sum(map(len, self.get(path)))
        return time.perf_counter() - began, size

    def put(self, source: sources.Source) -> results.Sample:
        """Upload an image, and delete it."""
        image_id = self.images.create()
        began = time.perf_counter()
        http_level.put(self._deployment.glance.port, image_id, source,
                       {'X-Auth-Token': self._deployment.token(self._user)})
        seconds = time.perf_counter() - began
        self.images.delete(image_id)
        return results.Sample(source.size, seconds)

    def measure(self, work: Callable[[], int]) -> results.Sample:
        """See :func:`tests.bench.meter.measure`."""
        return meter.measure(work, self._workers, self._idle_mib)


class ApiBench:
    """See :class:`tests.bench.run.Bench`.

    :param without: filters of ours to measure the pipeline without, too
    """

    def __init__(self, plan: run.Plan, directory: Path,
                 images: list[sources.Source], stack: contextlib.ExitStack,
                 without: tuple[str, ...] = ()) -> None:
        self.samples: dict[results.Key, list[results.Sample]] = {}
        self._source = images[0]
        self._requests = _QUICK_REQUESTS if plan.quick else _REQUESTS
        pipelines = {
            VANILLA: deployment_module.vanilla_pipeline(),
            OURS: deployment_module.full_pipeline(),
            **{without_name(each): _less(
                deployment_module.full_pipeline(), each)
               for each in without}}
        self._services = {
            name: _start(directory / f'glance-{number}', pipeline, _IMAGES,
                         stack)
            for number, (name, pipeline) in enumerate(pipelines.items())}
        self._count = plan.images
        self._many = _start(directory / 'many', pipelines[OURS], plan.images,
                            stack, _LISTER)

    def round(self, turn: int) -> Iterator[str]:
        """Measure everything once; tell what comes next."""
        for operation in SHOW, LIST:
            yield operation
            self._measure_requests(operation)
        for name in results.rotated(list(self._services), turn):
            yield f'{PUT}, {name}'
            self._keep(LEVEL, PUT, name,
                       self._services[name].put(self._source))
        if turn:
            # What a page of 1000 left behind would count as CSV's.
            yield 'restart'
            self._many.restart()
        for name in CSV, LARGEST, SMALLEST:
            yield f'{EXPORT}, {name}'
            self._measure_export(name)

    def _measure_requests(self, operation: str) -> None:
        """Send requests to all in turn; a round's sample is the median."""
        paths = {name: _path(operation, service)
                 for name, service in self._services.items()}
        taken: dict[str, list[float]] = {name: [] for name in paths}
        sizes = {}
        names = list(paths)
        for number in range(self._requests):
            for name in results.rotated(names, number):
                seconds, sizes[name] = self._services[name].time(paths[name])
                taken[name].append(seconds)
        for name in names:
            self._keep(LEVEL, operation, name, results.Sample(
                sizes[name], statistics.median(taken[name])))

    def _measure_export(self, name: str) -> None:
        if name == CSV:
            seen: list[float] = []
            sample = self._many.measure(lambda: self._list_csv(seen))
            self._keep(EXPORT, FIRST, CSV, results.Sample(1, seen[0]))
            self._keep(EXPORT, ALL, CSV, sample, self._count)
        elif name == LARGEST:
            self._keep(EXPORT, ALL, name, self._many.measure(
                lambda: self._list_json(1000, self._count)), self._count)
        else:
            part = min(_PART, self._count)
            self._keep(EXPORT, PART, name, self._many.measure(
                lambda: self._list_json(20, part)), part)

    def _list_csv(self, seen: list[float]) -> int:
        began = time.perf_counter()
        size = lines = 0
        for piece in self._many.get('/v2/images', _ACCEPT[CSV]):
            if not seen:
                seen.append(time.perf_counter() - began)
            size += len(piece)
            # Its CR may have been in the piece before.
            lines += piece.count(b'\n')
        self._check(lines - 1, self._count)
        return size

    def _list_json(self, page: int, count: int) -> int:
        """Go through the list as python-glanceclient does."""
        size = found = 0
        path = f'/v2/images?limit={page}'
        while path and found < count:
            body = b''.join(self._many.get(path))
            size += len(body)
            record = _parse(body)
            found += len(record['images'])
            path = record.get('next', '')
        self._check(found, count)
        return size

    def _check(self, found: int, count: int) -> None:
        if found != count:
            raise RuntimeError(f'{found} images were listed, {count} are '
                               'there')

    def _keep(self, level: str, operation: str, name: str,
              sample: results.Sample, images: int | None = None) -> None:
        self.samples.setdefault(
            results.Key(level, operation, '', name), []).append(
                results.with_images(sample, images))


def _parse(body: bytes) -> Mapping[str, Any]:
    record: Mapping[str, Any] = json.loads(body)
    return record


def without_name(filter_name: str) -> str:
    """Return what a pipeline without a filter is called."""
    return f'without {filter_name}'


def _less(pipeline: str, filter_name: str) -> str:
    """Return pipelines without a filter.

    :raises tests.bench.run.CannotRun: if it is in none
    """
    less = pipeline.replace(f' {filter_name} ', ' ')
    if less == pipeline:
        raise run.CannotRun(f'no pipeline of ours has "{filter_name}"')
    return less


def _start(directory: Path, pipeline: str, count: int,
           stack: contextlib.ExitStack, user: str = _USER) -> _Service:
    """Start a Glance that has some images."""
    directory.mkdir()
    deployment = deployment_module.Deployment(
        directory, [server.file_store('plain', directory / 'plain')],
        pipeline, metadefs=False)
    deployment.prepare()
    records.Records(deployment.glance.config_file).insert(
        records.ordinary(count))
    stack.callback(deployment.stop)
    return _Service(deployment, user)


def _path(operation: str, service: _Service) -> str:
    if operation == LIST:
        return '/v2/images?limit=25'
    listed = service.images.request('GET', '/images?limit=1').json()
    return f'/v2/images/{listed["images"][0]["id"]}'


def suite(without: tuple[str, ...] = ()) -> run.Suite:
    """Return what is compared.

    :param without: see :class:`ApiBench`
    :raises tests.bench.run.CannotRun: telling what this machine lacks
    """
    missing = mariadb.missing_programs()
    if missing:
        raise run.CannotRun(f'not found: {", ".join(missing)}; install the '
                            f'Debian package {mariadb.PACKAGE}')

    def bench(plan: run.Plan, directory: Path, images: list[sources.Source],
              stack: contextlib.ExitStack) -> ApiBench:
        return ApiBench(plan, directory, images, stack, without)

    return run.Suite(bench, TARGETS, {
        'level': (LEVEL, EXPORT),
        'operation': (SHOW, LIST, PUT, FIRST, ALL, PART),
        'data': ('',),
        'store': (VANILLA, OURS, *map(without_name, without), CSV, LARGEST,
                  SMALLEST),
    }, lambda plan: (2 + len(without)) * plan.size)
