"""Reading everything now and then."""

from __future__ import annotations

import os
import threading
import time

from easystack_image import exceptions
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import scrub
from easystack_image.blockstore.local import verified
from easystack_image.blockstore.local import work
from tests.contract import local
from tests.unit.blockstore.local import base

SIZE = 3000
DAY = 86400.0


class Order(work.Silent):
    """Notes what is said, and stops the work after some images."""

    def __init__(self, stop: threading.Event, after: int) -> None:
        self.left = after
        self.stop = stop

    def advance(self, images: int, size: int) -> None:
        self.left -= images
        if images and self.left == 0:
            self.stop.set()


class ScrubTest(base.EngineTest):

    def setUp(self) -> None:
        super().setUp()
        self.data = base.noise(SIZE)
        self.images = [self.store(self.data).image_id for _ in range(4)]
        self.scrubber = self.engine.scrubber
        self.addCleanup(self.remove_state)

    def remove_state(self) -> None:
        for device in self.devices:
            path = f'{self.lab.root(device)}/{scrub.STATE}'
            if os.path.exists(path):
                os.unlink(path)

    def age(self, image_id: str, days: float) -> None:
        """Have the copies of an image verified that long ago."""
        then = time.time() - days * DAY
        for device in self.lab.holders(image_id):
            os.utime(self.lab.place(device, image_id, layout.MANIFEST),
                     (then, then))

    def verified(self, image_id: str) -> list[float]:
        return [os.stat(self.lab.place(
            device, image_id, layout.MANIFEST)).st_mtime
            for device in self.lab.holders(image_id)]

    def due(self, before: float) -> list[str]:
        return scrub.oldest_first(inventory.take(self.engine.fleet), before)

    def test_what_cannot_be_repaired_now_is_not_forgotten(self) -> None:
        first = self.images[0]
        holder = self.lab.holders(first)[0]
        self.lab.damage(holder, first, 7)
        for device in self.devices:
            self.lab.fill(device)
        result = self.scrubber.run(work.Job())
        self.assertEqual({first}, set(result.failures))
        self.assertEqual({first}, {
            upload.image_id for upload in self.engine.repairer.marked()})
        for device in self.devices:
            self.lab.make_room(device)
        self.engine.repairer.repair(first)
        self.assertEqual(set(), self.engine.repairer.marked())

    def test_all_is_well(self) -> None:
        begin = time.time() - 1
        for image_id in self.images:
            self.age(image_id, 3)
        with base.nothing_left_behind():
            result = self.scrubber.run(work.Job())
        self.assertEqual((4, 12, 0, 0, {}), (
            result.images, result.good, result.bad, result.repaired,
            result.failures))
        for image_id in self.images:
            self.assertEqual(3, len(self.verified(image_id)))
            self.assertLess(begin, min(self.verified(image_id)))

    def test_all_is_read(self) -> None:
        read: list[int] = []

        class Counting(work.Job):
            def take(self, size: int) -> None:
                read.append(size)

        self.scrubber.scrub(self.images[0], Counting())
        self.assertEqual(3 * SIZE, sum(read))

    def test_what_is_found_is_repaired(self) -> None:
        holders = self.lab.holders(self.images[0])
        self.lab.damage(holders[0], self.images[0], SIZE - 1)
        self.lab.drop(holders[1], self.images[0])
        result = self.scrubber.run(work.Job())
        self.assertEqual((2, 1, 10), (result.bad, result.repaired,
                                      result.good))
        self.assertEqual(3, len(self.good(self.images[0])))
        self.assertEqual(1, self.lab.put_aside(self.images[0]))

    def test_bad_copies_are_not_stamped(self) -> None:
        self.scrubber = scrub.Scrubber(self.engine.fleet,
                                       self.engine.settings, None)
        self.age(self.images[0], 3)
        bad = self.lab.holders(self.images[0])[0]
        self.lab.damage(bad, self.images[0], 0)
        result = self.scrubber.scrub(self.images[0], work.Job())
        self.assertEqual((1, 0), (result.bad, result.repaired))
        self.assertGreater(time.time() - 2 * DAY, os.stat(self.lab.place(
            bad, self.images[0], layout.MANIFEST)).st_mtime)
        self.assertEqual(1, self.lab.put_aside(self.images[0])
                         + len([bad]))
        self.assertEqual([self.images[0]], self.due(time.time() - DAY))

    def test_oldest_first(self) -> None:
        for number, days in enumerate((3, 9, 0, 5)):
            self.age(self.images[number], days)
        self.assertEqual(
            [self.images[number] for number in (1, 3, 0)],
            self.due(time.time() - DAY))
        # One old copy is enough.
        path = self.lab.place(self.lab.holders(self.images[2])[1],
                              self.images[2], layout.MANIFEST)
        os.utime(path, (1, 1))
        self.assertEqual(self.images[2], self.due(time.time() - DAY)[0])

    def test_verified_in_the_future(self) -> None:
        # The clock was wrong, and must not keep it from being read.
        self.age(self.images[0], -1000)
        self.assertEqual([self.images[0]], self.due(time.time() - DAY))

    def test_interrupted_and_resumed(self) -> None:
        for number, image_id in enumerate(self.images):
            self.age(image_id, 10 - number)
        stop = threading.Event()
        self.assertRaises(exceptions.Interrupted, self.scrubber.run,
                          work.Job(stop=stop, progress=Order(stop, 2)))
        # Also by another process.
        other = self.lab.engine(self_repair=False)
        result = other.scrubber.run(work.Job())
        self.assertEqual(2, result.images)
        # And then from the beginning.
        self.assertEqual(4, self.scrubber.run(work.Job()).images)

    def test_restart(self) -> None:
        stop = threading.Event()
        self.assertRaises(exceptions.Interrupted, self.scrubber.run,
                          work.Job(stop=stop, progress=Order(stop, 2)))
        self.assertEqual(4, self.scrubber.run(
            work.Job(), restart=True).images)

    def test_state_that_is_damaged(self) -> None:
        for device, content in zip(self.devices, (
                b'', b'[]', b'{"began_at": "x"}', b'\xff'), strict=True):
            with open(f'{device}/{scrub.STATE}', 'wb') as file:
                file.write(content)
        self.assertEqual(4, self.scrubber.run(work.Job()).images)

    def test_interrupted_at_a_time_to_come(self) -> None:
        # The clock was wrong, so that nothing would ever be through.
        self.scrubber._note(time.time() + 1e6)
        stop = threading.Event()
        self.assertRaises(exceptions.Interrupted, self.scrubber.run,
                          work.Job(stop=stop, progress=Order(stop, 2)))
        self.assertEqual(2, self.scrubber.run(work.Job()).images)

    def test_interrupted_amid_an_image(self) -> None:
        job = work.Job()
        job.stop.set()
        with base.nothing_left_behind():
            self.assertRaises(exceptions.Interrupted, self.scrubber.scrub,
                              self.images[0], job)

    def test_deleted_meanwhile(self) -> None:
        listed = inventory.take(self.engine.fleet)
        self.engine.delete(self.images[0])
        result = self.scrubber.scrub_those(self.images, listed, work.Job())
        self.assertEqual({}, result.failures)
        self.assertEqual(9, result.good)

    def test_beyond_repair(self) -> None:
        for device in self.lab.holders(self.images[0]):
            self.lab.damage(device, self.images[0], 5)
        result = self.scrubber.run(work.Job())
        self.assertEqual([self.images[0]], list(result.failures))
        self.assertEqual(9, result.good)

    def test_a_device_is_away(self) -> None:
        self.lab.take_away(self.devices[0])
        result = self.scrubber.run(work.Job())
        # It is counted on to bring its copies back.
        self.assertEqual((0, 0, {}), (result.bad, result.repaired,
                                      result.failures))


class StampTest(base.EngineTest):

    def test_engine_tells(self) -> None:
        info = self.store(b'data')
        begin = time.time() - 1
        for device in self.lab.holders(info.image_id):
            os.utime(self.lab.place(device, info.image_id,
                                    layout.MANIFEST), (5, 5))
        for copy in self.engine.list_copies(info.image_id):
            self.assertEqual((5, 4), (copy.verified_at, copy.size))
        for _ in range(2):
            for copy in self.engine.list_copies(info.image_id,
                                                verify=True):
                last = copy.verified_at
        self.assertLess(begin, last)

    def test_only_those(self) -> None:
        info = self.store(b'data')
        holders = self.lab.holders(info.image_id)
        paths = [self.lab.place(device, info.image_id, layout.MANIFEST)
                 for device in holders]
        for path in paths:
            os.utime(path, (5, 5))
        content = [open(path, 'rb').read() for path in paths]
        verified.stamp(self.engine.fleet, info.image_id, holders[:1])
        self.assertLess(5, os.stat(paths[0]).st_mtime)
        self.assertEqual([5, 5], [os.stat(path).st_mtime
                                  for path in paths[1:]])
        self.assertEqual(content, [open(path, 'rb').read()
                                   for path in paths])
        # What is gone by now is no error.
        self.lab.drop(holders[0], info.image_id)
        verified.stamp(self.engine.fleet, info.image_id, holders)

    def test_flip_is_found_after_a_stamp(self) -> None:
        # A stamp is a time, and vouches for nothing.
        info = self.store(b'data')
        device = self.lab.holders(info.image_id)[0]
        self.engine.list_copies(info.image_id, verify=True)
        local.flip(self.lab.place(device, info.image_id, layout.DATA), 0)
        self.assertEqual('damaged', self.states(info.image_id)[device])
