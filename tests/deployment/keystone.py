"""A real Keystone under uWSGI on a port of 127.0.0.1."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
import concurrent.futures
import functools
import getpass
import grp
import os
from pathlib import Path
import tempfile

from tests.deployment import accounts
from tests.functional import configuration
from tests.functional import mariadb
from tests.functional import processes
from tests.functional import wsgi

REGION = 'RegionOne'


class Keystone(wsgi.Service):
    """The identity service, with everything it needs under ``root``.

    :param root: an existing directory
    :param database: the server to keep its tables on
    :param users: those who exist from the first start; the first one is the
        administrator
    :param port: by default one that is free
    """

    def __init__(self, root: Path, database: mariadb.MariaDB,
                 users: Sequence[accounts.Account] | None = None,
                 port: int | None = None) -> None:
        self.root = root
        self.database = database
        self.accounts = {account.user: account for account in
                         users or accounts.default_accounts()}
        self.config_file = root / 'etc' / 'keystone.conf'
        super().__init__(
            'Keystone', 'keystone.wsgi.api:application',
            root / 'keystone.log', workers=2, threads=4, port=port,
            OS_KEYSTONE_CONFIG_DIR=str(self.config_file.parent))
        self.admin = next(iter(self.accounts.values()))
        self._registrar = accounts.Registrar(
            self.admin.session(self.url), self.url)

    def prepare(self) -> None:
        """Write the configuration, the keys and the first user."""
        self.config_file.parent.mkdir()
        configuration.write(self.config_file, {
            'database': {
                'connection': self.database.create_database('keystone')},
            'fernet_tokens': {'key_repository': self.root / 'fernet'},
            'credential': {'key_repository': self.root / 'credential'},
            # The least there is: the passwords are random, and live shortly.
            'identity': {'password_hash_rounds': 4}})
        owner = ('--keystone-user', getpass.getuser(), '--keystone-group',
                 grp.getgrgid(os.getgid()).gr_name)
        with concurrent.futures.ThreadPoolExecutor() as side_by_side:
            for job in [side_by_side.submit(self._manage, *command)
                        for command in (('db_sync',), ('fernet_setup', *owner),
                                        ('credential_setup', *owner))]:
                job.result()
        self._manage(
            'bootstrap', '--bootstrap-username', self.admin.user,
            '--bootstrap-project-name', self.admin.project,
            '--bootstrap-region-id', REGION,
            *(word for interface in ('admin', 'public', 'internal') for word
              in (f'--bootstrap-{interface}-url', f'{self.url}/v3')))

    def _manage(self, *arguments: str) -> None:
        processes.check(
            [processes.script('keystone-manage'), '--config-file',
             str(self.config_file), *arguments],
            # Where other processes' arguments are seen, this is not.
            OS_BOOTSTRAP_PASSWORD=self.admin.password)

    def start(self, timeout: float = 180) -> None:
        """Start, and see to it that all accounts exist.

        :param timeout: seconds
        :raises ProcessFailed: with the end of the log
        """
        super().start(timeout)
        self._registrar.add(self.accounts.values())

    def add(self, account: accounts.Account) -> None:
        """Create one more user, with its project and roles."""
        self._registrar.add([account])
        self.accounts[account.user] = account

    def register_image_service(self, url: str, region: str) -> None:
        """Tell the catalogue of a Glance, in a region."""
        self._registrar.register('image', 'glance', url, region)
        if region != REGION:
            # Clients look for both in the region that they are told.
            self._registrar.register('identity', 'keystone',
                                     f'{self.url}/v3', region)


@functools.cache
def shared() -> Keystone:
    """Return the Keystone of this process, started when first asked for."""
    database = mariadb.shared()
    directory = tempfile.TemporaryDirectory(prefix='keystone-')
    keystone = Keystone(Path(directory.name), database)
    # The last one registered is the first one called.
    atexit.register(directory.cleanup)
    atexit.register(keystone.stop)
    keystone.prepare()
    keystone.start()
    return keystone
