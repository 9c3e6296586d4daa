"""How a node stands among the others: what it has settled on.

The updater keeps it beside the slots, the filter ``easystack_ota`` tells it
in each answer to ``GET /``, and the updaters of the other nodes go by it.
A node that serves a release has not settled on it before its upgrade has
ended: until then it may go back to the release before.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
import re
from typing import Any

from easystack_image import fsio
from easystack_image.ota import home as homes
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout

NAME = 'standing.json'
#: Whoever serves may be another user, and has to read it.
_MODE, _DIRECTORY_MODE = 0o644, 0o755
_LIMIT = 4096
#: What stands in the header: words, and words with a value.
_SETTLED, _CONTRACTED, _ASIDE = 'settled', 'contracted', 'aside'


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """See the module."""

    #: The version that the node will not leave by itself; '' for none.
    settled: str = ''
    #: The number of the last release for which this node has contracted the
    #: database, or has begun to; 0 for none.  Older ones cannot use it.
    contracted: int = 0
    #: Whether load balancers are told to send users elsewhere.
    aside: bool = False

    def header(self) -> str:
        """Return it as it stands in the header."""
        words = [f'{_SETTLED}={self.settled}',
                 f'{_CONTRACTED}={self.contracted}']
        return '; '.join(words + [_ASIDE] * self.aside)


def from_header(text: str) -> Standing | None:
    """Return what another node tells, or None if it does not tell it."""
    words = dict(word.strip().partition('=')[::2]
                 for word in text.split(';'))
    contracted = words.get(_CONTRACTED, '')
    if _SETTLED not in words or not re.fullmatch('[0-9]{1,18}', contracted):
        return None
    return Standing(words[_SETTLED], int(contracted), _ASIDE in words)


def read(slots_directory: Path) -> Standing:
    """Return what a node has settled on.

    :raises OSError: if it cannot be read
    :raises ValueError: if it is damaged
    """
    try:
        fd = fsio.open_directory(str(slots_directory))
    except FileNotFoundError:
        return Standing()
    try:
        found: dict[str, Any] = json.loads(fsio.read_file(NAME, fd, _LIMIT))
        return Standing(str(found[_SETTLED]), int(found[_CONTRACTED]))
    except FileNotFoundError:
        return Standing()
    except (LookupError, TypeError) as error:
        raise ValueError(f'{slots_directory / NAME}: {error!r}') from None
    finally:
        os.close(fd)


def write(slots_directory: Path, standing: Standing) -> None:
    """Keep what a node has settled on, durably.

    :raises OSError: if it cannot be written
    """
    data = json.dumps({_SETTLED: standing.settled,
                       _CONTRACTED: standing.contracted}).encode()
    homes.make(slots_directory, _DIRECTORY_MODE)
    fd = fsio.open_directory(str(slots_directory))
    try:
        fsio.replace_file(NAME, data, fd, _MODE)
    finally:
        os.close(fd)


def told(slot: Path, instances: Path) -> Standing:
    """Return what the other nodes are told.

    As long as a process of another release answers anybody here, the node
    has settled on nothing.

    :param slot: of the release that serves
    :param instances: the directory with those of the instances
    :raises OSError: if something cannot be read
    :raises ValueError: if something is damaged
    """
    found = read(slot.parent.parent)
    settled = found.settled == slot.name and not _others(slot, instances)
    return dataclasses.replace(found, settled=slot.name if settled else '',
                               aside=aside.is_aside(instances))


def _others(slot: Path, instances: Path) -> bool:
    """Tell whether an instance of another release has living workers."""
    return any(counts.read(layout.Place(path)).workers
               for path in instances.iterdir() if path.is_dir()
               and path.name.rpartition('.')[0] != slot.name)
