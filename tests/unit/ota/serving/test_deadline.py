"""An instance that talks as slowly as it likes."""

from __future__ import annotations

import contextlib
import http.client
from pathlib import Path
import socket
import tempfile
import threading
import time

import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import deadline
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import private
from easystack_image.ota.serving import stats

#: Seconds that all may take, those between two bytes, and those after which
#: it certainly did not end in time.
_TIME, _PACE, _LATE = 0.5, 0.05, 5.0


class DeadlineTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        # Sockets need short paths.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.place = layout.Place(Path(directory.name))
        self.over = threading.Event()
        self.began = time.monotonic()

    def drip(self, path: Path, first: bytes = b'') -> None:
        """Answer one connection with a byte now and then, for ever."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            with listener, listener.accept()[0] as connection, \
                    contextlib.suppress(OSError):
                connection.sendall(first)
                while not self.over.wait(_PACE):
                    connection.sendall(b' ')

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.over.set)

    def assertInTime(self) -> None:
        self.assertLess(time.monotonic() - self.began, _LATE)

    def test_statistics(self) -> None:
        self.drip(self.place.stats)
        error = self.assertRaises(exceptions.InstanceError, stats.read,
                                  self.place.stats, _TIME)
        self.assertIn('does not answer', str(error))
        self.assertInTime()

    def ask(self) -> None:
        client = private.Client(self.place, _TIME, {})
        with client.ask('GET', '/') as answer:
            answer.read()

    def test_head_of_an_answer(self) -> None:
        # The line never ends; then, one head comes after the other.
        for first in (b'HTTP/1.1 200 ',
                      b'HTTP/1.1 100 Continue\r\n\r\n' * 100):
            self.drip(self.place.private, first)
            self.assertRaises((OSError, http.client.HTTPException), self.ask)
            self.assertInTime()
            self.place.private.unlink()

    def test_body_of_an_answer(self) -> None:
        self.drip(self.place.private,
                  b'HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n')
        self.assertRaises(TimeoutError, self.ask)
        self.assertInTime()

    def test_late(self) -> None:
        self.drip(self.place.stats)
        self.assertRaises(TimeoutError, deadline.Connection,
                          self.place.stats, time.monotonic() - 1)
        # Or it waits for somebody to answer.
        deadline.Connection(self.place.stats, time.monotonic() + 1).close()

    def test_nobody_reads(self) -> None:
        self.drip(self.place.stats)
        with deadline.Connection(self.place.stats,
                                 time.monotonic() + _TIME) as connection:
            self.assertRaises(TimeoutError, connection.sendall,
                              bytes(64 << 20))
        self.assertInTime()
