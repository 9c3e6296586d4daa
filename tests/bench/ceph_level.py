"""Measure the ceph engine against glance_store's rbd driver.

Both work on one cluster, made for this run: a monitor, a manager and three
OSDs on 127.0.0.1.  Beside them the command ``rbd``, which knows nothing of
Glance, shows what Ceph gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import subprocess
import uuid

from tests.bench import driver_level
from tests.bench import meter
from tests.bench import results
from tests.bench import run
from tests.bench import sources
from tests.bench import stores
from tests.bench import targets
from tests.ceph import cluster as cluster_module
from tests.ceph import prerequisites
from tests.faults import prerequisites as common
from tests.functional import processes
from tests.functional import server

LEVEL = 'ceph'
OURS, COMMAND = 'easystack', 'rbd command'
BASELINE = results.BASELINES[LEVEL]
SHORT, RANGES = 'add, short reads', 'ranges'
#: How much a source gives that gives little, in bytes.
_PIECE = 64 * 1024
_COPIES = 3
#: How many images the cluster may hold at a time: what is deleted is given
#: back later, and the files of the OSDs only grow.
_IMAGES = 4
#: Of each OSD without any image, in bytes.
_OSD = 1024 * results.MIB


def _key(operation: str, data: str, store: str = OURS) -> results.Key:
    return results.Key(LEVEL, operation, data, store)


TARGETS: tuple[targets.Target, ...] = (
    *(targets.RatioTarget(f'{operation}, {data}', _key(operation, data),
                          ratio, BASELINE)
      for operation, data, ratio in (
          ('add', 'random', 1.7), ('get', 'random', 2.0),
          ('add', 'half-zero', 2.5), ('get', 'half-zero', 3.0))),
    targets.PairTarget('short reads of the source', _key(SHORT, 'random'),
                       _key('add', 'random'), 0.9),
    targets.MemoryTarget('memory', LEVEL, 96),
)


class CephBench:
    """See :class:`tests.bench.run.Bench`."""

    def __init__(self, plan: run.Plan, directory: Path,
                 images: list[sources.Source],
                 stack: contextlib.ExitStack) -> None:
        self.samples: dict[results.Key, list[results.Sample]] = {}
        self._images = images
        place = directory / 'ceph'
        place.mkdir()
        try:
            self._cluster = cluster_module.Cluster(
                place, osd_size=_IMAGES * plan.size + _OSD)
        except ValueError as error:
            raise run.CannotRun(f'{error}; name a shorter one with '
                                '--directory') from error
        self._cluster.start()
        stack.callback(self._cluster.stop)
        self._drivers = driver_level.DriverLevel(
            {store.name: self._configure(store, directory)
             for store in self._stores()},
            gets=1, rest=self._cluster.wait_clean)

    def _stores(self) -> list[server.Store]:
        cluster = self._cluster
        return [
            server.Store(BASELINE, 'rbd', {
                'rbd_store_ceph_conf': cluster.conf,
                'rbd_store_pool': cluster.pool,
                'rbd_store_user': cluster.user}),
            server.Store(OURS, 'easystack_block', {
                'easystack_block_engine': 'ceph',
                'easystack_block_ceph_conf': cluster.conf,
                'easystack_block_ceph_pool': cluster.pool,
                'easystack_block_ceph_user': cluster.user,
                'easystack_block_copies': _COPIES})]

    def _configure(self, store: server.Store, directory: Path) -> Path:
        root = directory / store.name
        root.mkdir()
        return stores.write(store, root)

    def round(self, turn: int) -> Iterator[str]:
        """Measure everything once; tell what comes next."""
        steps = [(name, image) for image in self._images
                 for name in (BASELINE, OURS, COMMAND)]
        for name, image in results.rotated(steps, turn):
            yield f'{image.data}, {name}'
            measured = (self._command(image) if name == COMMAND
                        else self._drivers.measure(name, image))
            for operation, sample in measured.items():
                self._keep(operation, image, name, sample)
        image = self._images[0]
        for name in results.rotated([BASELINE, OURS], turn):
            yield f'{SHORT}, {name}'
            self._keep(SHORT, image, name,
                       self._drivers.measure_short(name, image, _PIECE))
        yield RANGES
        # The other driver has none.
        self._keep(RANGES, image, OURS,
                   self._drivers.measure_ranges(OURS, image))

    def _keep(self, operation: str, image: sources.Source, name: str,
              sample: results.Sample) -> None:
        self.samples.setdefault(_key(operation, image.data, name),
                                []).append(sample)

    def _command(self, image: sources.Source) -> dict[str, results.Sample]:
        """Import and export an image with Ceph's own command."""
        name = f'{self._cluster.pool}/{uuid.uuid4()}'

        def run_it(*words: str) -> Callable[[], int]:
            def work() -> int:
                subprocess.run(
                    [prerequisites.command('rbd'), '--conf',
                     str(self._cluster.conf), '--no-progress', *words],
                    check=True, stdout=subprocess.DEVNULL,
                    env=processes.environment())
                return image.size

            return work

        measured = {}
        for operation, words in (
                ('add', ('import', '--object-size', '8M', str(image.path),
                         name)),
                ('get', ('export', name, '-'))):
            self._cluster.wait_clean()
            measured[operation] = meter.measure_here(run_it(*words))
        run_it('rm', name)()
        return measured


def _room(plan: run.Plan) -> int:
    return cluster_module.OSDS * (_IMAGES * plan.size + _OSD)


def suite() -> run.Suite:
    """Return what is compared.

    :raises tests.bench.run.CannotRun: telling what this machine lacks
    """
    try:
        prerequisites.demand()
        prerequisites.link()
    except common.Missing as error:
        raise run.CannotRun(str(error)) from error
    return run.Suite(CephBench, TARGETS, {
        'level': (LEVEL,),
        'operation': ('add', SHORT, 'get', RANGES),
        'data': run.DATA,
        'store': (BASELINE, OURS, COMMAND),
    }, _room)
