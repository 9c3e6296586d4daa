"""Devices that cannot be written any more, and can still be read."""

from __future__ import annotations

import errno

from glance_store import exceptions as store_exceptions

from easystack_image import exceptions
from tests.faults import base
from tests.functional import processes

MIB = base.MIB
DATA = base.content(40 * MIB + 4321, seed=3)
HALF = 20 * MIB


class TestReadOnlyDevices(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.loops()
        self.first, self.second, self.third = self.disks
        self.client_ = self.client_on(*self.disks)

    def make_read_only(self, *disks: base.loop.LoopDevice) -> None:
        for disk in disks:
            disk.remount('ro')

    def test_one_from_the_beginning(self) -> None:
        self.make_read_only(self.first)
        image_id, uri = self.upload(self.client_, DATA)
        self.assertEqual(
            {self.first.path: base.MISSING, self.second.path: base.GOOD,
             self.third.path: base.GOOD},
            self.states(self.client_.engine, image_id))
        self.check_image(self.client_, uri, DATA)
        self.check_nothing_left(self.first)

    def check_refused(self, *disks: base.loop.LoopDevice) -> None:
        """See an upload refused because some devices are read-only."""
        cause = self.refused(store_exceptions.StorageWriteDenied,
                             self.client_, DATA)
        self.assertEqual({(disk.path, errno.EROFS) for disk in disks},
                         {(each.device, each.errno)
                          for each in cause.causes})
        self.check_nothing_left()

    def test_two_from_the_beginning(self) -> None:
        self.make_read_only(self.first, self.second)
        self.check_refused(self.first, self.second)

    def test_all_from_the_beginning(self) -> None:
        self.make_read_only(*self.disks)
        self.check_refused(*self.disks)

    def test_one_while_uploading(self) -> None:
        image_id, uri = self.upload(self.client_, DATA,
                                    {HALF: self.first.trip})
        self.assertEqual(
            {self.first.path: base.MISSING, self.second.path: base.GOOD,
             self.third.path: base.GOOD},
            self.states(self.client_.engine, image_id))
        self.check_image(self.client_, uri, DATA)
        self.first.bring_back()
        self.client()
        self.check_nothing_left(self.first)

    def test_two_while_uploading(self) -> None:
        def trip() -> None:
            self.first.trip()
            self.second.trip()

        cause = self.refused(store_exceptions.StorageWriteDenied,
                             self.client_, DATA, {HALF: trip})
        self.assertEqual({self.first.path, self.second.path},
                         {each.device for each in cause.causes})
        self.check_nothing_left(self.third)
        for disk in (self.first, self.second):
            disk.bring_back()
        self.client()
        self.check_nothing_left()

    def test_one_while_downloading(self) -> None:
        image_id, uri = self.upload(self.client_, DATA,
                                    image_id=self.image_for(self.first))
        received = bytearray()
        with self.within(base.LIMIT), self.client_.opened(uri) as body:
            received += next(body)
            self.first.trip()
            base.drain(body, received)
        self.assertTrue(received == DATA)
        # Nothing is wrong with the copy.
        self.check_copies(self.client_.engine, image_id, good=3)

    def test_all_can_still_be_read(self) -> None:
        image_id, uri = self.upload(self.client_, DATA)
        self.make_read_only(*self.disks)
        self.check_image(self.client_, uri, DATA)
        self.check_image(self.client(), uri, DATA)
        with self.within(base.LIMIT):
            self.assertRaises(store_exceptions.GlanceStoreException,
                              self.client_.delete, uri)
        # What could not be deleted is still there, whole.
        self.check_image(self.client_, uri, DATA)
        self.check_copies(self.client_.engine, image_id, good=3)

    def test_a_copy_that_cannot_be_removed_is_not_served(self) -> None:
        _, uri = self.upload(self.client_, DATA)
        self.make_read_only(self.first)
        with self.within(base.LIMIT):
            self.client_.delete(uri)
        self.check_nothing_left(self.second, self.third)
        self.assertNotEqual([], base.leftovers(self.first))
        for client in (self.client_, self.client()):
            self.assertRaises(store_exceptions.NotFound, client.download,
                              uri)
            self.assertEqual([], list(client.engine.list_images()))
        self.first.remount('rw')
        self.engine()
        processes.poll(lambda: not base.leftovers(self.first),
                       'the copy being removed', 20)

    def test_repair_takes_another_device(self) -> None:
        spare = self.loop()
        client = self.client_on(*self.loops(), spare)
        first, second, third, _ = self.devices
        image_id, uri = self.upload(
            client, DATA, image_id=self.image_for(first, second, third))
        self.check_nothing_left(spare)
        (first.inside / 'images' / image_id[:2] / image_id
         / 'manifest').write_bytes(b'damaged')
        first.remount('ro')
        client.engine.repair(image_id)
        self.assertEqual(base.GOOD, self.states(
            client.engine, image_id)[spare.path])
        self.check_copies(client.engine, image_id, good=3)
        self.check_image(client, uri, DATA)

    def test_nothing_can_be_repaired_without_room(self) -> None:
        image_id, uri = self.upload(self.client_, DATA)
        (self.first.inside / 'images' / image_id[:2] / image_id
         / 'data').write_bytes(b'damaged')
        self.make_read_only(self.first)
        with self.within(base.LIMIT):
            error = self.assertRaises(exceptions.NotEnoughCopies,
                                      self.client_.engine.repair, image_id)
        self.assertEqual([errno.EROFS],
                         [each.errno for each in error.causes])
        self.check_image(self.client_, uri, DATA)
