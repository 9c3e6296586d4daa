"""Devices whose disk is taken away, or dies, while it is in use."""

from __future__ import annotations

from collections.abc import Callable
import uuid

from glance_store import exceptions as store_exceptions

from easystack_image import exceptions
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import provision
from tests.faults import base
from tests.faults import loop

MIB = base.MIB
DATA = base.content(40 * MIB + 4321, seed=2)
HALF = 20 * MIB


class TestUploads(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.loops()
        self.first, self.second, self.third = self.disks
        self.client_ = self.client_on(*self.disks)

    def take_away(self, *disks: loop.LoopDevice) -> Callable[[], object]:
        """Return what unmounts devices that are in use."""
        def unmount() -> None:
            for disk in disks:
                # So that this is about a device that is being written to.
                self.assertTrue(disk.busy())
                disk.unmount()

        return unmount

    def check_left_out(self, when: int) -> None:
        """Unmount a device during an upload, which succeeds all the same."""
        image_id, uri = self.upload(self.client_, DATA,
                                    {when: self.take_away(self.first)})
        self.assertEqual(
            {self.first.path: base.UNREACHABLE, self.second.path: base.GOOD,
             self.third.path: base.GOOD},
            self.states(self.client_.engine, image_id))
        self.check_image(self.client_, uri, DATA)
        self.check_beneath()
        # Nobody has anything open on it, and nothing was left on it.
        self.first.bring_back()
        self.check_nothing_left(self.first)
        self.client_.engine.repair(image_id)
        self.check_copies(self.client_.engine, image_id, good=3)

    def test_one_while_uploading(self) -> None:
        self.check_left_out(HALF)

    def test_one_at_the_very_end(self) -> None:
        self.check_left_out(len(DATA))

    def test_two_while_uploading(self) -> None:
        image_id = str(uuid.uuid4())
        cause = self.refused(
            store_exceptions.StorageWriteDenied, self.client_, DATA,
            {HALF: self.take_away(self.first, self.second)}, image_id)
        self.assertEqual([exceptions.DeviceUnavailable] * 2,
                         [type(each) for each in cause.causes])
        self.check_beneath()
        for disk in (self.first, self.second):
            disk.bring_back()
        self.check_nothing_left()
        # Their return brings nothing of it back.
        self.assertRaises(exceptions.ImageNotFound,
                          self.client_.engine.info, image_id)
        self.upload(self.client_, DATA, image_id=image_id)
        self.check_copies(self.client_.engine, image_id, good=3)

    def test_one_dies_while_uploading(self) -> None:
        image_id, uri = self.upload(self.client_, DATA,
                                    {HALF: self.first.die})
        self.check_copies(self.client_.engine, image_id, good=2)
        self.check_image(self.client_, uri, DATA)
        self.first.bring_back()
        # The dead disk could not be tidied; whoever starts next does it.
        self.client()
        self.check_nothing_left(self.first)

    def test_two_die_while_uploading(self) -> None:
        def die() -> None:
            self.first.die()
            self.second.die()

        image_id = str(uuid.uuid4())
        self.refused(store_exceptions.StorageWriteDenied, self.client_, DATA,
                     {HALF: die}, image_id)
        for disk in (self.first, self.second):
            disk.bring_back()
        self.client()
        self.check_nothing_left()
        self.assertRaises(exceptions.ImageNotFound,
                          self.client_.engine.info, image_id)

    def test_one_away_from_the_beginning(self) -> None:
        self.first.unmount()
        self.check_beneath()
        image_id, uri = self.upload(self.client_, DATA)
        self.check_copies(self.client_.engine, image_id, good=2)
        self.check_image(self.client_, uri, DATA)
        self.check_beneath()

    def test_two_away_from_the_beginning(self) -> None:
        self.first.unmount()
        self.second.unmount()
        cause = self.refused(store_exceptions.StorageWriteDenied,
                             self.client_, DATA)
        self.assertEqual(
            {self.first.path, self.second.path},
            {each.device for each in cause.causes
             if isinstance(each, exceptions.DeviceUnavailable)})
        self.check_beneath()
        self.check_nothing_left(self.third)


class TestDownloads(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.loops()
        self.client_ = self.client_on(*self.disks)
        self.image_id, self.uri = self.upload(
            self.client_, DATA, image_id=self.image_for(*self.disks))

    def check_download(self, event: Callable[[], object]) -> None:
        """See a download go on when something happens in mid-stream."""
        received = bytearray()
        with self.within(base.LIMIT), self.client_.opened(self.uri) as body:
            for piece in body:
                if len(received) < HALF <= len(received) + len(piece):
                    event()
                received += piece
        self.assertTrue(received == DATA, 'other bytes were handed out')

    def test_the_one_that_is_read_is_unmounted(self) -> None:
        def unmount() -> None:
            self.assertTrue(self.disks[0].busy())
            self.disks[0].unmount()

        self.check_download(unmount)
        self.disks[0].await_gone()
        self.check_image(self.client_, self.uri, DATA)
        self.check_beneath()

    def test_the_one_that_is_read_dies(self) -> None:
        self.check_download(self.disks[0].die)
        self.check_image(self.client_, self.uri, DATA)

    def test_two_die(self) -> None:
        def die() -> None:
            self.disks[0].die()
            self.disks[1].die()

        self.check_download(die)
        self.check_image(self.client_, self.uri, DATA)

    def test_all_die(self) -> None:
        received = bytearray()
        with self.client_.opened(self.uri) as body:
            for disk in self.disks:
                disk.die()
            with self.within(base.LIMIT):
                self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                                  base.drain, body, received)
        # What was read ahead may still come; nothing wrong ever does.
        self.assertTrue(DATA.startswith(received))
        self.assertLess(len(received), len(DATA))

    def test_all_are_unmounted(self) -> None:
        for disk in self.disks:
            disk.unmount()
        with self.within(base.LIMIT):
            self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                              self.client_.download, self.uri)
        # Away is not deleted.
        self.assertRaises(exceptions.ImageUnavailable,
                          self.client_.engine.info, self.image_id)
        for disk in self.disks:
            disk.bring_back()
        self.check_image(self.client_, self.uri, DATA)
        self.check_copies(self.client_.engine, self.image_id, good=3)


class TestWrongFileSystems(base.TestCase):
    """Nothing is written where it does not belong."""

    def use(self, client: base.Client) -> None:
        """Do everything that a store can do."""
        engine = client.engine
        image_id, uri = self.upload(client, DATA)
        self.check_image(client, uri, DATA)
        engine.repair(image_id)
        self.assertIn(image_id, list(engine.list_images()))
        self.check_copies(engine, image_id, good=2)
        self.assertEqual(2, sum(each.available for each in engine.devices()))
        client.delete(uri)
        self.assertNotIn(image_id, list(engine.list_images()))

    def test_a_bare_mount_point_stays_empty(self) -> None:
        disks = self.loops()
        client = self.client_on(*disks)
        _, uri = self.upload(client, DATA)
        disks[0].unmount()
        self.use(client)
        client.delete(uri)
        # Nor by a process that begins now, with its background work.
        late = self.client(self_repair=True, sweep_interval=5)
        self.use(late)
        late.engine.close()
        self.check_beneath()
        disks[0].bring_back()
        self.assertNotEqual([], base.leftovers(disks[0]))

    def test_a_foreign_device_is_not_touched(self) -> None:
        strange = self.loop()
        provision.initialise([strange.path])
        disks = self.loops()
        client = self.client_on(*disks)
        foreign = strange.block_device
        before = everything(strange)
        _, uri = self.upload(client, DATA)
        disks[0].unmount()
        loop.workspace.run('mount', foreign, disks[0].mount_point)
        self.addCleanup(disks[0].unmount)
        self.use(client)
        client.delete(uri)
        self.assertEqual(before, everything(strange))
        error = self.assertRaises(store_exceptions.BadStoreConfiguration,
                                  self.client)
        self.assertIn('belong to different sets', str(error))
        self.assertEqual(before, everything(strange))

    def test_a_copied_identity_is_noticed(self) -> None:
        disks = self.loops()
        self.prepare(disks)
        identity = disks[0].inside / device_module.IDENTITY
        (disks[1].inside / device_module.IDENTITY).write_bytes(
            identity.read_bytes())
        error = self.assertRaises(store_exceptions.BadStoreConfiguration,
                                  self.client)
        self.assertIn('are the same device', str(error))


def everything(disk: loop.LoopDevice) -> dict[str, tuple[int, bytes]]:
    """Return all that lies on a device, and when it was changed."""
    return {str(path): (path.stat().st_mtime_ns,
                        path.read_bytes() if path.is_file() else b'')
            for path in disk.inside.rglob('*')}
