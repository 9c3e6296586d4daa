"""Soak and commit: the new release has to prove itself, and stays."""

from __future__ import annotations

import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.client import memory as memories
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Step
from easystack_image.ota.serving import counts
from easystack_image.ota.upgrade import watch
from easystack_image.ota.upgrade import work as works

#: Seconds of one look: a rollback begins within that time.
_LOOK = 0.2


def soak(work: works.Work) -> dict[str, Any]:
    """Watch the new release for a while.

    Whoever resumes an upgrade begins with this anew.

    :raises Regression: if it answers worse than the old one did, or if one
        of its processes dies: whoever waits at its gate is quicker than its
        next start
    :raises RollbackAsked: if somebody has seen enough
    """
    name = work.new()
    pids = _pids(work, name)

    def pause(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            work.tools.pause(min(left, _LOOK))
            if _pids(work, name) != pids:
                raise exceptions.Regression(
                    f'a process of instance {name} died while it was '
                    'watched; its log may say why')

    watch.Watch(_before(work), watch.configured(work.settings)).observe(
        work.tools.launcher.instance(name).place,
        work.options.get('soak', 0), pause)
    return {'instance': name}


def _pids(work: works.Work, name: str) -> list[int]:
    try:
        return work.fleet.pids(name)
    except exceptions.InstanceError as error:
        raise exceptions.Regression(
            f'instance {name} died while it was watched: {error}') from None


def _before(work: works.Work) -> counts.Counts | None:
    """Return what the old release did before the hand-over."""
    record = work.upgrade.details(Step.HAND_OVER).get('before')
    return counts.from_record(record) if record else None


def commit(work: works.Work) -> dict[str, Any]:
    """Give the old release up, and never install an older one again.

    :raises InstanceError: if the new one does not take requests any more
    """
    work.fleet.open(work.new())
    floor = _floor(work)
    # First: if there is no room for it, the way back still is a short one.
    work.tools.patiently(lambda: memories.raise_floor(work.tools.home, floor))
    work.fleet.let_go(work.standby_name)
    return {'floor': floor}


def _floor(work: works.Work) -> int:
    """Return the lowest number of a release that may still be installed.

    That is the one before: who knows of a fault in the new one must be able
    to go back to it, as long as the database is one that it can use.
    """
    if work.upgrade.kind is Kind.ROLLBACK:
        return 0
    if work.origin is None or work.irrevocable:
        return work.target.release.number
    return work.origin.release.number


def collect(work: works.Work) -> None:
    """Remove old slots; that can wait if it is not possible now."""
    try:
        removed = work.tools.patiently(
            lambda: work.slots.collect(work.settings.keep_slots))
    except (exceptions.OtaError, OSError) as error:
        work.say(f'old slots were not removed: {error}')
        return
    for version in removed:
        work.say(f'removed the slot of {version}')
