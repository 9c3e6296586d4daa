"""What a transfer costs, measured on work whose cost is known."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time

import psutil
import testtools

from tests.bench import meter
from tests.bench import results

#: Waits for a line, takes 40 MiB and half a second of CPU time, and goes on.
_WORKER = """\
import sys, time
for line in sys.stdin:
    taken = bytearray(b'x') * (40 << 20)
    while time.process_time() < 0.5:
        pass
    del taken
    print(line, end='', flush=True)
"""


class MeterTest(testtools.TestCase):

    def test_own_process(self) -> None:
        def work() -> int:
            # A mapping of its own: the heap of a process that has run for
            # long has room already. Pages that nobody touched do not count.
            with mmap.mmap(-1, 40 * results.MIB) as taken:
                for offset in range(0, len(taken), mmap.PAGESIZE):
                    taken[offset] = 1
                return len(taken)

        process = psutil.Process()
        # An earlier peak must not count.
        work()
        idle = meter.resident_mib([process])
        sample = meter.measure(work, [process], idle)
        self.assertEqual(40 * results.MIB, sample.size)
        self.assertTrue(39 < sample.peak_mib < 50, sample)
        self.assertIsNone(sample.client_cpu_seconds)

    def test_cpu_time_is_not_wall_time(self) -> None:
        def work() -> int:
            time.sleep(0.3)
            return 1

        sample = meter.measure(work, [psutil.Process()], 0)
        self.assertGreaterEqual(sample.seconds, 0.3)
        self.assertLess(sample.cpu_seconds, 0.2)

    def test_another_process(self) -> None:
        worker = subprocess.Popen([sys.executable, '-c', _WORKER], text=True,
                                  stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        self.addCleanup(worker.wait)
        self.addCleanup(worker.stdout.close)
        self.addCleanup(worker.stdin.close)

        def work() -> int:
            print('go', file=worker.stdin, flush=True)
            return len(worker.stdout.readline())

        process = psutil.Process(worker.pid)
        idle = meter.resident_mib([process])
        sample = meter.measure(work, [process], idle)
        self.assertEqual(3, sample.size)
        self.assertGreaterEqual(sample.peak_mib, 39)
        self.assertGreaterEqual(sample.cpu_seconds, 0.4)
        self.assertLess(sample.client_cpu_seconds, 0.4)
