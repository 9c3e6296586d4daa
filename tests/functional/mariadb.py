"""A MariaDB server of our own; run as a module, tells whether it can be."""

from __future__ import annotations

import atexit
import functools
import getpass
import os
from pathlib import Path
import secrets
import shutil
import sys
import tempfile

import pymysql

from tests.functional import processes

PROGRAMS = ('mariadbd', 'mariadb-install-db')
PACKAGE = 'mariadb-server'

_USER = 'openstack'


def missing_programs() -> list[str]:
    """Return those of the programs that this machine has not got."""
    return [name for name in PROGRAMS if _find(name) is None]


def _find(name: str) -> str | None:
    # Debian keeps servers where only root looks for them.
    return shutil.which(name, path=f'{os.environ.get("PATH", "")}:/usr/sbin')


class MariaDB:
    """A database server on 127.0.0.1, with its files under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = processes.free_port()
        self.socket = root / 'socket'
        # A server that starts removes what looks like a temporary table,
        # those of others in the same directory, too; they die of it.
        self._temporary = root / 'tmp'
        self._password = secrets.token_hex(16)
        self._process = processes.Process(
            self._command(), root / 'mariadb.log')

    def _command(self) -> list[str]:
        return [
            _find('mariadbd') or 'mariadbd', '--no-defaults', *_as_user(),
            f'--datadir={self.root / "data"}', f'--port={self.port}',
            f'--tmpdir={self._temporary}',
            f'--socket={self.socket}', f'--pid-file={self.root / "pid"}',
            '--bind-address=127.0.0.1', '--skip-log-bin',
            # What the tests ask of the database is order, not endurance.
            '--innodb-flush-log-at-trx-commit=0',
            '--innodb-buffer-pool-size=64M', '--max-connections=200']

    def start(self) -> None:
        """Create the files of the server, start it and wait until it works.

        :raises ProcessFailed: with the end of the log
        """
        self._temporary.mkdir(exist_ok=True)
        processes.check([
            _find('mariadb-install-db') or 'mariadb-install-db',
            '--no-defaults', *_as_user(), f'--datadir={self.root / "data"}',
            f'--tmpdir={self._temporary}',
            # Nobody but the user that runs the tests, and by the socket.
            '--auth-root-authentication-method=socket',
            f'--auth-root-socket-user={getpass.getuser()}',
            '--skip-test-db'])
        self._process.start()
        try:
            processes.poll(lambda: self._answers() or not
                           self._process.running, 'MariaDB')
            self._execute(f"CREATE USER '{_USER}'@'127.0.0.1' "
                          f"IDENTIFIED BY '{self._password}'")
        except (TimeoutError, pymysql.err.OperationalError) as exc:
            raise processes.ProcessFailed(
                f'MariaDB does not start: {exc}\n'
                f'{self._process.tail()}') from exc

    def _answers(self) -> bool:
        try:
            self._execute('SELECT 1')
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop the server."""
        self._process.stop()

    def create_database(self, name: str) -> str:
        """Create an empty database and return the URL to reach it by."""
        self._execute(f'CREATE DATABASE {name} CHARACTER SET utf8mb3',
                      f"GRANT ALL ON {name}.* TO '{_USER}'@'127.0.0.1'")
        return (f'mysql+pymysql://{_USER}:{self._password}@127.0.0.1:{self.port}/'
                f'{name}?charset=utf8')

    def _execute(self, *statements: str) -> None:
        with pymysql.connect(unix_socket=str(self.socket),
                             user=getpass.getuser()) as db:
            for statement in statements:
                db.cursor().execute(statement)


def _as_user() -> list[str]:
    """Return the option without which root may not run the server."""
    return ['--user=root'] if os.geteuid() == 0 else []


@functools.cache
def shared() -> MariaDB:
    """Return the server of this process, started when first asked for."""
    directory = tempfile.TemporaryDirectory(prefix='mariadb-')
    server = MariaDB(Path(directory.name))
    # The last one registered is the first one called.
    atexit.register(directory.cleanup)
    atexit.register(server.stop)
    server.start()
    return server


def main() -> int:
    """Say what is missing, if anything is; return the exit code."""
    missing = missing_programs()
    if missing:
        print(f'Not found: {", ".join(missing)}. Install the Debian package '
              f'first:\n\n    apt-get install {PACKAGE}\n', file=sys.stderr)
    return 1 if missing else 0


if __name__ == '__main__':
    sys.exit(main())
