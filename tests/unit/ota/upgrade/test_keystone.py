"""Files of credentials; a real Keystone is asked in tests/deployment."""

from __future__ import annotations

import http.server
import json
from pathlib import Path
import threading
from typing import Any

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.upgrade import keystone

CREDENTIAL = """\
[keystone]
auth_url = http://127.0.0.1:1/
application_credential_id = 1234
application_credential_secret = hush%hush
"""
PASSWORD = """\
[keystone]
auth_url = https://keystone.example.org/identity/v3
username = canary
password = hush hush
project_name = service
user_domain_name = Bots
"""


class FileTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.useFixture(fixtures.TempDir()).path, 'auth')

    def read(self, text: str, mode: int = 0o600) -> keystone.Credentials:
        self.path.write_text(text)
        self.path.chmod(mode)
        return keystone.read(self.path)

    def test_application_credential(self) -> None:
        found = self.read(CREDENTIAL)
        self.assertEqual('http://127.0.0.1:1/v3', found.url)
        self.assertEqual(
            {'id': '1234', 'secret': 'hush%hush'},
            found.auth['identity']['application_credential'])
        self.assertNotIn('scope', found.auth)

    def test_password(self) -> None:
        found = self.read(PASSWORD)
        self.assertEqual('https://keystone.example.org/identity/v3',
                         found.url)
        user = found.auth['identity']['password']['user']
        self.assertEqual(('canary', 'hush hush', {'name': 'Bots'}),
                         (user['name'], user['password'], user['domain']))
        self.assertEqual({'name': 'Default'},
                         found.auth['scope']['project']['domain'])

    def test_secrets_are_not_shown(self) -> None:
        self.assertNotIn('hush', repr(self.read(PASSWORD)))

    def test_wrong(self) -> None:
        for text, mode, words in (
                (PASSWORD, 0o640, 'chmod 600'),
                (PASSWORD, 0o604, 'chmod 600'),
                ('', 0o600, 'lacking: auth_url, username'),
                (CREDENTIAL.replace('_secret', '_key'), 0o600,
                 'lacking: application_credential_secret; unknown: '
                 'application_credential_key'),
                (CREDENTIAL.replace('http:', 'ftp:'), 0o600, 'auth_url'),
                ('hush\n', 0o600, 'cannot be read')):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.read, text, mode)
            self.assertIn(words, str(error))
            self.assertIn(str(self.path), str(error))
            self.assertNotIn('hush', str(error))
        self.path.unlink()
        self.assertRaises(exceptions.ConfigurationError, keystone.read,
                          self.path)


class Server(http.server.BaseHTTPRequestHandler):
    """A Keystone that is ill, or says no."""

    code = 201
    token = 'secret-token'

    def do_POST(self) -> None:
        kind = type(self)
        kind.asked = (self.path, json.loads(self.rfile.read(
            int(self.headers['Content-Length']))))
        self.send_response(kind.code)
        if kind.token:
            self.send_header('X-Subject-Token', kind.token)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve(test: testtools.TestCase, kind: type[Server]) -> str:
    """Have a Keystone answer while a test runs; return its URL."""
    node = http.server.HTTPServer(('127.0.0.1', 0), kind)
    test.addCleanup(node.server_close)
    threading.Thread(target=node.serve_forever).start()
    test.addCleanup(node.shutdown)
    return f'http://127.0.0.1:{node.server_address[1]}/v3'


class TokenTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.kind = type('Mine', (Server,), {})
        self.credentials = keystone.Credentials(
            serve(self, self.kind), '', {'identity': {'secret': 'hush'}})

    def test_token(self) -> None:
        self.assertEqual('secret-token', keystone.token(self.credentials, 30))
        self.assertEqual(('/v3/auth/tokens', {
            'auth': {'identity': {'secret': 'hush'}}}), self.kind.asked)

    def test_answers(self) -> None:
        for code, token, kind in (
                (503, '', exceptions.NotNow),
                (401, '', exceptions.ConfigurationError),
                (302, '', exceptions.ConfigurationError),
                (201, '', exceptions.ConfigurationError)):
            self.kind.code, self.kind.token = code, token
            error = self.assertRaises(kind, keystone.token,
                                      self.credentials, 30)
            self.assertIn(str(code), str(error))
            self.assertNotIn('hush', str(error))

    def test_nobody_there(self) -> None:
        self.assertRaises(exceptions.NotNow, keystone.token,
                          keystone.Credentials('http://127.0.0.1:1/v3'), 5)
        self.assertRaises(
            exceptions.ConfigurationError, keystone.token,
            keystone.Credentials('https://127.0.0.1:1/v3', '/nowhere'), 5)
