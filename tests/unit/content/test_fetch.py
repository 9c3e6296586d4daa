"""Downloads from servers that misbehave, on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import datetime
import ipaddress
from pathlib import Path
import socket
import ssl
import threading
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.conf import content as content_conf
from easystack_image.content import addresses
from easystack_image.content import fetch
from easystack_image.content import urls

LIMITS = fetch.Limits(size=1 << 20, connect_timeout=5, read_timeout=1,
                      time_limit=10, redirects=3)
OK = b'HTTP/1.1 200 OK\r\n'
Behaviour = Callable[[socket.socket], None]


class Server:
    """Answers each connection by a function, on an address of 127/8."""

    def __init__(self, behaviour: Behaviour,
                 address: str = '127.0.0.1') -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        #: Puts TLS around a connection.
        self.wrap: Callable[..., socket.socket] | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,),
                             daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self.wrap is not None:
                connection = self.wrap(connection, server_side=True)
            self.requests.append(connection.recv(65536))
            self._behaviour(connection)

    def close(self) -> None:
        # Without it, whoever waits for a connection would take one more.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def sending(*pieces: bytes, pause: float = 0) -> Behaviour:
    """Return a behaviour: these bytes, with a pause before each."""
    def behave(connection: socket.socket) -> None:
        for piece in pieces:
            time.sleep(pause)
            connection.sendall(piece)
    return behave


class FetchCase(testtools.TestCase):

    def rules(self, *allowed: str) -> urls.UrlRules:
        """Return rules that allow nothing inside but what is named."""
        return urls.UrlRules(addresses.Networks.of(
            content_conf.DENIED_NETWORKS, allowed or ('127.0.0.1/32',)))

    def serve(self, behaviour: Behaviour,
              address: str = '127.0.0.1') -> Server:
        made = Server(behaviour, address)
        self.addCleanup(made.close)
        return made

    def fetch(self, port: int, limits: fetch.Limits = LIMITS,
              **arguments: Any) -> bytes:
        arguments.setdefault('rules', self.rules())
        with fetch.open_url(f'http://127.0.0.1:{port}/x?y', limits=limits,
                            **arguments) as download:
            data = b''.join(iter(lambda: download.read(4096), b''))
            self.assertEqual(len(data), download.received)
            if download.size is not None:
                self.assertEqual(len(data), download.size)
            return data


class DownloadTest(FetchCase):

    def test_bodies(self) -> None:
        for answer in (OK + b'Content-Length: 5\r\n\r\nhello',
                       OK + b'Connection: close\r\n\r\nhello',
                       b'HTTP/1.0 200 OK\r\n\r\nhello',
                       OK + b'Transfer-Encoding: chunked\r\n\r\n'
                       b'2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n'):
            made = self.serve(sending(answer))
            self.assertEqual(b'hello', self.fetch(made.port))
            self.assertTrue(made.requests[0].startswith(
                b'GET /x?y HTTP/1.1\r\n'))
            self.assertIn(f'Host: 127.0.0.1:{made.port}\r\n'.encode(),
                          made.requests[0])

    def test_environment_counts_for_nothing(self) -> None:
        proxy = self.serve(sending(OK + b'\r\nfrom the proxy'))
        made = self.serve(sending(OK + b'\r\ndirect'))
        for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy'):
            self.useFixture(fixtures.EnvironmentVariable(
                name, f'http://127.0.0.1:{proxy.port}'))
        self.assertEqual(b'direct', self.fetch(made.port))
        self.assertEqual([], proxy.requests)

    def check_failed(self, behaviour: Behaviour, why: str,
                     limits: fetch.Limits = LIMITS,
                     kind: type[Exception] = exceptions.DownloadFailed,
                     ) -> None:
        error = self.assertRaises(kind, self.fetch,
                                  self.serve(behaviour).port, limits)
        self.assertIn(why, str(error))

    def test_answers_that_are_none(self) -> None:
        for answer, why in (
                (b'HTTP/1.1 404 Not Found\r\n\r\n', '404'),
                (b'HTTP/1.1 206 Partial Content\r\n\r\n', '206'),
                (b'HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n', '401'),
                (b'SSH-2.0-OpenSSH_9.2\r\n', 'does not answer'),
                (b'', 'does not answer'), (b'HTTP/1.1 ', 'does not answer'),
                (OK + b'Content-Encoding: gzip\r\n\r\nx', 'compressed'),
                (OK + b'X: ' + b'y' * 100_000, 'does not answer'),
                (OK + b'X: y\r\n' * 200 + b'\r\n', 'does not answer')):
            self.check_failed(sending(answer), why)

    def test_cut_short(self) -> None:
        for answer in (OK + b'Content-Length: 10\r\n\r\nhello',
                       OK + b'Transfer-Encoding: chunked\r\n\r\n'
                       b'5\r\nhello\r\n5\r\nwo',
                       OK + b'Transfer-Encoding: chunked\r\n\r\nzz\r\n'):
            self.check_failed(sending(answer), 'after')

    def test_too_large(self) -> None:
        large = b'x' * (1 << 20)
        for answer in (OK + b'Content-Length: 1048577\r\n\r\n',
                       OK + b'Content-Length: 99999999999999999999\r\n\r\n',
                       OK + b'\r\n' + large + b'x'):
            self.check_failed(sending(answer), '1048576',
                              kind=exceptions.ContentTooLarge)
        self.assertEqual(large, self.fetch(self.serve(sending(
            OK + b'\r\n' + large)).port))

    def test_server_that_falls_silent(self) -> None:
        def silent(connection: socket.socket) -> None:
            connection.sendall(OK + b'Content-Length: 10\r\n\r\nhello')
            time.sleep(5)
        began = time.monotonic()
        self.check_failed(silent, 'sent nothing for 1 seconds')
        self.check_failed(lambda connection: time.sleep(5),
                          'sent nothing for 1 seconds')
        self.assertLess(time.monotonic() - began, 8)

    def test_server_that_sends_single_bytes(self) -> None:
        """In the body, and in the headers: both end in time."""
        limits = fetch.Limits(size=1 << 20, read_timeout=1, time_limit=2)
        for first in (OK + b'Content-Length: 1000\r\n\r\n', OK + b'X: '):
            began = time.monotonic()
            self.check_failed(sending(first, *[b'x'] * 1000, pause=0.1),
                              'longer than 2 seconds', limits)
            self.assertLess(time.monotonic() - began, 8)

    def test_nobody_there(self) -> None:
        made = self.serve(sending())
        made.close()
        error = self.assertRaises(exceptions.DownloadFailed, self.fetch,
                                  made.port)
        self.assertIn('cannot be reached', str(error))


class ForgedRequestTest(FetchCase):
    """Ways to have Glance ask for what only Glance can reach."""

    def setUp(self) -> None:
        super().setUp()
        #: What must never be asked.
        self.inside = self.serve(sending(OK + b'\r\nsecret'), '127.0.0.2')
        self.addCleanup(lambda: self.assertEqual([], self.inside.requests))

    def refused(self, text: str, **arguments: Any) -> None:
        arguments.setdefault('rules', self.rules())
        error = self.assertRaises(exceptions.UrlRefused, fetch.open_url,
                                  text, limits=LIMITS, **arguments)
        self.assertNotIn('127.0.0.2', str(error).replace(
            'address of 127.0.0.2', ''))

    def test_addresses(self) -> None:
        port = self.inside.port
        for host in ('127.0.0.2', '[::ffff:127.0.0.2]', '[::ffff:7f00:2]',
                     str(ipaddress.IPv4Address(0)), '[::]', '[::1]',
                     '2130706434', '127.2', '0x7f000002', '0177.0.0.2'):
            self.refused(f'http://{host}:{port}/')

    def test_names_that_stand_for_them(self) -> None:
        def resolve(*arguments: Any, **more: Any) -> list[fetch.Place]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, '',
                     ('127.0.0.2', self.inside.port))]
        self.refused('http://images.example.org/', resolve=resolve)

    def test_names_that_change_their_mind(self) -> None:
        """The address that is connected to is the one that was checked."""
        good = self.serve(sending(OK + b'\r\ngood'))
        asked: list[str] = []

        def resolve(host: str, *arguments: Any,
                    **more: Any) -> list[fetch.Place]:
            asked.append(host)
            place = ('127.0.0.1', good.port) if len(asked) == 1 else (
                '127.0.0.2', self.inside.port)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', place)]

        with fetch.open_url('http://images.example.org/', self.rules(),
                            LIMITS, resolve) as download:
            self.assertEqual(b'good', download.read(100))
        self.assertEqual(['images.example.org'], asked)
        self.refused('http://images.example.org/', resolve=resolve)

    def test_names_that_stand_for_several(self) -> None:
        """The permitted ones are tried, the others are not."""
        good = self.serve(sending(OK + b'\r\ngood'))

        def resolve(*arguments: Any, **more: Any) -> list[fetch.Place]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', place)
                    for place in (('127.0.0.2', self.inside.port),
                                  ('127.0.0.1', good.port))]

        with fetch.open_url('http://images.example.org/', self.rules(),
                            LIMITS, resolve) as download:
            self.assertEqual(b'good', download.read(100))

    def test_redirects(self) -> None:
        port = self.inside.port
        for target in (f'http://127.0.0.2:{port}/',
                       f'//127.0.0.2:{port}/', f'http://127.2:{port}/',
                       f'http://[::ffff:127.0.0.2]:{port}/',
                       'http://169.254.169.254/latest/meta-data/',
                       'file:///etc/passwd', 'ftp://127.0.0.2/',
                       f'http://user@127.0.0.2:{port}/',
                       'http://localhost:{port}/\tx'):
            for status in (301, 302, 303, 307, 308):
                made = self.serve(sending(
                    f'HTTP/1.1 {status} Moved\r\nLocation: {target}\r\n'
                    'Content-Length: 0\r\n\r\n'.encode()))
                self.refused(f'http://127.0.0.1:{made.port}/')

    def test_good_redirect(self) -> None:
        good = self.serve(sending(OK + b'\r\ngood'))
        made = self.serve(sending(
            b'HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:'
            + str(good.port).encode() + b'/there\r\n\r\n'))
        self.assertEqual(b'good', self.fetch(made.port))
        self.assertTrue(good.requests[0].startswith(b'GET /there '))

    def test_redirects_without_end(self) -> None:
        made = self.serve(sending(
            b'HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n'))
        error = self.assertRaises(exceptions.DownloadFailed, self.fetch,
                                  made.port)
        self.assertIn('more than 3 times', str(error))
        self.assertEqual(4, len(made.requests))

    def test_ports_and_names(self) -> None:
        made = self.serve(sending(OK + b'\r\n'))
        for more in ({'allowed_ports': frozenset({80})},
                     {'denied_hosts': frozenset({'127.0.0.1'})},
                     {'allowed_schemes': frozenset({'https'})}):
            rules = urls.UrlRules(self.rules().networks, **more)
            self.refused(f'http://127.0.0.1:{made.port}/', rules=rules)
        self.assertEqual([], made.requests)

    def test_unknown_names(self) -> None:
        error = self.assertRaises(
            exceptions.DownloadFailed, fetch.open_url,
            'http://does-not-exist.invalid/', self.rules(), LIMITS)
        self.assertIn('not known', str(error))


def certificate(root: Path, address: str) -> tuple[Path, Path]:
    """Make a certificate that vouches for itself; return it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder()
            .subject_name(name).issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([
                x509.IPAddress(ipaddress.ip_address(address))]), False)
            .add_extension(x509.BasicConstraints(True, None), True)
            .sign(key, hashes.SHA256()))
    paths = root / f'{address}.crt', root / f'{address}.key'
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    return paths


class TLSTest(FetchCase):
    """Servers are who they say they are, or nothing is asked of them."""

    def serve_tls(self, certified: str) -> tuple[Server, Path]:
        """Serve with a certificate for an address; return it as well."""
        root = Path(self.useFixture(fixtures.TempDir()).path)
        path, key = certificate(root, certified)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path, key)
        made = self.serve(sending(OK + b'\r\nsecure'))
        made.wrap = context.wrap_socket
        return made, path

    def ask(self, port: int) -> bytes:
        with fetch.open_url(f'https://127.0.0.1:{port}/', self.rules(),
                            LIMITS) as download:
            return download.read(100)

    def test_known(self) -> None:
        made, path = self.serve_tls('127.0.0.1')
        self.useFixture(fixtures.EnvironmentVariable('SSL_CERT_FILE',
                                                     str(path)))
        self.assertEqual(b'secure', self.ask(made.port))

    def test_unknown(self) -> None:
        made, _ = self.serve_tls('127.0.0.1')
        error = self.assertRaises(exceptions.DownloadFailed, self.ask,
                                  made.port)
        self.assertIn('certificate', str(error).lower())
        self.assertEqual([], made.requests)

    def test_somebody_else(self) -> None:
        made, path = self.serve_tls('127.0.0.9')
        self.useFixture(fixtures.EnvironmentVariable('SSL_CERT_FILE',
                                                     str(path)))
        self.assertRaises(exceptions.DownloadFailed, self.ask, made.port)
        self.assertEqual([], made.requests)

    def test_no_tls(self) -> None:
        made = self.serve(sending(OK + b'\r\nplain'))
        self.assertRaises(exceptions.DownloadFailed, self.ask, made.port)
