"""A device hangs, or breaks, while the copies are operated.

Whatever it does, and from whichever step on: nothing hangs for long, and
afterwards every image is whole.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import os
import shutil
import threading

import testscenarios

from easystack_image import exceptions
from easystack_image.blockstore.local import engine as local
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import work
from tests.faults import fuse
from tests.faults import test_steps


class Operation:
    """Something that an operator does, on a store with an image."""

    @staticmethod
    def prepare(engine: local.LocalEngine, image_id: str) -> None:
        engine.membership.remember()
        test_steps.store(engine, image_id)

    @classmethod
    def act(cls, engine: local.LocalEngine, image_id: str) -> None:
        # It may fail, as long as it does so in time.
        with contextlib.suppress(exceptions.BlockStoreError):
            cls.operate(engine, image_id)
        # And the image is served all the while.
        test_steps.check_read(engine, image_id)

    @staticmethod
    def operate(engine: local.LocalEngine, image_id: str) -> None:
        raise NotImplementedError

    @staticmethod
    def check(engine: local.LocalEngine, image_id: str) -> None:
        engine.membership.rebuild(work.Job())
        test_steps.check_good(engine.repair(image_id), 3)
        engine.delete(image_id)


def lose_copy(engine: local.LocalEngine, image_id: str) -> None:
    """Have one copy vanish, but not the one on the first device."""
    path = [copy.device for copy in engine.list_copies(image_id)][-1]
    shutil.rmtree(f'{path}/{layout.copy_directory(image_id)}')


class Scrub(Operation):
    """All of every copy is read."""

    @staticmethod
    def operate(engine: local.LocalEngine, image_id: str) -> None:
        engine.scrubber.run(work.Job(), restart=True)


class Rebalance(Operation):
    """A lost copy is made up for."""

    @classmethod
    def prepare(cls, engine: local.LocalEngine, image_id: str) -> None:
        super().prepare(engine, image_id)
        lose_copy(engine, image_id)

    @staticmethod
    def operate(engine: local.LocalEngine, image_id: str) -> None:
        engine.membership.rebuild(work.Job())


class Drain(Operation):
    """The very device that misbehaves is drained."""

    @staticmethod
    def operate(engine: local.LocalEngine, image_id: str) -> None:
        path = next(iter(engine.fleet.devices))
        engine.membership.drain(path)
        engine.membership.empty(path, work.Job())

    @classmethod
    def check(cls, engine: local.LocalEngine, image_id: str) -> None:
        engine.membership.activate(next(iter(engine.fleet.devices)))
        super().check(engine, image_id)


class Heal(Rebalance):
    """The healer does a round, scrubs, and does another one."""

    @staticmethod
    def operate(engine: local.LocalEngine, image_id: str) -> None:
        engine.healer(lambda status: None).once(threading.Event())


class TestOperating(test_steps.StepsCase):
    scenarios = testscenarios.multiply_scenarios(
        [(each.__name__.lower(), {'use': each})
         for each in (Scrub, Rebalance, Drain, Heal)],
        [('hangs', {'upset': fuse.FuseDevice.hang}),
         ('fails', {'upset': fuse.FuseDevice.fail})])
    devices_count = 4
    #: Each of some thirty looks at all devices may meet it once more.
    limit = 60 * test_steps.PATIENCE
    #: To look at everything takes thousands of steps, most of which nobody
    #: tries: more with EASYSTACK_TEST_POINTS=all.
    most = 200 if os.environ.get('EASYSTACK_TEST_POINTS') == 'all' else 16
    use: type[Operation]
    upset: Callable[..., None]

    def test_it(self) -> None:
        self.every_step()
