"""One run of the benchmark, from image files to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import datetime
from importlib import metadata
import itertools
from pathlib import Path
import platform
import shutil
import tempfile
import time
from typing import Any, Protocol

import psutil
from rich import console as rich_console

from tests.bench import driver_level
from tests.bench import http_level
from tests.bench import limits
from tests.bench import report
from tests.bench import results
from tests.bench import sources
from tests.bench import stores
from tests.bench import targets
from tests.bench import upkeep

LEVELS = ('limits', 'driver', 'http', 'upkeep')
DATA = ('random', 'half-zero')

#: Room for databases, logs and file systems' own needs.
_SPARE = 512 * results.MIB

_Samples = dict[results.Key, list[results.Sample]]

_BEST = stores.KINDS[-1].name

TARGETS: tuple[targets.Target, ...] = (
    targets.RatioTarget('add, random, driver',
                        results.Key('driver', 'add', 'random', _BEST), 1.3),
    targets.RatioTarget('add, half-zero, driver',
                        results.Key('driver', 'add', 'half-zero', _BEST), 2),
    targets.RatioTarget('get, random, driver',
                        results.Key('driver', 'get', 'random', _BEST), 0.8),
    targets.RatioTarget('PUT, random, HTTP',
                        results.Key('http', 'put', 'random', _BEST), 1.3),
    targets.RatioTarget('GET, random, HTTP',
                        results.Key('http', 'get', 'random', _BEST), 1.0),
    *(targets.RatioTarget(operation, results.Key(
        'upkeep', operation, upkeep.LARGE, ''), 0.8, plain)
      for operation, plain in upkeep.BASELINES.items()),
    targets.MemoryTarget('memory, driver', 'driver', 64),
    targets.MemoryTarget('memory, HTTP', 'http', 64),
)


class CannotRun(Exception):
    """The benchmark cannot be run as asked; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    #: Of each image, in bytes.
    size: int
    rounds: int
    #: How many small images there are for the upkeep.
    images: int
    levels: tuple[str, ...]
    #: Where the images go for a while.
    directory: Path
    output: Path
    quick: bool


class Bench(Protocol):
    """Measures everything, round by round."""

    #: What was measured so far.
    samples: _Samples

    def round(self, turn: int) -> Iterator[str]:
        """Measure everything once; tell what comes next."""


@dataclasses.dataclass(frozen=True, slots=True)
class Suite:
    """What is compared in a run, and how its results are presented."""

    #: Prepares the measurements, in an empty directory, of image files; what
    #: it starts ends with the stack.
    bench: Callable[[Plan, Path, list[sources.Source],
                     contextlib.ExitStack], Bench]
    targets: Sequence[targets.Target]
    #: The order of the tables' rows: by field of the key, its values.
    orders: Mapping[str, Sequence[str]]
    #: How many bytes it takes on the disk.
    room: Callable[[Plan], int]


def _room(plan: Plan) -> int:
    # One image in three copies at a time, as both stores and dd write it.
    wanted = 3 * plan.size
    if 'upkeep' in plan.levels:
        # Its images stay, in three copies, and cp makes a fourth.
        wanted += 4 * plan.size
    return wanted


def _check(plan: Plan, source_directory: Path, room: int) -> None:
    """Raise CannotRun if the directory will not do."""
    if any(character.isspace() for character in str(plan.directory)):
        raise CannotRun(f'"{plan.directory}" has white space in its path; '
                        'name another one with --directory')
    wanted = room + _SPARE
    if source_directory == plan.directory:
        wanted += len(DATA) * plan.size
    free = shutil.disk_usage(plan.directory).free
    if free < wanted:
        raise CannotRun(
            f'"{plan.directory}" has {free // results.MIB} MiB free, and '
            f'{wanted // results.MIB} MiB are needed; make room, name '
            'another one with --directory or lower --size')


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _about(plan: Plan, source_directory: Path) -> dict[str, Any]:
    """Return what one must know to compare two runs."""
    cpus = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    models = [line.partition(':')[2].strip() for line in cpus
              if line.startswith('model name')]
    return {
        'quick': plan.quick,
        'started': datetime.datetime.now(datetime.UTC).isoformat(
            timespec='seconds'),
        'size_mib': plan.size / results.MIB,
        'rounds': plan.rounds,
        'small_images': plan.images,
        'gets_per_round': results.GETS,
        'zero_run_mib': sources.ZERO_RUN / results.MIB,
        'source_in_memory': source_directory != plan.directory,
        'machine': {
            'processor': models[0] if models else platform.machine(),
            'processors': psutil.cpu_count(),
            'memory_mib': psutil.virtual_memory().total // results.MIB,
            'kernel': platform.release(),
            'file_system': _file_system(plan.directory),
        },
        'versions': {'python': platform.python_version(), **{
            name: _version(name) for name in
            ('easystack-image', 'glance', 'glance-store', 'crc32c')}},
    }


def _file_system(directory: Path) -> str:
    """Return the type of the file system that a directory is on."""
    mounts = [part for part in psutil.disk_partitions(all=True)
              if directory.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype


class Level(Protocol):
    """Measures some stores in one way."""

    def measure(self, name: str,
                source: sources.Source) -> dict[str, results.Sample]:
        """Return a sample of each operation."""


class _Bench:
    """What a run measures with, and what it measured."""

    def __init__(self, plan: Plan, directory: Path,
                 images: list[sources.Source],
                 stack: contextlib.ExitStack) -> None:
        self._plan = plan
        self._images = images
        self._limits: limits.Limits | None = None
        self._upkeep: upkeep.Upkeep | None = None
        self._levels: dict[str, Level] = {}
        self.samples: _Samples = {}
        for level in plan.levels:
            (directory / level).mkdir()
        if 'limits' in plan.levels:
            self._limits = limits.Limits(images[0], directory / 'limits')
        if 'upkeep' in plan.levels:
            self._upkeep = upkeep.Upkeep(images[0], plan.images,
                                         directory / 'upkeep')
        if 'driver' in plan.levels:
            self._levels['driver'] = driver_level.DriverLevel({
                kind.name: stores.configure(
                    kind, directory / 'driver' / kind.name)
                for kind in stores.KINDS})
        if 'http' in plan.levels:
            services = http_level.HTTPLevel(directory / 'http')
            services.start(stack)
            self._levels['http'] = services

    def round(self, turn: int) -> Iterator[str]:
        """Measure everything once; tell what comes next."""
        if self._limits is not None:
            for name in results.rotated(self._limits.operations, turn):
                yield f'limits, {name}'
                self._keep(results.Key('limits', name, '', ''),
                           self._limits.measure(name))
        if self._upkeep is not None:
            for key in results.rotated([*self._upkeep.keys()], turn):
                yield f'upkeep, {key.operation}'
                self._keep(key, self._upkeep.measure(key.operation))
        names = [kind.name for kind in stores.KINDS]
        for level, measurer in self._levels.items():
            for image in results.rotated(self._images, turn):
                for name in results.rotated(names, turn):
                    yield f'{level}, {image.data}, {name}'
                    samples = measurer.measure(name, image)
                    for operation, sample in samples.items():
                        self._keep(results.Key(level, operation, image.data,
                                               name), sample)

    def _keep(self, key: results.Key, sample: results.Sample) -> None:
        self.samples.setdefault(key, []).append(sample)


#: What is compared unless it is asked for something else.
LOCAL = Suite(_Bench, TARGETS, {
    'level': LEVELS,
    'operation': (*limits.OPERATIONS, 'add', 'put', 'get',
                  *upkeep.OPERATIONS),
    'data': ('', *DATA, upkeep.LARGE, upkeep.SMALL),
    'store': ('', *(kind.name for kind in stores.KINDS)),
}, _room)


def _ordered(samples: _Samples,
             orders: Mapping[str, Sequence[str]]) -> _Samples:
    """Sort what was measured as the tables show it.

    The rotation leaves it in another order in each round.
    """
    return dict(sorted(samples.items(), key=lambda item: [
        order.index(getattr(item[0], field))
        for field, order in orders.items()]))


def _measure(plan: Plan, suite: Suite, directory: Path,
             source_directory: Path,
             console: rich_console.Console) -> _Samples:
    """Prepare all, measure all rounds, and stop what was started."""
    with contextlib.ExitStack() as stack, \
            console.status('Preparing') as status:
        images = [sources.prepare(source_directory, data, plan.size)
                  for data in DATA]
        bench = suite.bench(plan, directory, images, stack)
        for turn in range(plan.rounds):
            began = time.monotonic()
            name = f'Round {turn + 1} of {plan.rounds}'
            for step in bench.round(turn):
                status.update(f'{name}: {step}')
            console.print(f'{name}: {time.monotonic() - began:.0f} s',
                          highlight=False)
    return _ordered(bench.samples, suite.orders)


def execute(plan: Plan, console: rich_console.Console,
            suite: Suite = LOCAL) -> None:
    """Run the benchmark, print the tables and write the file.

    :raises CannotRun: before anything was begun
    """
    size = len(DATA) * plan.size
    memory = sources.choose_directory(size, plan.directory)
    _check(plan, memory, suite.room(plan))
    about = _about(plan, memory)
    with (tempfile.TemporaryDirectory(prefix='.bench-',
                                      dir=plan.directory) as work,
          tempfile.TemporaryDirectory(prefix='easystack-bench-',
                                      dir=memory) as data):
        # So that a checkout in which this runs stays clean meanwhile.
        Path(work, '.gitignore').write_text('*\n')
        samples = _measure(plan, suite, Path(work), Path(data), console)
    about['disturbance'] = results.disturbance(
        itertools.chain.from_iterable(samples.values()), psutil.cpu_count())
    summaries = results.summarise_all(
        samples, limits.OPERATIONS | upkeep.BASELINES)
    verdicts = targets.judge(suite.targets, summaries)
    report.show(console, about, summaries, verdicts)
    report.save(plan.output, about, samples, summaries, verdicts)
    console.print(f'\nAll figures: {plan.output}', highlight=False,
                  soft_wrap=True)
