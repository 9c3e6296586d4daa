"""Whether a node stands aside: the backend, asked by itself.

Behind a real Glance, in tests/ota.
"""

from __future__ import annotations

import http.server
from pathlib import Path
import socketserver
import threading
from typing import Any

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
        self.send_response(self.server.code)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Stranger(socketserver.StreamRequestHandler):
    """What does not speak HTTP."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(self.server.words)  # type: ignore[attr-defined]


class HealthcheckTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.instances = Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(fixtures.EnvironmentVariable(
            layout.DIRECTORY_VARIABLE, str(self.instances / 'a')))
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.middleware.healthcheck.CACHED_FOR', 0.0))
        self.nodes = [self.node(503), self.node(200)]
        self.conf = cfg.ConfigOpts()
        self.conf([], project='glance', default_config_files=[],
                  default_config_dirs=[])
        options.register(self.conf)
        self.use(*(f'http://127.0.0.1:{node.server_address[1]}/healthcheck'
                   for node in self.nodes))
        self.backend = ota_healthcheck.OtaHealthcheck(self.conf, {})
        aside.step_aside(self.instances, 60)

    def node(self, code: int) -> Any:
        node = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Node)
        node.code = code  # type: ignore[attr-defined]
        self.addCleanup(node.server_close)
        threading.Thread(target=node.serve_forever).start()
        self.addCleanup(node.shutdown)
        return node

    def stranger(self, words: bytes) -> str:
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

    def test_no_instance(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable(
            layout.DIRECTORY_VARIABLE))
        self.assertTrue(self.available)
