"""Whether a new release answers as well as the old one did.

Judged are the share of requests that fail, and the 99th percentile of the
time to the first byte, of lists and of single images each for itself.  They
are looked at in windows: each is as long as it takes for enough requests.
Silence is no verdict, and one slow window is none either: two in succession
are.  Errors count at once, and a handful of them is enough for a window.

A release may also give no answers at all, so that there is nothing to count.
So requests that have waited for too long count as failed, transfers of data
excepted; and a probe asks as users do.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import time

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout
from easystack_image.ota.upgrade import probe as probes

#: Whose times are compared.
TIMED = (counts.Kind.GET, counts.Kind.LIST)
_SHARE = 0.99
#: So many errors are enough to judge by.
_PLAIN = 10
#: So many probes in succession are, that nobody answers.
_PROBES = 3
#: Seconds between two looks, and at the end.
_PACE, _LOOK = 1.0, 0.1
#: The verdicts that are counted.
ERRORS, PROBES = 'errors', 'probes'
_RESULTS = {2: counts.Result.SUCCESS, 3: counts.Result.REDIRECT,
            4: counts.Result.REFUSED, 5: counts.Result.FAILED}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much worse a release may be.

    :param errors: by how much the share of failed requests may be higher,
        from 0 to 1
    :param slower: how many times as long the 99th percentile may be
    :param slack: seconds that it may be longer by in any case
    :param requests: how many it takes to judge
    :param hang: seconds after which a request without an answer has failed
    """

    errors: float = 0.01
    slower: float = 2.0
    slack: float = 0.1
    requests: int = 200
    hang: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """How many requests an instance can be at.

    :param workers: its processes
    :param threads: of each
    """

    workers: int
    threads: int

    @property
    def hands(self) -> int:
        """All threads."""
        return self.workers * self.threads


def configured(found: settings_module.Settings) -> Limits:
    """Return what the configuration says."""
    return Limits(found.watch_errors / 100, found.watch_slower,
                  found.watch_slack, found.watch_requests, found.watch_hang)


def baseline(life: counts.Counts, recent: counts.Counts | None,
             requests: int) -> counts.Counts:
    """Return what a release is to be compared with.

    What the old one did last, as far as that is enough; else what it did in
    all its life.

    :param recent: a part of that
    :param requests: how many are enough
    """
    if recent is None:
        return life
    return dataclasses.replace(
        life,
        answers=recent.answers if recent.answered >= requests
        else life.answers,
        times={kind: recent.times[kind] if kind in TIMED
               and recent.timed(kind) >= requests else times
               for kind, times in life.times.items()})


class Watch:
    """Compares an instance with the one before it.

    :param origin: what that one did, before the hand-over; None if there was
        none
    :param limits: how much worse it may be
    :param size: of the instance; None if it is not known
    :param probe: asks it; None if nobody does
    """

    def __init__(self, origin: counts.Counts | None, limits: Limits,
                 size: Size | None = None,
                 probe: probes.Probe | None = None) -> None:
        self._origin = origin or counts.Counts()
        self._limits = limits
        self._size = size
        self._probe = probe
        self._unanswered = 0
        #: How often each thing was judged, and none the worse.
        self.judged = dict.fromkeys((ERRORS, *map(str, TIMED), PROBES), 0)
        self._start_anew()

    def _start_anew(self) -> None:
        """Begin all windows with nothing done."""
        #: How it was when the present window began: of errors, of times.
        self._errors_from = self._last = counts.Counts()
        self._times_from = dict.fromkeys(TIMED, counts.Counts())
        self._suspected: set[counts.Kind] = set()
        #: What hangs, and how much of it came up in the present window.
        self._hung: set[counts.Waiting] = set()
        self._hung_lately = 0
        #: Answers to the probe, which are none to a user.
        self._own = dict.fromkeys(counts.Result, 0)

    def observe(self, place: layout.Place, seconds: float,
                pause: Callable[[float], None] = time.sleep,
                ) -> counts.Counts:
        """Watch an instance for a while; return what it did until then.

        It takes somewhat longer if something waits for its answer just then.

        :param place: its directory
        :param pause: waits between two looks, and may raise what it likes
        :raises easystack_image.exceptions.Regression: as soon as it is
            certain
        """
        deadline = time.monotonic() + seconds
        while True:
            now = counts.read(place)
            self.judge(now)
            self._look(now)
            left = deadline - time.monotonic()
            if left <= 0 and not (seconds and self._doubts(now, deadline)):
                return now
            pause(min(left, _PACE) if left > 0 else _LOOK)

    def _doubts(self, now: counts.Counts, deadline: float) -> bool:
        """Whether what waits at the end may yet turn out to hang."""
        if self._probe is not None and (
                self._probe.pending or self._unanswered):
            return True
        return time.monotonic() < deadline + self._limits.hang + _PACE and (
            any(each.since <= deadline for each in now.waiting
                if each not in self._hung))

    def judge(self, now: counts.Counts) -> None:
        """Look at what the instance has done until now.

        :raises easystack_image.exceptions.Regression: if it is worse
        """
        if now.answered < self._last.answered:
            # It died, and its successor counts by itself.
            self._start_anew()
        self._last = now
        now = self.of_users(now)
        self._judge_hung(now)
        self._judge_errors(now)
        for kind in TIMED:
            self._judge_time(kind, now)

    def of_users(self, now: counts.Counts) -> counts.Counts:
        """Return what was done for others than the probe."""
        other = dict(now.answers.get(counts.Kind.OTHER, {}))
        for result, number in self._own.items():
            other[result] = max(other.get(result, 0) - number, 0)
        return dataclasses.replace(
            now, answers={**now.answers, counts.Kind.OTHER: other})

    def _judge_hung(self, now: counts.Counts) -> None:
        moment = time.monotonic()
        hung = {each for each in now.waiting
                if moment - each.since > self._patience(each.kind)}
        self._hung_lately += len(hung - self._hung)
        self._hung = hung
        hands = self._size.hands if self._size else _PLAIN
        if len(hung) >= min(_PLAIN, hands):
            longest = moment - min(each.since for each in hung)
            raise exceptions.Regression(
                f'{len(hung)} requests hang: they have had no answer for up '
                f'to {longest:.0f} s')

    def _patience(self, kind: counts.Kind) -> float:
        """Return after how many seconds a request hangs."""
        return max(self._limits.hang, self._limits.slower
                   * self._origin.quantile(kind, 1.0))

    def _judge_errors(self, now: counts.Counts) -> None:
        window = now.since(self._errors_from)
        failed = window.errors + self._hung_lately
        number = window.answered + self._hung_lately
        if number < self._limits.requests and failed < _PLAIN:
            return
        self._errors_from = now
        self._hung_lately = 0
        share = failed / number
        before = self._origin.errors / max(self._origin.answered, 1)
        if share > before + self._limits.errors:
            raise exceptions.Regression(
                f'{share:.1%} of {number} requests failed; before, '
                f'{before:.1%} did')
        self.judged[ERRORS] += 1

    def _judge_time(self, kind: counts.Kind, now: counts.Counts) -> None:
        window = now.since(self._times_from[kind])
        if (window.timed(kind) < self._limits.requests
                or self._origin.timed(kind) < self._limits.requests):
            return
        self._times_from[kind] = now
        before = self._origin.quantile(kind, _SHARE)
        found = window.quantile(kind, _SHARE)
        if found <= max(before * self._limits.slower,
                        before + self._limits.slack):
            self._suspected.discard(kind)
        elif kind in self._suspected:
            raise exceptions.Regression(
                f'99 % of the requests "{kind}" take up to {found:.3f} s; '
                f'before, they took up to {before:.3f} s')
        else:
            self._suspected.add(kind)
        self.judged[kind] += 1

    def _look(self, now: counts.Counts) -> None:
        """See what becomes of the probe.

        :raises easystack_image.exceptions.Regression: if nobody answers
        """
        if self._probe is None:
            return
        finding = self._probe.look()
        if finding is probes.Finding.ANSWERED:
            self._unanswered = 0
            self.judged[PROBES] += 1
            self._own[_RESULTS.get(self._probe.status // 100,
                                   counts.Result.FAILED)] += 1
        elif finding is probes.Finding.UNREACHABLE:
            self._probe = None
        elif finding is probes.Finding.FAILED:
            self._unanswered = 0 if self._full(now) else self._unanswered + 1
            if self._unanswered >= _PROBES:
                raise exceptions.Regression(
                    'nobody answers GET /: it was asked '
                    f'{self._unanswered} times')

    def _full(self, now: counts.Counts) -> bool:
        """Whether too few hands may be left, all others being at transfers.

        Of workers that do not count, all may be.
        """
        if self._size is None:
            return False
        uncounted = max(0, self._size.workers - now.workers)
        busy = uncounted * self._size.threads + sum(
            now.in_flight.get(kind, 0) for kind in counts.TRANSFERS)
        return 4 * busy >= 3 * self._size.hands

    def unjudged(self) -> list[str]:
        """Return of what there was too little, or nothing to compare with."""
        return [name for name, times in self.judged.items() if not times]
