"""What is kept for a while only."""

from __future__ import annotations

import time

from easystack_image import exceptions
from easystack_image.blockstore.local import expiry
from tests.unit.blockstore.local import base


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
