"""Start, canary, hand-over and drain: from the old release to the new one."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from typing import Any

from easystack_image.ota.journal.records import Step
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import counts
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import plans
from easystack_image.ota.upgrade import work as works


def start(work: works.Work) -> dict[str, Any]:
    """Start the new release, which takes no requests yet.

    :raises UpgradeFailed: if it does not come up
    """
    instance = work.fleet.bring_up(work.new_name, work.target.path)
    found, wanted = len(instance.workers()), work.settings.processes
    if found != wanted:
        work.say(f'instance {work.new_name} has {found} processes for users, '
                 f'and not {wanted}: the holder goes by the configuration '
                 'that it was started with; the documentation has how to '
                 'exchange it')
    return {'instance': work.new_name}


def hand_over(work: works.Work) -> dict[str, Any]:
    """Let the new release take requests, beside the old one.

    Before that, another instance of the old one is started, which waits: the
    old one itself cannot go back once it was told to leave.

    :raises UpgradeFailed: if one of them does not come up
    :raises InstanceError: if the new one does not take requests
    :raises NotNow: if the lock of the nodes was lost before it does
    """
    fleet = work.fleet
    # They may have died since, or the machine was started again.
    new = work.new()
    fleet.bring_up(new, work.target.path)
    details: dict[str, Any] = {'instance': new}
    if work.origin is not None:
        details |= _measure(work)
        if Step.SOAK in plans.of(work.upgrade):
            fleet.bring_up(work.standby_name, work.origin.path)
            details['standby'] = work.standby_name
    with _aside(work, new):
        # All that may have taken long.
        work.check_turn()
        fleet.open(new)
    # What a reboot should start.
    if work.slots.current() != work.target:
        work.tools.patiently(lambda: work.slots.select(work.target))
    return details


@contextlib.contextmanager
def _aside(work: works.Work, name: str) -> Iterator[None]:
    """Have load balancers send their users elsewhere meanwhile, if told to.

    Whoever dies in here leaves a sign that ends by itself.
    """
    seconds = work.settings.aside
    if not seconds:
        yield
        return
    instances = work.tools.launcher.instance(name).place.path.parent
    # Two that do so at once would each think that the other one serves.
    nodes.wait_for_aside(work)
    aside.step_aside(instances, seconds + work.settings.start_timeout)
    try:
        work.tools.pause(seconds)
        yield
    finally:
        aside.step_back(instances)


def _measure(work: works.Work) -> dict[str, Any]:
    """Return what the old instances did until now, and since the preflight."""
    life = recent = counts.Counts()
    begin = work.upgrade.details(Step.PREFLIGHT).get('counts', {})
    for name in work.fleet.serving(work.origin.path) if work.origin else ():
        found = counts.read(work.tools.launcher.instance(name).place)
        life += found
        earlier = counts.from_record(begin[name]) if name in begin else None
        # What died since, or bears the name since a reboot, counts anew.
        if earlier and earlier.answered <= found.answered:
            recent += found.since(earlier)
    return {'before': life.record(), 'recently': recent.record()}


def drain(work: works.Work) -> dict[str, Any]:
    """Have the old instances leave; whether they have is not waited for.

    :raises InstanceError: if the new one does not take requests any more
    """
    # It may have died since.
    work.fleet.open(work.new())
    leaving = [name for name in work.fleet.of_others(work.target.path)
               if name != work.standby_name]
    for name in leaving:
        work.fleet.let_go(name)
    return {'instances': leaving}
