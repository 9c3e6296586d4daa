"""What the tests of the driver have in common."""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator, Mapping
import contextlib
import functools
import hashlib
import io
import os
from pathlib import Path
import random
import shutil
import tempfile
from typing import Any
import uuid

import fixtures
from glance_store import driver as store_driver
from glance_store import exceptions as store_exceptions
from glance_store import location as store_location
from oslo_config import cfg
from oslo_context import context as oslo_context
import testtools

from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import engine as local_engine
from easystack_image.blockstore.local import provision
from easystack_image.store import driver
from tests.contract import hanging

MIB = 1024 * 1024
BACKEND = 'copies'
#: The one of this process; oslotest gives each test one of its own.
_TEMPORARY = tempfile.gettempdir()


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes without a pattern, the same ones in every run."""
    return random.Random(f'{seed} {size}').randbytes(size)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sha512(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest()


def new_id() -> str:
    """Return the id of a new image."""
    return str(uuid.uuid4())


def request(**arguments: Any) -> oslo_context.RequestContext:
    """Return the context of a request, of the class Glance's derives from."""
    return oslo_context.RequestContext(overwrite=False, **arguments)


class Trickle:
    """A source that delivers less at a time than it is asked for."""

    def __init__(self, data: bytes, most: int) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._most))


class Devices:
    """Directories, prepared as the devices of one set.

    :param root: the directory to put them in
    """

    def __init__(self, root: Path, count: int = 3) -> None:
        self.root = root
        self.paths = [root / f'disk{number}' for number in range(count)]
        for path in self.paths:
            path.mkdir()
        provision.initialise([str(path) for path in self.paths])

    def image_files(self, image_id: str) -> list[Path]:
        """Return whatever any device has under the name of an image."""
        return sorted(self.root.glob(f'*/**/{image_id}*'))

    def leftovers(self) -> list[Path]:
        """Return unfinished uploads."""
        return sorted(self.root.glob('*/tmp/*'))

    def data_files(self, image_id: str) -> list[Path]:
        """Return the plain files that hold the copies of an image."""
        return sorted(self.root.glob(
            f'*/images/{image_id[:2]}/{image_id}/data'))

    @contextlib.contextmanager
    def away(self, *numbers: int) -> Iterator[None]:
        """Take devices away for a while."""
        for number in numbers:
            self.paths[number].rename(self.root / f'away{number}')
        try:
            yield
        finally:
            for number in numbers:
                (self.root / f'away{number}').rename(self.paths[number])

    @contextlib.contextmanager
    def hanging(self, *numbers: int) -> Iterator[None]:
        """Make devices hang for a while: reading their identity blocks."""
        with hanging.Hanging() as those:
            for number in numbers:
                those.hang(self.paths[number])
            yield


@functools.cache
def shared_devices(number: int = 0) -> Devices:
    """Return three devices for all tests of this process.

    Preparing devices syncs hundreds of directories, which takes longer than
    most tests.  Whoever changes them puts them back.

    :param number: of the set; different numbers, different sets
    """
    root = Path(tempfile.mkdtemp(prefix=f'devices{number}-',
                                 dir=_TEMPORARY))
    atexit.register(shutil.rmtree, root)
    return Devices(root)


def write_config(path: Path,
                 groups: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a configuration file."""
    lines = []
    for group, options in groups.items():
        lines.append(f'[{group}]')
        lines += [f'{name} = {value}' for name, value in options.items()]
    path.write_text('\n'.join(lines) + '\n')
    return path


def block_options(devices: Iterable[object] | None = None,
                  **options: object) -> dict[str, object]:
    """Return the options of a store, by the names they have in a file.

    The devices of a test lie on one disk, and there is no need for self-
    repair unless a test says so.
    """
    values = {'allow_shared_disk': True, 'self_repair': False} | options
    if devices is not None:
        values['devices'] = ','.join(map(str, devices))
    return {f'easystack_block_{name}': value
            for name, value in values.items()}


class TestCase(testtools.TestCase):
    """A test of the driver."""

    def setUp(self) -> None:
        super().setUp()
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))
        self.log = self.useFixture(fixtures.FakeLogger(
            format='%(levelname)s %(name)s: %(message)s'))

    def configuration(self, groups: Mapping[str, Mapping[str, object]],
                      ) -> cfg.ConfigOpts:
        """Return a configuration that was read from a file."""
        directory = Path(self.useFixture(fixtures.TempDir()).path)
        path = write_config(directory / 'glance-api.conf', groups)
        conf = cfg.ConfigOpts()
        conf(['--config-file', str(path)], project='glance',
             default_config_files=[], default_config_dirs=[])
        return conf

    def make_store(self, devices: Iterable[object] | None = None,
                   backend: str | None = BACKEND,
                   defaults: Mapping[str, object] | None = None,
                   **options: object) -> driver.Store:
        """Return a store as glance_store makes one, not configured yet.

        :param options: by name, without prefix
        """
        groups = {backend or 'glance_store':
                  block_options(devices, **options)}
        if defaults is not None:
            groups['backend_defaults'] = block_options(**defaults)
        store = driver.Store(self.configuration(groups), backend=backend)
        self.addCleanup(close, store)
        return store

    def configured(self, *arguments: Any, **options: Any) -> driver.Store:
        """Return a store that works; arguments as :meth:`make_store`."""
        store = self.make_store(*arguments, **options)
        store.configure(re_raise_bsc=True)
        return store

    def assertKept(self, error: Exception, *secrets: object) -> None:
        """See that users are not told what operators are.

        :param secrets: must be in the log, and not in the message
        """
        for secret in secrets:
            self.assertNotIn(str(secret), str(error))
            self.assertIn(str(secret), self.log.output)


def close(store: driver.Store) -> None:
    """Stop what a store does in the background.

    And forget how many copies it wants: others have the same devices.
    """
    try:
        engine = store.engine
    except store_exceptions.RemoteServiceUnavailable:
        return
    engine.close()
    if isinstance(engine, local_engine.LocalEngine):
        for path in engine.fleet.devices:
            Path(path, claims.CLAIMS).unlink(missing_ok=True)


def location_of(uri: str, store: store_driver.Store,
                ) -> store_location.Location:
    """Return a location as glance_store makes it of a URI."""
    return store_location.Location(
        driver.SCHEME, store.get_store_location_class(), store.conf, uri=uri,
        backend=store.backend_group)


class StoreTestCase(TestCase):
    """A test of a store that works, with three devices."""

    def setUp(self) -> None:
        super().setUp()
        self.devices = shared_devices()
        self.store = self.configured(self.devices.paths)

    def upload(self, data: bytes, image_id: str | None = None,
               ) -> store_location.Location:
        """Store an image; return its location."""
        uri = self.store.add(image_id or new_id(), io.BytesIO(data),
                             len(data), 'sha512')[0]
        return self.location(uri)

    def location(self, uri: str) -> store_location.Location:
        return location_of(uri, self.store)

    def read(self, location: store_location.Location,
             **arguments: Any) -> bytes:
        """Read an image, and see that it has the length announced."""
        body, size = self.store.get(location, **arguments)
        data = b''.join(body)
        self.assertEqual(size, len(data))
        return data
