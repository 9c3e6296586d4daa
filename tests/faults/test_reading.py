"""Devices that fail, lie or dawdle while an image is read."""

from __future__ import annotations

from glance_store import exceptions as store_exceptions

from easystack_image.blockstore import engine as engine_module
from tests.faults import base
from tests.functional import processes

MIB = base.MIB
DATA = base.content(24 * MIB + 4321, seed=5)
MIDDLE = 13 * MIB + 99
FILE = '/data$'


class TestFaultyReads(base.TestCase):

    def make(self, faulty: int, **options: object) -> base.Client:
        """Store an image that is read from the faulty devices first."""
        self.faulty = [self.fuse() for _ in range(faulty)]
        client = self.client_on(*self.faulty, *self.loops(3 - faulty),
                                **options)
        self.image_id, self.uri = self.upload(
            client, DATA, image_id=self.image_for(*self.faulty))
        return client

    def check_repair(self, client: base.Client) -> None:
        """See the copy made anew by itself, and the bad one put aside."""
        (device,) = self.faulty
        quarantine = device.inside / 'quarantine'
        processes.poll(lambda: list(quarantine.iterdir()),
                       'the bad copy being put aside', 20)
        device.release()
        processes.poll(
            lambda: self.count(client.engine, self.image_id, base.GOOD) == 3,
            'three good copies', 20)
        (aside,) = quarantine.iterdir()
        # The plain bytes are still there for whoever wants to look.
        self.assertEqual(len(DATA), (aside / 'data').stat().st_size)

    def test_error_in_mid_stream(self) -> None:
        client = self.make(1)
        self.faulty[0].fail('read', FILE, offset=MIDDLE)
        self.check_image(client, self.uri, DATA)
        self.assertNotEqual(0, self.faulty[0].hits())

    def test_error_at_the_beginning(self) -> None:
        client = self.make(1)
        self.faulty[0].fail('read', FILE)
        self.check_image(client, self.uri, DATA)
        self.assertNotEqual(0, self.faulty[0].hits())

    def test_error_on_opening(self) -> None:
        client = self.make(1)
        for path in (FILE, '/manifest$', '^/images/../[^/]+$'):
            self.faulty[0].fail('open', path)
            self.faulty[0].fail('opendir', path)
            self.check_image(client, self.uri, DATA)
            self.assertNotEqual(0, self.faulty[0].hits())
            self.faulty[0].release()

    def test_error_is_repaired(self) -> None:
        client = self.make(1, self_repair=True, sweep_interval=5)
        self.faulty[0].fail('read', FILE, offset=MIDDLE)
        self.check_image(client, self.uri, DATA)
        self.check_repair(client)

    def test_wrong_byte(self) -> None:
        client = self.make(1)
        self.faulty[0].corrupt(FILE, MIDDLE)
        self.check_image(client, self.uri, DATA)
        self.assertNotEqual(0, self.faulty[0].hits())
        self.assertEqual(engine_module.CopyState.DAMAGED, self.states(
            client.engine, self.image_id)[self.faulty[0].path])

    def test_wrong_byte_is_repaired(self) -> None:
        client = self.make(1, self_repair=True, sweep_interval=5)
        self.faulty[0].corrupt(FILE, MIDDLE)
        self.check_image(client, self.uri, DATA)
        self.check_repair(client)

    def test_wrong_byte_in_the_manifest(self) -> None:
        client = self.make(1)
        for offset in (0, 17, 100, 300):
            self.faulty[0].corrupt('/manifest$', offset)
            self.check_image(client, self.uri, DATA)
            self.assertNotEqual(0, self.faulty[0].hits())
            self.faulty[0].release()

    def test_each_copy_is_bad_elsewhere(self) -> None:
        client = self.make(3)
        self.faulty[0].corrupt(FILE, 2 * MIB)
        self.faulty[0].corrupt(FILE, 20 * MIB)
        self.faulty[1].fail('read', FILE, offset=10 * MIB)
        self.faulty[2].corrupt(FILE, 5 * MIB)
        self.check_image(client, self.uri, DATA)

    def test_one_block_is_bad_everywhere(self) -> None:
        client = self.make(3)
        for device in self.faulty:
            device.corrupt(FILE, MIDDLE)
        received = bytearray()
        with self.within(base.LIMIT), client.opened(self.uri) as body:
            self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                              base.drain, body, received)
        # All that is right, and not one byte that is wrong.
        self.assertEqual(MIDDLE // MIB * MIB, len(received))
        self.assertTrue(DATA.startswith(received))

    def test_nothing_can_be_read(self) -> None:
        client = self.make(3)
        for device in self.faulty:
            device.fail('read', FILE)
        with self.within(base.LIMIT):
            self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                              client.download, self.uri)
        for device in self.faulty:
            device.release()
        self.check_image(client, self.uri, DATA)

    def test_slow_but_in_time(self) -> None:
        client = self.make(1)
        device = self.faulty[0]
        device.delay('read', base.TIMEOUT / 200, FILE)
        self.check_image(client, self.uri, DATA)
        # It was read to its end: a slow device is not a bad one.
        self.assertGreaterEqual(device.hits(), len(DATA) // MIB)
        self.check_copies(client.engine, self.image_id, good=3)

    def test_slower_than_the_limit(self) -> None:
        client = self.make(1)
        device = self.faulty[0]
        before = base.Footprint()
        device.delay('read', base.LIMIT, FILE)
        self.check_image(client, self.uri, DATA)
        device.release()
        before.await_nothing_added()


class TestFaultyWrites(base.TestCase):

    def make(self, faulty: int) -> base.Client:
        """Return a client of three devices, of which some are faulty."""
        self.faulty = [self.fuse() for _ in range(faulty)]
        return self.client_on(*self.faulty, *self.loops(3 - faulty))

    def test_slow_but_in_time(self) -> None:
        client = self.make(1)
        self.faulty[0].delay('write', base.TIMEOUT / 10, FILE)
        image_id, _ = self.upload(client, DATA)
        self.check_copies(client.engine, image_id, good=3)

    def test_slower_than_the_limit(self) -> None:
        client = self.make(1)
        before = base.Footprint()
        self.faulty[0].delay('write', 1.5 * base.TIMEOUT, FILE)
        image_id, uri = self.upload(client, DATA)
        self.check_copies(client.engine, image_id, good=2)
        self.check_image(client, uri, DATA)
        self.faulty[0].release()
        before.await_nothing_added()
        self.client()
        self.check_nothing_left(self.faulty[0], notes=True)

    def check_error(self, call: str, where: str, done: bool = False) -> None:
        """See one device left out, and an upload refused for two."""
        client = self.make(2)
        first, second = self.faulty
        before = base.Footprint()
        first.fail(call, where, done=done)
        image_id, uri = self.upload(client, DATA)
        self.check_image(client, uri, DATA)
        self.assertNotEqual(0, first.hits())
        first.release()
        client.engine.repair(image_id)
        self.check_copies(client.engine, image_id, good=3)
        client.delete(uri)
        for device in self.faulty:
            device.fail(call, where, done=done)
        self.refused(store_exceptions.StorageWriteDenied, client, DATA,
                     image_id=image_id)
        for device in self.faulty:
            device.release()
        before.await_nothing_added()
        self.assertRaises(store_exceptions.NotFound, client.download, uri)
        # Whoever starts next tidies up.
        self.client()
        self.check_nothing_left()

    def test_error_on_write(self) -> None:
        self.check_error('write', FILE)

    def test_error_on_fsync(self) -> None:
        self.check_error('fsync', FILE)

    def test_error_on_rename(self) -> None:
        self.check_error('rename', '^/images/')

    def test_error_after_the_rename(self) -> None:
        self.check_error('fsyncdir', '^/images/')

    def test_error_on_a_rename_that_was_done(self) -> None:
        self.check_error('rename', '^/images/', done=True)

    def test_a_second_device_fails_while_the_first_is_left_behind(
            self) -> None:
        client = self.make(2)
        first, second = self.faulty
        before = base.Footprint()
        # While what the first one has is removed, the second one fails.
        first.fail('write', FILE)
        first.delay('unlink', base.TIMEOUT / 2, FILE)
        second.fail('write', FILE, seconds=base.TIMEOUT / 4)
        # The second one comes first, so it was looked at already.
        cause = self.refused(store_exceptions.StorageWriteDenied, client,
                             DATA, image_id=self.image_for(second, first))
        self.assertEqual({first.path, second.path},
                         {each.device for each in cause.causes})
        self.check_nothing_left()
        before.await_nothing_added()
