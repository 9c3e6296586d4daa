"""The soak must notice what goes wrong: here it does, on purpose."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import http.server
from pathlib import Path
import threading
import time
from types import SimpleNamespace
from typing import Any
import uuid

import fixtures
import testtools

from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest
from tests.contract import local
from tests.functional import noauth
from tests.soak import catalogue
from tests.soak import clients
from tests.soak import disks
from tests.soak import faults
from tests.soak import report
from tests.soak import settle
from tests.soak import world

DATA = catalogue.content(300_000, 1)
#: The process that answers, as it says.
PROCESS = 4711
Handler = http.server.BaseHTTPRequestHandler


class Directory(disks.Disk):
    """A disk that is a directory."""

    bears = frozenset()

    def __init__(self, number: int, path: Path) -> None:
        super().__init__(number, f'zone{number}', SimpleNamespace(
            path=str(path), inside=path))


class JudgementTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        root = Path(self.useFixture(fixtures.TempDir()).path)
        self.disks = [Directory(number, root / f'disk{number}')
                      for number in range(3)]
        self.image = catalogue.Image(str(uuid.uuid4()), DATA)
        self.images = catalogue.Catalogue()
        self.images.add(self.image)
        self.images.change(self.image, catalogue.STORED)
        self.faults = faults.Faults(slack=0.0)
        self.report = report.Report()
        self.useFixture(fixtures.MonkeyPatch(
            'tests.soak.report.Report.say', lambda *args: None))

    def copy(self, number: int) -> None:
        """Put a good copy on a disk, as if it had long been there."""
        place = self.disks[number].place(self.image.image_id)
        place.mkdir(parents=True)
        (place / layout.DATA).write_bytes(DATA)
        (place / layout.MANIFEST).write_bytes(manifest.pack(
            local.describe(self.image.image_id, DATA)))
        # Files have the time of the last tick of the clock.
        time.sleep(0.02)

    def client(self, respond: Callable[[Handler], object],
               ) -> clients.Client:
        """Return a client of a server that answers in its own way."""
        return clients.Client(0, 0, self.house(respond), self.images,
                              self.faults, self.report, threading.Event())

    def house(self, respond: Callable[[Handler], object]) -> world.World:
        """Return a world with such a server for its Glance."""
        class Server(Handler):
            def do_GET(self) -> None:
                respond(self)

            do_DELETE = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        served = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Server)
        self.addCleanup(served.server_close)
        self.addCleanup(served.shutdown)
        threading.Thread(target=served.serve_forever, args=[0.01],
                         daemon=True).start()
        house = world.World.__new__(world.World)
        house.disks = self.disks
        house.glance = SimpleNamespace(
            url=f'http://127.0.0.1:{served.server_port}')
        return house

    def download(self, respond: Callable[[Handler], object],
                 part: tuple[float, float] | None = None) -> None:
        self.client(respond)._download(self.image, part)

    def check_failed(self, expected: str) -> None:
        (failure,) = self.report.failures
        self.assertIn(expected, failure)
        self.assertEqual({}, dict(self.report.operations))

    def check_excused(self, expected: str) -> None:
        self.assertEqual([], self.report.failures)
        self.assertEqual({expected: 1}, dict(self.report.errors))

    def test_right_bytes(self) -> None:
        self.download(lambda served: answer(served, DATA))
        self.assertEqual([], self.report.failures)
        self.assertEqual({'download': 1}, dict(self.report.operations))
        self.assertEqual(len(DATA), self.report.bytes['download'])

    def test_wrong_byte_at_the_end(self) -> None:
        bad = DATA[:-1] + bytes([DATA[-1] ^ 1])
        self.download(lambda served: answer(served, bad))
        self.check_failed('WRONG BYTES')

    def test_wrong_range(self) -> None:
        self.download(lambda served: answer(served, DATA[1:1001], 206),
                      (0.0, 1000 / len(DATA)))
        self.check_failed('WRONG BYTES')

    def test_too_few_bytes_without_an_error(self) -> None:
        self.download(lambda served: answer(served, DATA[:-1]))
        self.check_failed('WRONG BYTES')

    def test_no_content(self) -> None:
        self.copy(0)
        self.download(lambda served: answer(served, b'', 204))
        self.check_failed('good copy on disk 0')

    def test_error_with_a_good_copy_within_reach(self) -> None:
        self.copy(0)
        self.copy(2)
        self.faults.begin('away', 0)
        self.download(lambda served: answer(served, b'no', 503))
        self.check_failed('good copy on disk 2')

    def test_error_without_a_good_copy_and_without_a_fault(self) -> None:
        self.download(lambda served: answer(served, b'no', 503))
        self.check_failed('good copy on none')

    def test_error_when_all_copies_are_away(self) -> None:
        self.copy(0)
        self.faults.begin('away', 0)
        self.download(lambda served: answer(served, b'no', 503))
        self.check_excused('download: no good copy within reach: 503')

    def test_error_when_the_good_copy_was_away_a_moment_ago(self) -> None:
        self.copy(0)
        fault = self.faults.begin('away', 0)

        def respond(served: Handler) -> None:
            answer(served, b'no', 503)
            self.faults.end(fault)

        self.download(respond)
        self.check_excused('download: no good copy within reach: 503')

    def test_broken_by_the_end_of_its_worker(self) -> None:
        self.copy(0)
        self.download(lambda served: self.die(served, PROCESS))
        self.check_excused('download: its worker was killed')

    def test_broken_when_another_worker_was_killed(self) -> None:
        self.copy(0)
        self.download(lambda served: self.die(served, PROCESS + 1))
        self.check_failed('good copy on disk 0')

    def die(self, served: Handler, killed: int) -> None:
        self.faults.end(self.faults.begin('kill-worker', pid=killed))
        answer(served, DATA[:1000], length=len(DATA))

    def test_upload_without_a_fault(self) -> None:
        client = self.client(lambda served: None)
        client._explain('upload', time.monotonic(), OSError('500'))
        self.check_failed('though nothing was wrong')

    def test_upload_while_a_device_is_away(self) -> None:
        self.faults.begin('away', 1)
        client = self.client(lambda served: None)
        client._explain('upload', time.monotonic(), OSError('500'))
        self.check_excused('upload: OSError')

    def finish_deletion(self) -> None:
        """Delete what Glance refuses to delete, and says is deleted."""
        def respond(served: Handler) -> None:
            if served.command == 'DELETE':
                answer(served, b'no', 400)
            else:
                answer(served, b'{"status": "deleted"}')

        self.images.change(self.image, catalogue.DELETING)
        house = self.house(respond)
        house.logged = lambda word: ''
        settle.Reckoning(house, self.images, self.report)._finish_deletions()

    def test_record_half_deleted_by_a_killed_worker(self) -> None:
        self.report.fault('kill-worker')
        self.finish_deletion()
        self.check_excused('delete: record left half deleted')
        self.assertEqual(catalogue.HALF, self.image.state)

    def test_record_half_deleted_without_a_reason(self) -> None:
        self.finish_deletion()
        self.check_failed('cannot be deleted')

    def test_spoilt_copies_are_not_good(self) -> None:
        self.copy(0)
        disk = self.disks[0]
        place = disk.place(self.image.image_id)
        self.assertTrue(disk.has(self.image, read=True))
        disks.flip(place / layout.DATA, 0.99)
        self.assertTrue(disk.has(self.image, read=False))
        self.assertFalse(disk.has(self.image, read=True))
        disks.flip(place / layout.MANIFEST, 0.5)
        self.assertFalse(disk.has(self.image, read=False))
        disks.remove(place)
        self.assertFalse(disk.has(self.image, read=False))


def answer(served: Handler, body: bytes, status: int = 200,
           length: int | None = None) -> None:
    """Send an answer, cut short if ``length`` is more than the body."""
    served.send_response(status)
    served.send_header(noauth.PROCESS, str(PROCESS))
    if status != 204:
        served.send_header('Content-Length', str(
            len(body) if length is None else length))
    served.end_headers()
    with contextlib.suppress(OSError):
        served.wfile.write(body)
