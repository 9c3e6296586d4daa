"""A real Glance: ``glance.wsgi.api`` under uWSGI on a port of 127.0.0.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import os
from pathlib import Path
import sys
import tempfile
from typing import Any, ClassVar, Protocol
import uuid

from easystack_image.blockstore.local import provision
from tests.functional import configuration
from tests.functional import mariadb
from tests.functional import processes
from tests.functional import wsgi

Options = configuration.Options

#: The pipelines that deployers copy.
SAMPLE_PASTE = processes.ROOT / 'etc' / 'glance-api-paste.ini.easystack-sample'
FLAVOR = 'keystone'

_AUTHTOKEN = """\
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
"""
_IDENTITY = 'paste.filter_factory = tests.functional.noauth:factory\n'


def paste() -> str:
    """Return the sample's pipelines, with a filter instead of Keystone."""
    return without_keystone(SAMPLE_PASTE.read_text())


def vanilla_paste() -> str:
    """Return Glance's own pipelines, with a filter instead of Keystone."""
    return without_keystone(Path(
        sys.prefix, 'etc', 'glance', 'glance-api-paste.ini').read_text())


def without_keystone(pipelines: str) -> str:
    """Return a paste file with the tests' filter instead of Keystone's."""
    if pipelines.count(_AUTHTOKEN) != 1:
        raise ValueError('the paste file has another authtoken')
    return pipelines.replace(_AUTHTOKEN, _IDENTITY)


@dataclasses.dataclass(frozen=True)
class Store:
    """One of Glance's backends: its name, its driver and its options."""

    name: str
    driver: str
    options: Mapping[str, object]

    #: How the locations of its images begin.
    scheme: ClassVar[str] = ''

    def held(self, image_id: str) -> list[str]:
        """Return the places where the store has data of an image."""
        raise NotImplementedError(self.driver)

    def contents(self, image_id: str) -> list[bytes]:
        """Return what the store keeps of an image, each copy of it."""
        raise NotImplementedError(self.driver)

    def leftovers(self) -> list[str]:
        """Return what unfinished uploads left in the store."""
        raise NotImplementedError(self.driver)


class FileStore(Store):
    """A store of Glance's own file driver."""

    def held(self, image_id: str) -> list[str]:
        """See the base class."""
        return [str(path) for path in files_of(
            Path(str(self.options['filesystem_store_datadir'])), image_id)]


class DeviceStore(Store):
    """A store of this package's driver that keeps copies on devices."""

    scheme = 'easystack-block://'

    def held(self, image_id: str) -> list[str]:
        """See the base class."""
        found = [path for device in devices(self)
                 for path in [copy_directory(device, image_id)]
                 if path.exists()]
        return [str(path) for path in found] + [
            str(path) for device in devices(self)
            for path in files_of(device, image_id)]

    def contents(self, image_id: str) -> list[bytes]:
        """See the base class."""
        return [data_file(device, image_id).read_bytes()
                for device in devices(self)]

    def leftovers(self) -> list[str]:
        """See the base class."""
        return [str(path) for path in leftovers(self)]


def block_store(name: str, devices: Sequence[Path],
                **options: object) -> DeviceStore:
    """Return a store of this package's driver.

    :param options: without their prefix ``easystack_block_``
    """
    given = {'devices': ','.join(map(str, devices)),
             # The tests' devices are folders side by side.
             'allow_shared_disk': True} | options
    return DeviceStore(name, 'easystack_block', {
        f'easystack_block_{option}': value for option, value in given.items()})


def file_store(name: str, directory: Path) -> FileStore:
    """Return a store of Glance's own file driver."""
    return FileStore(name, 'file', {'filesystem_store_datadir': directory})


class Database(Protocol):
    """Where a Glance keeps what it knows, and how many may ask at once."""

    #: uWSGI's worker processes, and the threads of each.
    processes: int
    threads: int

    def create(self) -> str:
        """Make the database ready, and return its URL for oslo.db."""


class SQLite:
    """A file; more than one thread would find it locked every so often."""

    processes = 1
    threads = 1

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> str:
        """See the base class; the tables are laid out once per process."""
        self.path.write_bytes(_empty_sqlite())
        return f'sqlite:///{self.path}'


class MariaDB:
    """A database on a MariaDB server.

    :param server: by default the one that this process shares
    """

    processes = 2
    threads = 8

    def __init__(self, server: mariadb.MariaDB | None = None) -> None:
        self._server = server

    def create(self) -> str:
        """See the base class."""
        server = self._server or mariadb.shared()
        url = server.create_database(f'glance_{uuid.uuid4().hex[:12]}')
        _sync_database(url)
        return url


def default_database(root: Path) -> Database:
    """Return the database that the tox environment asks for."""
    kind = os.environ.get('EASYSTACK_TEST_DATABASE', 'sqlite')
    if kind == 'mariadb':
        return MariaDB()
    if kind == 'sqlite':
        return SQLite(root / 'glance.sqlite')
    raise ValueError(f'EASYSTACK_TEST_DATABASE={kind}: not sqlite or mariadb')


@functools.cache
def _empty_sqlite() -> bytes:
    with tempfile.TemporaryDirectory(prefix='glance-db-') as directory:
        path = Path(directory, 'glance.sqlite')
        _sync_database(f'sqlite:///{path}')
        return path.read_bytes()


def _sync_database(url: str) -> None:
    with tempfile.TemporaryDirectory(prefix='glance-db-') as directory:
        config = Path(directory, 'glance.conf')
        configuration.write(config, {'database': {'connection': url}})
        processes.check([processes.script('glance-manage'),
                         '--config-file', str(config), 'db_sync'])


class Glance(wsgi.Service):
    """One Glance service with everything it needs under ``root``.

    ``prepare`` writes the configuration and the database; ``start``,
    ``stop`` and ``kill`` may follow in any number, on the same state.

    :param root: an existing directory
    :param stores: the first one is the default
    :param options: more of the configuration, or other values
    :param import_options: the same for ``glance-image-import.conf``
    :param pipelines: the paste file; by default the sample's, with a filter
        instead of Keystone
    :param port: by default one that is free
    """

    def __init__(self, root: Path, stores: Sequence[Store],
                 options: Options | None = None,
                 import_options: Options | None = None,
                 database: Database | None = None,
                 pipelines: str | None = None,
                 port: int | None = None) -> None:
        self.root = root
        self.stores = list(stores)
        self.options = dict(options or {})
        self.import_options = dict(import_options or {})
        self.database = database or default_database(root)
        self.config_file = root / 'etc' / 'glance-api.conf'
        self._pipelines = pipelines
        self._connection = ''
        super().__init__(
            'Glance', 'glance.wsgi.api:application', root / 'glance-api.log',
            self.database.processes, self.database.threads, port,
            OS_GLANCE_CONFIG_DIR=str(self.config_file.parent))

    @property
    def connection(self) -> str:
        """The database's URL, once it has been laid out."""
        return self._connection

    def prepare(self) -> None:
        """Write the configuration, and lay out an empty database."""
        for name in ('etc', 'staging', 'tasks', 'lock'):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / 'etc' / 'paste.ini').write_text(
            paste() if self._pipelines is None else self._pipelines)
        self._connection = self.database.create()
        self.configure()

    def configure(self) -> None:
        """Write the configuration files; they count from the next start."""
        configuration.write(self.config_file, configuration.merge(
            self._own_options(),
            {store.name: store.options for store in self.stores},
            self.options))
        configuration.write(
            self.config_file.with_name('glance-image-import.conf'),
            {'image_import_opts': {
                'image_import_plugins': '[easystack_content]'}}
            | self.import_options)

    def _own_options(self) -> dict[str, Mapping[str, object]]:
        backends = [f'{store.name}:{store.driver}' for store in self.stores]
        return {
            'DEFAULT': {
                'enabled_backends': ','.join(backends),
                'enabled_import_methods':
                    '[glance-direct,web-download,copy-image]',
                'worker_self_reference_url': self.url,
                'debug': False},
            'database': {'connection': self._connection},
            'glance_store': {'default_backend': self.stores[0].name},
            'os_glance_staging_store': {
                'filesystem_store_datadir': self.root / 'staging'},
            'os_glance_tasks_store': {
                'filesystem_store_datadir': self.root / 'tasks'},
            'oslo_concurrency': {'lock_path': self.root / 'lock'},
            # The tests' web servers are on this machine.
            'easystack_content': {'url_allowed_networks': '127.0.0.0/8'},
            'paste_deploy': {'config_file': self.root / 'etc' / 'paste.ini',
                             'flavor': FLAVOR}}

    def manage_command(self, *arguments: str,
                       store: str | None = None) -> list[str]:
        """Return a call of ``easystack-image-manage``, in words.

        :param store: by default the first one
        """
        return [processes.script('easystack-image-manage'),
                '--config-file', str(self.config_file),
                '--store', store or self.stores[0].name, *arguments]

    def copies(self, image_id: str, *options: str,
               store: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of ``copies show``.

        :param options: such as ``--verify``
        """
        command = self.manage_command('copies', 'show', '-f', 'json',
                                      *options, image_id, store=store)
        # 3 says that there are some that are not good.
        rows: list[dict[str, Any]] = json.loads(processes.check(
            command, accept=(0, 3)))
        return rows

    def init_devices(self) -> None:
        """Prepare the devices of every store of this package.

        The command for it, which does the same, has tests of its own.
        """
        for store in self.stores:
            if isinstance(store, DeviceStore):
                provision.initialise(
                    [str(path) for path in devices(store)],
                    allow_shared_disk=bool(store.options[
                        'easystack_block_allow_shared_disk']))


def make_devices(root: Path, count: int = 3,
                 prefix: str = 'disk') -> list[Path]:
    """Create empty directories to be devices, and return them."""
    devices = [root / f'{prefix}{number}' for number in range(1, count + 1)]
    for device in devices:
        device.mkdir()
    return devices


def copy_directory(device: Path, image_id: str) -> Path:
    """Return where a copy of an image lies, or would lie, on a device."""
    return device / 'images' / image_id[:2] / image_id


def data_file(device: Path, image_id: str) -> Path:
    """Return the plain bytes of a copy on a device."""
    return copy_directory(device, image_id) / 'data'


def devices(store: Store) -> list[Path]:
    """Return the devices of a store of this package."""
    listed = str(store.options['easystack_block_devices'])
    return [Path(path) for path in listed.split(',')]


def files_of(root: Path, image_id: str) -> list[Path]:
    """Return what holds data of an image under ``root``, for any store.

    That is: files under the image's id, or in a folder under its id.  The
    marks by which devices remember what was deleted are no data.
    """
    return [path for path in root.rglob('*')
            if path.is_file() and path.stat().st_size
            and image_id in (path.name, path.parent.name)]


def leftovers(store: Store) -> list[Path]:
    """Return what unfinished uploads left on the devices of a store."""
    return [path for device in devices(store)
            for path in (device / 'tmp').rglob('*')]
