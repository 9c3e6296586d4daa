"""Going back because an operator wants to: warm, or cold.

An upgrade that did not end is rolled back, to an instance that waits for
that.  After one that did end, the release before it is started and handed
over to, as in an upgrade.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import time

from easystack_image import exceptions
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers
from easystack_image.ota.journal import journal as journals
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Upgrade
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.upgrade import machine
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import tools as tools_module
from easystack_image.ota.upgrade import work as works

_REASON = 'the operator asked for it'
#: Seconds between two looks whether another process has done it.
_PACE = 0.05


def roll_back(tools: tools_module.Tools,
              forced: Sequence[str] = ()) -> machine.Result:
    """Go back.

    A process that upgrades at this moment is asked to do it, and waited for.
    One that goes back already is waited for only.

    :param forced: hooks whose failure the operator overrides
    :raises easystack_image.exceptions.OtaError: if there is no way back
    """
    meant: int | None = None
    while True:
        with contextlib.ExitStack() as stack:
            try:
                writer = stack.enter_context(tools.writer())
            except exceptions.AlreadyRunning:
                meant = _ask(tools, meant)
                time.sleep(_PACE)
                continue
            return _roll_back(tools, writer, meant or 0, forced)


def _ask(tools: tools_module.Tools, meant: int | None) -> int:
    """Have the process that upgrades go back, unless it does.

    :param meant: what this returned before
    :returns: the number of the upgrade, or rollback, that is under way; 0 if
        none is yet, and the release in use is meant therefore
    :raises NoWayBack: if it cannot
    """
    upgrades = tools.journal.history()
    running = upgrades[-1] if upgrades and (
        upgrades[-1].outcome is None) else None
    back = running is not None and running.kind is Kind.ROLLBACK
    if meant is None:
        tools.say('a rollback is under way; it is waited for' if back else
                  'an upgrade is under way; it is asked to roll back')
        meant = running.number if running else 0
    if running and back:
        return meant or running.number
    if running:
        works.refuse_irrevocable(running)
    tools.asked.touch(mode=0o600)
    return meant


def _roll_back(tools: tools_module.Tools, writer: journals.Writer,
               meant: int, forced: Sequence[str]) -> machine.Result:
    if meant:
        ended = writer.upgrades[meant - 1]
        if ended.outcome in (Outcome.ROLLED_BACK, Outcome.ABANDONED) or (
                ended.outcome and ended.kind is Kind.ROLLBACK):
            return machine.result(ended)
    upgrade = writer.unfinished
    if upgrade is not None:
        works.refuse_foreign(tools.slots, upgrade)
    if upgrade is not None and upgrade.kind is not Kind.ROLLBACK:
        return machine.Machine(works.Work(
            tools, writer, upgrade, forced)).roll_back(_REASON)
    if upgrade is None:
        upgrade = _open(tools, writer)
    return machine.Machine(works.Work(tools, writer, upgrade, forced)).run()


def _open(tools: tools_module.Tools, writer: journals.Writer) -> Upgrade:
    """Begin to go back to the release before the one that is in use."""
    used = _used(writer.upgrades)
    current = tools.slots.current()
    if len(used) < 2 or current is None or (
            used[-1] != current.release.version):
        raise exceptions.RefusedRelease(
            'there is no release to go back to here')
    slot = tools.slots.get(used[-2])
    if slot is None:
        raise exceptions.SlotError(
            f'the slot of {used[-2]}, which was in use before, is gone')
    _refuse_contracted(writer.upgrades, slot.release)
    nodes.refuse_contracted(tools.settings, current, slot.release)
    refusal = offers.refusal(slot.release, memories.load(tools.home), None)
    if refusal:
        raise exceptions.RefusedRelease(
            f'release {slot.release} must not be used: {refusal}')
    _check_digest(writer.upgrades, slot)
    return writer.open(
        Kind.ROLLBACK, current.release.version, used[-2],
        digest=slot.release.digest, number=slot.release.number)


def _check_digest(upgrades: Sequence[Upgrade],
                  slot: slots_module.Slot) -> None:
    """Raise unless a slot has what was in use, if that was written down."""
    version = slot.release.version
    digest = next((upgrade.records[0].details.get('digest')
                   for upgrade in reversed(upgrades)
                   if upgrade.target == version
                   and upgrade.outcome is Outcome.COMMITTED), None)
    if digest not in (None, slot.release.digest):
        raise exceptions.SlotError(
            f'{slot.path} has another release of version {version} than was '
            'in use')


def _used(upgrades: Sequence[Upgrade]) -> list[str]:
    """Return the releases that lie one upon the other, the current last."""
    used: list[str] = []
    for upgrade in upgrades:
        if upgrade.outcome is not Outcome.COMMITTED:
            continue
        if upgrade.kind is Kind.ROLLBACK:
            used.pop()
        else:
            used.append(upgrade.target)
    return used


def _refuse_contracted(upgrades: Sequence[Upgrade],
                       release: declarations.Declaration) -> None:
    """Raise if the database may be one that a release cannot use."""
    for upgrade in reversed(upgrades):
        if upgrade.outcome is Outcome.COMMITTED and (
                upgrade.target == release.version):
            # It may have contracted the database itself.
            return
        if works.irrevocable(upgrade):
            raise exceptions.RefusedRelease(
                f'the database was contracted for {upgrade.target}, and '
                f'{release} cannot use it any more: install a release that '
                'mends what is wrong')
