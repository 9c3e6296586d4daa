"""A device misses a deletion, and whoever knew of it is gone."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import fixtures

from easystack_image import exceptions
from tests.contract import local
from tests.unit.blockstore.local import base


class MissedDeletionTest(base.EngineTest):
    """An image is deleted while a device did not answer, but was there."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.store(b'some data').image_id
        self.device, self.other, _ = self.lab.holders(self.image)
        self.healer = self.lab.engine(
            deleted_ttl=0.0, quarantine_ttl=1.0).healer(self.hear)
        # It knows these devices by now.
        self.heal()

    def hear(self, status: Any) -> None:
        self.status = status

    def heal(self) -> None:
        self.healer.round(threading.Event())

    def delete(self, *missing: str) -> None:
        """Delete it as a process does that ends right afterwards.

        :param missing: the devices that do not answer
        """
        # Files have the time of the last tick of the clock.
        time.sleep(0.05)
        deleting = self.lab.engine()
        for device in missing:
            deleting.fleet.devices[device].avoid()
        deleting.delete(self.image)
        deleting.close()
        self.assertEqual(list(missing), self.lab.holders(self.image))

    def damage(self, *devices: str) -> None:
        for device in devices:
            local.flip(self.lab.place(device, self.image, 'manifest'), 99)

    def test_copy(self) -> None:
        self.delete(self.device)
        self.heal()
        self.heal()
        self.assertEqual([], self.lab.holders(self.image))
        self.assertEqual(0, self.lab.put_aside(self.image))
        self.assertEqual(0, self.status.below_copies)

    def check_put_aside(self, *devices: str) -> None:
        """Delete copies that cannot be told from another upload's."""
        self.damage(*devices)
        self.delete(*devices)
        self.heal()
        self.heal()
        self.assertEqual([], self.lab.holders(self.image))
        self.assertEqual(len(devices), self.lab.put_aside(self.image))
        self.assertEqual(0, self.status.below_copies)

    def test_copy_with_a_damaged_manifest(self) -> None:
        self.check_put_aside(self.device)

    def test_two_of_them(self) -> None:
        self.check_put_aside(self.device, self.other)

    def test_uploaded_anew(self) -> None:
        self.delete()
        time.sleep(0.05)
        self.store(b'other data', self.image)
        holders = self.lab.holders(self.image)
        self.damage(*holders)
        self.lab.drop(holders[0], self.image)
        self.heal()
        self.heal()
        # It was not deleted, and the data could be rescued by hand.
        self.assertEqual(holders[1:], self.lab.holders(self.image))
        self.assertEqual(0, self.lab.put_aside(self.image))

    def test_uploaded_anew_and_one_copy_left(self) -> None:
        self.delete()
        time.sleep(0.05)
        self.store(b'other data', self.image)
        last, *others = self.lab.holders(self.image)
        self.damage(last)
        for device in others:
            self.lab.drop(device, self.image)
        self.heal()
        self.heal()
        self.assertEqual([last], self.lab.holders(self.image))
        self.assertEqual(0, self.lab.put_aside(self.image))

    def test_uploaded_anew_at_that_moment(self) -> None:
        self.damage(self.device)
        self.delete(self.device)
        sweeping = self.lab.engine()
        run = sweeping.fleet.run

        def upload() -> None:
            with contextlib.suppress(exceptions.ImageBusy):
                self.store(b'other data', self.image)

        thread = threading.Thread(target=upload)

        def late(function: Any, *args: Any, **options: Any) -> Any:
            if function.__name__ == 'aside':
                thread.start()
                # It gets as far as it can.
                thread.join(1.0)
            return run(function, *args, **options)

        self.useFixture(fixtures.MockPatchObject(
            sweeping.fleet, 'run', late))
        sweeping.sweeper.sweep()
        thread.join()
        self.assertEqual(3, len(self.good(self.image)))
        self.assertEqual(1, self.lab.put_aside(self.image))
