"""Whether a node stands aside: the backend, asked by itself.

Behind a real Glance, in tests/ota.
"""

from __future__ import annotations

import http.server
from pathlib import Path
import socketserver
import threading
import time
from typing import Any
from unittest import mock

import fixtures
from oslo_config import cfg
import testtools

from easystack_image.conf import ota as options
from easystack_image.middleware import ota_healthcheck
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import layout


class Node(http.server.BaseHTTPRequestHandler):
    """The health check of another node."""

    code = 200

    def do_GET(self) -> None:
        self.server.gate.wait(300)  # type: ignore[attr-defined]
        self.send_response(self.server.code)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Stranger(socketserver.StreamRequestHandler):
    """What does not speak HTTP."""

    def handle(self) -> None:
        self.rfile.readline()
        for words in self.server.words:  # type: ignore[attr-defined]
            self.wfile.write(words)
            time.sleep(0.3)


class HealthcheckTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.instances = Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(fixtures.EnvironmentVariable(
            layout.DIRECTORY_VARIABLE, str(self.instances / 'a')))
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.healthcheck.CACHED_FOR', 0.0))
        # This machine may be busy.
        self.be_patient(300.0)
        self.nodes = [self.node(503), self.node(200)]
        self.conf = cfg.ConfigOpts()
        self.conf([], project='glance', default_config_files=[],
                  default_config_dirs=[])
        options.register(self.conf)
        self.use(*map(self.url, self.nodes))
        self.backend = ota_healthcheck.OtaHealthcheck(self.conf, {})
        aside.step_aside(self.instances, 60)

    def node(self, code: int) -> Any:
        node = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Node)
        node.code = code  # type: ignore[attr-defined]
        node.gate = threading.Event()  # type: ignore[attr-defined]
        node.gate.set()  # type: ignore[attr-defined]
        self.addCleanup(node.server_close)
        threading.Thread(target=node.serve_forever).start()
        self.addCleanup(node.shutdown)
        self.addCleanup(node.gate.set)  # type: ignore[attr-defined]
        return node

    def url(self, node: Any) -> str:
        return f'http://127.0.0.1:{node.server_address[1]}/healthcheck'

    def be_patient(self, seconds: float) -> None:
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.ota_healthcheck.PATIENCE', seconds))

    def wait_long(self, seconds: int) -> None:
        self.conf.set_override('other_nodes_timeout', seconds, options.GROUP)

    def hang(self, *nodes: Any) -> None:
        """Have nodes be as those without power."""
        for node in nodes:
            node.gate.clear()

    def await_available(self, available: bool) -> None:
        until = time.monotonic() + 300
        while self.available is not available:
            self.assertLess(time.monotonic(), until)
            time.sleep(0.02)

    def stranger(self, *words: bytes) -> str:
        """Return the URL of a node that answers with something else."""
        server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), Stranger)
        server.words = words  # type: ignore[attr-defined]
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever).start()
        self.addCleanup(server.shutdown)
        return f'http://127.0.0.1:{server.server_address[1]}/'

    def use(self, *urls: str) -> None:
        self.conf.set_override('other_nodes', list(urls), options.GROUP)

    @property
    def available(self) -> bool:
        return bool(self.backend.healthcheck(0).available)

    def test_another_one_serves(self) -> None:
        result = self.backend.healthcheck(0)
        self.assertEqual((False, 'BEING UPGRADED'),
                         (result.available, result.reason))
        self.assertIn(str(self.nodes[1].server_address[1]), result.details)
        aside.step_back(self.instances)
        self.assertTrue(self.available)

    def test_it_counts_at_once(self) -> None:
        """Another node that stands aside next has to hear that we serve."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.healthcheck.CACHED_FOR', 3600.0))
        for _ in range(2):
            self.assertFalse(self.available)
            aside.step_back(self.instances)
            self.assertTrue(self.available)
            aside.step_aside(self.instances, 60)

    def test_the_last_one_stays(self) -> None:
        logged = self.useFixture(fixtures.FakeLogger())
        self.nodes[1].code = 503
        self.assertTrue(self.available)
        self.assertIn('serves on', logged.output)
        self.nodes[1].code = 200
        self.assertFalse(self.available)

    def test_nobody_to_ask(self) -> None:
        for urls in ((), ('http://127.0.0.1:1/',), ('file:///etc/passwd',),
                     ('nonsense',)):
            self.use(*urls)
            self.assertTrue(self.available, urls)

    def test_neighbour_that_speaks_something_else(self) -> None:
        logged = self.useFixture(fixtures.FakeLogger())
        for words, error in ((b'\x15\x03\x03\0\2\2\x46', 'BadStatusLine'),
                             (b'HTTP/1.1 200 OK\r\nA: ' + b'b' * 70000,
                              'LineTooLong')):
            url = self.stranger(words)
            self.assertFalse(ota_healthcheck._serves(url, 60))
            self.use(url)
            self.assertTrue(self.available, error)
            self.assertIn(error, logged.output)

    def test_all_are_asked_at_once(self) -> None:
        self.wait_long(30)
        dead = [self.node(200) for _ in range(3)]
        self.hang(*dead)
        self.use(*map(self.url, dead), self.url(self.nodes[1]))
        began = time.monotonic()
        self.assertFalse(self.available)
        self.assertLess(time.monotonic() - began, 30)

    def test_neighbours_without_power(self) -> None:
        """They hold up no answer, and have one thread each."""
        self.be_patient(0.5)
        self.wait_long(30)
        self.hang(*self.nodes)
        before = set(threading.enumerate())
        began = time.monotonic()
        for _ in range(20):
            self.assertTrue(self.available)
        self.assertLess(time.monotonic() - began, 30)
        for look in range(3):
            # The time of those before is over.
            self.backend._others.ask([*map(self.url, self.nodes)], 0.0)
            self.assertTrue(self.available, look)
        self.assertEqual(2, len([
            thread for thread in set(threading.enumerate()) - before
            if thread.name == 'other-node']))

    def test_answer_that_comes_later(self) -> None:
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.healthcheck.CACHED_FOR', 300.0))
        self.be_patient(0.1)
        self.wait_long(30)
        self.hang(*self.nodes)
        self.assertTrue(self.available)
        self.nodes[1].gate.set()
        self.await_available(False)

    def test_last_answer_counts_meanwhile(self) -> None:
        self.wait_long(30)
        self.assertFalse(self.available)
        self.be_patient(0.0)
        self.hang(*self.nodes)
        self.assertFalse(self.available)
        # It has gone down: the last one stays.
        self.nodes[1].code = 503
        for node in self.nodes:
            node.gate.set()
        self.await_available(True)

    def test_last_answer_does_not_count_for_long(self) -> None:
        self.wait_long(1)
        self.assertFalse(self.available)
        self.be_patient(0.0)
        self.hang(*self.nodes)
        self.await_available(True)

    def test_last_answer_was_long_ago(self) -> None:
        self.wait_long(30)
        self.assertFalse(self.available)
        self.be_patient(0.0)
        self.hang(*self.nodes)
        # Nobody has asked for an hour.
        clock = mock.Mock(monotonic=lambda: time.monotonic() + 3600)
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.ota_healthcheck.time', clock))
        self.assertTrue(self.available)

    def test_answer_of_another_time(self) -> None:
        self.wait_long(30)
        self.assertFalse(self.available)
        aside.step_back(self.instances)
        self.assertTrue(self.available)
        aside.step_aside(self.instances, 60)
        self.be_patient(0.0)
        self.hang(*self.nodes)
        self.assertTrue(self.available)

    def test_answer_by_and_by(self) -> None:
        """Each part in time, all of it too late."""
        others = ota_healthcheck._Others()
        others.ask([self.stranger(b'HTTP/1.1 200 OK\r\n', *[b'A: b\r\n'] * 5,
                                  b'\r\n')], 1)
        self.assertTrue(others.wait(time.monotonic() + 300))
        for thread in threading.enumerate():
            if thread.name == 'other-node':
                thread.join()
        self.assertIsNone(others.serving())

    def test_no_thread(self) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.useFixture(fixtures.MonkeyPatch('threading.Thread.start',
                                             start))
        self.assertTrue(self.available)

    def test_no_instance(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable(
            layout.DIRECTORY_VARIABLE))
        self.assertTrue(self.available)
