"""What counts as a regression, and what does not."""

from __future__ import annotations

from pathlib import Path
import socket
import time

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import counting
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout
from easystack_image.ota.upgrade import probe as probes
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
            ticket = self.counter.begin(kind)
            self.counter.answered(kind, seconds, ticket)
            self.counter.end(kind, result, ticket)
        return self

    def hang(self, number: int, kind: Kind = Kind.GET) -> Service:
        """Take requests, and give no answer."""
        for _ in range(number):
            self.counter.begin(kind)
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


class Clock:
    """time.monotonic, ahead of the real one by as much as a test likes."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._real = time.monotonic

    def __call__(self) -> float:
        return self._real() + self.ahead


class HungTest(WatchCase):

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.useFixture(fixtures.MonkeyPatch('time.monotonic', self.clock))

    def test_many(self) -> None:
        self.service.hang(10)
        self.judge()
        self.clock.ahead += LIMITS.hang + 1
        self.assertRegression('10 requests hang', '31 s')

    def test_all_that_it_can_be_at(self) -> None:
        self.watch = watch.Watch(None, LIMITS, watch.Size(2, 2))
        self.service.hang(3)
        self.clock.ahead += LIMITS.hang + 1
        self.judge()
        self.service.hang(1)
        self.clock.ahead += LIMITS.hang + 1
        self.assertRegression('4 requests hang')

    def test_share(self) -> None:
        """Some hang among many that do not: once each, not once a window."""
        self.service.answer(150).hang(1)
        self.clock.ahead += LIMITS.hang + 1
        for _ in range(4):
            self.judge()
            self.service.answer(100)
        self.service.hang(2)
        self.clock.ahead += LIMITS.hang + 1
        self.assertRegression('2.0% of 102')

    def test_answers_that_go_on(self) -> None:
        """Slow clients, that is, and not a slow release."""
        for _ in range(20):
            ticket = self.service.counter.begin(Kind.LIST)
            self.service.counter.answered(Kind.LIST, 0.1, ticket)
        self.clock.ahead += 10 * LIMITS.hang
        self.judge()

    def test_transfers(self) -> None:
        for kind in (Kind.UPLOAD, Kind.DOWNLOAD):
            self.service.hang(100, kind)
        self.clock.ahead += 86400
        self.judge()

    def test_what_took_long_before(self) -> None:
        """Such as the deletion of a large image."""
        before = Service().answer(5, 100.0, kind=Kind.CHANGE)
        self.watch = watch.Watch(before.now, LIMITS)
        self.service.hang(20, Kind.CHANGE)
        self.clock.ahead += 190
        self.judge()
        self.clock.ahead += 50
        self.assertRegression('20 requests hang')


class Asked(probes.Probe):
    """A probe that sees what it is told."""

    def __init__(self, *findings: probes.Finding, status: int = 300) -> None:
        super().__init__(('192.0.2.1', 1), 1)
        self.findings = list(findings)
        self.status = status

    def look(self) -> probes.Finding:
        return (self.findings.pop(0) if self.findings
                else probes.Finding.NOTHING)


FAILED, ANSWERED = probes.Finding.FAILED, probes.Finding.ANSWERED


class ProbeTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.place = layout.Place(
            Path(self.useFixture(fixtures.TempDir()).path))
        self.counter = counting.open_counter(self.place, 1)

    def watched(self, *findings: probes.Finding,
                status: int = 300) -> watch.Watch:
        """Watch for as many looks as there are findings."""
        found = watch.Watch(None, LIMITS, watch.Size(1, 4),
                            Asked(*findings, status=status))
        looks = []

        def pause(_: float) -> None:
            looks.append(1)
            if len(looks) == len(findings):
                raise InterruptedError

        self.assertRaises(InterruptedError, found.observe, self.place, 60,
                          pause)
        return found

    def test_nobody_answers(self) -> None:
        found = watch.Watch(None, LIMITS, watch.Size(1, 4),
                            Asked(FAILED, FAILED, FAILED))
        error = self.assertRaises(exceptions.Regression, found.observe,
                                  self.place, 60, lambda _: None)
        self.assertIn('nobody answers GET /', str(error))

    def test_now_and_then(self) -> None:
        found = self.watched(FAILED, FAILED, ANSWERED, FAILED, FAILED)
        self.assertEqual(1, found.judged[watch.PROBES])

    def test_no_hand_is_free(self) -> None:
        """What all are at may take as long as it takes."""
        for _ in range(3):
            self.counter.begin(Kind.UPLOAD)
        self.watched(*[FAILED] * 10)

    def test_nobody_counts(self) -> None:
        """So all hands may be at uploads; that is said, at least."""
        found = watch.Watch(None, LIMITS, watch.Size(2, 4), Asked(
            *[FAILED] * 10))
        (self.place.path / 'counts.1').unlink()
        found.observe(self.place, 0)
        for _ in range(9):
            found.observe(self.place, 0)
        self.assertIn(watch.PROBES, found.unjudged())

    def test_unreachable(self) -> None:
        found = self.watched(probes.Finding.UNREACHABLE, FAILED, FAILED,
                             FAILED, FAILED)
        self.assertEqual(['errors', 'get', 'list', 'probes'],
                         found.unjudged())

    def test_no_user(self) -> None:
        """What it is answered is nothing to judge by."""
        found = self.watched(*[ANSWERED] * 150, status=500)
        for _ in range(150):
            ticket = self.counter.begin(Kind.OTHER)
            self.counter.end(Kind.OTHER, Result.FAILED, ticket)
        found.judge(counts.read(self.place))
        self.assertEqual(['errors', 'get', 'list'], found.unjudged())

    def test_not_before_it_is_answered(self) -> None:
        """At the end, what is not certain is waited for."""
        with socket.create_server(('127.0.0.1', 0)) as deaf:
            found = watch.Watch(None, LIMITS, watch.Size(1, 4), probes.Probe(
                deaf.getsockname(), 0.05))
            self.counter.end(Kind.GET, Result.SUCCESS,
                             self.counter.begin(Kind.GET))
            self.assertRaises(exceptions.Regression, found.observe,
                              self.place, 0.01)

    def test_what_waits_at_the_end(self) -> None:
        self.counter.begin(Kind.GET)
        found = watch.Watch(None, watch.Limits(hang=0.2), watch.Size(1, 1))
        self.assertRaises(exceptions.Regression, found.observe, self.place,
                          0.01)


class BaselineTest(testtools.TestCase):

    def test_recent(self) -> None:
        """What it did last counts, where that is enough."""
        service = Service().answer(1000, 1.0).answer(
            1000, 1.0, kind=Kind.LIST).answer(5, 90.0, kind=Kind.CHANGE)
        life = service.now
        service.answer(150, 0.1).answer(20, 0.1, kind=Kind.LIST)
        found = watch.baseline(service.now, service.now.since(life), 100)
        self.assertEqual(170, found.answered)
        self.assertLess(found.quantile(Kind.GET, 0.99), 0.2)
        self.assertGreater(found.quantile(Kind.LIST, 0.99), 0.9)
        self.assertGreater(found.quantile(Kind.CHANGE, 1.0), 80)


class ObserveTest(testtools.TestCase):

    def test_until_the_end(self) -> None:
        place = layout.Place(Path(self.useFixture(fixtures.TempDir()).path))
        counter = counting.open_counter(place, 1)
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            counter.end(Kind.GET, Result.SUCCESS, counter.begin(Kind.GET))
            if len(pauses) == 3:
                raise InterruptedError

        watched = watch.Watch(None, LIMITS)
        self.assertEqual(0, watched.observe(place, 0).answered)
        self.assertRaises(InterruptedError, watched.observe, place, 60,
                          pause)
        self.assertEqual(3, watched.observe(place, 0).answered)
