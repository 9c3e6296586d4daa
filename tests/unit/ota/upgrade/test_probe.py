"""What a probe makes of servers that are well, and of those that are not."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import socket
import threading
import time

import testtools

from easystack_image.ota.upgrade import probe as probes
from tests.functional import processes

Finding = probes.Finding
_ANSWER = b'HTTP/1.1 300 Multiple Choices\r\nContent-Length: 0\r\n\r\n'


class ProbeTest(testtools.TestCase):

    def finding(self, probe: probes.Probe) -> Finding:
        """Look until there is something to see."""
        found = []

        def seen() -> bool:
            found.append(probe.look())
            return found[-1] is not Finding.NOTHING

        processes.poll(seen, 'a finding')
        return found[-1]

    @contextlib.contextmanager
    def server(self, host: str, answer: bytes) -> Iterator[probes.Probe]:
        """Have somebody answer one connection."""
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as listener:
            def serve() -> None:
                connection, _ = listener.accept()
                with connection:
                    self.asked = connection.recv(1000)
                    connection.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            yield probes.Probe(listener.getsockname()[:2], 60)
            thread.join()

    def test_answers(self) -> None:
        for host in ('127.0.0.1', '::1'):
            for answer, status in ((_ANSWER, 300),
                                   (b'HTTP/1.0 503 No\r\n\r\n', 503)):
                with self.server(host, answer) as probe:
                    self.assertIs(Finding.ANSWERED, self.finding(probe))
                    self.assertEqual(status, probe.status)
                self.assertTrue(self.asked.startswith(b'GET / HTTP/1.0'))

    def test_no_answer(self) -> None:
        for answer in (b'', b'SSH-2.0-server\r\n'):
            with self.server('127.0.0.1', answer) as probe:
                self.assertIs(Finding.FAILED, self.finding(probe))

    def test_nobody_takes_it(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as deaf:
            probe = probes.Probe(deaf.getsockname(), 0.1)
            begin = time.monotonic()
            self.assertIs(Finding.FAILED, self.finding(probe))
            self.assertGreaterEqual(time.monotonic() - begin, 0.1)
            self.assertFalse(probe.pending)
            # Not at once again.
            self.assertIs(Finding.NOTHING, probe.look())
            self.assertFalse(probe.pending)

    def test_full_queue(self) -> None:
        """A connection that does not come about, though one did before."""
        with socket.create_server(('127.0.0.1', 0), backlog=0) as deaf:
            probe = probes.Probe(deaf.getsockname(), 0.1)
            self.assertIs(Finding.FAILED, self.finding(probe))
            waiting = [socket.socket() for _ in range(3)]
            for each in waiting:
                self.addCleanup(each.close)
                each.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    each.connect(deaf.getsockname())
            self.assertIs(Finding.FAILED, self.finding(probe))

    def test_unreachable(self) -> None:
        """Nobody listens, or a packet filter lets nothing through."""
        probe = probes.Probe(('127.0.0.1', processes.free_port()), 60)
        self.assertIs(Finding.UNREACHABLE, self.finding(probe))
        with socket.create_server(('127.0.0.1', 0), backlog=0) as deaf:
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    each = stack.enter_context(socket.socket())
                    each.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        each.connect(deaf.getsockname())
                probe = probes.Probe(deaf.getsockname(), 0.1)
                self.assertIs(Finding.UNREACHABLE, self.finding(probe))
