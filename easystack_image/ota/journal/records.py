"""What the journal tells of an upgrade."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import enum
from typing import Any


class Kind(enum.StrEnum):
    """What is done."""

    INSTALL = 'install'
    UPGRADE = 'upgrade'
    ROLLBACK = 'rollback'


class Step(enum.StrEnum):
    """A step of an upgrade, in the order in which they come."""

    PREFLIGHT = 'preflight'
    STAGE = 'stage'
    CHECK = 'check'
    EXPAND = 'expand'
    MIGRATE = 'migrate'
    START = 'start'
    CANARY = 'canary'
    HAND_OVER = 'hand-over'
    DRAIN = 'drain'
    SOAK = 'soak'
    CONTRACT = 'contract'
    COMMIT = 'commit'
    #: Not one of them, but what may come after any: back to the origin.
    ROLLBACK = 'rollback'


class Event(enum.StrEnum):
    """What a line tells."""

    OPENED = 'opened'
    BEGUN = 'begun'
    DONE = 'done'
    FAILED = 'failed'
    CLOSED = 'closed'


class Outcome(enum.StrEnum):
    """How an upgrade ended."""

    COMMITTED = 'committed'
    ROLLED_BACK = 'rolled-back'
    ABANDONED = 'abandoned'


#: What is written down of a step on its way, as if it were begun once more:
#: others may have gone by it; there is no way back.
SETTLED, IRREVOCABLE = 'settled', 'irrevocable'
#: The step after which to stop: of the opening, or of a line that is written
#: once more, if somebody says so later.
UNTIL = 'until'
NOTES = frozenset((SETTLED, IRREVOCABLE, UNTIL))


@dataclasses.dataclass(frozen=True)
class Record:
    """One line."""

    #: In seconds since 1970.
    time: float
    event: Event
    #: None where it is about the upgrade as a whole.
    step: Step | None
    #: Whatever belongs to it, as JSON has it.
    details: Mapping[str, Any]

    @property
    def begins(self) -> bool:
        """Whether a step was begun, and not only went on."""
        return self.event is Event.BEGUN and not (
            self.details.keys() & NOTES)


class Upgrade:
    """An upgrade in the journal, as it was read; a writer adds to it.

    :param number: its number, from 1
    :param records: its lines, the first of which opened it
    """

    def __init__(self, number: int, records: list[Record]) -> None:
        self.number = number
        self.records = records

    @property
    def kind(self) -> Kind:
        """What it does."""
        return Kind(self.records[0].details['kind'])

    @property
    def origin(self) -> str | None:
        """The version that it begins with; None for an installation."""
        found: str | None = self.records[0].details['origin']
        return found

    @property
    def target(self) -> str:
        """The version that it is to end with."""
        return str(self.records[0].details['target'])

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None if it did not end."""
        last = self.records[-1]
        return Outcome(last.details['outcome']) if (
            last.event is Event.CLOSED) else None

    @property
    def until(self) -> Step | None:
        """The step after which to stop, as was said last; None for none."""
        found = next((record.details[UNTIL] for record
                      in reversed(self.records)
                      if record.details.get(UNTIL)), None)
        return Step(found) if found else None

    @property
    def stopped(self) -> bool:
        """Whether it is where somebody wanted it to stop.

        That is after the step itself, or, if that was done already when it
        was said, where it was then.
        """
        last, until = self.records[-1], self.until
        return until is not None and self.event(until) is Event.DONE and (
            last.step is until or UNTIL in last.details)

    def event(self, step: Step) -> Event | None:
        """Return how far a step is: None if it was not begun."""
        return next((record.event for record in reversed(self.records)
                     if record.step is step), None)

    def begun(self, step: Step) -> int:
        """Return how often a step was begun.

        What is written down on its way, right after that, does not count.
        """
        return sum(record.step is step and record.begins
                   for record in self.records)

    def details(self, step: Step) -> dict[str, Any]:
        """Return what is known of a step, what was written last first."""
        found: dict[str, Any] = {}
        for record in self.records:
            if record.step is step:
                found.update(record.details)
        return found
