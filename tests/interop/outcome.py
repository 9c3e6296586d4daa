"""What became of a test."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

PASSED = 'passed'
FAILED = 'failed'
SKIPPED = 'skipped'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a test: one of the words above, and why."""

    what: str
    why: str = ''


#: By the name of the test, without tempest's tags.
Outcomes = Mapping[str, Outcome]
