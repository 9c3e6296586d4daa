"""The lock of the nodes, and their order: by tooz's files, and by HTTP.

With a database, and with nodes that are real, in tests/ota.
"""

from __future__ import annotations

import http.server
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import standing
from easystack_image.ota.upgrade import node_lock
from easystack_image.ota.upgrade import peers

SLOT = Path(sys.prefix)


class NodeLockCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        # The nodes, and tooz, are on this machine.
        for name in ('http_proxy', 'https_proxy'):
            self.useFixture(fixtures.EnvironmentVariable(name))

    def lock(self, release: str = '', slot: Path | None = SLOT,
             **given: Any) -> node_lock.NodeLock:
        return node_lock.NodeLock(settings.Settings(**{
            'coordination_url': f'file://{self.root}/locks',
            'nodes': 'http://a', 'node_url': 'http://a',
            'node_timeout': 0.0, **given}), slot, release)


class LockTest(NodeLockCase):

    def test_one_at_a_time(self) -> None:
        with self.lock() as held:
            held.check()
            self.assertRaises(exceptions.NotOurTurn,
                              self.lock().__enter__)
        with self.lock() as held:
            held.check()

    def test_waiting(self) -> None:
        order: list[str] = []

        def second() -> None:
            with self.lock(node_timeout=120.0):
                order.append('second')

        with self.lock():
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(2)
            order.append('first')
        thread.join()
        self.assertEqual(['first', 'second'], order)

    def test_the_holder_dies(self) -> None:
        with self.lock() as held:
            assert held._child is not None
            os.kill(held._child.pid, signal.SIGKILL)
            held._child.wait()
            error = self.assertRaises(exceptions.NotNow, held.check)
            self.assertIn('lost', str(error))
            # Others need not wait for anybody.
            with self.lock():
                pass

    def test_the_updater_dies(self) -> None:
        """However it dies: the holder ends with it."""
        code = ('import os, signal\n'
                'from pathlib import Path\n'
                'from easystack_image.ota import settings\n'
                'from easystack_image.ota.upgrade import node_lock\n'
                'lock = node_lock.NodeLock(settings.Settings('
                f'coordination_url="file://{self.root}/locks", '
                'nodes="http://a", node_url="http://a"), '
                f'Path({str(SLOT)!r}))\n'
                'lock.__enter__()\n'
                'os.kill(os.getpid(), signal.SIGKILL)\n')
        done = subprocess.run([sys.executable, '-c', code])
        self.assertEqual(-signal.SIGKILL, done.returncode)
        with self.lock(node_timeout=60.0):
            pass

    def test_only_node(self) -> None:
        with self.lock(coordination_url='', slot=None) as held:
            self.assertIsNone(held._child)
            held.check()

    def test_nothing_to_coordinate_with(self) -> None:
        error = self.assertRaises(exceptions.NotNow, self.lock(
            coordination_url='mysql://image:hush-hush@127.0.0.1:1/lock',
        ).__enter__)
        self.assertIn('cannot be coordinated', str(error))
        self.assertNotIn('hush-hush', str(error))

    def test_password_that_is_not_quoted(self) -> None:
        """An error has a piece of it: what seems to be the port."""
        error = self.assertRaises(exceptions.NotNow, self.lock(
            coordination_url='mysql://image:hush/hush@127.0.0.1/lock',
        ).__enter__)
        self.assertIn('%2F', str(error))
        self.assertNotIn('hush', str(error))

    def test_unknown_driver(self) -> None:
        error = self.assertRaises(exceptions.NotNow, self.lock(
            coordination_url='magic://x/').__enter__)
        self.assertIn('magic', str(error))

    def test_slot_without_tooz(self) -> None:
        (self.root / 'bin').mkdir()
        python = self.root / 'bin' / 'python'
        python.write_text('#!/bin/sh\nexit 1\n')
        python.chmod(0o755)
        error = self.assertRaises(
            exceptions.ConfigurationError,
            self.lock(slot=self.root).__enter__)
        self.assertIn(str(self.root), str(error))
        self.assertRaises(exceptions.ConfigurationError,
                          self.lock(slot=None).__enter__)


class SilentTest(NodeLockCase):
    """A child that says nothing: only one that ends by itself is at fault."""

    def setUp(self) -> None:
        super().setUp()
        (self.root / 'bin').mkdir()
        for name in ('_START', '_END'):
            self.useFixture(fixtures.MonkeyPatch(
                f'easystack_image.ota.upgrade.node_lock.{name}', 0.5))

    def acquire(self, script: str, error: type[Exception]) -> str:
        """Have a script for the child; return what is said of it."""
        python = self.root / 'bin' / 'python'
        python.write_text(f'#!/bin/sh\n{script}\n')
        python.chmod(0o755)
        return str(self.assertRaises(
            error, self.lock(slot=self.root).__enter__))

    def test_killed(self) -> None:
        for number in (signal.SIGKILL, signal.SIGTERM):
            self.assertIn('was killed', self.acquire(
                f'kill -{int(number)} $$', exceptions.NotNow))

    def test_late(self) -> None:
        for script in ('exec sleep 60', 'exec >&-; exec sleep 60'):
            self.assertIn('does not answer', self.acquire(
                script, exceptions.NotNow))

    def test_ended(self) -> None:
        for script in ('exit 0', 'exit 1', 'exec /nonexistent',
                       'echo nonsense; exit 1'):
            self.assertIn('cannot hold', self.acquire(
                script, exceptions.ConfigurationError))


class Node(http.server.BaseHTTPRequestHandler):
    """A node, as far as it is asked: it names a release, or does not."""

    def do_GET(self) -> None:
        self.send_response(300)
        release = self.server.release  # type: ignore[attr-defined]
        if release:
            self.send_header(layout.RELEASE_HEADER, release)
            self.send_header(layout.STANDING_HEADER, standing.Standing(
                release).header())
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class OrderTest(NodeLockCase):

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.upgrade.node_lock._PACE', 0.2))
        self.nodes = [self.node('2.0'), self.node('1.0'), self.node('1.0')]
        self.urls = [f'http://127.0.0.1:{node.server_address[1]}'
                     for node in self.nodes]

    def node(self, release: str) -> Any:
        node = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Node)
        node.release = release  # type: ignore[attr-defined]
        self.addCleanup(node.server_close)
        threading.Thread(target=node.serve_forever).start()
        self.addCleanup(node.shutdown)
        return node

    def turn(self, number: int, release: str = '2.0',
             **given: Any) -> node_lock.NodeLock:
        return self.lock(release, coordination_url='',
                         nodes=' '.join(self.urls),
                         node_url=self.urls[number], **given)

    def test_in_order(self) -> None:
        for number in (0, 1):
            with self.turn(number):
                pass
        error = self.assertRaises(exceptions.NotOurTurn,
                                  self.turn(2).__enter__)
        self.assertIn(f'{self.urls[1]} comes first', str(error))
        self.assertIn('2.0 for good: 1.0', str(error))

    def test_waiting(self) -> None:
        timer = threading.Timer(1, lambda: setattr(
            self.nodes[1], 'release', '2.0'))
        timer.start()
        self.addCleanup(timer.join)
        with self.turn(2, node_timeout=60.0):
            self.assertEqual('2.0', self.nodes[1].release)

    def test_no_order(self) -> None:
        with self.turn(2, release=''):
            pass

    def test_silent_nodes(self) -> None:
        """Without the filter, or not running: that is not the release."""
        self.nodes[0].release = ''
        error = self.assertRaises(exceptions.NotOurTurn,
                                  self.turn(1).__enter__)
        self.assertIn('does not say', str(error))
        self.assertEqual(peers.Peer(), peers.ask('http://127.0.0.1:1'))
