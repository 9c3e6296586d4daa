"""What an upgrade on this node means to the other nodes, and they to it.

They share a database.  It is contracted by the last of them, when none of
them can go back to a release that needs what is removed; and after that,
none does.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.checks import database as checks
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import calls
from easystack_image.ota.hooks import leashed
from easystack_image.ota.hooks import listing
from easystack_image.ota.journal import records
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.serving import standing as standings
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.upgrade import node_lock
from easystack_image.ota.upgrade import peers
from easystack_image.ota.upgrade import tools as tools_module
from easystack_image.ota.upgrade import work as works

#: Seconds between two looks at other nodes.
_PACE = 1.0
#: What asks the database, with the Python of a slot, and its time in seconds.
_ASK, _CHECK = 'easystack_image.ota.hooks.own.contracted', 120.0


def lock(work: works.Work, in_order: bool = True) -> node_lock.NodeLock:
    """Return the lock that an upgrade needs before other nodes notice it.

    Whoever goes back does not have to wait until others have done so; and
    who has begun to contract the database has had its turn.
    """
    in_order &= work.upgrade.kind is not Kind.ROLLBACK and (
        not work.irrevocable)
    leaves = in_order and work.upgrade.event(Step.EXPAND) is None
    return node_lock.NodeLock(
        work.settings, work.target.path,
        work.upgrade.target if in_order else '', work.tools.pause, work.say,
        lambda: _trailing(work) if leaves else '')


def _trailing(work: works.Work) -> str:
    """Return which node after this one must not be left behind, and why; ''.

    As long as it may serve a release before the origin of this upgrade, the
    database must not be changed for the target: nobody has seen whether that
    release can use it.  And no release would be left for that node: it waits
    until those before it have settled on what it is upgraded to.
    """
    origin = work.origin
    if origin is None:
        return ''
    newer = {work.upgrade.target, *(
        slot.release.version for slot in work.slots.all()
        if slot.release.number > origin.release.number)}
    for url in peers.after(work.settings):
        if why := peers.ask(url, work.settings.ca_file).may_be_older(
                origin.release, newer):
            version = origin.release.version
            return (f'{url} would be left behind: {why}. Have it settle on '
                    f'{version} first ("upgrade {version}", "resume" or '
                    '"rollback" there), or go back here, or take it out of '
                    'nodes')
    return ''


def behind(work: works.Work) -> str:
    """Return which other node has not settled on the release, and why; ''."""
    found = peers.behind(work.settings, peers.others(work.settings),
                         work.upgrade.target)
    if found is None:
        return ''
    url, why = found
    return f'{url} has to settle on {work.upgrade.target}: {why}'


def wait_for_aside(work: works.Work) -> None:
    """Wait until no other node stands aside: its sign ends by itself."""
    told = False
    while away := [url for url in peers.others(work.settings)
                   if (found := peers.ask(url, work.settings.ca_file)
                       ).standing and found.standing.aside]:
        if not told:
            work.say(f'waiting until {away[0]} stands aside no more')
            told = True
        work.tools.pause(_PACE)


def begin_return(work: works.Work, slot: slots_module.Slot,
                 release: declarations.Declaration) -> None:
    """Leave a release that this node had settled on, or is about to.

    Others are told first, and asked then; whoever contracts does so, too.  So
    one of both notices the other, even if no lock keeps them apart.

    :param slot: of what is left
    :param release: to which it goes back
    :raises RefusedRelease: if it cannot use the database any more
    :raises NotNow: if nobody knows that
    """
    before = _read(work.settings).settled
    settle(work, '')
    try:
        refuse_contracted(work.settings, slot, release)
    except exceptions.OtaError:
        settle(work, before)
        raise


def refuse_contracted(settings: settings_module.Settings,
                      slot: slots_module.Slot,
                      release: declarations.Declaration) -> None:
    """See that the database was not contracted, by whatever node.

    :param slot: of what is in use now
    :param release: to which somebody wants to go back
    :raises RefusedRelease: if it was
    :raises NotNow: if nobody knows that
    """
    if release.number >= slot.release.number:
        # What a newer one does not need any more is all that may be gone.
        return
    declared = declarations.Phase.CONTRACT in slot.release.database
    for url in peers.others(settings):
        found = peers.ask(url, settings.ca_file).standing
        if found is not None and found.contracted > release.number:
            raise _refusal(slot, release, f'by {url}')
        if found is None and declared:
            raise exceptions.NotNow(
                f'{url} does not say whether it has contracted the database '
                f'for {slot.release}, and {release} could not use it then: '
                'have it answer, or take it out of nodes, and try again')
    if declared and _needs_nothing(settings, slot):
        raise _refusal(slot, release, 'as "glance-manage db check" tells')


def _refusal(slot: slots_module.Slot, release: declarations.Declaration,
             how: str) -> exceptions.RefusedRelease:
    return exceptions.RefusedRelease(
        f'the database was contracted for {slot.release}, {how}, and '
        f'{release} cannot use it any more: install a release that mends '
        'what is wrong')


def _needs_nothing(settings: settings_module.Settings,
                   slot: slots_module.Slot) -> bool:
    """Ask the database itself, with the programs of a slot.

    :raises NotNow: if it does not answer
    """
    program = slot.path / 'bin' / 'glance-manage'
    if not program.exists():
        # Nobody but Glance has anything there.
        return False
    files, directories = calls.glance_files(settings)
    context = base.Context(
        point=base.Point('before-preflight'), kind=Kind.ROLLBACK,
        origin=slot.release.version, target=slot.release.version,
        slot=str(slot.path), config_files=files, config_dirs=directories)
    ended = leashed.run([listing.python(str(slot.path)), '-I', '-m', _ASK],
                        _CHECK, stdin=json.dumps(context.record()))
    if ended.code not in (0, *checks.LACKING):
        raise exceptions.NotNow(
            'nobody knows whether the database was contracted: '
            f'"{program} db check" does not tell. Try again when it does')
    return ended.code == 0


def settle_for_good(work: works.Work) -> None:
    """Tell others that this node stays with the new release.

    :raises NotNow: if it cannot be kept
    """
    work.writer.begin(Step.COMMIT, **{records.SETTLED: True})
    settle(work, work.upgrade.target)


def settle(work: works.Work, version: str) -> None:
    """Tell others that this node stays with a release; '' for none.

    :raises NotNow: if it cannot be kept
    """
    _keep(work.settings, settled=version)


def catch_up(tools: tools_module.Tools, upgrades: Sequence[Upgrade]) -> None:
    """Tell others of the release in use, if its upgrade has ended.

    It may have ended when an updater told nobody who has no other nodes, or
    when that could not be written.

    :param upgrades: all in the journal, none of which is under way
    """
    if not upgrades:
        return
    last = upgrades[-1]
    stays = (last.target if last.outcome is Outcome.COMMITTED
             else last.origin)
    if not stays or stays != tools.slots.current_version():
        return
    try:
        if _keep(tools.settings, settled=stays):
            tools.say(f'other nodes are told that this one stays with {stays}')
    except exceptions.NotNow as error:
        # Nothing here depends on it.
        tools.say(str(error))


def has_settled(work: works.Work) -> bool:
    """Whether others were told that this node stays with the new release.

    Whoever was killed on the way back may have told them otherwise since, and
    they may have contracted the database before: that is in the journal.

    :raises NotNow: if it cannot be read
    """
    return bool(work.upgrade.details(Step.COMMIT).get(records.SETTLED)) or (
        _read(work.settings).settled == work.upgrade.target)


def contracted(work: works.Work) -> None:
    """Tell others that older releases cannot use the database any more.

    :raises NotNow: if it cannot be kept
    """
    _keep(work.settings, contracted=work.target.release.number)


def recant(work: works.Work) -> None:
    """Tell others that nothing was done to the database, if they think so.

    What the origin of this upgrade does not need may be gone, for all that is
    known.  A rollback is not held up if this cannot be kept: it bars others
    from theirs.
    """
    if work.upgrade.event(Step.CONTRACT) is None:
        return
    try:
        number = work.origin.release.number if work.origin else 0
        if _read(work.settings).contracted == work.target.release.number:
            _keep(work.settings, contracted=number)
    except (exceptions.NotNow, exceptions.SlotError) as error:
        work.say(str(error))


def _read(settings: settings_module.Settings) -> standings.Standing:
    directory = Path(settings.slots_directory)
    try:
        return standings.read(directory)
    except (OSError, ValueError) as error:
        raise exceptions.NotNow(
            f'{directory / standings.NAME}, which other nodes go by, cannot '
            f'be read: {error}. Mend it, or remove it if this node has not '
            'contracted the database') from None


def _keep(settings: settings_module.Settings, **changes: Any) -> bool:
    """Keep what others go by, even if there are none yet; tell if it is new.

    :raises NotNow: if it cannot be kept
    """
    found = _read(settings)
    changed = dataclasses.replace(found, **changes)
    if changed == found:
        return False
    directory = Path(settings.slots_directory)
    try:
        standings.write(directory, changed)
    except OSError as error:
        raise exceptions.NotNow(
            f'{directory / standings.NAME}, which other nodes go by, cannot '
            f'be written: {error}. Go on when it can') from None
    return True
