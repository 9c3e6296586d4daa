"""The listening socket, in this process and in another one."""

from __future__ import annotations

import os
from pathlib import Path
import socket
import subprocess
import sys

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import listening
from easystack_image.ota.serving import sharing
from tests.functional import processes

#: A worker: shares descriptor 0, until standard output is closed.
WORKER = """\
import pathlib, sys, time
from easystack_image.ota.serving import layout, sharing
sharing.share(layout.Place(pathlib.Path(sys.argv[1])), 1, 0)
print('ready', flush=True)
time.sleep(60)
"""


class ListeningTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.place = layout.Place(self.root / 'a')
        self.place.path.mkdir()

    def listen(self) -> socket.socket:
        listener = listening.bind('127.0.0.1', 0)
        self.addCleanup(listener.close)
        return listener

    def work(self, shared: socket.socket) -> None:
        """Start a worker that has the socket; this process has it no more."""
        worker = subprocess.Popen(
            [sys.executable, '-c', WORKER, str(self.place.path)],
            stdin=shared, stdout=subprocess.PIPE, cwd=processes.ROOT)
        self.addCleanup(worker.communicate)
        self.addCleanup(worker.kill)
        assert worker.stdout
        self.assertEqual(b'ready\n', worker.stdout.readline())
        shared.close()

    def obtain(self, port: int) -> socket.socket:
        found = listening.obtain('127.0.0.1', port, self.root)
        self.addCleanup(found.close)
        return found

    def test_taken_over(self) -> None:
        """Who waits in its queue is not lost."""
        listener = self.listen()
        port = listener.getsockname()[1]
        self.work(listener)
        with socket.create_connection(('127.0.0.1', port)) as client:
            found = self.obtain(port)
            self.assertFalse(found.get_inheritable())
            server, _ = found.accept()
            with server:
                server.sendall(b'x')
                self.assertEqual(b'x', client.recv(1))
        self.assertEqual(0o600, self.place.shared(1).stat().st_mode & 0o777)

    def test_elsewhere(self) -> None:
        listener = self.listen()
        port = listener.getsockname()[1]
        self.work(listener)
        error = self.assertRaises(exceptions.ConfigurationError, self.obtain,
                                  processes.free_port())
        self.assertIn(f'listen at 127.0.0.1:{port}', str(error))

    def test_nobody_answers(self) -> None:
        """A socket file of a worker that was killed."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.place.shared(1)))
        port = processes.free_port()
        self.assertEqual(port, self.obtain(port).getsockname()[1])

    def test_no_listening_socket(self) -> None:
        """Closed addresses, and what is no address, are not taken."""
        closed, other = self.listen(), socket.socket(socket.AF_UNIX)
        port = closed.getsockname()[1]
        closed.shutdown(socket.SHUT_RDWR)
        sharing.share(self.place, 1, closed.fileno())
        sharing.share(self.place, 2, os.dup(other.fileno()))
        other.close()
        self.assertEqual(port, self.obtain(port).getsockname()[1])

    def test_taken_by_somebody_else(self) -> None:
        port = self.listen().getsockname()[1]
        self.place.path.rmdir()
        error = self.assertRaises(exceptions.ConfigurationError, self.obtain,
                                  port)
        self.assertIn(str(port), str(error))

    def test_closing(self) -> None:
        """Whoever waits is let in, and then everybody is refused."""
        listener = self.listen()
        address = listener.getsockname()
        with socket.create_connection(address):
            closing = listening.Closing(listener)
            self.assertFalse(closing.ready)
            listener.accept()[0].close()
            self.assertTrue(closing.ready)
        closing.finish()
        closing.finish()
        self.assertRaises(ConnectionRefusedError, socket.create_connection,
                          address)
