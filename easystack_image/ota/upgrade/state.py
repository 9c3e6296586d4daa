"""What there is, and what is under way: for ``status``."""

from __future__ import annotations

from collections.abc import Collection
import contextlib
import dataclasses
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import launcher as launchers
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.upgrade import plans
from easystack_image.ota.upgrade import tools as tools_module
from easystack_image.ota.upgrade import work as works


@dataclasses.dataclass(frozen=True)
class StepState:
    """How far a step is.

    :param event: None if it was not begun
    :param began: in seconds since 1970; when it was begun last
    :param seconds: that it took, None if it did not end
    """

    step: Step
    event: Event | None
    began: float | None
    seconds: float | None
    reason: str | None


@dataclasses.dataclass(frozen=True)
class InstanceState:
    """One instance of the service.

    :param role: serving, waiting (at its gate), or leaving
    :param pid: None while it does not run
    :param in_flight: what it is at; None if nobody knows
    """

    name: str
    release: str
    role: str
    pid: int | None
    in_flight: int | None


def instances(tools: tools_module.Tools) -> list[InstanceState]:
    """Return the instances.

    :raises easystack_image.exceptions.InstanceError: if whoever starts them
        does not answer
    """
    return [_instance(tools, each) for each in tools.launcher.list()]


def _instance(tools: tools_module.Tools,
              started: launchers.Started) -> InstanceState:
    instance = tools.launcher.instance(started.name)
    if instance.place.gate.exists():
        role = 'serving'
    elif instance.place.leaving.exists():
        # It does not answer, however long it is at something.
        role = 'leaving'
    else:
        role = 'waiting' if instance.running else 'leaving'
    in_flight: int | None = None
    if started.pid is not None:
        found = counts.read(instance.place)
        if found.workers:
            in_flight = sum(found.in_flight.values())
        elif role != 'leaving':
            with contextlib.suppress(exceptions.InstanceError):
                in_flight = instance.in_flight()
    return InstanceState(started.name, started.slot.name, role, started.pid,
                         in_flight)


def steps(upgrade: Upgrade) -> list[StepState]:
    """Return how far the steps of an upgrade are."""
    shown = list(plans.of(upgrade))
    if upgrade.event(Step.ROLLBACK) is not None:
        shown.append(Step.ROLLBACK)
    return [_step(upgrade, step) for step in shown]


def _step(upgrade: Upgrade, step: Step) -> StepState:
    began = ended = None
    for record in upgrade.records:
        if record.step is not step:
            continue
        if record.begins:
            began, ended = record.time, None
        elif record.event is not Event.BEGUN:
            ended = record.time
    return StepState(
        step, upgrade.event(step), began,
        ended - began if ended and began else None,
        upgrade.details(step).get('reason'))


def what_to_do(upgrade: Upgrade) -> str:
    """Return the commands that end an upgrade."""
    if upgrade.event(Step.ROLLBACK) is not None:
        return 'resume'
    return 'resume' if works.irrevocable(upgrade) else 'resume, or rollback'


def advice(upgrade: Upgrade) -> str:
    """Return what an operator can do about an upgrade; '' for nothing."""
    if upgrade.outcome is not None:
        return ''
    if upgrade.event(Step.ROLLBACK) is not None:
        return ('unless it is being rolled back right now: resume, or, if '
                'the release before cannot come up any more, upgrade to a '
                'release, by name, that mends this one')
    return f'unless it is under way right now: {what_to_do(upgrade)}'


def read(tools: tools_module.Tools) -> dict[str, Any]:
    """Return all of it, as JSON has it.

    :raises easystack_image.exceptions.OtaError: if it cannot be known
    """
    upgrades = tools.journal.history()
    last = upgrades[-1] if upgrades else None
    damaged = tools.slots.damaged()
    try:
        found = [dataclasses.asdict(each) for each in instances(tools)]
        error = None
    except exceptions.InstanceError as problem:
        found, error = None, str(problem)
    return {
        'attention': _attention(tools, damaged, last, found, error),
        'current': _slot(_current(tools)),
        'previous': _slot(tools.slots.previous()),
        'slots': [slot.release.version for slot in tools.slots.all()],
        'damaged': damaged,
        'floor': memories.load(tools.home).floor,
        'warning': warning(tools) or None,
        'instances': found, 'error': error,
        'upgrade': last and _upgrade(last)}


def warning(tools: tools_module.Tools) -> str:
    """Return why the release that is in use should not be, or ''."""
    current = _current(tools)
    return offers.warning(current.release if current else None,
                          memories.load(tools.home))


def unheard(tools: tools_module.Tools) -> str:
    """Return how long the repository has not been heard, or ''."""
    settings = tools.settings
    return memories.load(tools.home).unheard(
        time.time(), settings.check_warn_days) if settings.repository else ''


def _current(tools: tools_module.Tools) -> slots_module.Slot | None:
    """Return the current slot; None if it is damaged, which is told, too."""
    try:
        return tools.slots.current()
    except exceptions.SlotError:
        return None


def unattended(tools: tools_module.Tools, last: Upgrade | None) -> str:
    """Return what is to be done about an upgrade that nobody is at, or ''.

    :param last: the last one, if there is one
    """
    if last is None or last.outcome is not None or tools.upgrading:
        return ''
    return (f'the {last.kind} to {last.target} did not end, and nobody is at '
            f'it: {what_to_do(last)}')


def damage(tools: tools_module.Tools, damaged: Collection[str]) -> str:
    """Return that the slot in use is among those that are damaged, or ''."""
    version = tools.slots.current_version()
    return (f'the slot of {version}, which is in use, is damaged'
            if version in damaged else '')


def _attention(tools: tools_module.Tools, damaged: Collection[str],
               last: Upgrade | None,
               found: list[dict[str, Any]] | None,
               error: str | None) -> list[str]:
    """Return what somebody should look after."""
    texts = [text for text in (error, unattended(tools, last)) if text]
    texts += filter(None, [unheard(tools), damage(tools, damaged)])
    if found is not None and tools.slots.current_version() and not [
            each for each in found if each['role'] == 'serving'
            and each['pid'] is not None]:
        texts.append('no instance serves')
    return texts


def _slot(slot: slots_module.Slot | None) -> dict[str, Any] | None:
    return None if slot is None else {
        'version': slot.release.version, 'number': slot.release.number,
        'path': str(slot.path)}


def _upgrade(upgrade: Upgrade) -> dict[str, Any]:
    return {
        'number': upgrade.number, 'kind': upgrade.kind,
        'origin': upgrade.origin, 'target': upgrade.target,
        'outcome': upgrade.outcome, 'advice': advice(upgrade) or None,
        'steps': [dataclasses.asdict(each) for each in steps(upgrade)]}
