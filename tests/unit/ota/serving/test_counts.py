"""What workers count, and what readers make of it; by real processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

import fixtures
from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image.ota.serving import counting
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout

Kind, Result = counts.Kind, counts.Result

#: A worker: counts two requests, one of which goes on, and then waits.
_WORKER = """\
import pathlib, sys
from easystack_image.ota.serving import counting, counts, layout
counter = counting.open_counter(layout.Place(pathlib.Path(sys.argv[1])),
                                int(sys.argv[2]))
counter.begin(counts.Kind.GET)
counter.answered(counts.Kind.GET, 0.01)
counter.end(counts.Kind.GET, counts.Result.SUCCESS)
counter.begin(counts.Kind.UPLOAD)
print('counted', flush=True)
sys.stdin.read()
"""


class CountsCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.place = layout.Place(
            Path(self.useFixture(fixtures.TempDir()).path))

    def worker(self, number: int) -> subprocess.Popen[str]:
        """Start a worker, and wait until it has counted."""
        process = subprocess.Popen(
            [sys.executable, '-c', _WORKER, str(self.place.path),
             str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        self.addCleanup(self.end, process)
        assert process.stdout is not None
        self.assertEqual('counted\n', process.stdout.readline())
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()


class WorkersTest(CountsCase):

    def test_nobody(self) -> None:
        self.assertEqual(counts.Counts(), counts.read(self.place))

    def test_sum(self) -> None:
        for number in (1, 2):
            self.worker(number)
        found = counts.read(self.place)
        self.assertEqual((2, 2, 0), (
            found.workers, found.in_flight[Kind.UPLOAD],
            found.in_flight[Kind.GET]))
        self.assertEqual((2, 2), (found.begun[Kind.GET],
                                  found.begun[Kind.UPLOAD]))
        self.assertEqual((2, 0, 2), (found.of(Result.SUCCESS), found.errors,
                                     found.answered))

    def test_the_dead_are_at_nothing(self) -> None:
        self.end(self.worker(1))
        found = counts.read(self.place)
        self.assertEqual((0, 0), (found.workers,
                                  found.in_flight[Kind.UPLOAD]))
        self.assertEqual((1, 1), (found.begun[Kind.UPLOAD],
                                  found.of(Result.SUCCESS)))

    def test_the_next_one_goes_on_counting(self) -> None:
        self.end(self.worker(1))
        self.worker(1)
        found = counts.read(self.place)
        self.assertEqual(['counts.1'], os.listdir(self.place.path))
        self.assertEqual((1, 1), (found.workers,
                                  found.in_flight[Kind.UPLOAD]))
        self.assertEqual((2, 2), (found.begun[Kind.UPLOAD],
                                  found.timed(Kind.GET)))

    def test_two_of_one_number(self) -> None:
        """One outlived its master; nothing of either is lost."""
        self.worker(1)
        second = self.worker(1)
        self.assertIn(f'counts.1.{second.pid}', os.listdir(self.place.path))
        found = counts.read(self.place)
        self.assertEqual((2, 2), (found.workers,
                                  found.in_flight[Kind.UPLOAD]))

    def test_strange_files(self) -> None:
        """Cut short by a crash, or of another format: begun anew."""
        for content in (b'', b'x', bytes(counts.SIZE), b'y' * counts.SIZE):
            (self.place.path / 'counts.1').write_bytes(content)
            self.assertEqual(0, counts.read(self.place).answered)
            process = self.worker(1)
            self.assertEqual(1, counts.read(self.place).answered, content[:1])
            self.end(process)

    def test_of_who_controls_the_service(self) -> None:
        """Nobody waits for a pipe, or follows a link."""
        os.mkfifo(self.place.path / 'counts.1')
        (self.place.path / 'counts.2').symlink_to('/dev/zero')
        (self.place.path / 'counts.3').mkdir()
        self.assertEqual(counts.Counts(), counts.read(self.place))

    def test_private(self) -> None:
        (self.place.path / 'counts.1').write_bytes(b'')
        self.assertEqual(0o600, self.mode_of_new(2))

    def mode_of_new(self, number: int) -> int:
        self.worker(number)
        return (self.place.path / f'counts.{number}').stat().st_mode & 0o777


class CounterTest(CountsCase):

    def test_threads(self) -> None:
        counter = counting.open_counter(self.place, 1)

        def work() -> None:
            for _ in range(500):
                counter.begin(Kind.LIST)
                counter.answered(Kind.LIST, 0.001)
                counter.end(Kind.LIST, Result.REFUSED)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = counts.read(self.place)
        self.assertEqual((4000, 4000, 4000, 0), (
            found.begun[Kind.LIST], found.of(Result.REFUSED),
            found.timed(Kind.LIST), found.in_flight[Kind.LIST]))
        self.assertEqual(found, counter.now())

    def test_waiting(self) -> None:
        """Those without a first byte, whose client has no part in it."""
        counter = counting.open_counter(self.place, 1)
        begin = time.monotonic()
        tickets = [counter.begin(kind) for kind in Kind]
        found = counts.read(self.place).waiting
        self.assertEqual(set(Kind) - counts.TRANSFERS,
                         {each.kind for each in found})
        self.assertEqual(4, len(found))
        for each in found:
            self.assertGreaterEqual(each.since, begin - 1e-6)
            self.assertLessEqual(each.since, time.monotonic())
        counter.answered(Kind.GET, 0.1, tickets[0])
        self.assertNotIn(Kind.GET, {
            each.kind for each in counts.read(self.place).waiting})
        for kind, ticket in zip(Kind, tickets, strict=True):
            counter.end(kind, Result.SUCCESS, ticket)
        self.assertEqual((), counts.read(self.place).waiting)

    def test_more_than_there_is_room_for(self) -> None:
        counter = counting.open_counter(self.place, 1)
        tickets = [counter.begin(Kind.GET)
                   for _ in range(counts.WAITING + 5)]
        found = counts.read(self.place)
        self.assertEqual((counts.WAITING, counts.WAITING + 5), (
            len(found.waiting), found.in_flight[Kind.GET]))
        for ticket in tickets:
            counter.end(Kind.GET, Result.SUCCESS, ticket)
        self.assertEqual((), counts.read(self.place).waiting)
        self.assertIsNotNone(counter.begin(Kind.GET))

    def test_of_no_kind(self) -> None:
        """Whoever controls the service writes what he likes."""
        counter = counting.open_counter(self.place, 1)
        counter.begin(Kind.GET)
        with open(self.place.path / 'counts.1', 'r+b') as file:
            file.seek(counts.SIZE + 8)
            file.write(b'\xff' * 16)
        self.assertEqual([Kind.GET], [
            each.kind for each in counts.read(self.place).waiting])

    def test_files_of_older_releases(self) -> None:
        """They do not tell what waits."""
        counter = counting.open_counter(self.place, 1)
        counter.begin(Kind.GET)
        path = self.place.path / 'counts.1'
        whole = path.read_bytes()
        (self.place.path / 'counts.2').write_bytes(whole[:counts.SIZE])
        found = counts.read(self.place)
        self.assertEqual((2, 1, 1), (found.begun[Kind.GET], found.workers,
                                     len(found.waiting)))

    def test_once_in_a_process(self) -> None:
        counting.open_counter(self.place, 1)
        # What a second pipeline of one process would do.
        counting.open_counter(self.place, 1)
        self.assertRaises(FileExistsError, counting.open_counter, self.place,
                          1)

    def test_unread(self) -> None:
        counter = counting.private_counter()
        counter.begin(Kind.CHANGE)
        self.assertEqual(1, counter.now().in_flight[Kind.CHANGE])
        self.assertEqual([], os.listdir(self.place.path))


class ArithmeticTest(testtools.TestCase):

    @given(strategies.lists(strategies.floats(1e-6, 100), min_size=1),
           strategies.floats(0.01, 1))
    def test_quantile(self, seconds: list[float], share: float) -> None:
        """Never too short, and at most 10 % too long."""
        counter = counting.private_counter()
        for each in seconds:
            counter.answered(Kind.GET, each)
        found = counter.now().quantile(Kind.GET, share)
        ordered = sorted(seconds)
        exact = next(value for place, value in enumerate(ordered, 1)
                     if place >= share * len(ordered))
        self.assertLessEqual(exact * 0.999, found)
        self.assertLess(found, exact * 1.1)

    def test_out_of_range(self) -> None:
        counter = counting.private_counter()
        for seconds in (-1.0, 0.0, 1e9):
            counter.answered(Kind.GET, seconds)
        self.assertEqual(3, counter.now().timed(Kind.GET))
        self.assertEqual(0.0, counter.now().quantile(Kind.LIST, 0.99))

    def filled(self, number: int) -> counting.Counter:
        counter = counting.private_counter()
        for _ in range(number):
            counter.begin(Kind.GET)
            counter.answered(Kind.GET, 0.01 * number)
            counter.end(Kind.GET, Result.CUT if number % 2 else
                        Result.FAILED)
        return counter

    def test_since(self) -> None:
        counter = self.filled(3)
        earlier = counter.now()
        counter.begin(Kind.GET)
        counter.end(Kind.GET, Result.SUCCESS)
        found = counter.now().since(earlier)
        self.assertEqual((1, 1, 0, 0), (
            found.begun[Kind.GET], found.of(Result.SUCCESS), found.errors,
            found.timed(Kind.GET)))

    def test_sum(self) -> None:
        found = self.filled(2).now() + self.filled(3).now()
        self.assertEqual((2, 5, 5), (found.workers, found.errors,
                                     found.timed(Kind.GET)))

    def test_record(self) -> None:
        found = self.filled(5).now()
        text = json.dumps(found.record())
        self.assertLess(len(text), 300)
        again = counts.from_record(json.loads(text))
        self.assertEqual(found.record(), again.record())
        self.assertEqual((found.errors, found.quantile(Kind.GET, 0.5)),
                         (again.errors, again.quantile(Kind.GET, 0.5)))
        self.assertRaises((ValueError, LookupError), counts.from_record,
                          {'workers': 1, 'in_flight': {'dance': 1}})
