"""Soak and commit: the new release has to prove itself, and stays."""

from __future__ import annotations

import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.client import memory as memories
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Step
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.serving import addresses
from easystack_image.ota.serving import counts
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import probe as probes
from easystack_image.ota.upgrade import vitals
from easystack_image.ota.upgrade import watch
from easystack_image.ota.upgrade import work as works
from easystack_image.ota.upgrade.steps import database

#: Seconds of one look: a rollback begins within that time.
_LOOK = 0.2


def soak(work: works.Work) -> dict[str, Any]:
    """Watch the new release for a while.

    Whoever resumes an upgrade begins with this anew.

    :raises Regression: if it answers worse than the old one did, or not at
        all, or if one of its processes dies: whoever waits at its gate is
        quicker than its next start
    :raises RollbackAsked: if somebody has seen enough
    """
    name = work.new()
    seconds = work.options.get('soak', 0)
    alive = vitals.Vitals(work.fleet, name)

    def pause(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            work.tools.pause(min(left, _LOOK))
            alive.check()

    _have_standby(work)
    alive.confirm(work.tools.pause)
    place = work.tools.launcher.instance(name).place
    size = _size(work, name)
    watched = watch.Watch(_before(work), watch.configured(work.settings),
                          size, _probe(work, name, seconds))
    found = watched.observe(place, seconds, pause)
    alive.confirm(work.tools.pause)
    _tell(work, watched, found, size)
    return {'instance': name, 'judged': watched.judged,
            'unjudged': watched.unjudged()}


def _have_standby(work: works.Work) -> None:
    """Start whoever waits for a rollback, if it is gone since a reboot.

    :raises RollbackAsked: if somebody does not wait for that
    """
    if work.origin is None:
        return
    try:
        work.fleet.bring_up(work.standby_name, work.origin.path)
    except (exceptions.UpgradeFailed, exceptions.InstanceError) as error:
        # The new one serves, and may be as good as it should be.
        work.say(f'a rollback would take some seconds: {error}')


def _size(work: works.Work, name: str) -> watch.Size | None:
    try:
        workers = work.tools.launcher.instance(name).workers()
    except exceptions.InstanceError:
        return None
    return watch.Size(len(workers), workers[0].threads)


def _probe(work: works.Work, name: str,
           seconds: float) -> probes.Probe | None:
    """Return what asks as users do, if that is possible."""
    if not (seconds and work.settings.watch_probe):
        return None
    try:
        address = addresses.address(work.fleet.pid(name) or 0)
    except (exceptions.InstanceError, OSError) as error:
        work.say(f'where instance {name} listens cannot be seen: {error}')
        return None
    return address and probes.Probe(address, work.settings.watch_probe)


def _tell(work: works.Work, watched: watch.Watch, found: counts.Counts,
          size: watch.Size | None) -> None:
    """Say what nothing is known of."""
    if size and found.workers < size.workers:
        work.say(f'{size.workers - found.workers} of {size.workers} processes '
                 'do not count their requests: is the filter easystack_ota in '
                 'the pipeline?')
    unjudged = watched.unjudged()
    if not unjudged:
        return
    nothing = {*watched.judged} - {watch.PROBES} <= {*unjudged}
    work.say(('nothing that users do was judged' if nothing else
              'not judged: ' + ', '.join(unjudged))
             + f'; the release answered {watched.of_users(found).answered} '
             f'requests, and {work.settings.watch_requests} of a kind are '
             f'needed; GET / was answered {watched.judged[watch.PROBES]} '
             'times')


def _before(work: works.Work) -> counts.Counts | None:
    """Return what the old release did before the hand-over."""
    details = work.upgrade.details(Step.HAND_OVER)
    if not details.get('before'):
        return None
    recent = details.get('recently')
    return watch.baseline(
        counts.from_record(details['before']),
        counts.from_record(recent) if recent else None,
        work.settings.watch_requests)


def commit(work: works.Work) -> dict[str, Any]:
    """Give the old release up, and never install an older one again.

    :raises InstanceError: if the new one does not take requests any more
    """
    work.fleet.open(work.new())
    floor = _floor(work)
    # First: if there is no room for it, the way back still is a short one.
    memories.raise_floor(work.tools.home, floor)
    work.fleet.let_go(work.standby_name)
    if declarations.Phase.CONTRACT in work.phases:
        # From then on the last node may contract the database.
        database.wait_for_old(work)
    nodes.settle_for_good(work)
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
