"""Preflight, stage and check: nothing that serves is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.serving import counts
from easystack_image.ota.upgrade import canary as canaries
from easystack_image.ota.upgrade import work as works


def preflight(work: works.Work) -> dict[str, Any]:
    """See that there is what an upgrade begins with.

    :raises InstanceError: if nobody starts instances
    :raises SlotError: if the release in use is another than it was
    :raises easystack_image.exceptions.NotNow: if Keystone does not work
    :raises easystack_image.exceptions.ConfigurationError: if it refuses the
        credentials of the canary
    """
    if work.upgrade.kind is not Kind.ROLLBACK:
        # Sooner than by the canary: nothing has been built or changed yet.
        canaries.authenticate(canaries.configured(work.settings))
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
    return {'instances': serving, 'counts': {
        name: counts.read(work.tools.launcher.instance(name).place).record()
        for name in serving}}


def stage(work: works.Work) -> dict[str, Any]:
    """Build the slot, unless it is there.

    :raises easystack_image.exceptions.OtaError: if it cannot be built
    """
    _require_digest(work)
    if not _is_whole(work):
        archive = work.options.get('archive')
        if not archive or not Path(archive).exists():
            raise exceptions.SlotError(
                f'there is no slot of {work.upgrade.target}, and its archive '
                f'{archive or ""} is gone: "upgrade" again, which downloads '
                'it')
        work.tools.patiently(
            lambda: work.slots.build(Path(archive), work.digest))
    return {'slot': str(work.target.path)}


def _require_digest(work: works.Work) -> None:
    if not work.digest:
        raise exceptions.SlotError(
            f'the {work.upgrade.kind} to {work.upgrade.target} was begun by '
            'an earlier updater, which did not write down what was signed: '
            'begin it again')


def _is_whole(work: works.Work) -> bool:
    """Tell whether the slot is there, as it was built."""
    if not work.staged:
        return False
    try:
        work.target.verify()
    except exceptions.SlotError as error:
        work.say(str(error))
        return False
    return True


def check(work: works.Work) -> dict[str, Any]:
    """See that the slot is what was signed, and built; hooks check all else.

    :raises SlotError: if it is not
    """
    _require_digest(work)
    work.target.verify()
    return {}
