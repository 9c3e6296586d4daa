"""What is wanted of the figures of a run, and whether it was reached.

Throughput is MiB/s, memory MiB, time seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses

from tests.bench import results

Summaries = Mapping[results.Key, results.Summary]

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
    key: results.Key
    at_least: float
    #: What it is compared with.
    baseline: str = results.BASELINE

    def judge(self, summaries: Summaries) -> Verdict:
        """Compare the measured ratio with the wanted one."""
        wanted = f'≥ {self.at_least:.2f} × {self.baseline}'
        summary = summaries.get(self.key)
        if summary is None or summary.ratio is None:
            return Verdict(self.name, wanted, 'not measured', None)
        # Judged unrounded: 1.298 is shown as 1.30 and is not 1.3.
        return Verdict(self.name, wanted, f'{summary.ratio:.3f}',
                       summary.ratio >= self.at_least)


@dataclasses.dataclass(frozen=True, slots=True)
class CostTarget:
    """A bound on how many times as long as the baseline something takes."""

    name: str
    key: results.Key
    at_most: float

    def judge(self, summaries: Summaries) -> Verdict:
        """Compare the median of all rounds with the bound."""
        baseline = results.baseline_store(self.key.level)
        wanted = f'≤ {self.at_most:.2f} × {baseline}'
        summary = summaries.get(self.key)
        if summary is None or summary.cost is None:
            return Verdict(self.name, wanted, 'not measured', None)
        return Verdict(self.name, wanted, f'{summary.cost:.3f}',
                       summary.cost <= self.at_most)


@dataclasses.dataclass(frozen=True, slots=True)
class TimeTarget:
    """A bound on how long something takes, in seconds."""

    name: str
    key: results.Key
    at_most: float

    def judge(self, summaries: Summaries) -> Verdict:
        """Compare the median of all rounds with the bound."""
        wanted = f'≤ {self.at_most:g} s'
        summary = summaries.get(self.key)
        if summary is None or summary.seconds is None:
            return Verdict(self.name, wanted, 'not measured', None)
        return Verdict(self.name, wanted, f'{summary.seconds:.3f} s',
                       summary.seconds <= self.at_most)


@dataclasses.dataclass(frozen=True, slots=True)
class PairTarget:
    """A throughput that is wanted as a multiple of another one.

    :param by: ``bytes`` per second, or ``images``
    """

    name: str
    key: results.Key
    other: results.Key
    at_least: float
    by: str = 'bytes'

    def judge(self, summaries: Summaries) -> Verdict:
        """Compare the two."""
        wanted = f'≥ {self.at_least:.2f} × ' + (
            self.other.store if self.by == 'images' else self.other.operation)
        if self.key not in summaries or self.other not in summaries:
            return Verdict(self.name, wanted, 'not measured', None)
        speeds = [_images_per_second(summaries[key]) if self.by == 'images'
                  else summaries[key].median
                  for key in (self.key, self.other)]
        ratio = speeds[0] / speeds[1]
        return Verdict(self.name, wanted, f'{ratio:.3f}',
                       ratio >= self.at_least)


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryTarget:
    """A bound on the memory of every transfer of the measured stores.

    :param store: the one that it is about, by default all but the baseline
    """

    name: str
    level: str
    at_most_mib: float
    store: str = ''

    def judge(self, summaries: Summaries) -> Verdict:
        """Compare the worst transfer with the bound."""
        wanted = f'≤ {self.at_most_mib:.0f} MiB'
        peaks = [(summary.peak_mib, key) for key, summary in summaries.items()
                 if key.level == self.level
                 and (key.store == self.store if self.store else
                      key.store != results.baseline_store(self.level))
                 and summary.peak_mib is not None]
        if not peaks:
            return Verdict(self.name, wanted, 'not measured', None)
        worst, key = max(peaks, key=lambda pair: pair[0])
        return Verdict(self.name, wanted,
                       f'{worst:.1f} MiB ({key.store}, {key.operation})',
                       worst <= self.at_most_mib)


Target = RatioTarget | CostTarget | TimeTarget | PairTarget | MemoryTarget


def _images_per_second(summary: results.Summary) -> float:
    return (summary.images or 0) / (summary.seconds or 1)


def judge(targets: Iterable[Target],
          summaries: Summaries) -> list[Verdict]:
    """Judge all targets, in their order."""
    return [target.judge(summaries) for target in targets]
