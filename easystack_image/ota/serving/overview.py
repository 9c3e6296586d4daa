"""What there is to see of a service that is upgraded, for its operators."""

from __future__ import annotations

import datetime
import enum
from pathlib import Path
from typing import Any

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.journal import chain
from easystack_image.ota.journal import journal
from easystack_image.ota.journal import records
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout


class State(enum.StrEnum):
    """What an instance is at."""

    #: Takes requests.
    SERVING = 'serving'
    #: Takes none any more, and answers those that it has.
    DRAINING = 'draining'
    #: Waits at its gate.
    WAITING = 'waiting'
    #: None of its workers lives, or none has loaded the application yet.
    NOT_RUNNING = 'not-running'


def instances(directory: Path) -> list[dict[str, Any]]:
    """Return the instances, as JSON has them.

    :param directory: the one with those of the instances
    :raises OSError: if it cannot be read
    """
    return [_instance(layout.Place(path))
            for path in sorted(directory.iterdir()) if path.is_dir()]


def _instance(place: layout.Place) -> dict[str, Any]:
    found = counts.read(place)
    return {'name': place.name, 'state': state(place, found),
            **shown(found)}


def state(place: layout.Place, found: counts.Counts) -> State:
    """Return what an instance is at.

    :param found: its counts
    """
    if not found.workers:
        return State.NOT_RUNNING
    if place.gate.exists():
        return State.SERVING
    return State.DRAINING if any(found.begun.values()) else State.WAITING


def shown(found: counts.Counts) -> dict[str, Any]:
    """Return counts as operators see them: every kind, and every result."""
    return {'workers': found.workers,
            'in_flight': {str(kind): found.in_flight.get(kind, 0)
                          for kind in counts.Kind},
            'answers': {str(result): found.of(result)
                        for result in counts.Result}}


def last_upgrade(state_directory: Path) -> dict[str, Any] | None:
    """Return the last upgrade in the journal, or None before the first.

    Nothing is made or changed.

    :raises easystack_image.exceptions.JournalError: if it is damaged
    :raises OSError: if it may not be read
    """
    if not (state_directory / chain.DIRECTORY).is_dir():
        return None
    upgrades = journal.Journal(home.Home(state_directory)).history()
    return _upgrade(upgrades[-1]) if upgrades else None


def _upgrade(upgrade: records.Upgrade) -> dict[str, Any]:
    last = upgrade.records[-1]
    step = next((record.step for record in reversed(upgrade.records)
                 if record.step is not None), None)
    return {'number': upgrade.number, 'kind': upgrade.kind,
            'origin': upgrade.origin, 'target': upgrade.target,
            'step': step, 'event': last.event, 'outcome': upgrade.outcome,
            'began_at': _time(upgrade.records[0].time),
            'updated_at': _time(last.time)}


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime(
        '%Y-%m-%dT%H:%M:%SZ')


def try_last_upgrade(state_directory: Path,
                     ) -> tuple[dict[str, Any] | None, str | None]:
    """Return the last upgrade, and why it cannot be told, if so."""
    try:
        return last_upgrade(state_directory), None
    except (exceptions.JournalError, OSError) as error:
        return None, str(error)
