"""Deleting images, and keeping them deleted."""

from __future__ import annotations

from easystack_image import exceptions
from tests.contract import base
from tests.contract import sources
from tests.contract.sources import noise

load_tests = base.load_tests


class StoredTest(base.ContractTest):
    """Tests that begin with one image."""

    def setUp(self) -> None:
        super().setUp()
        self.data = noise(self.chunk + 1)
        self.image = self.image_id()
        self.stored = self.engine.write(
            self.image, sources.Source(self.data))


class DeleteTest(StoredTest):

    def test_everything_is_gone(self) -> None:
        other = self.image_id()
        info = self.engine.write(other, sources.Source(b'other'))
        self.engine.delete(self.image)
        self.assertAbsent(self.image)
        self.assertEqual([other], list(self.engine.list_images()))
        self.assertStored(info, b'other')

    def test_the_upload_that_is_meant(self) -> None:
        self.engine.delete(self.image, self.stored.generation)
        self.assertAbsent(self.image)

    def test_twice(self) -> None:
        self.engine.delete(self.image)
        for engine in (self.engine, self.lab.engine()):
            self.assertRaises(exceptions.ImageNotFound, engine.delete,
                              self.image)
            self.assertRaises(exceptions.ImageNotFound, engine.delete,
                              self.image, self.stored.generation)

    def test_unknown(self) -> None:
        self.assertRaises(exceptions.ImageNotFound, self.engine.delete,
                          self.image_id())
        self.assertStored(self.stored, self.data)

    @base.of_single_copies
    def test_another_upload_than_the_one_that_is_stored(self) -> None:
        # Whatever the state of the copies.
        self.lab.damage(self.lab.holders(self.image)[0], self.image, 0)
        self.lab.drop(self.lab.holders(self.image)[1], self.image)
        before = self.lab.holders(self.image)
        self.assertRaises(exceptions.ImageNotFound, self.engine.delete,
                          self.image, self.image)
        self.assertEqual(before, self.lab.holders(self.image))
        self.assertStored(self.stored, self.data)

    def test_damaged_copies(self) -> None:
        for device in self.lab.holders(self.image):
            self.lab.damage(device, self.image, 0)
        self.engine.delete(self.image)
        self.assertAbsent(self.image)

    @base.of_single_copies
    def test_full_devices(self) -> None:
        for device in self.lab.devices:
            self.lab.fill(device)
        self.engine.delete(self.image)
        self.assertAbsent(self.image)

    def test_again_and_again_under_one_id(self) -> None:
        for number in range(4):
            self.engine.delete(self.image)
            data = noise(10 + number, number)
            info = self.engine.write(self.image, sources.Source(data))
            self.assertStored(info, data)
        self.assertEqual(3, len(self.good(self.image)))


@base.of_single_copies
class AbsentDeviceTest(StoredTest):
    """A device that was away while an image was deleted."""

    def setUp(self) -> None:
        super().setUp()
        self.device = self.lab.holders(self.image)[0]
        self.lab.take_away(self.device)
        self.engine.delete(self.image)

    def test_resurrects_nothing(self) -> None:
        self.lab.bring_back(self.device)
        for engine in (self.engine, self.lab.engine()):
            for call in (engine.info, engine.open, engine.delete,
                         engine.list_copies, engine.repair):
                self.assertRaises(exceptions.ImageNotFound, call, self.image)
            self.assertRaises(exceptions.ImageNotFound, engine.info,
                              self.image, self.stored.generation)
            self.assertEqual([], list(engine.list_images()))

    def test_is_cleaned_up_when_it_returns(self) -> None:
        self.lab.bring_back(self.device)
        self.assertEqual([self.device], self.lab.holders(self.image))
        self.lab.housekeeping(self.engine)
        self.assertAbsent(self.image)

    def test_is_cleaned_up_if_it_was_away_for_a_short_while_only(
            self) -> None:
        # Between one look for leftovers and the next.
        self.lab.bring_back(self.device)
        image_id, data = self.image_id(), noise(5)
        self.engine.write(image_id, sources.Source(data))
        device = self.lab.holders(image_id)[0]
        self.lab.housekeeping(self.engine)
        self.lab.take_away(device)
        self.engine.delete(image_id)
        self.lab.bring_back(device)
        self.lab.housekeeping(self.engine)
        self.assertAbsent(image_id)

    def test_does_not_stand_in_the_way_of_a_new_upload(self) -> None:
        self.lab.bring_back(self.device)
        data = noise(self.block, 7)
        info = self.engine.write(self.image, sources.Source(data))
        self.assertStored(info, data)
        self.assertEqual(3, len(self.good(self.image)))

    def test_gives_none_of_its_old_bytes_for_a_new_upload(self) -> None:
        data = noise(len(self.data), 7)
        info = self.engine.write(self.image, sources.Source(data))
        self.lab.bring_back(self.device)
        self.assertStored(info, data)
        self.assertNotIn(self.device, self.good(self.image))
        self.assertEqual(base.STALE, self.states(self.image)[self.device])
        self.lab.housekeeping(self.engine)
        self.assertNotIn(self.device, self.lab.holders(self.image))
        self.assertStored(info, data)

    def test_is_repaired_for_a_new_upload(self) -> None:
        self.lab.take_away(next(device for device in self.lab.devices
                                if device != self.device))
        data = noise(len(self.data), 7)
        info = self.engine.write(self.image, sources.Source(data))
        self.lab.bring_back(self.device)
        copies = self.engine.repair(self.image)
        self.assertEqual(3, len([copy for copy in copies
                                 if copy.state is base.GOOD]))
        self.assertIn(self.device, self.good(self.image))
        self.assertStored(info, data)
