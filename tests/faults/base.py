"""What the fault tests have in common."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import os
from pathlib import Path
import random
import threading
import time
from typing import Any, Protocol
import uuid

import fixtures
from glance_store import exceptions as store_exceptions
from glance_store import location as store_location
from glance_store import multi_backend
from oslo_config import cfg
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import engine as local
from easystack_image.blockstore.local import placement
from easystack_image.blockstore.local import provision
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import sweep
from easystack_image.store import driver
from tests.faults import fuse
from tests.faults import loop
from tests.faults import prerequisites
from tests.faults import workspace
from tests.functional import processes

MIB = 1 << 20
#: Seconds that one operation on a device may take (the io_timeout).
TIMEOUT = 1
#: Seconds that any call may take, however many devices hang: the io_timeout
#: for each step that may meet a hung device for the first time, and what the
#: work itself takes on a busy machine.
LIMIT = 5 * TIMEOUT
GROUP = 'copies'
GOOD = engine_module.CopyState.GOOD
MISSING = engine_module.CopyState.MISSING
UNREACHABLE = engine_module.CopyState.UNREACHABLE
STALE = engine_module.CopyState.STALE


class Device(Protocol):
    """A file system of its own."""

    mount_point: Path

    @property
    def path(self) -> str:
        """The directory that is given to the store."""

    @property
    def inside(self) -> Path:
        """Where what lies on the device can be looked at."""

    def close(self) -> None:
        """Unmount and remove it."""


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes without any structure, the same for the same seed."""
    return random.Random(seed).randbytes(size)


class Scripted:
    """A source in which something happens at certain offsets.

    :param events: called when all bytes before their offset were read
    """

    def __init__(self, data: bytes,
                 events: Mapping[int, Callable[[], object]]) -> None:
        self._data = memoryview(data)
        self._events = sorted(events.items())
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Return what comes next, up to the next event."""
        end = min(self._position + size, len(self._data))
        while self._events and self._events[0][0] <= self._position:
            self._events.pop(0)[1]()
        if self._events:
            end = min(end, self._events[0][0])
        piece = self._data[self._position:end]
        self._position = end
        return bytes(piece)


class Client:
    """What Glance does with a store, on the real driver."""

    def __init__(self, devices: Sequence[str], **options: object) -> None:
        self.conf = cfg.ConfigOpts()
        self.conf.register_opt(cfg.DictOpt(
            'enabled_backends', default={GROUP: 'easystack_block'}))
        self.conf([], project='faults', default_config_files=[],
                  default_config_dirs=[])
        multi_backend.register_store_opts(self.conf)
        for name, value in {'devices': list(devices), 'self_repair': False,
                            'io_timeout': TIMEOUT, **options}.items():
            self.conf.set_override(f'easystack_block_{name}', value, GROUP)
        self.store = driver.Store(self.conf, backend=GROUP)
        self.store.configure(re_raise_bsc=True)

    @property
    def engine(self) -> local.LocalEngine:
        """The engine of the store."""
        engine = self.store.engine
        assert isinstance(engine, local.LocalEngine)
        return engine

    def upload(self, image_id: str, source: engine_module.Source,
               size: int = 0) -> str:
        """Store an image; return its location.

        :param size: 0 if it is not known
        """
        uri, _, _, _, _ = self.store.add(image_id, source, size, 'sha512')
        return str(uri)

    def _location(self, uri: str) -> store_location.Location:
        return store_location.Location(
            'easystack_block', driver.StoreLocation, self.conf, uri=uri,
            backend=GROUP)

    @contextlib.contextmanager
    def opened(self, uri: str) -> Iterator[Iterator[bytes]]:
        """Begin to download an image."""
        body, _ = self.store.get(self._location(uri))
        with contextlib.closing(body):
            yield body

    def download(self, uri: str) -> bytes:
        """Return the bytes of an image."""
        with self.opened(uri) as body:
            return b''.join(body)

    def delete(self, uri: str) -> None:
        """Delete an image."""
        self.store.delete(self._location(uri))


def drain(body: Iterator[bytes], received: bytearray) -> None:
    """Add all that a download hands out to ``received``."""
    for piece in body:
        received += piece


def _descriptors() -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for name in os.listdir('/proc/self/fd'):
        # The one that was used for looking is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found[os.readlink(f'/proc/self/fd/{name}')] += 1
    return found


class Footprint:
    """The threads and descriptors that this process has now."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def added(self) -> list[str]:
        """Return the threads and open files that were not there then."""
        threads = set(threading.enumerate()) - self._threads
        files = _descriptors() - self._descriptors
        return sorted([*(f'thread {thread.name}' for thread in threads),
                       *files.elements()])

    def await_nothing_added(self, timeout: float = 20) -> None:
        """Wait until nothing is left but what was there then.

        :raises AssertionError: naming what stays
        """
        deadline = time.monotonic() + timeout
        while added := self.added():
            if time.monotonic() > deadline:
                raise AssertionError(f'left behind: {added}')
            time.sleep(0.01)


class TestCase(testtools.TestCase):
    """A test with file systems of its own.

    When it ends, and all devices are released, there must be no thread and
    no open file that was not there before.
    """

    def setUp(self) -> None:
        super().setUp()
        prerequisites.demand()
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))
        self.useFixture(fixtures.FakeLogger())
        self.addCleanup(Footprint().await_nothing_added)
        self.space = workspace.Workspace()
        self.addCleanup(self.space.close)
        self._number = 0

    def _name(self, kind: str) -> str:
        self._number += 1
        return f'{kind}{self._number}'

    def loop(self, *arguments: Any, **options: Any) -> loop.LoopDevice:
        """Return a new ext4 file system, on a loop device."""
        device = loop.LoopDevice(self.space, self._name('disk'), *arguments,
                                 **options)
        self.addCleanup(device.close)
        return device

    def loops(self, count: int = 3) -> list[loop.LoopDevice]:
        """Return several of them."""
        return [self.loop() for _ in range(count)]

    def fuse(self) -> fuse.FuseDevice:
        """Return a new file system that can misbehave."""
        device = fuse.FuseDevice(self.space, self._name('fuse'))
        self.addCleanup(device.close)
        return device

    def prepare(self, devices: Sequence[Device]) -> None:
        """Make the devices of one store of file systems."""
        # The same as on their paths, and faster where FUSE is in between.
        provision.initialise([str(device.inside) for device in devices])
        self.devices = devices

    def client(self, devices: Sequence[Device] | None = None,
               **options: object) -> Client:
        """Return a client of a store on devices that are prepared.

        :param options: of the store, without prefix
        """
        made = Client([device.path for device in devices or self.devices],
                      **options)
        self.addCleanup(made.engine.close)
        return made

    def client_on(self, *devices: Device, **options: object) -> Client:
        """Prepare devices; return a client of a store on them."""
        self.prepare(devices)
        return self.client(**options)

    def engine(self, **options: object) -> local.LocalEngine:
        """Return the engine of another process on the same devices.

        It repairs and sweeps in the background, every half second.
        """
        engine = local.LocalEngine(settings_module.Settings(
            **{'devices': [device.path for device in self.devices],
               'io_timeout': TIMEOUT, 'sweep_interval': 0.5, **options}))
        self.addCleanup(engine.close)
        engine.start()
        # A look-up is enough for the background work to begin.
        with contextlib.suppress(exceptions.BlockStoreError):
            engine.open(str(uuid.uuid4()))
        return engine

    def image_for(self, *first: Device) -> str:
        """Return an image id whose copies go to (and come from) these first.

        In this order.
        """
        return image_for(self.devices, first)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """See that what is done takes no longer than this."""
        begin = time.monotonic()
        yield
        took = time.monotonic() - begin
        self.assertLess(took, seconds, f'it took {took:.1f} s')

    def upload(self, client: Client, data: bytes,
               events: Mapping[int, Callable[[], object]] | None = None,
               image_id: str = '', known: bool = True) -> tuple[str, str]:
        """Store an image, within the time limit.

        :param events: what happens meanwhile: see :class:`Scripted`
        :param known: whether the size is told in advance
        :returns: its id and its location
        """
        image_id = image_id or str(uuid.uuid4())
        with self.within(LIMIT):
            uri = client.upload(image_id, Scripted(data, events or {}),
                                len(data) if known else 0)
        return image_id, uri

    def refused(self, expected: type[store_exceptions.GlanceStoreException],
                client: Client, data: bytes,
                events: Mapping[int, Callable[[], object]] | None = None,
                image_id: str = '') -> exceptions.NotEnoughCopies:
        """See that an upload fails, in time; return the engine's error.

        :param expected: what Glance is told
        """
        image_id = image_id or str(uuid.uuid4())
        with self.within(LIMIT):
            error = self.assertRaises(
                expected, client.upload, image_id,
                Scripted(data, events or {}), len(data))
        cause = error.__cause__
        self.assertIsInstance(cause, exceptions.NotEnoughCopies)
        self.assertIsInstance(cause, exceptions.EasystackImageError)
        return cause

    def check_image(self, client: Client, uri: str, data: bytes) -> None:
        """Download an image and compare every byte, in time."""
        with self.within(LIMIT):
            self.assertTrue(client.download(uri) == data,
                            'the image has other bytes')

    def states(self, engine: engine_module.Engine,
               image_id: str) -> dict[str, engine_module.CopyState]:
        """Read all of every copy; return how they are, by device path."""
        return {copy.device: copy.state for copy in
                engine.list_copies(image_id, verify=True)}

    def count(self, engine: engine_module.Engine, image_id: str,
              state: engine_module.CopyState) -> int:
        """Return how many copies are in a state."""
        return list(self.states(engine, image_id).values()).count(state)

    def check_copies(self, engine: engine_module.Engine, image_id: str,
                     good: int) -> None:
        """Read all of every copy, and see how many are good."""
        self.assertEqual(good, self.count(engine, image_id, GOOD),
                         self.states(engine, image_id))

    def check_nothing_left(self, *devices: Device,
                           notes: bool = False) -> None:
        """See that devices hold nothing of any image.

        :param devices: by default all
        :param notes: whether there may be notes that an image lacks a copy
        """
        for device in devices or self.devices:
            found = [name for name in leftovers(device)
                     if not (notes and name.startswith('repair/'))]
            self.assertEqual([], found, device.path)

    def await_available(self, client: Client) -> None:
        """Wait until devices that hung are used again."""
        processes.poll(
            lambda: all(each.available for each in client.engine.devices()),
            'all devices being used again', 10 * TIMEOUT, 0.05)

    def check_beneath(self, *devices: Device) -> None:
        """See that the bare mount points are empty."""
        for device in devices or self.devices:
            self.assertEqual([], self.space.beneath(device.mount_point),
                             device.path)


def image_for(devices: Sequence[Device], first: Sequence[Device]) -> str:
    """Return an image id that ``first`` come first for, in this order.

    :param devices: all devices of the store
    """
    identities = {
        device.path: device_module.Identity.unpack(
            (device.inside / device_module.IDENTITY).read_bytes())
        for device in devices}
    wanted = [identities[device.path].device_id for device in first]
    while True:
        image_id = str(uuid.uuid4())
        ranked = placement.rank(image_id, [
            each.candidate() for each in identities.values()], 3)
        if [each.key for each in ranked[:len(wanted)]] == wanted:
            return image_id


#: How deep the directories are that are always there.
_DEPTH = {(): 0, ('images',): 2, ('deleted',): 2}


def leftovers(device: Device) -> list[str]:
    """Return what lies on a device beyond what is always there.

    Marks of deleted uploads stay, and take no room: they keep devices that
    were away from bringing them back.
    """
    found = []
    for directory, _, files in os.walk(device.inside):
        place = Path(directory).relative_to(device.inside)
        if place.parts[:1] in (('locks',), ('lost+found',)):
            continue
        if len(place.parts) > _DEPTH.get(place.parts[:1], 1):
            found.append(str(place))
        for name in files:
            path = place / name
            empty_mark = place.parts[:1] == ('deleted',) and not os.stat(
                device.inside / path).st_size
            if not (empty_mark or str(path) in sweep.REPLACED):
                found.append(str(path))
    return sorted(found)
