"""Devices that were away, and come back with what they had."""

from __future__ import annotations

import contextlib
import io
import uuid

from easystack_image import exceptions
from easystack_image.blockstore.local import engine as local
from tests.faults import base
from tests.functional import processes

MIB = base.MIB
OLD = base.content(9 * MIB + 4321, seed=6)
NEW = base.content(11 * MIB + 17, seed=7)


def store(engine: local.LocalEngine, data: bytes, image_id: str) -> None:
    """Store an image."""
    engine.write(image_id, io.BytesIO(data), len(data))


def read(engine: local.LocalEngine, image_id: str) -> bytes:
    """Return all of an image."""
    with contextlib.closing(engine.open(image_id)) as reader:
        return b''.join(reader)


class TestReturningDevices(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.loops()
        self.prepare(self.disks)
        self.away = self.disks[0]
        self.image_id = self.image_for(self.away)

    def await_good(self, engine: local.LocalEngine, image_id: str,
                   count: int = 3) -> None:
        """Wait until an image has so many good copies."""
        processes.poll(
            lambda: self.count(engine, image_id, base.GOOD) == count,
            f'{count} good copies', 20)

    def test_copies_are_counted_again(self) -> None:
        engine = self.engine(self_repair=False)
        store(engine, OLD, self.image_id)
        self.away.unmount()
        self.assertEqual(
            base.UNREACHABLE,
            self.states(engine, self.image_id)[self.away.path])
        self.away.bring_back()
        self.check_copies(engine, self.image_id, good=3)

    def test_what_was_stored_meanwhile_gets_its_copy(self) -> None:
        engine = self.engine()
        self.away.unmount()
        store(engine, OLD, self.image_id)
        self.check_copies(engine, self.image_id, good=2)
        self.away.bring_back()
        self.await_good(engine, self.image_id)
        self.assertTrue(read(engine, self.image_id) == OLD)
        # And it is not noted any more that one is missing.
        processes.poll(
            lambda: not any(list((disk.inside / 'repair').iterdir())
                            for disk in self.disks),
            'the notes being removed', 20)

    def test_what_was_deleted_meanwhile_stays_deleted(self) -> None:
        engine = self.engine(self_repair=False)
        store(engine, OLD, self.image_id)
        self.away.unmount()
        engine.delete(self.image_id)
        self.away.bring_back()
        self.assertNotEqual([], base.leftovers(self.away))
        for each in (engine, self.engine(self_repair=False)):
            self.assertRaises(exceptions.ImageNotFound, each.info,
                              self.image_id)
            self.assertRaises(exceptions.ImageNotFound, each.open,
                              self.image_id)
            self.assertRaises(exceptions.ImageNotFound, each.delete,
                              self.image_id)
            self.assertEqual([], list(each.list_images()))
        # And it can be stored again, though its old copy is still there.
        store(engine, NEW, self.image_id)
        self.assertTrue(read(engine, self.image_id) == NEW)
        self.check_copies(engine, self.image_id, good=3)

    def await_swept(self) -> None:
        processes.poll(lambda: not base.leftovers(self.away),
                       'the copy of a deleted image being removed', 10)

    def test_copies_of_deleted_images_are_removed(self) -> None:
        engine = self.engine()
        store(engine, OLD, self.image_id)
        self.away.unmount()
        engine.delete(self.image_id)
        # A sweep sees that the device is away.
        other = str(uuid.uuid4())
        store(engine, NEW, other)
        engine.delete(other)
        self.engine()
        self.away.bring_back()
        self.await_swept()

    def test_they_are_removed_after_a_short_absence(self) -> None:
        # So short that no sweep sees that the device is away.
        engine = self.engine(sweep_interval=3.0)
        store(engine, OLD, self.image_id)
        await_sweep(self.away)
        self.away.unmount()
        engine.delete(self.image_id)
        self.away.bring_back()
        self.await_swept()

    def test_an_older_upload_is_never_served(self) -> None:
        engine = self.engine(self_repair=False)
        store(engine, OLD, self.image_id)
        self.away.unmount()
        engine.delete(self.image_id)
        store(engine, NEW, self.image_id)
        self.away.bring_back()
        for each in (engine, self.engine(self_repair=False)):
            self.assertTrue(read(each, self.image_id) == NEW)
            self.assertEqual(base.STALE, self.states(
                each, self.image_id)[self.away.path])
        # It is replaced by a copy of what counts.
        late = self.engine()
        self.assertTrue(read(late, self.image_id) == NEW)
        self.await_good(late, self.image_id)
        self.assertTrue(read(late, self.image_id) == NEW)

    def test_nothing_is_copied_for_a_short_absence(self) -> None:
        spare = self.loop()
        self.disks = [*self.loops(), spare]
        self.prepare(self.disks)
        *homes, _ = self.disks
        image_id = self.image_for(*homes)
        engine = self.engine()
        store(engine, OLD, image_id)
        homes[0].unmount()
        self.assertTrue(read(engine, image_id) == OLD)
        other = str(uuid.uuid4())
        store(engine, NEW, other)
        self.await_good(engine, other)
        self.assertFalse((spare.inside / 'images' / image_id[:2]
                          / image_id).exists())
        # Told to, it is: the device may never come back.
        engine.repair(image_id)
        self.check_copies(engine, image_id, good=3)
        homes[0].bring_back()
        self.check_copies(engine, image_id, good=4)


class TestLateCommits(base.TestCase):
    """A call that hung goes on, after its upload was given up."""

    def test_the_copy_is_removed(self) -> None:
        slow = [self.fuse(), self.fuse()]
        self.prepare([*slow, self.loop()])
        # So rare that no sweep sees that the devices hang.
        engine = self.engine(sweep_interval=6.0)
        image_id = str(uuid.uuid4())
        await_sweep(slow[0])

        def hang() -> None:
            for device in slow:
                # The first thing that a commit does.
                device.hang('getattr', '^/$')

        with self.within(base.LIMIT):
            self.assertRaises(
                exceptions.NotEnoughCopies, engine.write, image_id,
                base.Scripted(OLD, {len(OLD): hang}), len(OLD))
        for device in slow:
            self.assertNotEqual(0, device.hung())
            device.release()
        processes.poll(lambda: all(each.available
                                   for each in engine.devices()),
                       'the devices being used again', 20)
        # It is not served, though the devices went through with it.
        self.assertRaises(exceptions.ImageNotFound, engine.info, image_id)
        # And the process that gave it up, and goes on, removes it.
        processes.poll(lambda: not any(map(base.leftovers, self.devices)),
                       'the leftovers being removed', 15)


def await_sweep(device: base.Device) -> None:
    """Wait until a sweep was made: it removes what crashes leave."""
    crashed = device.inside / 'tmp' / 'trash.0123456789abcdef'
    crashed.mkdir()
    processes.poll(lambda: not crashed.exists(), 'a sweep', 20, 0.01)


class TestDevicesWithoutACopy(base.TestCase):
    """What is asked of a device that has no copy must not leak either."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.fuse()
        self.prepare([*self.loops(), self.other])
        self.image_id = self.image_for(*self.devices)
        self.engine_ = self.engine(self_repair=False)
        store(self.engine_, OLD, self.image_id)
        self.check_nothing_left(self.other)

    def check_look_up(self) -> None:
        for _ in range(3):
            with self.within(base.LIMIT):
                self.engine_.info(self.image_id)

    def test_it_fails(self) -> None:
        before = base.Footprint()
        self.other.fail('getattr', '^/deleted/../.')
        self.check_look_up()
        self.assertNotEqual(0, self.other.hits())
        self.other.release()
        before.await_nothing_added(2)

    def test_it_hangs(self) -> None:
        before = base.Footprint()
        self.other.hang('getattr', '^/deleted/../.')
        self.check_look_up()
        self.assertNotEqual(0, self.other.hung())
        self.other.release()
        before.await_nothing_added(2)
