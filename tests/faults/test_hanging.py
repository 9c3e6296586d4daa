"""Devices that do not answer.

A call on a dying disk can hang for ever, and nothing ends it but the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
import contextlib
import io
import os
import time
import uuid

from glance_store import exceptions as store_exceptions
import testscenarios

from easystack_image import exceptions
from easystack_image.blockstore.local import engine as local
from easystack_image.blockstore.local import provision
from easystack_image.cmd import owner
from tests.faults import base
from tests.functional import processes

MIB = base.MIB
#: More than the buffers of a transfer hold, so that a hung device holds it
#: up in the middle.
DATA = base.content(32 * MIB + 4321, seed=4)
#: Fits the buffers, so that it is only noticed at the end.
SMALL = DATA[:9 * MIB + 17]

#: Where an upload may hang; test_steps has each and every call.
STEPS = {
    'create': ('create', '/data$'),
    'write': ('write', '/data$'),
    'fsync': ('fsync', '/data$'),
    'rename': ('rename', '^/images/'),
}


def scenarios(*names: str) -> list[tuple[str, dict[str, str]]]:
    """Return a scenario for each of the steps that are named."""
    return [(name, {'call': STEPS[name][0], 'where': STEPS[name][1]})
            for name in names or STEPS]


class HangingCase(base.TestCase):
    """Devices of which some can hang."""

    def make(self, hanging: int, spare: int = 0) -> base.Client:
        """Return a client of three devices, of which some can hang."""
        self.hanging = [self.fuse() for _ in range(hanging)]
        self.steady = self.loops(3 - hanging + spare)
        return self.client_on(*self.hanging, *self.steady)

    def hang(self, call: str, where: str = '', offset: int = 0) -> None:
        for device in self.hanging:
            device.hang(call, where, offset)

    def release(self) -> None:
        for device in self.hanging:
            device.release()

    def await_quiet(self, client: base.Client,
                    before: base.Footprint) -> None:
        """See that nothing is left in this process, once all is released."""
        self.release()
        before.await_nothing_added()
        self.await_available(client)


class TestOneHangsInAnUpload(testscenarios.WithScenarios, HangingCase):
    scenarios = scenarios()
    call: str
    where: str

    def test_it(self) -> None:
        client = self.make(1)
        (device,) = self.hanging
        before = base.Footprint()
        self.hang(self.call, self.where)
        image_id, uri = self.upload(client, DATA)
        self.assertNotEqual(0, device.hung())
        # It is acknowledged, and all can be read, while the device hangs.
        self.check_image(client, uri, DATA)
        for each in self.steady:
            self.assertEqual(base.GOOD, self.states(
                client.engine, image_id)[each.path])
        self.await_quiet(client, before)
        # Whoever starts next tidies up; the upload is not lost by it.
        self.client()
        self.assertEqual([], os.listdir(device.inside / 'tmp'))
        client.engine.repair(image_id)
        self.check_copies(client.engine, image_id, good=3)
        self.check_image(client, uri, DATA)


class TestTwoHangInAnUpload(testscenarios.WithScenarios, HangingCase):
    scenarios = scenarios('write', 'fsync', 'rename')
    call: str
    where: str

    def test_it(self) -> None:
        client = self.make(2)
        before = base.Footprint()
        self.hang(self.call, self.where)
        image_id = str(uuid.uuid4())
        cause = self.refused(store_exceptions.TimeoutError, client, DATA,
                             image_id=image_id)
        self.assertEqual({device.path for device in self.hanging},
                         {each.device for each in cause.causes
                          if isinstance(each, exceptions.DeviceTimeout)})
        self.check_nothing_left(*self.steady)
        self.await_quiet(client, before)
        # A call that went on after all brings nothing back.
        self.assertRaises(exceptions.ImageNotFound, client.engine.info,
                          image_id)
        self.engine()
        processes.poll(
            lambda: not any(map(base.leftovers, self.devices)),
            'the leftovers being swept', 20)
        _, uri = self.upload(client, SMALL, image_id=image_id)
        self.check_copies(client.engine, image_id, good=3)
        self.check_image(client, uri, SMALL)


class TestHangingUploads(HangingCase):

    def test_a_small_image(self) -> None:
        client = self.make(1)
        before = base.Footprint()
        self.hang('write', '/data$')
        image_id, uri = self.upload(client, SMALL)
        self.check_image(client, uri, SMALL)
        self.check_copies(client.engine, image_id, good=2)
        self.await_quiet(client, before)

    def test_in_mid_stream(self) -> None:
        client = self.make(1)
        before = base.Footprint()
        self.hang('write', '/data$', offset=16 * MIB)
        image_id, uri = self.upload(client, DATA)
        self.check_image(client, uri, DATA)
        self.check_copies(client.engine, image_id, good=2)
        self.await_quiet(client, before)

    def test_another_device_is_taken_instead(self) -> None:
        client = self.make(1, spare=1)
        before = base.Footprint()
        image_id = self.image_for(self.hanging[0])
        self.hang('create', '/data$')
        _, uri = self.upload(client, DATA, image_id=image_id)
        self.assertEqual([base.GOOD] * 3, [
            self.states(client.engine, image_id)[device.path]
            for device in self.steady])
        self.check_image(client, uri, DATA)
        self.await_quiet(client, before)

    def test_one_hangs_and_one_is_full(self) -> None:
        client = self.make(1)
        before = base.Footprint()
        self.steady[0].fill(leave=4 * MIB)
        self.hang('write', '/data$')
        cause = self.refused(store_exceptions.StorageFull, client, DATA)
        self.assertEqual({self.hanging[0].path, self.steady[0].path},
                         {each.device for each in cause.causes})
        self.check_nothing_left(*self.steady)
        self.await_quiet(client, before)
        self.client()
        self.check_nothing_left()

    def test_the_client_gives_up_while_a_device_hangs(self) -> None:
        client = self.make(1)
        before = base.Footprint()
        self.hang('write', '/data$')

        def give_up() -> None:
            self.hanging[0].await_hung()
            raise ConnectionResetError

        with self.within(base.LIMIT):
            self.assertRaises(
                ConnectionResetError, client.upload, str(uuid.uuid4()),
                base.Scripted(DATA, {8 * MIB: give_up}))
        self.check_nothing_left(*self.steady)
        self.await_quiet(client, before)
        self.client()
        self.check_nothing_left()

    def test_tidying_up_hangs(self) -> None:
        client = self.make(1)
        before = base.Footprint()
        self.hang('unlink', '/data$')

        def give_up() -> None:
            raise ConnectionResetError

        with self.within(base.LIMIT):
            self.assertRaises(
                ConnectionResetError, client.upload, str(uuid.uuid4()),
                base.Scripted(DATA, {8 * MIB: give_up}))
        self.check_nothing_left(*self.steady)
        self.assertNotEqual(0, self.hanging[0].hung())
        self.await_quiet(client, before)
        self.check_nothing_left()

    def test_the_source_is_slower_than_the_limit(self) -> None:
        # Only devices have a time limit: a slow client is no fault of theirs.
        client = self.make(1)

        def stall() -> None:
            time.sleep(1.5 * base.TIMEOUT)

        image_id, _ = self.upload(client, SMALL, {4 * MIB: stall,
                                                  8 * MIB: stall})
        self.check_copies(client.engine, image_id, good=3)

    def test_the_device_breaks_down_while_it_hangs(self) -> None:
        client = self.make(1)
        (device,) = self.hanging
        before = base.Footprint()
        self.hang('fsync', '/data$')
        image_id, uri = self.upload(client, DATA)
        device.await_hung()
        device.kill()
        before.await_nothing_added()
        self.check_image(client, uri, DATA)
        self.check_copies(client.engine, image_id, good=2)
        self.check_beneath()
        device.restart()
        self.client()
        self.check_nothing_left(device, notes=True)

    def test_it_is_released_before_the_time_is_up(self) -> None:
        client = self.make(1)
        (device,) = self.hanging
        device.delay('fsync', base.TIMEOUT / 2, '/data$')
        image_id, _ = self.upload(client, SMALL)
        self.assertEqual(1, device.hits())
        self.check_copies(client.engine, image_id, good=3)

    def test_the_next_upload_does_not_wait_again(self) -> None:
        client = self.make(1, spare=1)
        self.hang('*')
        self.upload(client, SMALL)
        # It would be five times, if each look at the devices waited.
        with self.within(4 * base.TIMEOUT):
            self.upload(client, SMALL)


class TestHangingDownloads(HangingCase):

    def stored(self, hanging: int) -> base.Client:
        """Store an image that is read from the hanging devices first."""
        client = self.make(hanging)
        self.image_id, self.uri = self.upload(
            client, DATA, image_id=self.image_for(*self.hanging))
        return client

    def check_hang(self, hanging: int, offset: int) -> None:
        client = self.stored(hanging)
        before = base.Footprint()
        self.hang('read', '/data$', offset)
        self.check_image(client, self.uri, DATA)
        self.assertNotEqual(0, self.hanging[0].hung())
        self.await_quiet(client, before)
        # A device that hung is not a damaged copy.
        self.check_copies(client.engine, self.image_id, good=3)

    def test_one_at_the_beginning(self) -> None:
        self.check_hang(1, offset=0)

    def test_one_in_mid_stream(self) -> None:
        self.check_hang(1, offset=16 * MIB)

    def test_two_in_mid_stream(self) -> None:
        self.check_hang(2, offset=16 * MIB)

    def test_one_that_is_not_read(self) -> None:
        client = self.stored(1)
        image_id, uri = self.upload(client, DATA,
                                    image_id=self.image_for(*self.steady))
        before = base.Footprint()
        self.hang('read', '/data$')
        self.check_image(client, uri, DATA)
        self.assertEqual(0, self.hanging[0].hung())
        self.await_quiet(client, before)

    def test_a_range(self) -> None:
        client = self.stored(1)
        before = base.Footprint()
        self.hang('read', '/data$')
        begin, length = 10 * MIB + 3, 3 * MIB
        with self.within(base.LIMIT):
            reader = client.engine.open(self.image_id, begin, length)
            self.assertTrue(b''.join(reader) == DATA[begin:begin + length])
        self.await_quiet(client, before)

    def test_all_of_them(self) -> None:
        client = self.stored(3)
        before = base.Footprint()
        self.hang('read', '/data$', offset=16 * MIB)
        received = bytearray()
        with self.within(base.LIMIT), client.opened(self.uri) as body:
            self.assertRaises(store_exceptions.RemoteServiceUnavailable,
                              base.drain, body, received)
        self.assertTrue(DATA.startswith(received))
        self.assertNotEqual(b'', received)
        self.await_quiet(client, before)
        self.check_image(client, self.uri, DATA)

    def test_the_client_leaves_while_the_device_hangs(self) -> None:
        client = self.stored(1)
        before = base.Footprint()
        self.hang('read', '/data$', offset=4 * MIB)
        with client.opened(self.uri) as body:
            next(body)
            self.hanging[0].await_hung()
            begin = time.monotonic()
        self.assertLess(time.monotonic() - begin, 4 * base.TIMEOUT)
        self.await_quiet(client, before)


class TestHangingLookUps(HangingCase):
    """Every call ends in time when a device does not even tell names."""

    def calls(self) -> list[Callable[[], object]]:
        """Return what can be asked, each for a process of its own.

        None of them knows that a device hangs before it asks.
        """
        engines = [self.client().engine for _ in range(6)]
        uri = self.uri
        reader = self.client()
        return [
            lambda: engines[0].info(self.image_id),
            lambda: self.assertRaises(exceptions.BlockStoreError,
                                      engines[1].info, str(uuid.uuid4())),
            engines[2].devices,
            lambda: engines[3].list_copies(self.image_id, verify=True),
            lambda: self.assertIn(self.image_id, engines[4].list_images()),
            lambda: engines[5].repair(self.image_id),
            lambda: self.assertTrue(reader.download(uri) == DATA),
            self.client,
        ]

    def check_calls(self, client: base.Client, call: str,
                    where: str = '') -> None:
        """See that every call ends in time, and does what it should."""
        self.image_id, self.uri = self.upload(client, DATA)
        calls = self.calls()
        before = base.Footprint()
        self.hang(call, where)
        with self.within(base.LIMIT), futures.ThreadPoolExecutor() as pool:
            for each in [pool.submit(call) for call in calls]:
                each.result()
        self.assertNotEqual(0, self.hanging[0].hung())
        _, uri = self.upload(client, SMALL)
        self.check_image(client, uri, SMALL)
        with self.within(base.LIMIT):
            client.delete(self.uri)
        self.assertRaises(store_exceptions.NotFound, client.download,
                          self.uri)
        self.await_quiet(client, before)
        self.assertRaises(exceptions.ImageNotFound, client.engine.info,
                          self.image_id)

    def test_everything_hangs(self) -> None:
        self.check_calls(self.make(1), '*')

    def test_names_of_images_hang(self) -> None:
        self.check_calls(self.make(1), 'getattr', '^/(images|deleted)/..')

    def test_locks_hang(self) -> None:
        client = self.make(1)
        self.hang('flock', '^/locks/')
        before = base.Footprint()
        image_id, uri = self.upload(client, SMALL)
        self.assertNotEqual(0, self.hanging[0].hung())
        self.check_image(client, uri, SMALL)
        with self.within(base.LIMIT):
            client.delete(uri)
        self.await_quiet(client, before)
        self.assertRaises(exceptions.ImageNotFound, client.engine.info,
                          image_id)
        # What was locked late is free again.
        with client.engine.fleet.locked(image_id, 'commit') as mine:
            self.assertTrue(mine)

    def test_removing_a_copy_hangs(self) -> None:
        client = self.make(1)
        _, uri = self.upload(client, SMALL)
        before = base.Footprint()
        self.hang('unlink', '/data$')
        with self.within(base.LIMIT):
            client.delete(uri)
        self.assertRaises(store_exceptions.NotFound, client.download, uri)
        self.check_nothing_left(*self.steady)
        self.await_quiet(client, before)
        self.check_nothing_left()

    def test_all_devices_hang(self) -> None:
        client = self.make(3)
        image_id, uri = self.upload(client, DATA)
        before = base.Footprint()
        self.hang('*')
        engine = client.engine
        for expected, function, *arguments in (
                (exceptions.ImageUnavailable, engine.info, image_id),
                (exceptions.BlockStoreError, engine.repair, image_id),
                (exceptions.ImageUnavailable, list, engine.list_images()),
                (store_exceptions.RemoteServiceUnavailable,
                 client.download, uri),
                (store_exceptions.GlanceStoreException, client.delete, uri),
                (store_exceptions.BadStoreConfiguration, self.client)):
            with self.within(base.LIMIT):
                self.assertRaises(expected, function, *arguments)
        self.refused(store_exceptions.TimeoutError, client, SMALL)
        self.assertFalse(any(each.available for each in engine.devices()))
        self.await_quiet(client, before)
        self.check_copies(engine, image_id, good=3)
        self.check_image(client, uri, DATA)


class TestHangingPreparation(HangingCase):
    """Commands that touch devices before there is a store."""

    def check_init(self, *paths: str) -> None:
        """See that preparing devices ends in time, and names the disk."""
        with self.within(base.LIMIT):
            error = self.assertRaises(
                exceptions.ConfigurationError, provision.initialise, paths,
                timeout=base.TIMEOUT)
        self.assertIn(f'device {self.hanging[0].path} did not answer',
                      str(error))
        self.assertNotEqual(0, self.hanging[0].hung())

    def test_everything(self) -> None:
        self.make(1)
        before = base.Footprint()
        paths = [device.path for device in self.devices]
        self.hang('*')
        self.check_init(*paths)
        with self.within(base.LIMIT):
            owner.check(paths, base.TIMEOUT)
        self.release()
        before.await_nothing_added()
        self.assertEqual([], provision.initialise(paths))

    def test_a_new_device(self) -> None:
        for call, where in (('mkdir', '/images/7f'), ('fsyncdir', ''),
                            ('opendir', '^/$')):
            self.hanging = [self.fuse()]
            before = base.Footprint()
            self.hang(call, where)
            self.check_init(self.hanging[0].path)
            self.release()
            before.await_nothing_added()

    def test_a_slow_one(self) -> None:
        """Each call may take its time; all together take longer."""
        device = self.fuse()
        device.delay('mkdir', base.TIMEOUT / 100, '')
        provision.initialise([device.path], timeout=base.TIMEOUT)
        self.assertLess(256, device.hits())
        self.assertEqual([], provision.initialise([device.path]))


class TestPilingUp(HangingCase):
    """A disk may hang for days; what waits for it must not grow for ever.

    Each call that hangs keeps a thread, and an upload a buffer with it.
    """

    #: How many threads may wait for one device.
    MOST = 8
    SECONDS = 4

    def check_bounded(self, call: str, where: str) -> None:
        """Let a device hang while a store goes on to be used."""
        self.make(1)
        engine = self.engine(io_timeout=0.1, self_repair=False)
        data = DATA[:4096]
        image_id = self.image_for(self.hanging[0])
        engine.write(image_id, io.BytesIO(data))
        self.hang(call, where)
        before = base.Footprint()
        deadline = time.monotonic() + self.SECONDS
        while time.monotonic() < deadline:
            # So short a limit may be too short for the others at times.
            with contextlib.suppress(exceptions.BlockStoreError):
                self.use(engine, image_id)
        hung = [name for name in before.added() if name.startswith('thread')]
        self.assertNotEqual([], hung)
        self.assertLessEqual(len(hung), self.MOST, hung)
        self.release()
        before.await_nothing_added()
        self.assertEqual(3, len(engine.list_copies(image_id)))

    def use(self, engine: local.LocalEngine, image_id: str) -> None:
        with contextlib.closing(engine.open(image_id)) as reader:
            self.assertEqual(4096, len(b''.join(reader)))
        other = str(uuid.uuid4())
        engine.write(other, io.BytesIO(DATA[:4096]))
        engine.delete(other)

    def test_all_calls(self) -> None:
        self.check_bounded('*', '')

    def test_reads(self) -> None:
        self.check_bounded('read', '/data$')

    def test_writes(self) -> None:
        self.check_bounded('write', '/data$')
