"""Whether a new release answers as well as the old one did.

Judged are the share of requests that fail, and the 99th percentile of the
time to the first byte, of lists and of single images each for itself.  They
are looked at in windows: each is as long as it takes for enough requests.
Silence is no verdict, and one slow window is none either: two in succession
are.  Errors count at once, and a handful of them is enough for a window.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import time

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout

#: Whose times are compared.
TIMED = (counts.Kind.GET, counts.Kind.LIST)
_SHARE = 0.99
#: So many errors are enough to judge by.
_PLAIN = 10
#: Seconds between two looks.
_PACE = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much worse a release may be.

    :param errors: by how much the share of failed requests may be higher,
        from 0 to 1
    :param slower: how many times as long the 99th percentile may be
    :param slack: seconds that it may be longer by in any case
    :param requests: how many it takes to judge
    """

    errors: float = 0.01
    slower: float = 2.0
    slack: float = 0.1
    requests: int = 200


def configured(found: settings_module.Settings) -> Limits:
    """Return what the configuration says."""
    return Limits(found.watch_errors / 100, found.watch_slower,
                  found.watch_slack, found.watch_requests)


class Watch:
    """Compares an instance with the one before it.

    :param origin: what that one did, before the hand-over; None if there was
        none
    :param limits: how much worse it may be
    """

    def __init__(self, origin: counts.Counts | None, limits: Limits) -> None:
        self._origin = origin or counts.Counts()
        self._limits = limits
        self._start_anew()

    def _start_anew(self) -> None:
        """Begin all windows with nothing done."""
        #: How it was when the present window began: of errors, of times.
        self._errors_from = self._last = counts.Counts()
        self._times_from = dict.fromkeys(TIMED, counts.Counts())
        self._suspected: set[counts.Kind] = set()

    def observe(self, place: layout.Place, seconds: float,
                pause: Callable[[float], None] = time.sleep,
                ) -> counts.Counts:
        """Watch an instance for a while; return what it did until then.

        :param place: its directory
        :param pause: waits between two looks, and may raise what it likes
        :raises easystack_image.exceptions.Regression: as soon as it is
            certain
        """
        deadline = time.monotonic() + seconds
        while True:
            now = counts.read(place)
            self.judge(now)
            left = deadline - time.monotonic()
            if left <= 0:
                return now
            pause(min(left, _PACE))

    def judge(self, now: counts.Counts) -> None:
        """Look at what the instance has done until now.

        :raises easystack_image.exceptions.Regression: if it is worse
        """
        if now.answered < self._last.answered:
            # It died, and its successor counts by itself.
            self._start_anew()
        self._last = now
        self._judge_errors(now)
        for kind in TIMED:
            self._judge_time(kind, now)

    def _judge_errors(self, now: counts.Counts) -> None:
        window = now.since(self._errors_from)
        if (window.answered < self._limits.requests
                and window.errors < _PLAIN):
            return
        self._errors_from = now
        share = window.errors / window.answered
        before = self._origin.errors / max(self._origin.answered, 1)
        if share > before + self._limits.errors:
            raise exceptions.Regression(
                f'{share:.1%} of {window.answered} requests failed; before, '
                f'{before:.1%} did')

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
