"""What is kept for a while only."""

from __future__ import annotations

import os
import time

import fixtures

from easystack_image import exceptions
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import expiry
from easystack_image.blockstore.local import layout
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import operating

DAY = 86400


def set_forward(test: base.LabTest, seconds: float) -> None:
    """Set the time of day forward until the test ends."""
    real = time.time
    test.useFixture(fixtures.MonkeyPatch('time.time',
                                         lambda: real() + seconds))


class RemoveMarksTest(base.EngineTest):
    """The marks of deleted uploads, as old as a test's can be."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.store(b'some data').image_id
        self.holders = self.lab.holders(self.image)
        self.expiry = expiry.Expiry(self.fleet())

    def delete_while_away(self) -> None:
        self.lab.take_away(self.holders[0])
        self.engine.delete(self.image)

    def remove_marks(self) -> int:
        # Files have the time of the last tick of the clock.
        time.sleep(0.05)
        return self.expiry.remove_marks(0.0)

    def test_they_go(self) -> None:
        self.engine.delete(self.image)
        self.assertEqual(1, self.remove_marks())
        self.assertEqual(set(), self.marks('deleted', self.image))

    def test_they_stay_while_they_are_young(self) -> None:
        self.engine.delete(self.image)
        self.assertEqual(0, self.expiry.remove_marks(60.0))
        self.assertEqual(1, len(self.marks('deleted', self.image)))

    def test_they_stay_when_the_clock_is_set_forward(self) -> None:
        self.engine.delete(self.image)
        set_forward(self, 1000 * DAY)
        self.assertEqual(0, self.expiry.remove_marks(180.0 * DAY))
        self.assertEqual(1, len(self.marks('deleted', self.image)))

    def test_they_stay_while_a_device_is_away(self) -> None:
        self.delete_while_away()
        self.assertEqual(0, self.remove_marks())
        self.assertEqual(1, len(self.marks('deleted', self.image)))

    def test_a_device_that_was_not_swept_brings_nothing_back(self) -> None:
        self.delete_while_away()
        self.lab.bring_back(self.holders[0])
        self.assertEqual(0, self.remove_marks())
        self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                          self.image)

    def test_they_go_once_it_was_swept(self) -> None:
        self.delete_while_away()
        self.lab.bring_back(self.holders[0])
        self.engine.sweeper.sweep()
        self.assertEqual([], self.lab.holders(self.image))
        self.assertEqual(1, self.remove_marks())
        self.assertRaises(exceptions.ImageNotFound, self.engine.info,
                          self.image)


class ReplacedTest(operating.OperatingTest):
    """A device that was replaced, and comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()
        self.engine.write(self.image, base.Source(b'some data'))
        self.old = self.lab.holders(self.image)[0]
        self.lab.take_away(self.old)
        self.engine.membership.replace(self.old, self.more[0])
        self.engine.delete(self.image)

    def come_back(self) -> engine_module.LocalEngine:
        """Bring it back; return the engine of a process that sees it."""
        self.lab.bring_back(self.old)
        engine = self.restart(devices=[*self.devices, self.more[0]])
        engine.sweeper.sweep()
        return engine

    def test_while_deletions_are_remembered(self) -> None:
        engine = self.come_back()
        self.assertRaises(exceptions.ImageNotFound, engine.info, self.image)
        self.assertEqual([], list(engine.list_images()))
        self.assertEqual([], self.lab.holders(self.image))

    def test_later(self) -> None:
        """It is told of as the manual says, and removed by nobody.

        It may as well be the last copy of an image that the others lost.
        """
        time.sleep(0.05)
        self.assertEqual(
            1, expiry.Expiry(self.engine.fleet).remove_marks(0.0))
        engine = self.come_back()
        self.assertEqual([self.image], list(engine.list_images()))
        self.assertEqual([self.old], self.lab.holders(self.image))
        # A repair makes copies of it, as of any image.
        engine.repair(self.image)
        self.assertEqual(b'some data', b''.join(engine.open(self.image)))
        # And once it is deleted again, it is gone.
        engine.delete(self.image)
        self.assertEqual([], self.lab.holders(self.image))


class RemoveQuarantinedTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.expiry = expiry.Expiry(self.fleet())

    def put_aside(self, nanoseconds: int) -> None:
        """Put something aside, at what is said to be this time."""
        os.mkdir(f'{self.devices[0]}/{layout.QUARANTINE}/'
                 f'{self.image_id()}.{nanoseconds}')

    def left(self) -> int:
        return len(self.names(self.devices[0], layout.QUARANTINE))

    def test_they_go(self) -> None:
        self.put_aside(time.time_ns())
        # Files have the time of the last tick of the clock.
        time.sleep(0.05)
        self.assertEqual(1, self.expiry.remove_quarantined(0.0))
        self.assertEqual(0, self.left())

    def test_they_stay_while_they_are_young(self) -> None:
        self.put_aside(time.time_ns())
        self.assertEqual(0, self.expiry.remove_quarantined(60.0))

    def test_they_stay_though_the_clock_was_behind(self) -> None:
        """When they got their names."""
        self.put_aside(10**9)
        self.assertEqual(0, self.expiry.remove_quarantined(DAY))
        self.assertEqual(1, self.left())

    def test_they_stay_when_the_clock_is_set_forward(self) -> None:
        self.put_aside(time.time_ns())
        set_forward(self, 1000 * DAY)
        self.assertEqual(0, self.expiry.remove_quarantined(30.0 * DAY))
        self.assertEqual(1, self.left())

    def test_they_stay_when_the_clock_is_set_back(self) -> None:
        self.put_aside(time.time_ns())
        set_forward(self, -1000 * DAY)
        self.assertEqual(0, self.expiry.remove_quarantined(0.0))
