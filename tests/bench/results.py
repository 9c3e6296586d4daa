"""Figures of a run: samples, their summaries and ratios.

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
#: The same for a level that has other stores, or none.
BASELINES = {'ceph': 'rbd', 'api': 'vanilla', 'export': 'JSON, 1000 a page'}


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What was measured."""

    #: ``driver``, ``http``, ``limits``, ``upkeep``, ``ceph``, ``api`` or
    #: ``export``.
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
    #: How many times as long as the baseline it took: the median of all
    #: rounds, and the extremes.
    cost: float | None = None
    least_cost: float | None = None
    greatest_cost: float | None = None


def with_images(sample: Sample, images: int | None) -> Sample:
    """Return a sample that tells how many images it was about."""
    return dataclasses.replace(sample, images=images)


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
        costs = _costs(samples[key], samples.get(
            baseline_of(key, limit_operations), []))
        result[key] = dataclasses.replace(
            summary, ratio=ratio,
            cost=statistics.median(costs) if costs else None,
            least_cost=min(costs, default=None),
            greatest_cost=max(costs, default=None))
    return result


def _costs(samples: Sequence[Sample],
           baseline: Sequence[Sample]) -> list[float]:
    """Return how many times as long it took, round by round."""
    if len(samples) != len(baseline):
        return []
    return [sample.seconds / other.seconds
            for sample, other in zip(samples, baseline, strict=True)]


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
