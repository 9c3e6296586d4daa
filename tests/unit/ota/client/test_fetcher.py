"""Getting bytes: by real servers, proxies and files."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
import ssl
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
import fixtures
from tuf.api import exceptions as tuf_errors

from easystack_image import exceptions
from easystack_image.ota.client import fetcher
from tests.unit.ota import base
from tests.unit.ota import server as servers

DATA = bytes(range(256)) * 1024


class PaceTest(base.Case):
    """Too slow is what sends too little in some time, however it does so."""

    def pace(self) -> fetcher.Pace:
        return fetcher.Pace(fetcher.Limits(10.0, 100))

    def test_fast_enough(self) -> None:
        pace = self.pace()
        for _ in range(100):
            pace.waited(1.0, 100)
        self.assertEqual(10.0, pace.left())

    def test_nothing(self) -> None:
        pace = self.pace()
        self.assertEqual(10.0, pace.left())
        self.assertRaises(tuf_errors.SlowRetrievalError, pace.waited, 10.0, 0)

    def test_a_little(self) -> None:
        pace = self.pace()
        for _ in range(9):
            pace.waited(1.0, 99)
        self.assertEqual(1.0, pace.left())
        error = self.assertRaises(tuf_errors.SlowRetrievalError, pace.waited,
                                  1.0, 99)
        self.assertIn('990 bytes in 10 s, at least 1000', str(error))

    def test_what_was_fast_before_does_not_count(self) -> None:
        pace = self.pace()
        pace.waited(10.0, 1000000)
        self.assertRaises(tuf_errors.SlowRetrievalError, pace.waited, 10.0, 9)


class FetcherCase(base.Case):

    def setUp(self) -> None:
        super().setUp()
        for name in ('http_proxy', 'https_proxy', 'no_proxy', 'all_proxy'):
            self.useFixture(fixtures.EnvironmentVariable(name))
            self.useFixture(fixtures.EnvironmentVariable(name.upper()))
        self.server = servers.Server(self.root)
        self.enterContext(self.server)
        (self.root / 'file').write_bytes(DATA)
        self.url = f'{self.server.url}/file'

    def fetcher(self, timeout: float = 30.0, proxy: str = '',
                ca_file: str = '') -> fetcher.Fetcher:
        return fetcher.Fetcher(fetcher.Limits(timeout, 1024), proxy, ca_file)

    def get(self, url: str, offset: int = 0, **others: object,
            ) -> tuple[int, bytes]:
        begin, pieces = self.fetcher(**others).open(url, offset)
        return begin, b''.join(pieces)


class HttpTest(FetcherCase):

    def test_whole(self) -> None:
        self.assertEqual((0, DATA), self.get(self.url))

    def test_rest(self) -> None:
        self.assertEqual((1000, DATA[1000:]), self.get(self.url, 1000))

    def test_no_ranges(self) -> None:
        self.server.tricks['file'] = servers.send
        self.assertEqual((0, DATA), self.get(self.url, 1000))

    def test_another_range(self) -> None:
        """What was not asked for is not put where it does not belong."""
        self.server.tricks['file'] = lambda handler, data: servers.send_part(
            handler, data, 500)
        self.assertEqual(0, self.get(self.url, 1000)[0])

    def test_errors(self) -> None:
        for code in (403, 404, 416, 500, 503):
            self.server.tricks['file'] = lambda handler, data, code=code: (
                servers.send(handler, b'no', code))
            error = self.assertRaises(tuf_errors.DownloadHTTPError,
                                      self.get, self.url)
            self.assertEqual(code, error.status_code)

    def test_nobody_listens(self) -> None:
        self.assertRaises(tuf_errors.DownloadError, self.get,
                          'http://127.0.0.1:1/file')

    def test_broken_off(self) -> None:
        self.server.tricks['file'] = servers.break_off(1000)
        begin, pieces = self.fetcher().open(self.url, 0)
        got = b''

        def read() -> None:
            nonlocal got
            for piece in pieces:
                got += piece

        self.assertRaises(tuf_errors.DownloadError, read)
        self.assertEqual(DATA[:1000], got)

    def test_small_files_are_bounded(self) -> None:
        found = self.fetcher().download_bytes(self.url, len(DATA))
        self.assertEqual(DATA, found)
        self.assertRaises(tuf_errors.DownloadLengthMismatchError,
                          self.fetcher().download_bytes, self.url,
                          len(DATA) - 1)

    def test_redirects(self) -> None:
        self.server.tricks['old'] = servers.move_to('/file')
        self.assertEqual((0, DATA), self.get(f'{self.server.url}/old'))
        self.server.tricks['loop'] = servers.move_to('/loop')
        before = len(self.server.requests)
        self.assertRaises(tuf_errors.DownloadError, self.get,
                          f'{self.server.url}/loop')
        self.assertEqual(4, len(self.server.requests) - before)

    def test_redirects_lead_nowhere_else(self) -> None:
        for url in ('file:///etc/passwd', 'ftp://127.0.0.1/x',
                    'gopher://127.0.0.1/'):
            self.server.tricks['old'] = servers.move_to(url)
            error = self.assertRaises(tuf_errors.DownloadError, self.get,
                                      f'{self.server.url}/old')
            self.assertIn('unsafe place', str(error))

    def test_slow(self) -> None:
        for trick in (servers.drip, servers.drip_header, servers.hang):
            self.server.tricks['file'] = trick
            began = time.monotonic()
            self.assertRaises(tuf_errors.SlowRetrievalError, self.get,
                              self.url, timeout=0.5)
            self.assertLess(time.monotonic() - began, 20)

    def test_who_reads_slowly_is_not_to_blame(self) -> None:
        _, pieces = self.fetcher(timeout=0.5).open(self.url, 0)
        got = b''
        for piece in pieces:
            got += piece
            time.sleep(0.3)
        self.assertEqual(DATA, got)

    def test_threads_end(self) -> None:
        _, pieces = self.fetcher().open(self.url, 0)
        next(pieces)
        pieces.close()
        deadline = time.monotonic() + 30
        while any(thread.name == 'fetch' for thread in
                  threading.enumerate()) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual([], [thread for thread in threading.enumerate()
                              if thread.name == 'fetch'])


class ProxyTest(FetcherCase):

    def test_of_the_configuration(self) -> None:
        # Nobody is there but the proxy, which has the file itself.
        url = 'http://releases.invalid/file'
        self.assertEqual((0, DATA), self.get(url, proxy=self.server.url))
        self.assertEqual([(url, None)], self.server.proxied)

    def test_with_a_password(self) -> None:
        self.get('http://releases.invalid/file',
                 proxy=f'http://me:a%40b@127.0.0.1:{self.server.port}')
        self.assertEqual('Basic bWU6YUBi', self.server.proxied[0][1])

    def test_no_password_is_shown(self) -> None:
        error = self.assertRaises(
            tuf_errors.DownloadError, self.get,
            'http://releases.invalid/file',
            proxy='http://me:secret@127.0.0.1:1')
        while error is not None:
            self.assertNotIn('secret', str(error))
            error = error.__cause__

    def test_of_the_environment(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable(
            'http_proxy', self.server.url))
        self.get('http://releases.invalid/file')
        self.assertEqual(1, len(self.server.proxied))
        self.useFixture(fixtures.EnvironmentVariable(
            'no_proxy', '127.0.0.1'))
        self.get(self.url)
        self.assertEqual(1, len(self.server.proxied))


class FileTest(FetcherCase):

    def test_files(self) -> None:
        url = f'file://{self.root}/file'
        self.assertEqual((0, DATA), self.get(url))
        self.assertEqual((1000, DATA[1000:]), self.get(url, 1000))
        (self.root / 'a b').write_bytes(b'x')
        self.assertEqual((0, b'x'), self.get(f'file://{self.root}/a%20b'))

    def test_errors(self) -> None:
        error = self.assertRaises(tuf_errors.DownloadHTTPError, self.get,
                                  f'file://{self.root}/none')
        self.assertEqual(404, error.status_code)
        self.assertRaises(tuf_errors.DownloadError, self.get,
                          f'file://{self.root}')

    def test_a_file_that_hangs(self) -> None:
        os.mkfifo(self.root / 'pipe')
        self.assertRaises(tuf_errors.SlowRetrievalError, self.get,
                          f'file://{self.root}/pipe', timeout=0.3)
        # Or the thread would wait for good.
        fd = os.open(self.root / 'pipe', os.O_WRONLY)
        os.close(fd)


class TlsTest(FetcherCase):

    def setUp(self) -> None:
        super().setUp()
        self.certificate = self.make_certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.secure = servers.Server(self.root, context)
        self.enterContext(self.secure)

    def make_certificate(self) -> Path:
        """Return a file with a key, and a certificate that it signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(
            x509.NameOID.COMMON_NAME, 'an authority of its own')])
        now = base.now()
        certificate = x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(),
            now - datetime.timedelta(days=1),
            now + datetime.timedelta(days=1)).add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(
                    ipaddress.ip_address('127.0.0.1'))]), False,
        ).add_extension(x509.BasicConstraints(True, None), True).sign(
            key, hashes.SHA256())
        path = self.root / 'certificate.pem'
        path.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()) + certificate.public_bytes(
                serialization.Encoding.PEM))
        return path

    def test_known_authority(self) -> None:
        self.assertEqual((0, DATA), self.get(
            f'{self.secure.url}/file', ca_file=str(self.certificate)))

    def test_unknown_authority(self) -> None:
        error = self.assertRaises(tuf_errors.DownloadError, self.get,
                                  f'{self.secure.url}/file')
        self.assertIn('certificate verify failed', str(error))
        self.assertEqual([], self.secure.requests)

    def test_no_way_back_to_http(self) -> None:
        self.secure.tricks['old'] = servers.move_to(self.url)
        error = self.assertRaises(
            tuf_errors.DownloadError, self.get, f'{self.secure.url}/old',
            ca_file=str(self.certificate))
        self.assertIn('unsafe place', str(error))
        self.assertEqual([], self.server.requests)
        # The other way it is fine.
        self.server.tricks['new'] = servers.move_to(f'{self.secure.url}/file')
        self.assertEqual((0, DATA), self.get(
            f'{self.server.url}/new', ca_file=str(self.certificate)))

    def test_files_that_are_none(self) -> None:
        for name in ('none', 'file'):
            self.assertRaises(exceptions.ConfigurationError, self.fetcher,
                              ca_file=str(self.root / name))
