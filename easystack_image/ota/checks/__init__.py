"""What is wrong with a deployment, as the release sees it that asks.

With the Python of a slot: these modules know Glance's libraries, and Glance
where they have to.  They change nothing, and serve nothing; hooks and
``upgrade check`` ask them.
"""

from __future__ import annotations

import dataclasses
import json


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    #: Whether the release cannot work so, or not as the operator means it.
    serious: bool
    #: What is wrong, where, and what to do.
    text: str


def from_json(text: str) -> list[Finding]:
    """Return the findings that a process of its own printed.

    :raises ValueError: if they are malformed
    """
    try:
        return [Finding(bool(each['serious']), str(each['text']))
                for each in json.loads(text)]
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f'no findings: {error!r}') from None
