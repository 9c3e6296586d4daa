"""Calls that end in time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import testtools

from easystack_image.blockstore.local import timed
from tests.contract import base

#: More than anything here takes, in seconds.
AMPLE = 60.0


class CallTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        #: What a hung function waits for.
        self.release = threading.Event()
        self.discarded: list[object] = []
        self.addCleanup(self.release.set)

    def hang(self) -> str:
        self.release.wait()
        return 'late'

    def test_result(self) -> None:
        self.assertEqual(5, timed.call(lambda: 5, AMPLE, 'test'))
        self.assertIsNone(timed.call(lambda: None, AMPLE, 'test'))

    def test_runs_in_a_daemon_of_its_own(self) -> None:
        thread = timed.call(threading.current_thread, AMPLE, 'a name')
        self.assertIsNot(threading.current_thread(), thread)
        self.assertEqual('a name', thread.name)
        # Or a hung disk would keep the interpreter from exiting.
        self.assertTrue(thread.daemon)

    def test_errors_are_the_callers(self) -> None:
        for error in (ValueError('x'), OSError(5, 'x'), KeyboardInterrupt(),
                      SystemExit(3), TimeoutError(110, 'a disk said so')):
            def fail(error: BaseException = error) -> None:
                raise error

            try:
                timed.call(fail, AMPLE, 'test', self.discarded.append)
            except BaseException as raised:
                self.assertIs(error, raised)
            else:
                self.fail('nothing was raised')
        self.assertEqual([], self.discarded)

    def test_too_late(self) -> None:
        begin = time.monotonic()
        error = self.assertRaises(TimeoutError, timed.call, self.hang, 0.05,
                                  'test')
        self.assertTrue(0.05 <= time.monotonic() - begin < AMPLE)
        # An answer of the disk would have a number.
        self.assertIsNone(error.errno)

    def test_no_time_at_all(self) -> None:
        for timeout in (0, -5):
            self.assertRaises(TimeoutError, timed.call, self.hang, timeout,
                              'test')

    def test_late_result_is_discarded(self) -> None:
        done = threading.Event()

        def discard(result: str) -> None:
            self.discarded.append(result)
            done.set()

        self.assertRaises(TimeoutError, timed.call, self.hang, 0.01, 'test',
                          discard)
        self.assertEqual([], self.discarded)
        self.release.set()
        self.assertTrue(done.wait(AMPLE))
        self.assertEqual(['late'], self.discarded)

    def test_late_error_is_not_discarded(self) -> None:
        def fail() -> None:
            self.release.wait()
            raise ValueError('late')

        with base.nothing_left_behind():
            self.assertRaises(TimeoutError, timed.call, fail, 0.01, 'test',
                              self.discarded.append)
            self.release.set()
        self.assertEqual([], self.discarded)

    def test_timely_result_is_kept(self) -> None:
        call = timed.TimedCall(lambda: 5, 'test', self.discarded.append)
        self.assertEqual(5, call.result(timed.Patience(AMPLE)))
        self.assertEqual(5, call.result(timed.Patience(0)))
        self.assertEqual([], self.discarded)

    def test_whether_it_is_wanted(self) -> None:
        """Whoever was given up is told so before he does more."""
        told: list[object] = []

        def work() -> None:
            timed.check_wanted()
            self.hang()
            try:
                timed.check_wanted()
            except TimeoutError as error:
                told.append(error)

        self.assertRaises(TimeoutError, timed.call, work, 0.05, 'test')
        self.release.set()
        base.eventually(lambda: told, 'it is told')
        # Nobody waits for what is no such call.
        timed.check_wanted()

    def test_result_or_discard_never_both_nor_neither(self) -> None:
        # The result comes just when the caller gives up.
        for number in range(200):
            def function(number: int = number) -> int:
                time.sleep(0.001)
                return number

            call = timed.TimedCall(function, 'test', self.discarded.append)
            try:
                self.assertEqual(number, call.result(timed.Patience(0.001)))
            except TimeoutError:
                base.eventually(lambda n=number: n in self.discarded,
                                'discarded')
            else:
                self.assertNotIn(number, self.discarded)

    def test_ends_its_thread(self) -> None:
        with base.nothing_left_behind():
            timed.call(lambda: 5, AMPLE, 'test')


class GatherTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.release = threading.Event()
        self.addCleanup(self.release.set)

    def test_nothing(self) -> None:
        self.assertEqual({}, timed.gather({}, AMPLE, 'test'))

    def test_side_by_side(self) -> None:
        # None gets through the barrier alone.
        barrier = threading.Barrier(4)

        def meet() -> bool:
            return barrier.wait(AMPLE) >= 0

        self.assertEqual(
            dict.fromkeys('abcd', True),
            timed.gather(dict.fromkeys('abcd', meet), AMPLE, 'test'))

    def test_results_and_errors(self) -> None:
        error = ValueError('x')

        def fail() -> None:
            raise error

        self.assertEqual({'good': 5, 'bad': error},
                         timed.gather({'good': lambda: 5, 'bad': fail},
                                      AMPLE, 'test'))

    def test_one_limit_for_all(self) -> None:
        begin = time.monotonic()
        results = timed.gather(
            dict.fromkeys(range(20), self.release.wait), 0.1, 'test')
        taken = time.monotonic() - begin
        self.assertEqual([TimeoutError] * 20,
                         [type(result) for result in results.values()])
        self.assertLess(taken, 1.9)

    def test_hung_one_does_not_spoil_the_others(self) -> None:
        results = timed.gather({'hung': self.release.wait,
                                'good': lambda: 5}, 0.2, 'test')
        self.assertIsInstance(results['hung'], TimeoutError)
        self.assertEqual(5, results['good'])

    def test_late_results_are_discarded(self) -> None:
        discarded: list[bool] = []
        with base.nothing_left_behind():
            timed.gather({1: self.release.wait, 2: self.release.wait}, 0.01,
                         'test', discarded.append)
            self.release.set()
        self.assertEqual([True, True], discarded)


#: Says when it begins; its calls take one second of the two that they have.
_STOPPED = """\
import time
from easystack_image.blockstore.local import timed
print('begin', flush=True)
found = timed.gather({number: lambda: time.sleep(1.0) or 'here'
                      for number in range(3)}, 2.0, 'test')
print(*found.values(), flush=True)
"""


class StandingStillTest(testtools.TestCase):
    """Time for which the process itself was stopped is nobody's fault."""

    def test_stopped_for_longer_than_the_limit(self) -> None:
        with subprocess.Popen([sys.executable, '-c', _STOPPED], text=True,
                              stdout=subprocess.PIPE) as child:
            self.addCleanup(child.kill)
            self.assertEqual('begin\n', child.stdout.readline())
            time.sleep(0.2)
            child.send_signal(signal.SIGSTOP)
            time.sleep(3.0)
            child.send_signal(signal.SIGCONT)
            self.assertEqual('here here here\n', child.stdout.readline())

    def test_what_was_waited_before_counts(self) -> None:
        patience = timed.Patience(1.0)
        self.assertFalse(patience.wait(never))
        begin = time.monotonic()
        self.assertFalse(patience.wait(never))
        self.assertLess(time.monotonic() - begin, 0.5)

    def test_what_comes_in_the_meantime_is_taken(self) -> None:
        arrived = threading.Event()
        threading.Timer(0.7, arrived.set).start()
        self.assertTrue(timed.Patience(AMPLE).wait(arrived.wait))


def never(seconds: float) -> bool:
    """Wait in vain."""
    time.sleep(seconds)
    return False
