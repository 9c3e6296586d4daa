"""What a load has seen: failures, and how long answers took."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
import dataclasses
import math
from typing import Any

from tests.ota import load

#: Fewer answers than these say nothing of a 99th percentile.
ENOUGH = 200
BAD = ('failed', 'refused', 'truncated')


@dataclasses.dataclass(frozen=True)
class Window:
    """A time, in seconds of the monotonic clock."""

    begin: float
    end: float


@dataclasses.dataclass(frozen=True)
class Times:
    """How long answers took.

    :param count: of answers
    :param median: in seconds
    :param p99: the 99th percentile, in seconds
    :param longest: in seconds
    """

    count: int
    median: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Times:
        """Sum up (nearest rank)."""
        found = sorted(seconds)
        if not found:
            return cls(0, math.nan, math.nan, math.nan)

        def rank(share: float) -> float:
            return found[math.ceil(share * len(found)) - 1]

        return cls(len(found), rank(0.5), rank(0.99), found[-1])


def within(answers: Iterable[load.Answer],
           windows: Sequence[Window]) -> list[load.Answer]:
    """Return the answers that were under way in one of the windows."""
    return [answer for answer in answers if any(
        answer.begin < window.end
        and answer.begin + answer.seconds > window.begin
        for window in windows)]


def times(answers: Iterable[load.Answer], windows: Sequence[Window],
          ) -> dict[str, Times]:
    """Return how long answers took in windows, by their kind."""
    found = within(answers, windows)
    return {kind: Times.of(answer.seconds for answer in found
                           if answer.kind == kind) for kind in load.SHORT}


def outcomes(answers: Iterable[load.Answer]) -> dict[str, int]:
    """Return how many answers there are, and how many of each bad kind."""
    counted = collections.Counter(answer.outcome for answer in answers)
    return {'answers': counted.total()} | {
        outcome: counted[outcome] for outcome in BAD}


def switched(answers: Iterable[load.Answer], before: Window,
             during: Window, until: float = math.inf) -> float:
    """Return how long those who answered before still got requests.

    :param until: when the next command began: from then on, a new process
        may have the number of one that has ended
    :returns: seconds from the begin of ``during``
    """
    found = [answer for answer in answers
             if answer.kind in load.SHORT and answer.process]
    old = {answer.process for answer in found
           if before.begin <= answer.begin < before.end}
    return max((answer.begin - during.begin for answer in found
                if answer.process in old
                and during.begin <= answer.begin < until),
               default=0.0)


def longest_gap(answers: Iterable[load.Answer]) -> float:
    """Return the longest time without a good short answer, in seconds."""
    ends = sorted(answer.begin + answer.seconds for answer in answers
                  if answer.outcome == 'ok' and answer.kind in load.SHORT)
    return max((later - earlier for earlier, later in zip(
        ends, ends[1:], strict=False)), default=math.nan)


@dataclasses.dataclass
class Run:
    """What was measured in one run.

    :param method: how the releases were exchanged
    :param exchanges: how often
    :param before: when nothing happened
    :param during: when they were exchanged
    :param seconds: until the old one had all new requests, of each rollback
        while it was warm
    :param starting: when instances were started, which then waited
    """

    method: str
    exchanges: int
    answers: list[load.Answer]
    before: list[Window] = dataclasses.field(default_factory=list)
    during: list[Window] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    starting: list[Window] = dataclasses.field(default_factory=list)

    def ratios(self, windows: Sequence[Window] | None = None,
               ) -> dict[str, float]:
        """Return p99 in terms of p99 before exchanges, by kind.

        Only where there are answers enough.

        :param windows: when; by default during exchanges
        """
        before = times(self.answers, self.before)
        during = times(self.answers, windows or self.during)
        return {kind: during[kind].p99 / before[kind].p99
                for kind in load.SHORT
                if min(before[kind].count, during[kind].count) >= ENOUGH}

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            'method': self.method, 'exchanges': self.exchanges,
            **outcomes(self.answers),
            'longest_gap_seconds': longest_gap(self.answers),
            'exchange_seconds': self.seconds,
            'before': _plain(times(self.answers, self.before)),
            'during': _plain(times(self.answers, self.during)),
            'p99_ratio': self.ratios(),
            'starting': _plain(times(self.answers, self.starting)),
            'p99_ratio_starting': (self.ratios(self.starting)
                                   if self.starting else {}),
            'reasons': [{'kind': answer.kind, 'reason': answer.reason}
                        for answer in self.answers
                        if answer.outcome != 'ok'][:20]}


def _plain(found: dict[str, Times]) -> dict[str, Any]:
    return {kind: dataclasses.asdict(each)
            for kind, each in found.items() if each.count}


def table(runs: Sequence[Run]) -> str:
    """Return the figures for people to read."""
    lines = [f'{"method":<34} {"exchanged":>9} {"answers":>8} {"failed":>7} '
             f'{"refused":>7} {"truncated":>9} {"longest gap":>11}']
    for run in runs:
        found = outcomes(run.answers)
        lines.append(
            f'{run.method:<34} {run.exchanges:>9} {found["answers"]:>8} '
            f'{found["failed"]:>7} {found["refused"]:>7} '
            f'{found["truncated"]:>9} {longest_gap(run.answers):>9.2f} s')
    for run in runs:
        lines += _latencies(run)
    return '\n'.join(lines)


def _latencies(run: Run) -> list[str]:
    before, during = (times(run.answers, windows)
                      for windows in (run.before, run.during))
    kinds = [kind for kind in load.SHORT if during[kind].count]
    if not kinds:
        return []
    ratios = run.ratios()
    return ['', f'{run.method}: milliseconds',
            f'{"kind":<12} {"before: n":>10} {"p50":>7} {"p99":>7} '
            f'{"during: n":>10} {"p50":>7} {"p99":>7} {"max":>7} '
            f'{"p99 ratio":>9}',
            *(f'{kind:<12} {_cells(before[kind])} {_cells(during[kind])} '
              f'{during[kind].longest * 1000:>7.1f} '
              f'{ratios.get(kind, math.nan):>9.2f}' for kind in kinds)]


def _cells(found: Times) -> str:
    return (f'{found.count:>10} {found.median * 1000:>7.1f} '
            f'{found.p99 * 1000:>7.1f}')
