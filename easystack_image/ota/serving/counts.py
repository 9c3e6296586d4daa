"""What each worker of an instance is at, and has done: one file a worker.

The filter ``easystack_ota`` writes, the updater reads; neither waits for the
other.  A file is a row of counters of 64 bits that the worker has mapped,
``counts.NUMBER`` in the directory of the instance.  The worker holds a lock
on it (flock(2)) as long as it lives.  So a reader knows whether anybody is at
what the file says, whatever has the number of a dead process by now; and the
next worker of that number goes on counting where the dead one ended.  Behind
the counters is since when each request waits that has no answer yet, of those
that need no line of the client's: one that hangs is never counted otherwise.

The worker of the private socket counts for itself only: what the updater
asks there is no traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import enum
import fcntl
import math
import os
import sys
from typing import Any, TypeVar

from easystack_image import fsio
from easystack_image.ota.serving import layout

_Name = TypeVar('_Name')

NAME = 'counts'
#: What begins each file: the format, with its version.
MAGIC = int.from_bytes(b'ESI-OTA1', 'big')
#: Buckets of a histogram for each doubling of a time: each is 9 % wide.
_PER_OCTAVE = 8
#: The last one has all that took longer than 134 s.
BUCKETS = 27 * _PER_OCTAVE + 1


class Kind(enum.StrEnum):
    """What a request is about."""

    GET = 'get'
    LIST = 'list'
    UPLOAD = 'upload'
    DOWNLOAD = 'download'
    CHANGE = 'change'
    OTHER = 'other'


#: Those whose time is that of the client's line as well, and tells nothing.
TRANSFERS = frozenset({Kind.UPLOAD, Kind.DOWNLOAD})


class Result(enum.StrEnum):
    """How a request ended."""

    SUCCESS = '2xx'
    REDIRECT = '3xx'
    REFUSED = '4xx'
    FAILED = '5xx'
    #: An exception, before the answer or in the middle of it.
    CUT = 'cut'


KINDS = {kind: place for place, kind in enumerate(Kind)}
RESULTS = {result: place for place, result in enumerate(Result)}
# Where in the file each counter is; the first is MAGIC.
PID = 1
IN_FLIGHT = 2
BEGUN = IN_FLIGHT + len(KINDS)
ANSWERS = BEGUN + len(KINDS)
TIMES = ANSWERS + len(KINDS) * len(RESULTS)
LENGTH = TIMES + len(KINDS) * BUCKETS
SIZE = 8 * LENGTH
#: Of so many requests of a worker it is known since when they wait; one has at
#: most 1024 threads.  Releases from before that have files without it.
WAITING = 1024
WHOLE = SIZE + 8 * WAITING
#: Nanoseconds are shifted by this, to have room for a kind.
_KIND_BITS = 3


def bucket(seconds: float) -> int:
    """Return the number of the bucket of a time."""
    microseconds = seconds * 1e6
    if microseconds <= 1:
        return 0
    return min(int(_PER_OCTAVE * math.log2(microseconds)), BUCKETS - 1)


def pack(kind: Kind, moment: float) -> int:
    """Return what a file has for a request that waits.

    :param moment: since when, in seconds of CLOCK_MONOTONIC
    """
    return int(moment * 1e9) << _KIND_BITS | KINDS[kind]


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """A request without an answer.

    :param since: when it came, in seconds of CLOCK_MONOTONIC, which all
        processes of a machine have in common
    """

    kind: Kind
    since: float


def _unpack(values: Sequence[int]) -> Iterator[Waiting]:
    """Yield what waits; 0 stands for nothing.

    The file is the service's: what is of no kind is left out.
    """
    kinds = dict(enumerate(Kind))
    for value in values:
        kind = kinds.get(value & (1 << _KIND_BITS) - 1)
        if value and kind:
            yield Waiting(kind, (value >> _KIND_BITS) / 1e9)


def _upper(bucket: int) -> float:
    """Return the longest time of a bucket, in seconds."""
    return float(2 ** ((bucket + 1) / _PER_OCTAVE) / 1e6)


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """What the workers of an instance are at, and have done.

    :param workers: how many of them live
    :param in_flight: requests that they are at, by kind
    :param begun: all requests that came in, those of dead workers as well
    :param answers: how those ended that did, by kind
    :param times: how many waited how long for the first byte: by kind, then
        by the number of the bucket
    :param waiting: the requests without an answer, but for transfers
    """

    workers: int = 0
    in_flight: Mapping[Kind, int] = dataclasses.field(default_factory=dict)
    begun: Mapping[Kind, int] = dataclasses.field(default_factory=dict)
    answers: Mapping[Kind, Mapping[Result, int]] = dataclasses.field(
        default_factory=dict)
    times: Mapping[Kind, Mapping[int, int]] = dataclasses.field(
        default_factory=dict)
    waiting: tuple[Waiting, ...] = ()

    @property
    def answered(self) -> int:
        """How many requests have ended."""
        return sum(self.of(result) for result in Result)

    @property
    def errors(self) -> int:
        """How many requests the service failed."""
        return self.of(Result.FAILED) + self.of(Result.CUT)

    def of(self, result: Result) -> int:
        """Return how many requests ended in a way."""
        return sum(each.get(result, 0) for each in self.answers.values())

    def timed(self, kind: Kind) -> int:
        """Return of how many requests the time is known."""
        return sum(self.times.get(kind, {}).values())

    def quantile(self, kind: Kind, share: float) -> float:
        """Return the time that a share of the requests did not exceed.

        It is too long by up to 9 %.

        :param share: 0.99 for the 99th percentile
        :returns: seconds; 0 if there was no request
        """
        buckets = self.times.get(kind, {})
        left = math.ceil(share * sum(buckets.values()))
        for number in sorted(buckets):
            left -= buckets[number]
            if left <= 0:
                return _upper(number)
        return 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.workers + other.workers, _sum(self.in_flight,
                                               other.in_flight),
            _sum(self.begun, other.begun),
            {kind: _sum(self.answers.get(kind, {}),
                        other.answers.get(kind, {})) for kind in Kind},
            {kind: _sum(self.times.get(kind, {}),
                        other.times.get(kind, {})) for kind in Kind},
            self.waiting + other.waiting)

    def since(self, earlier: Counts) -> Counts:
        """Return what came since an earlier reading of the same instance."""
        return dataclasses.replace(
            self, begun=_sum(self.begun, earlier.begun, -1),
            answers={kind: _sum(each, earlier.answers.get(kind, {}), -1)
                     for kind, each in self.answers.items()},
            times={kind: _sum(each, earlier.times.get(kind, {}), -1)
                   for kind, each in self.times.items()})

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it; zeros are left out.

        So is what waits, which is over before anybody reads it.
        """
        return {'workers': self.workers, 'in_flight': _some(self.in_flight),
                'begun': _some(self.begun),
                'answers': {kind: _some(each) for kind, each
                            in self.answers.items() if any(each.values())},
                'times': {kind: _some(each) for kind, each
                          in self.times.items() if any(each.values())}}


def from_record(record: Mapping[str, Any]) -> Counts:
    """Read what :meth:`Counts.record` returned, perhaps by way of JSON.

    :raises ValueError: or LookupError, if it is something else
    """
    return Counts(
        record['workers'],
        {Kind(name): value for name, value in record['in_flight'].items()},
        {Kind(name): value for name, value in record['begun'].items()},
        {Kind(name): {Result(result): value for result, value
                      in each.items()}
         for name, each in record['answers'].items()},
        {Kind(name): {int(number): value for number, value in each.items()}
         for name, each in record['times'].items()})


def _sum(one: Mapping[_Name, int], other: Mapping[_Name, int],
         sign: int = 1) -> dict[_Name, int]:
    return {name: one.get(name, 0) + sign * other.get(name, 0)
            for name in {**one, **other}}


def _some(counters: Mapping[Any, int]) -> dict[str, int]:
    return {str(name): value for name, value in counters.items() if value}


def decode(row: Sequence[int], lives: bool) -> Counts:
    """Return what a file says.

    :param lives: whether its worker does
    """
    found: dict[Kind, list[int]] = {}
    for kind, place in KINDS.items():
        first = TIMES + place * BUCKETS
        found[kind] = list(row[first:first + BUCKETS])
    return Counts(
        int(lives),
        _by_kind(row, IN_FLIGHT) if lives else dict.fromkeys(Kind, 0),
        _by_kind(row, BEGUN),
        {kind: {result: row[ANSWERS + place * len(RESULTS) + way]
                for result, way in RESULTS.items()}
         for kind, place in KINDS.items()},
        {kind: {number: value for number, value in enumerate(each) if value}
         for kind, each in found.items()},
        tuple(_unpack(row[LENGTH:])) if lives else ())


def _by_kind(row: Sequence[int], first: int) -> dict[Kind, int]:
    return {kind: row[first + place] for kind, place in KINDS.items()}


def read(place: layout.Place) -> Counts:
    """Return the sum over the workers of an instance, without the private.

    :raises OSError: if a file cannot be read
    """
    total = Counts()
    for _, fd in place.of_workers(NAME):
        total += _read(fd)
    return total


def _read(fd: int) -> Counts:
    lives = not fsio.try_lock(fd, fcntl.LOCK_SH)
    data = os.pread(fd, WHOLE, 0)
    if not is_whole(data[:SIZE]):
        # Its worker is about to begin.
        return Counts(int(lives))
    return decode(memoryview(data[:len(data) // 8 * 8]).cast('Q'), lives)


def is_whole(data: bytes) -> bool:
    """Tell whether a file is one that a worker has begun to count in."""
    return len(data) == SIZE and int.from_bytes(
        data[:8], sys.byteorder) == MAGIC
