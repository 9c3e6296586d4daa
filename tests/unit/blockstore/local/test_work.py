"""Long work: its rate, its end, and who is told."""

from __future__ import annotations

import threading
import time

import testtools

from easystack_image import exceptions
from easystack_image.blockstore.local import work

MIB = 1024 * 1024


class Listener:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.size = 0
        self.images = 0

    def begin(self, images: int, size: int) -> None:
        pass

    def advance(self, images: int, size: int) -> None:
        self.images += images
        self.size += size

    def note(self, message: str) -> None:
        pass


class JobTest(testtools.TestCase):

    def test_any_rate(self) -> None:
        job = work.Job()
        begin = time.monotonic()
        for _ in range(10000):
            job.take(MIB)
        self.assertLess(time.monotonic() - begin, 30)

    def test_rate(self) -> None:
        job = work.Job(rate=100 * MIB)
        begin = time.monotonic()
        for _ in range(50):
            job.take(MIB)
        self.assertGreaterEqual(time.monotonic() - begin, 0.49)

    def test_rate_of_several_threads_together(self) -> None:
        job = work.Job(rate=100 * MIB)
        threads = [threading.Thread(target=lambda: [
            job.take(MIB) for _ in range(10)]) for _ in range(4)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertGreaterEqual(time.monotonic() - begin, 0.39)

    def test_idle_time_is_not_saved_up(self) -> None:
        job = work.Job(rate=100 * MIB)
        job.take(MIB)
        time.sleep(0.5)
        begin = time.monotonic()
        for _ in range(20):
            job.take(MIB)
        self.assertGreaterEqual(time.monotonic() - begin, 0.19)

    def test_stopped(self) -> None:
        job = work.Job()
        job.check()
        job.stop.set()
        self.assertRaises(exceptions.Interrupted, job.check)
        self.assertRaises(exceptions.Interrupted, job.take, 1)

    def test_stopped_while_it_waits(self) -> None:
        # For three hours, it would.
        job = work.Job(rate=1)
        timer = threading.Timer(0.1, job.stop.set)
        timer.start()
        self.addCleanup(timer.join)
        begin = time.monotonic()
        self.assertRaises(exceptions.Interrupted, job.take, 10000)
        self.assertLess(time.monotonic() - begin, 60)

    def test_progress(self) -> None:
        listener = Listener()
        job = work.Job(progress=listener)
        job.take(7)
        job.take(5)
        self.assertEqual((12, 0), (listener.size, listener.images))
