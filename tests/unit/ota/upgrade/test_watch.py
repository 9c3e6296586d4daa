"""What counts as a regression, and what does not."""

from __future__ import annotations

from pathlib import Path

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import counting
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout
from easystack_image.ota.upgrade import watch

Kind, Result = counts.Kind, counts.Result
LIMITS = watch.Limits(errors=0.01, slower=2.0, slack=0.1, requests=100)


class Service:
    """An instance that answers as it is told to."""

    def __init__(self) -> None:
        self.counter = counting.private_counter()

    def answer(self, number: int, seconds: float = 0.1,
               result: Result = Result.SUCCESS,
               kind: Kind = Kind.GET) -> Service:
        for _ in range(number):
            self.counter.begin(kind)
            self.counter.answered(kind, seconds)
            self.counter.end(kind, result)
        return self

    @property
    def now(self) -> counts.Counts:
        return self.counter.now()


class WatchCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.service = Service()
        self.watch = watch.Watch(Service().answer(1000).now, LIMITS)

    def judge(self) -> None:
        self.watch.judge(self.service.now)

    def assertRegression(self, *words: str) -> None:
        error = self.assertRaises(exceptions.Regression, self.judge)
        for word in words:
            self.assertIn(word, str(error))


class ErrorsTest(WatchCase):

    def test_none(self) -> None:
        for _ in range(5):
            self.service.answer(150)
            self.judge()

    def test_too_many(self) -> None:
        self.service.answer(150).answer(3, result=Result.FAILED)
        self.assertRegression('2.0%', '153', '0.0%')

    def test_few(self) -> None:
        self.service.answer(150).answer(1, result=Result.CUT)
        self.judge()

    def test_refusals_are_no_errors(self) -> None:
        self.service.answer(150, result=Result.REFUSED)
        self.judge()

    def test_silence_is_no_verdict(self) -> None:
        self.service.answer(5, result=Result.FAILED)
        self.judge()

    def test_when_nearly_all_fail(self) -> None:
        """It does not take as many as usual."""
        self.service.answer(12, result=Result.FAILED)
        self.assertRegression('100.0%')

    def test_a_late_one(self) -> None:
        """Good times before do not make up for it."""
        self.service.answer(5000)
        self.judge()
        self.service.answer(100).answer(5, result=Result.FAILED)
        self.assertRegression('105')

    def test_as_bad_as_before(self) -> None:
        before = Service().answer(900).answer(100, result=Result.FAILED)
        self.watch = watch.Watch(before.now, LIMITS)
        self.service.answer(180).answer(20, result=Result.FAILED)
        self.judge()
        self.service.answer(170).answer(30, result=Result.FAILED)
        self.assertRegression('15.0%', '10.0%')

    def test_one_that_begins_anew(self) -> None:
        self.service.answer(500)
        self.judge()
        self.service = Service().answer(150)
        self.judge()
        self.service.answer(100, result=Result.FAILED)
        self.assertRegression('100')


class TimesTest(WatchCase):

    def test_as_fast(self) -> None:
        for _ in range(5):
            self.service.answer(120, 0.15)
            self.judge()

    def test_slow_for_two_windows(self) -> None:
        self.service.answer(120, 0.5)
        self.judge()
        self.service.answer(120, 0.5)
        self.assertRegression('"get"', '0.5', '0.1')

    def test_slow_for_a_while(self) -> None:
        for seconds in (0.5, 0.1, 0.5, 0.1):
            self.service.answer(120, seconds)
            self.judge()

    def test_one_percent_decides(self) -> None:
        for seconds in (0.1, 5.0) * 2:
            self.service.answer(98 if seconds < 1 else 2, seconds)
        self.judge()
        self.service.answer(196, 0.1).answer(4, 5.0)
        self.assertRegression('"get"')

    def test_slack(self) -> None:
        """Ten times nearly nothing is nearly nothing."""
        self.watch = watch.Watch(Service().answer(1000, 0.002).now, LIMITS)
        for _ in range(3):
            self.service.answer(120, 0.02)
            self.judge()

    def test_kinds_are_not_mixed(self) -> None:
        """Lists are slower, and there may be more of them now."""
        before = Service().answer(1000, 0.01).answer(200, 1.0,
                                                     kind=Kind.LIST)
        self.watch = watch.Watch(before.now, LIMITS)
        for _ in range(3):
            self.service.answer(120, 1.0, kind=Kind.LIST)
            self.judge()

    def test_nothing_to_compare_with(self) -> None:
        for origin in (None, Service().answer(99, 0.001).now):
            self.watch = watch.Watch(origin, LIMITS)
            self.service = Service()
            for _ in range(3):
                self.service.answer(120, 20.0)
                self.judge()


class ObserveTest(testtools.TestCase):

    def test_until_the_end(self) -> None:
        place = layout.Place(Path(self.useFixture(fixtures.TempDir()).path))
        counter = counting.open_counter(place, 1)
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            counter.begin(Kind.GET)
            counter.end(Kind.GET, Result.SUCCESS)
            if len(pauses) == 3:
                raise InterruptedError

        watched = watch.Watch(None, LIMITS)
        self.assertEqual(0, watched.observe(place, 0).answered)
        self.assertRaises(InterruptedError, watched.observe, place, 60,
                          pause)
        self.assertEqual(3, watched.observe(place, 0).answered)
