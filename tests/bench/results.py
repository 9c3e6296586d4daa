"""Figures of a run: samples, their summaries, ratios and targets.

Nothing here measures anything or prints anything.  Throughput is MiB/s,
memory MiB, time seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import statistics
from typing import TypeVar

T = TypeVar('T')

MIB = 1024 * 1024

#: How many gets make one sample: a single one is over in the tenth of a
#: second, in which a processor does all sorts of things.
GETS = 4

#: How many ranges of 1 MiB make one sample.
RANGES = 64

#: The store that all the others are compared with.
BASELINE = 'file'
#: The same for a level that has other stores.
BASELINES = {'ceph': 'rbd'}


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What was measured."""

    #: ``driver``, ``http``, ``limits``, ``upkeep`` or ``ceph``.
    level: str
    operation: str
    data: str
    store: str


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One measurement; what was not measured is None."""

    #: Of all that was transferred, in bytes.
    size: int
    seconds: float
    cpu_seconds: float | None = None
    #: CPU seconds of the client, where it is a process of its own.
    client_cpu_seconds: float | None = None
    #: Resident memory before the first transfer.
    idle_mib: float | None = None
    #: Highest resident memory during the transfer, less ``idle_mib``.
    peak_mib: float | None = None
    #: Bytes that had to come from the disk, not from the page cache.
    disk_read: int | None = None
    #: Bytes sent to the disk, or left behind for the kernel to write.
    disk_written: int | None = None
    #: CPU seconds that everything else on the machine took meanwhile.
    other_cpu_seconds: float | None = None
    #: How many images it was about, where that is what counts.
    images: int | None = None

    @property
    def mib_per_second(self) -> float:
        """Throughput."""
        return self.size / MIB / self.seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """All rounds of one measurement."""

    rounds: int
    median: float
    lowest: float
    highest: float
    cpu_seconds_per_gib: float | None
    client_cpu_seconds_per_gib: float | None
    #: The worst of all rounds.
    peak_mib: float | None
    #: Median over the baseline's median, or None without a baseline.
    ratio: float | None = None
    #: Where images count: how many, and the medians of the seconds and of
    #: the CPU seconds.
    images: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None


def _median_per_gib(samples: list[Sample], field: str) -> float | None:
    """Return the median of a field, scaled to 1 GiB of image data."""
    values = [getattr(sample, field) * 1024 * MIB / sample.size
              for sample in samples if getattr(sample, field) is not None]
    return statistics.median(values) if values else None


def summarise(samples: Iterable[Sample]) -> Summary:
    """Return median, extremes and costs of the samples of one key.

    :raises ValueError: if there are none
    """
    samples = list(samples)
    if not samples:
        raise ValueError('there is nothing to summarise')
    speeds = [sample.mib_per_second for sample in samples]
    peaks = [sample.peak_mib for sample in samples
             if sample.peak_mib is not None]
    return Summary(
        rounds=len(samples), median=statistics.median(speeds),
        lowest=min(speeds), highest=max(speeds),
        cpu_seconds_per_gib=_median_per_gib(samples, 'cpu_seconds'),
        client_cpu_seconds_per_gib=_median_per_gib(samples,
                                                   'client_cpu_seconds'),
        peak_mib=max(peaks, default=None), images=samples[0].images,
        seconds=statistics.median(sample.seconds for sample in samples),
        cpu_seconds=_median(sample.cpu_seconds for sample in samples))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def baseline_store(level: str) -> str:
    """Return the store that the others of a level are compared with."""
    return BASELINES.get(level, BASELINE)


def baseline_of(key: Key, limit_operations: Mapping[str, str]) -> Key:
    """Return what a measurement is compared with.

    :param limit_operations: for each limit, the operation of the driver that
        it is a limit of; for each of upkeep, the plain one that does the
        same
    """
    if key.level == 'upkeep':
        return dataclasses.replace(key, operation=limit_operations.get(
            key.operation, key.operation))
    if key.level == 'limits':
        return Key('driver', limit_operations[key.operation], 'random',
                   BASELINE)
    return dataclasses.replace(key, store=baseline_store(key.level))


def summarise_all(samples: Mapping[Key, list[Sample]],
                  limit_operations: Mapping[str, str]) -> dict[Key, Summary]:
    """Summarise every key, with its ratio against the baseline."""
    plain = {key: summarise(values) for key, values in samples.items()}
    result = {}
    for key, summary in plain.items():
        baseline = plain.get(baseline_of(key, limit_operations))
        ratio = summary.median / baseline.median if baseline else None
        result[key] = dataclasses.replace(summary, ratio=ratio)
    return result


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a target was reached; None where it was not measured."""

    target: str
    wanted: str
    measured: str
    met: bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class RatioTarget:
    """A throughput that is wanted as a multiple of the baseline's."""

    name: str
    key: Key
    at_least: float
    #: What it is compared with.
    baseline: str = BASELINE

    def judge(self, summaries: Mapping[Key, Summary]) -> Verdict:
        """Compare the measured ratio with the wanted one."""
        wanted = f'≥ {self.at_least:.2f} × {self.baseline}'
        summary = summaries.get(self.key)
        if summary is None or summary.ratio is None:
            return Verdict(self.name, wanted, 'not measured', None)
        # Judged unrounded: 1.298 is shown as 1.30 and is not 1.3.
        return Verdict(self.name, wanted, f'{summary.ratio:.3f}',
                       summary.ratio >= self.at_least)


@dataclasses.dataclass(frozen=True, slots=True)
class PairTarget:
    """A throughput that is wanted as a multiple of another one."""

    name: str
    key: Key
    other: Key
    at_least: float

    def judge(self, summaries: Mapping[Key, Summary]) -> Verdict:
        """Compare the two."""
        wanted = f'≥ {self.at_least:.2f} × {self.other.operation}'
        if self.key not in summaries or self.other not in summaries:
            return Verdict(self.name, wanted, 'not measured', None)
        ratio = summaries[self.key].median / summaries[self.other].median
        return Verdict(self.name, wanted, f'{ratio:.3f}',
                       ratio >= self.at_least)


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryTarget:
    """A bound on the memory of every transfer of the measured stores."""

    name: str
    level: str
    at_most_mib: float

    def judge(self, summaries: Mapping[Key, Summary]) -> Verdict:
        """Compare the worst transfer with the bound."""
        wanted = f'≤ {self.at_most_mib:.0f} MiB'
        peaks = [(summary.peak_mib, key) for key, summary in summaries.items()
                 if key.level == self.level
                 and key.store != baseline_store(self.level)
                 and summary.peak_mib is not None]
        if not peaks:
            return Verdict(self.name, wanted, 'not measured', None)
        worst, key = max(peaks, key=lambda pair: pair[0])
        return Verdict(self.name, wanted,
                       f'{worst:.1f} MiB ({key.store}, {key.operation})',
                       worst <= self.at_most_mib)


Target = RatioTarget | PairTarget | MemoryTarget


def judge(targets: Iterable[Target],
          summaries: Mapping[Key, Summary]) -> list[Verdict]:
    """Judge all targets, in their order."""
    return [target.judge(summaries) for target in targets]


def disturbance(samples: Iterable[Sample], processors: int) -> float:
    """Return which share of the processors other programs had meanwhile.

    What the kernel does by itself, such as writing back, counts as other.
    """
    known = [sample for sample in samples
             if sample.other_cpu_seconds is not None]
    seconds = sum(sample.seconds for sample in known)
    taken = sum(sample.other_cpu_seconds or 0 for sample in known)
    return taken / (seconds * processors) if seconds else 0.0


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """Return the items, beginning with another one each turn.

    So that none always comes first, or always right after the same one.
    """
    turn %= len(items)
    return [*items[turn:], *items[:turn]]
