"""A device that hangs, or breaks, at every single step.

The steps are the calls that its file system gets: they are counted first,
and then each of them is the one from which on nothing works any more.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
import contextlib
import functools
import io
from pathlib import Path
import queue
import time
import traceback
from typing import Any
import uuid

import testscenarios

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import engine as local
from easystack_image.blockstore.local import provision
from easystack_image.blockstore.local import settings as settings_module
from tests.faults import base
from tests.faults import fuse
from tests.functional import processes

#: Two blocks, of which the last one is short.
DATA = base.content(base.MIB + 4321, seed=12)
#: Seconds that one operation on a device may take.
PATIENCE = 0.5
#: Seconds that a call may take: see base.LIMIT.
LIMIT = 10 * PATIENCE
#: How many steps are tried at the same time: most of it is waiting.
WORKERS = 12


class Directory:
    """A device that always behaves: a directory in memory."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.mount_point = self.inside = path
        self.path = str(path)

    def close(self) -> None:
        """Do nothing: it goes with the workspace."""


class Bench:
    """Some devices, of which the first can misbehave."""

    def __init__(self, case: base.TestCase, count: int) -> None:
        self.fuse = case.fuse()
        self.devices: list[base.Device] = [self.fuse, *(
            Directory(case.space.memory / str(uuid.uuid4()))
            for _ in range(count - 1))]
        provision.initialise([str(each.inside) for each in self.devices])
        #: Used only while all is well.
        self.well = self.engine()

    def engine(self, **options: object) -> local.LocalEngine:
        """Return the engine of a process that just started."""
        made = local.LocalEngine(settings_module.Settings(**{
            'devices': [each.path for each in self.devices],
            'io_timeout': PATIENCE, 'allow_shared_disk': True,
            'self_repair': False, **options}))
        made.start()
        return made

    def image_id(self) -> str:
        """Return the id of an image that is read from the faulty device."""
        return base.image_for(self.devices, self.devices[:1])

    def await_tidy(self) -> None:
        """Wait until nothing is left on the devices."""
        engine = self.engine(self_repair=True, sweep_interval=0.2)
        try:
            with contextlib.suppress(exceptions.ImageNotFound):
                engine.open(str(uuid.uuid4()))
            processes.poll(
                lambda: not any(map(base.leftovers, self.devices)),
                'the leftovers being removed', 20, 0.05)
        finally:
            engine.close()


def store(engine: local.LocalEngine, image_id: str) -> None:
    """Store an image."""
    engine.write(image_id, io.BytesIO(DATA))


def check_read(engine: local.LocalEngine, image_id: str) -> None:
    """Compare all of an image."""
    with contextlib.closing(engine.open(image_id)) as reader:
        assert b''.join(reader) == DATA, 'other bytes were handed out'


def check_good(copies: list[engine_module.Copy], least: int) -> None:
    """Count the good ones."""
    states = [copy.state for copy in copies]
    assert states.count(base.GOOD) >= least, states


class Download:
    """An image is read; it has all its copies before and afterwards."""

    prepare = staticmethod(store)
    act = staticmethod(check_read)

    @staticmethod
    def check(engine: local.LocalEngine, image_id: str) -> None:
        check_good(engine.list_copies(image_id, verify=True), 3)
        engine.delete(image_id)


class Upload:
    """An image is stored, and read at once; two copies are the least."""

    @staticmethod
    def prepare(engine: local.LocalEngine, image_id: str) -> None:
        pass

    @staticmethod
    def act(engine: local.LocalEngine, image_id: str) -> None:
        store(engine, image_id)
        check_read(engine, image_id)

    @staticmethod
    def check(engine: local.LocalEngine, image_id: str) -> None:
        check_good(engine.list_copies(image_id), 2)
        # Which reads all of every copy.
        check_good(engine.repair(image_id), 3)
        engine.delete(image_id)


class Delete:
    """An image is deleted, and does not come back."""

    prepare = staticmethod(store)

    @staticmethod
    def act(engine: local.LocalEngine, image_id: str) -> None:
        engine.delete(image_id)

    @staticmethod
    def check(engine: local.LocalEngine, image_id: str) -> None:
        def gone() -> bool:
            try:
                engine.info(image_id)
            except exceptions.ImageNotFound:
                return True
            except exceptions.ImageUnavailable:
                # What was released just now may be in the way.
                return False
            raise AssertionError('the image is there again')

        processes.poll(gone, 'an answer', 10, 0.05)


class StepsCase(testscenarios.WithScenarios, base.TestCase):
    """What is common to the tests of steps."""

    #: How many devices there are.
    devices_count = 3
    #: Seconds that what is done may take.
    limit = LIMIT
    #: How many steps are tried at most, evenly spread.
    most = 10 ** 6
    use: Any
    upset: Callable[..., None]

    def every_step(self) -> None:
        """Upset the first device at every step."""
        benches = [Bench(self, self.devices_count) for _ in range(WORKERS)]
        steps = self.count(benches[0])
        self.assertGreater(steps, 10)
        before = base.Footprint()
        free: queue.SimpleQueue[Bench] = queue.SimpleQueue()
        for bench in benches:
            free.put(bench)
        with futures.ThreadPoolExecutor(WORKERS) as pool:
            faults = list(pool.map(
                functools.partial(self.attempt, free),
                range(0, steps + 1, -(-steps // self.most))))
        self.assertEqual('', ''.join(faults), f'{steps} steps')
        before.await_nothing_added()
        for bench in benches:
            bench.await_tidy()

    def count(self, bench: Bench) -> int:
        """Return how many calls the device gets when all goes well."""
        image_id = bench.image_id()
        self.use.prepare(bench.well, image_id)
        engine = bench.engine()
        with bench.fuse.counted() as count:
            self.use.act(engine, image_id)
        self.use.check(bench.well, image_id)
        return count[0]

    def attempt(self, free: queue.SimpleQueue[Bench], step: int) -> str:
        """Try one step; return what went wrong."""
        bench = free.get()
        fault = ''
        try:
            self.upset_at(bench, step)
        except Exception:
            fault = f'step {step}: {traceback.format_exc()}'
        if bench.fuse.running:
            bench.fuse.release()
        else:
            # It gave up, so that the call above did not hang for ever.
            bench.fuse.restart()
        free.put(bench)
        return fault

    def upset_at(self, bench: Bench, step: int) -> None:
        image_id = bench.image_id()
        self.use.prepare(bench.well, image_id)
        engine = bench.engine()
        self.upset(bench.fuse, '*', skip=step)
        begin = time.monotonic()
        self.use.act(engine, image_id)
        took = time.monotonic() - begin
        assert took < self.limit, f'it took {took:.1f} s'
        bench.fuse.release()
        # A process that knows nothing of it.
        self.use.check(bench.engine(), image_id)


class TestEveryStep(StepsCase):
    scenarios = testscenarios.multiply_scenarios(
        [(each.__name__.lower(), {'use': each})
         for each in (Download, Upload, Delete)],
        [('hangs', {'upset': fuse.FuseDevice.hang}),
         ('fails', {'upset': fuse.FuseDevice.fail})])

    def test_it(self) -> None:
        self.every_step()
