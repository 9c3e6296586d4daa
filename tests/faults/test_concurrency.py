"""Two processes with eight threads each, on the same devices."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

from tests.faults import base
from tests.faults import crowd
from tests.functional import processes

#: Seconds, on a busy machine.
PATIENCE = 100


class TestManyTransfers(base.TestCase):

    def start(self, number: int) -> subprocess.Popen[str]:
        """Start one half, and wait until it is ready."""
        half = subprocess.Popen(
            [sys.executable, '-m', 'tests.faults.crowd', str(number),
             *(device.path for device in self.devices)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=processes.ROOT, env=processes.environment())
        self.addCleanup(stop, half)
        assert half.stdout is not None
        self.assertEqual('ready\n', half.stdout.readline())
        return half

    def test_sixteen_at_once(self) -> None:
        self.prepare(self.loops())
        halves = [self.start(number) for number in range(crowd.PROCESSES)]
        for half in halves:
            assert half.stdin is not None
            half.stdin.write('go\n')
            half.stdin.flush()
        results = [json.loads(half.communicate(timeout=PATIENCE)[0])
                   for half in halves]
        self.assertEqual([[], []], [each['faults'] for each in results])
        self.check_contested(results)
        for process in range(crowd.PROCESSES):
            for thread in range(crowd.THREADS):
                self.check_stored(crowd.image_id(process, thread),
                                  crowd.image(process, thread))
        # Who reads an image while it is being committed may find that it
        # lacks a copy, and note that.
        self.assertEqual([], [
            name for device in self.devices for name in base.leftovers(device)
            if not name.startswith(('images/', 'repair/'))])

    def check_contested(self, results: list[dict[str, list[int]]]) -> None:
        """See that one of the uploads under one id won, and only one."""
        winners = [(process, thread)
                   for process, result in enumerate(results)
                   for thread in result['won']]
        self.assertEqual(1, len(winners), winners)
        self.check_stored(crowd.CONTESTED, crowd.own(*winners[0]))

    def check_stored(self, image_id: str, data: bytes) -> None:
        """Compare each byte of each copy, without the engine."""
        for device in self.devices:
            path = (device.inside / 'images' / image_id[:2] / image_id
                    / 'data')
            self.assertTrue(path.read_bytes() == data, path)


def stop(half: subprocess.Popen[str]) -> None:
    """End a process, and what connects to it."""
    half.kill()
    half.wait()
    for stream in (half.stdin, half.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
