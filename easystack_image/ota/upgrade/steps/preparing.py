"""Preflight, stage and check: nothing that serves is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.upgrade import work as works


def preflight(work: works.Work) -> dict[str, Any]:
    """See that there is what an upgrade begins with.

    :raises InstanceError: if nobody starts instances
    :raises SlotError: if the release in use is another than it was
    """
    current = work.slots.current()
    if work.origin is None:
        work.fleet.launcher.list()
        return {}
    if current is None or current.path != work.origin.path:
        raise exceptions.SlotError(
            f'{work.upgrade.origin} is not in use any more')
    serving = work.fleet.serving(work.origin.path)
    if not serving:
        work.say(f'no instance of {work.upgrade.origin} serves')
    if work.upgrade.kind is Kind.ROLLBACK:
        # It was checked when it was installed, but may have been damaged.
        work.target.verify()
    return {'instances': serving}


def stage(work: works.Work) -> dict[str, Any]:
    """Build the slot, unless it is there.

    :raises easystack_image.exceptions.OtaError: if it cannot be built
    """
    if not work.staged:
        archive = work.options.get('archive')
        if not archive:
            raise exceptions.SlotError(
                f'the slot of {work.upgrade.target} is gone, and there is no '
                'archive of it')
        work.tools.patiently(lambda: work.slots.build(Path(archive)))
    return {'slot': str(work.target.path)}


def check(work: works.Work) -> dict[str, Any]:
    """See that the slot is what was built; hooks check all else.

    :raises SlotError: if it is not
    """
    work.target.verify()
    return {}
