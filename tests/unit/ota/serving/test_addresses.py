"""Where a process listens, as the kernel says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import testtools

from easystack_image.ota.serving import addresses


class AddressesTest(testtools.TestCase):

    def inherits(self, *sockets: socket.socket) -> int:
        """Start a process that has sockets; return its number."""
        fds = [each.fileno() for each in sockets]
        process = subprocess.Popen(
            [sys.executable, '-c', 'import sys; sys.stdin.read()'],
            stdin=subprocess.PIPE, pass_fds=fds)
        self.addCleanup(process.communicate)
        return process.pid

    def bound(self, host: str) -> tuple[socket.socket, int]:
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        found = socket.create_server((host, 0), family=family)
        self.addCleanup(found.close)
        return found, found.getsockname()[1]

    def test_addresses(self) -> None:
        for host, expected in (
                ('127.0.0.1', '127.0.0.1'), ('127.0.0.9', '127.0.0.9'),
                ('0.0.0.0', '127.0.0.1'),  # noqa: S104 (what is tested)
                ('::1', '::1'), ('::', '::1')):
            listener, port = self.bound(host)
            self.assertEqual((expected, port),
                             addresses.address(self.inherits(listener)))

    def test_not_one(self) -> None:
        """Nobody is asked rather than somebody else."""
        self.assertIsNone(addresses.address(self.inherits()))
        one, two = (self.bound('127.0.0.1')[0] for _ in range(2))
        self.assertIsNone(addresses.address(self.inherits(one, two)))

    def test_connections_do_not_count(self) -> None:
        listener, port = self.bound('127.0.0.1')
        with socket.create_connection(('127.0.0.1', port)) as client:
            self.assertEqual(('127.0.0.1', port), addresses.address(
                self.inherits(listener, client)))

    def test_dead(self) -> None:
        process = subprocess.Popen([sys.executable, '-c', ''])
        process.wait()
        self.assertRaises(OSError, addresses.address, process.pid)
        self.assertRaises(OSError, addresses.address, 0)
        self.assertIsNone(addresses.address(os.getpid()))
