"""What serves after the machine was started, however slow that is."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Any

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import boot
from easystack_image.ota.serving import instance
from easystack_image.ota.serving import launcher
from easystack_image.ota.serving import stats
from easystack_image.ota.slots import slots as slots_module
from tests.unit.ota.upgrade import world as worlds


class SlowInstance(worlds.Instance):
    """One that does not answer before it is told to."""

    loads = False

    def _all(self) -> list[stats.Worker]:
        if not self.loads:
            raise exceptions.InstanceError('not yet')
        return super()._all()


class SlowLauncher(worlds.Launcher):

    def instance(self, name: str) -> SlowInstance:
        return SlowInstance(self._world, name)


class BootCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.world = worlds.World(self.root)
        self.world.make_slot('1.0.0', 1)
        self.launcher = SlowLauncher(self.world)
        slot = self.world.tools().slots.get('1.0.0')
        assert slot is not None
        self.slot = slot
        self.useFixture(fixtures.MonkeyPatch(
            f'{__name__}.SlowInstance.loads', False))


class BootTest(BootCase):

    def test_one_that_loads_for_long(self) -> None:
        """It serves when it has loaded, though nobody waits any more."""
        self.assertRaises(exceptions.InstanceError, boot.boot, self.launcher,
                          self.slot, 0.2)
        self.assertEqual({'1.0.0'}, self.world.serving())

    def test_again(self) -> None:
        self.assertRaises(exceptions.InstanceError, boot.boot, self.launcher,
                          self.slot, 0)
        SlowInstance.loads = True
        self.assertEqual('1.0.0.0', boot.boot(
            self.launcher, self.slot, 1).name)
        self.assertEqual(['1.0.0.0'], list(self.world.running))


class StoppedLauncher(SlowLauncher):
    """As systemd: a unit was stopped while it waited to start again."""

    def list(self) -> Sequence[launcher.Started]:
        return [dataclasses.replace(each, pid=None)
                for each in super().list()]

    def start(self, name: str, slot: Path) -> instance.Instance:
        self.started = [*getattr(self, 'started', []), name]
        return super().start(name, slot)


class StoppedTest(BootCase):

    def test_is_started(self) -> None:
        """Its gate is open, but nobody would start it again."""
        SlowInstance.loads = True
        boot.boot(self.launcher, self.slot, 1)
        stopped = StoppedLauncher(self.world)
        boot.boot(stopped, self.slot, 1)
        self.assertEqual(['1.0.0.0'], stopped.started)


class KeepTryingTest(BootCase):
    """The holder, which nobody starts again because of that."""

    def setUp(self) -> None:
        super().setUp()
        self.logged = self.useFixture(fixtures.FakeLogger())
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> bool:
        """Have time pass until the next try."""
        self.pauses.append(seconds)
        return len(self.pauses) >= 8

    def keep_trying(self, *ends: Any) -> int:
        """Have tries end as told; return how many were made."""
        left = list(ends)

        def look() -> slots_module.Slot | None:
            end = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(end, Exception):
                raise end
            return self.slot if end else None

        boot.keep_trying(self.launcher, look, 0.01, self.wait)
        return len(self.pauses) + 1

    def test_at_once(self) -> None:
        SlowInstance.loads = True
        self.assertEqual(1, self.keep_trying(True))
        self.assertEqual({'1.0.0'}, self.world.serving())

    def test_nothing_to_serve(self) -> None:
        self.assertEqual(1, self.keep_trying(False))
        self.assertEqual({}, self.world.running)

    def test_what_passes(self) -> None:
        SlowInstance.loads = True
        self.assertEqual(3, self.keep_trying(
            exceptions.SlotError('locked'), OSError('no memory'), True))
        self.assertEqual({'1.0.0'}, self.world.serving())
        self.assertIn('locked', self.logged.output)
        self.assertIn('no memory', self.logged.output)

    def test_until_it_ends(self) -> None:
        self.assertEqual(9, self.keep_trying(True))
        self.assertEqual(sorted(self.pauses), self.pauses)
        self.assertLessEqual(self.pauses[-1], 30)
        self.assertEqual({'1.0.0'}, self.world.serving())
