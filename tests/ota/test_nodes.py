"""One node after another, with a lock in a real database."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import sys
from typing import Any
from urllib import parse

import fixtures
import pymysql
from tooz import coordination

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.upgrade import lock_holder
from easystack_image.ota.upgrade import node_lock
from tests.functional import base
from tests.functional import mariadb
from tests.functional import processes


class TestDatabaseLock(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.server = mariadb.shared()
        # As Glance's, but for the name of the driver.
        self.url = self.server.create_database(
            f'locks_{self.id()[-20:].replace(".", "_")}').replace(
                'mysql+pymysql://', 'mysql://')
        self.password = parse.urlsplit(self.url).password

    def lock(self, timeout: float = 0.0, **given: Any) -> node_lock.NodeLock:
        return node_lock.NodeLock(settings.Settings(**{
            'coordination_url': self.url, 'node_timeout': timeout,
            'nodes': 'http://a', 'node_url': 'http://a',
            **given}), Path(sys.prefix))

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        url = parse.urlsplit(self.url)
        with pymysql.connect(host='127.0.0.1', port=self.server.port,
                             user=url.username or '',
                             password=self.password or '') as database:
            cursor = database.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall())

    def owner(self) -> int | None:
        """Return the connection that holds the lock."""
        (found,), = self.execute("SELECT IS_USED_LOCK('easystack-image-ota')")
        return found

    def test_one_at_a_time(self) -> None:
        with self.lock() as held:
            self.assertIsNotNone(self.owner())
            error = self.assertRaises(exceptions.NotOurTurn,
                                      self.lock(3.0).__enter__)
            self.assertIn('another node', str(error))
            held.check()
        processes.poll(lambda: self.owner() is None, 'the end of the lock')
        with self.lock():
            pass

    def test_the_connection_is_cut(self) -> None:
        """Another node may begin at once, so this one has to know."""
        def lost() -> bool:
            try:
                held.check()
            except exceptions.NotNow as error:
                self.assertIn('lost', str(error))
                self.assertNotIn(self.password, str(error))
                return True
            return False

        with self.lock() as held:
            self.execute(f'KILL CONNECTION {self.owner()}')
            processes.poll(lost, 'the loss', timeout=30)

    def held_here(self) -> Any:
        """Return the lock, held by this process, which keeps quiet."""
        coordinator = coordination.get_coordinator(self.url, b'here')
        coordinator.start()
        self.addCleanup(coordinator.stop)
        lock = lock_holder._acquire(coordinator, 0.0)
        self.addCleanup(lock._conn.close)
        # It is not complained of that nobody let go.
        self.addCleanup(setattr, lock, 'acquired', False)
        lock_holder._limit(lock)
        return lock

    def test_how_long_a_node_may_keep_quiet(self) -> None:
        with self.held_here()._conn.cursor() as cursor:
            cursor.execute('SELECT @@SESSION.wait_timeout')
            self.assertEqual((60,), cursor.fetchone())

    def test_a_node_without_power(self) -> None:
        """The server gives up what does not come from it any more."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.lock_holder._SILENCE', 2))
        self.held_here()
        self.assertIsNotNone(self.owner())
        processes.poll(lambda: self.owner() is None, 'the end of the lock')

    def test_a_server_without_power(self) -> None:
        """Nothing comes from it any more, and nothing says so."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.lock_holder._ANSWER', 1.0))
        lock = self.held_here()
        server = int((self.server.root / 'pid').read_text())
        os.kill(server, signal.SIGSTOP)
        try:
            self.assertRaises(pymysql.OperationalError, lock_holder._look,
                              lock)
        finally:
            os.kill(server, signal.SIGCONT)

    def test_wrong_password(self) -> None:
        error = self.assertRaises(exceptions.NotNow, self.lock(
            coordination_url=self.url.replace(str(self.password),
                                              'hush-hush')).__enter__)
        self.assertIn('cannot be coordinated', str(error))
        self.assertNotIn('hush-hush', str(error))
