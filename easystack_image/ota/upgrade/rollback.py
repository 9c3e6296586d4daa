"""Back to the release that an upgrade began with.

What has to be undone is seen by what there is, so it does not matter where
the upgrade was, or whether an earlier rollback was cut short.
"""

from __future__ import annotations

from pathlib import Path

from easystack_image import exceptions
from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.journal.records import Step
from easystack_image.ota.serving import launcher as launchers
from easystack_image.ota.upgrade import hooking
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import work as works


def run(work: works.Work, hooks: hooking.Hooks, reason: str) -> None:
    """Have the origin serve again, and the target leave.

    The database stays expanded and migrated, which the origin does not mind.
    Hooks come afterwards, those before the rollback too: users do not wait
    for them.

    :raises easystack_image.exceptions.OtaError: if the origin does not come
        up; the target is left as it is then
    """
    serving: list[str] = []
    # By their paths: a slot that is damaged has to leave as well.
    paths = [work.slots.path(work.upgrade.target)]
    if work.upgrade.origin is not None:
        path = work.slots.path(work.upgrade.origin)
        serving = _serve(work, path)
        paths.append(path)
    failed: list[Exception] = []
    for path in paths:
        for name in work.fleet.of(path):
            # Whatever its gate says: it may have been about to leave.
            if name not in serving:
                try:
                    work.fleet.let_go(name)
                except (exceptions.InstanceError, OSError) as error:
                    failed.append(error)
    # Whoever did not leave must not be what a reboot starts.
    _point_back(work)
    if failed:
        raise failed[0]
    try:
        nodes.settle(work, work.upgrade.origin or '')
    except exceptions.NotNow as error:
        # Others only wait for nothing then.
        work.say(str(error))
    _hooks(work, hooks, 'before-rollback', reason)
    _hooks(work, hooks, 'after-rollback', reason)


def hurry(work: works.Work) -> None:
    """Have the one that waits serve at once, if there is one.

    Before anything is written, on a disk that may be busy or full: both
    releases may serve.  Whoever is killed then and resumed goes on with the
    upgrade, whose end lets it go.
    """
    origin, standby = work.upgrade.origin, work.standby_name
    if origin is None:
        return
    path = work.slots.path(origin)
    fleet = work.fleet
    try:
        others = [name for name in fleet.alive(path) if name != standby]
        if (not others and standby in fleet.of(path)
                and work.tools.launcher.instance(standby).loaded
                and not nodes.has_settled(work)):
            fleet.claim(standby, path)
    except (exceptions.EasystackImageError, OSError) as error:
        # The rollback itself tries again; nothing may keep it from that.
        work.say(f'{standby} cannot serve at once: {error}')


def _hooks(work: works.Work, hooks: hooking.Hooks, point: str,
           reason: str) -> None:
    """Run hooks, none of which can stop this."""
    try:
        hooks.run(hooks_base.Point(point), Step.ROLLBACK, reason)
    except (exceptions.EasystackImageError, OSError) as error:
        work.say(f'hooks {point}: {error}')


def _serve(work: works.Work, path: Path) -> list[str]:
    """Have an instance of the origin serve; return which do.

    If the one that did was not told to leave yet, it is that.  Else it is the
    one that waits for this.  Failing both, whatever can be started.

    :param path: of the slot of the origin
    """
    fleet = work.fleet
    standby = work.standby_name
    serving = [name for name in fleet.alive(path) if name != standby]
    if not serving and standby not in fleet.of(path):
        serving = [name for name in fleet.serving(path) if name != standby]
    if serving:
        for name in serving:
            fleet.claim(name, path)
        return serving
    # It may have served, and been told to leave at the end of the upgrade.
    name = launchers.free_name(fleet.launcher, fleet.launcher.list(),
                               standby)
    # Warm or not: users should not have to wait for what only delays them.
    fleet.claim(name, path)
    return [name]


def _point_back(work: works.Work) -> None:
    """Have a reboot start the origin."""
    if work.slots.current_version() == work.upgrade.origin:
        return
    origin = work.origin
    if origin is None:
        work.tools.patiently(work.slots.deselect)
    else:
        work.tools.patiently(lambda: work.slots.select(origin))
