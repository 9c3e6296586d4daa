"""Beginning an upgrade: which release, and whether it may be installed."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.client import downloads
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers
from easystack_image.ota.client import receipts
from easystack_image.ota.client import updater
from easystack_image.ota.hooks import calls
from easystack_image.ota.journal import journal as journals
from easystack_image.ota.journal import records
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.upgrade import machine
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import tools as tools_module
from easystack_image.ota.upgrade import work as works


@dataclasses.dataclass(frozen=True)
class Order:
    """What an operator asks for.

    :param kind: an installation, or an upgrade
    :param version: None for the newest that the channel offers
    :param archive: a file that was downloaded, or None
    :param until: the step after which to stop
    :param forced: hooks whose failure the operator overrides
    :param soak: seconds, None for what is configured
    :param drain_timeout: seconds, None for what is configured
    :param again: whether the newest release may be one that was rolled back
        here
    """

    kind: Kind
    version: str | None = None
    archive: Path | None = None
    until: Step | None = None
    forced: tuple[str, ...] = ()
    soak: float | None = None
    drain_timeout: float | None = None
    again: bool = False

    def options(self, tools: tools_module.Tools) -> dict[str, Any]:
        """Return what whoever goes on with it has to know."""
        settings = tools.settings
        return {
            'forced': list(self.forced), records.UNTIL: self.until,
            'soak': settings.soak if self.soak is None else self.soak,
            'drain_timeout': settings.drain_timeout if (
                self.drain_timeout is None) else self.drain_timeout}


def begin(tools: tools_module.Tools, order: Order,
          progress: downloads.Progress) -> machine.Result | None:
    """Install, or upgrade.

    Whoever says it again, since it did not end, has it go on.

    :param progress: hears how far a download is
    :returns: None if there is nothing to do, which the operator is told
    :raises easystack_image.exceptions.OtaError: if it must not be, or could
        neither be done nor be rolled back
    """
    with tools.writer() as writer:
        unfinished = writer.unfinished
        if unfinished and _says_again(order, unfinished):
            tools.say(f'the {unfinished.kind} to {unfinished.target} goes on')
            return machine.go_on(tools, writer, unfinished, order.forced,
                                 order.until)
        current = tools.slots.current()
        given_up = unfinished is not None and _gives_up(order, unfinished)
        if unfinished and not (works.irrevocable(unfinished) or given_up or (
                order.version and _is_stuck(tools, unfinished))):
            raise _did_not_end(unfinished)
        calls.HookCaller(tools.settings).executables()
        installed = current.release if current else None
        chosen = _wanted(tools, writer, order, installed, progress)
        if given_up:
            writer.close(Outcome.ABANDONED)
            unfinished = None
            # It may have told others that it leaves what it stays with.
            nodes.catch_up(tools, writer.upgrades)
        if unfinished and (chosen is None or (
                chosen[0].version == unfinished.target)):
            raise _did_not_end(unfinished)
        if chosen is None:
            nodes.catch_up(tools, writer.upgrades)
            return None
        release, path = chosen
        if unfinished:
            _supersede(tools, writer, release)
        upgrade = writer.open(
            order.kind, installed.version if installed else None,
            release.version, digest=release.digest, number=release.number,
            **order.options(tools), archive=path and str(path),
            archive_bytes=sum(file.size for file in release.files.values()))
        return machine.Machine(works.Work(tools, writer, upgrade),
                               order.until).run()


def _says_again(order: Order, upgrade: Upgrade) -> bool:
    """Whether an order is what an upgrade that did not end is about.

    Not if it goes back, or stopped where an operator wanted to decide; and
    who names no release may mean one that mends this one, if there is no way
    back.
    """
    if upgrade.kind is not order.kind or upgrade.stopped or (
            upgrade.event(Step.ROLLBACK) is not None):
        return False
    if order.archive is not None:
        return upgrade.records[0].details.get('archive') == str(
            order.archive.resolve())
    if order.version is None:
        return not works.irrevocable(upgrade)
    return order.version == upgrade.target


def _gives_up(order: Order, upgrade: Upgrade) -> bool:
    """Whether an order means that a rollback is not wanted any more.

    It waits for its turn, perhaps for weeks, and nothing was begun that
    anybody would notice.
    """
    return _is_untouched(upgrade) and order.version is not None and (
        order.kind is Kind.UPGRADE)


def _is_untouched(upgrade: Upgrade) -> bool:
    """Whether it is a rollback that has not started anything yet."""
    return upgrade.kind is Kind.ROLLBACK and not any(
        upgrade.event(step) for step in (Step.START, Step.ROLLBACK))


def _did_not_end(upgrade: Upgrade) -> exceptions.JournalError:
    if works.irrevocable(upgrade):
        what = 'or install a release that mends it'
    elif upgrade.event(Step.ROLLBACK) is Event.BEGUN:
        what = ('or, if the release before cannot come up any more, name a '
                'release that mends this one')
    elif _is_untouched(upgrade):
        what = ('or name a release, which may be the one that is installed, '
                'to give it up')
    else:
        what = 'or "rollback", first'
    return exceptions.JournalError(
        f'the {upgrade.kind} to {upgrade.target} did not end: "resume" it, '
        f'{what}')


def _is_stuck(tools: tools_module.Tools, upgrade: Upgrade) -> bool:
    """Whether a rollback cannot end, since the origin does not come up.

    What it was to go back from serves, alone, and can be upgraded.

    :raises InstanceError: if the launcher does not answer
    """
    current = tools.slots.current()
    return (upgrade.event(Step.ROLLBACK) is Event.BEGUN
            and upgrade.origin is not None and current is not None
            and current.release.version == upgrade.target
            and _answers(tools, current.path)
            and not _answers(tools, tools.slots.path(upgrade.origin)))


def _answers(tools: tools_module.Tools, slot: Path) -> bool:
    """Whether a worker of a slot takes requests just now."""
    for each in tools.launcher.list():
        if each.slot != slot:
            continue
        # One that does not answer is about to start, or to end.
        with contextlib.suppress(exceptions.InstanceError):
            if any(worker.accepting for worker in
                   tools.launcher.instance(each.name).workers()):
                return True
    return False


def _supersede(tools: tools_module.Tools, writer: journals.Writer,
               release: declarations.Declaration) -> None:
    """End an upgrade that can neither go on nor back, in favour of another.

    Its release serves, alone: the database is contracted, or about to be, or
    the release before does not come up.
    """
    upgrade = writer.unfinished
    current = tools.slots.current()
    if upgrade is None or current is None or (
            current.release.version != upgrade.target):
        raise exceptions.JournalError(
            'what did not end is not what is in use any more: "resume" it')
    tools.say(f'the {upgrade.kind} to {upgrade.target}, which did not end, '
              f'is superseded by {release}')
    if works.irrevocable(upgrade):
        memories.raise_floor(tools.home, current.release.number)
    writer.close(Outcome.COMMITTED, superseded_by=release.version)


_Chosen = tuple[declarations.Declaration, Path | None]


def _wanted(tools: tools_module.Tools, writer: journals.Writer, order: Order,
            installed: declarations.Declaration | None,
            progress: downloads.Progress) -> _Chosen | None:
    """Return what is to be installed; None, and tell, if it is already."""
    if installed is not None and order.archive is None and (
            order.version == installed.version
            or (order.kind, order.version) == (Kind.INSTALL, None)):
        tools.say(f'{installed} is installed already')
        return None
    _check_kind(order.kind, installed)
    chosen = _choose(tools, order, installed, progress)
    if chosen is None:
        tools.say('there is nothing newer than what is installed')
        return None
    release = chosen[0]
    if installed is not None and release.version == installed.version:
        tools.say(f'{installed} is installed already')
        return None
    if installed is not None and release.number < installed.number:
        raise exceptions.RefusedRelease(
            f'{release} is older than {installed}, which is installed: to go '
            'back is a "rollback"')
    if installed is not None and (
            order.version, order.archive, order.again) == (None, None, False):
        _refuse_rolled_back(writer.upgrades, release)
    return chosen


def _check_kind(kind: Kind,
                installed: declarations.Declaration | None) -> None:
    if kind is Kind.INSTALL and installed is not None:
        raise exceptions.RefusedRelease(
            f'{installed} is installed: "upgrade" it')
    if kind is Kind.UPGRADE and installed is None:
        raise exceptions.RefusedRelease(
            'nothing is installed here: "install" comes first')


def _refuse_rolled_back(upgrades: Sequence[Upgrade],
                        release: declarations.Declaration) -> None:
    """Raise if a release served here, and was rolled back.

    It would be again, by whoever orders the newest every night.
    """
    for upgrade in reversed(upgrades):
        back = upgrade.kind is Kind.ROLLBACK
        version = upgrade.origin if back else upgrade.target
        if version != release.version or upgrade.outcome not in (
                Outcome.COMMITTED, Outcome.ROLLED_BACK):
            continue
        if back is (upgrade.outcome is Outcome.COMMITTED):
            reason = upgrade.details(Step.ROLLBACK).get(
                'reason', 'an operator went back from it')
            raise exceptions.RefusedRelease(
                f'{release} was rolled back here ({reason}): name it, or say '
                '--again, to try it once more')
        return


def _choose(tools: tools_module.Tools, order: Order,
            installed: declarations.Declaration | None,
            progress: downloads.Progress) -> _Chosen | None:
    """Return what an order means, and have it here.

    :raises RollbackAsked: if somebody wants a rollback while it is downloaded;
        what there is of it stays
    """
    if order.archive is not None:
        return _from_archive(tools, order.archive, installed)
    client = updater.Client(tools.settings, installed)
    status = tools.patiently(client.check)
    release = status.next if order.version is None else offers.choose(
        status.offers, order.version, installed)
    if release is None:
        return None
    if _is_built(tools, release):
        return release, None

    def heed(done: int, size: int) -> None:
        tools.pause(0)
        progress(done, size)

    path = tools.patiently(lambda: client.download(release.version, heed))
    return release, path


def _is_built(tools: tools_module.Tools,
              release: declarations.Declaration) -> bool:
    """Tell whether there is a slot of a release, and nothing is wrong."""
    try:
        slot = tools.slots.get(release.version)
        if slot is None or slot.release != release:
            return False
        slot.verify()
    except exceptions.SlotError as error:
        tools.say(f'{error}; it is built anew')
        return False
    return True


def _from_archive(tools: tools_module.Tools, path: Path,
                  installed: declarations.Declaration | None) -> _Chosen:
    """Return what is in a file that was downloaded, and verified then."""
    path = path.resolve()
    return receipts.release_of(tools.home, path, installed), path
