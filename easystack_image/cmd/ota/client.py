"""The commands of a machine that is upgraded: releases, slots, journal."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys
import time

from easystack_image import exceptions
from easystack_image.cmd.ota import output
from easystack_image.ota import home
from easystack_image.ota import settings
from easystack_image.ota.client import receipts
from easystack_image.ota.client import updater
from easystack_image.ota.journal import journal
from easystack_image.ota.upgrade import state
from easystack_image.ota.upgrade import tools


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser],
        ) -> None:
    """Add the commands."""
    check = commands.add_parser(
        'check', help='Show what the channel offers, and what to upgrade to.')
    check.add_argument(
        '--accept-clock', action='store_true',
        help='The clock is right, although it was later already.')
    check.set_defaults(run=run_check)
    output.add_format(check)
    download = commands.add_parser(
        'download', help='Download a release, and verify it.')
    download.add_argument(
        'version', nargs='?', metavar='VERSION',
        help='Default: the newest that can be upgraded to.')
    download.set_defaults(run=run_download)
    output.add_format(download)
    history = commands.add_parser(
        'history', help='Show what was installed and upgraded, and how it '
                        'went.')
    history.set_defaults(run=run_history)
    output.add_format(history)
    _add_slots(commands)


def _add_slots(commands: argparse._SubParsersAction[argparse.ArgumentParser],
               ) -> None:
    slots = commands.add_parser(
        'slots', help='The releases that are installed here.')
    which = slots.add_subparsers(required=True, metavar='COMMAND')
    for name, function, help in (
            ('list', run_list, 'Show the slots, and which is in use.'),
            ('build', run_build, 'Build a slot from a downloaded archive; '
                                 'it is not used yet.'),
            ('verify', run_verify, 'Compare a slot with what was built.'),
            ('path', run_path, 'Print the path of the current slot, to start '
                               'a service from.'),
            ('collect', run_collect, 'Remove old slots.')):
        parser = which.add_parser(name, help=help, description=help)
        parser.set_defaults(run=function)
        if name in ('list', 'build', 'collect'):
            output.add_format(parser)
        if name == 'build':
            parser.add_argument('archive', type=Path, metavar='ARCHIVE')
            parser.add_argument(
                '--unsigned', action='store_true',
                help='Take an archive that was not downloaded here: nobody '
                     'knows who made it, and what is in it runs with the '
                     'rights of this command. To try out what was built; no '
                     'upgrade to a signed release uses it.')
        if name == 'verify':
            parser.add_argument('version', metavar='VERSION')
        if name == 'collect':
            parser.add_argument(
                '--keep', type=int, metavar='NUMBER', dest='keep_slots',
                help='How many to keep besides the current and the previous '
                     'one (default: keep_slots of the configuration).')


def _client(found: settings.Settings) -> updater.Client:
    try:
        current = tools.slots(found).current()
    except exceptions.SlotError as error:
        # To mend it takes a download.
        output.say(str(error))
        current = None
    return updater.Client(found, current.release if current else None,
                          needed=_needed(found))


def _needed(found: settings.Settings) -> set[str]:
    """Return the versions that an upgrade needs which did not end."""
    upgrades = _journal(found).history()
    if not upgrades or upgrades[-1].outcome is not None:
        return set()
    last = upgrades[-1]
    return {version for version in (last.origin, last.target) if version}


def _journal(found: settings.Settings) -> journal.Journal:
    return journal.Journal(home.Home(Path(found.state_directory)))


def _unattended(used: tools.Tools) -> str:
    """Return what is to be done about an upgrade that nobody is at, or ''."""
    try:
        upgrades = used.journal.history()
    except exceptions.JournalError as error:
        return str(error)
    return state.unattended(used, upgrades[-1] if upgrades else None)


def _attention(used: tools.Tools, *more: str) -> str:
    """Return what somebody should look after, as no repository tells, or ''.

    :param more: what is to be told besides
    """
    return '; '.join(filter(None, (
        *more, _unattended(used),
        state.damage(used, used.slots.damaged()))))


def run_check(arguments: argparse.Namespace,
              found: settings.Settings) -> int:
    """Show what the channel offers."""
    used = tools.make(found, output.say)
    try:
        status = _client(found).check(arguments.accept_clock)
    except exceptions.Unreachable as error:
        return _check_alone(arguments, used, error)
    attention = _attention(used)
    installed = status.installed.version if status.installed else None
    following = status.next.version if status.next else None
    if arguments.format == 'json':
        output.record(arguments, {
            'channel': status.channel, 'installed': installed,
            'next': following, 'warning': status.warning or None,
            'attention': attention or None,
            'releases': [{'version': offer.release.version,
                          'number': offer.release.number,
                          'minimum': offer.release.minimum,
                          'database': list(offer.release.database),
                          'refusal': offer.refusal or None}
                         for offer in status.offers]})
    else:
        output.table(arguments, ('version', 'number', 'database', 'note'), [
            (offer.release.version, offer.release.number,
             offer.release.database, offer.refusal or (
                 'installed' if offer.release == status.installed else
                 'next' if offer.release == status.next else ''))
            for offer in status.offers])
    return output.attention(status.warning) | output.attention(attention)


def _check_alone(arguments: argparse.Namespace, used: tools.Tools,
                 error: exceptions.Unreachable) -> int:
    """Show what can be told without the repository.

    :param error: why that does not answer
    :raises easystack_image.exceptions.Unreachable: if nobody need look at it
    """
    warning = state.warning(used)
    attention = _attention(used, state.unheard(used))
    if not warning and not attention:
        raise error
    output.say(str(error))
    if arguments.format == 'json':
        output.record(arguments, {
            'channel': used.settings.channel, 'error': str(error),
            'warning': warning or None, 'attention': attention or None})
    return output.attention(warning) | output.attention(attention)


def run_download(arguments: argparse.Namespace,
                 found: settings.Settings) -> int:
    """Download a release."""
    bar = output.Bar(sys.stderr)
    client = _client(found)
    try:
        path = client.download(arguments.version, bar)
    finally:
        bar.close()
    if path is None:
        output.say('there is nothing newer than what is installed')
    output.record(arguments, {'archive': str(path) if path else None})
    return output.attention(client.warning())


def run_history(arguments: argparse.Namespace,
                found: settings.Settings) -> int:
    """Show the journal."""
    upgrades = _journal(found).history()
    output.table(arguments, ('number', 'time', 'what', 'event', 'step',
                             'details'), [
        (upgrade.number, time.strftime(
            '%Y-%m-%dT%H:%M:%SZ', time.gmtime(record.time)), upgrade.kind,
         record.event, record.step, ', '.join(
             f'{name}={value}' for name, value in record.details.items()))
        for upgrade in upgrades for record in upgrade.records])
    return 0


def run_list(arguments: argparse.Namespace, found: settings.Settings) -> int:
    """Show the slots."""
    slots = tools.slots(found)
    current, previous = slots.current_version(), slots.previous()
    output.table(arguments, ('version', 'number', 'python', 'use', 'path'), [
        *((slot.release.version, slot.release.number, slot.seal.python,
           'current' if slot.release.version == current else
           'previous' if slot == previous else None, str(slot.path))
          for slot in slots.all()),
        *((version, None, None, 'current, damaged' if version == current
           else 'damaged', str(slots.path(version)))
          for version in slots.damaged())])
    return 0


def run_build(arguments: argparse.Namespace,
              found: settings.Settings) -> int:
    """Build a slot."""
    slots = tools.slots(found)
    digest = ''
    if not arguments.unsigned:
        digest = receipts.release_of(home.Home(Path(found.state_directory)),
                                     arguments.archive, None).digest
    slot = slots.build(arguments.archive, digest)
    output.record(arguments, {'version': slot.release.version,
                              'path': str(slot.path)})
    return 0


def run_verify(arguments: argparse.Namespace,
               found: settings.Settings) -> int:
    """Compare a slot with what was built."""
    slot = tools.slots(found).get(arguments.version)
    if slot is None:
        raise exceptions.SlotError(
            f'{arguments.version} is not installed, or not whole')
    slot.verify()
    return 0


def run_path(arguments: argparse.Namespace, found: settings.Settings) -> int:
    """Print the path of the current slot."""
    slot = tools.slots(found).current()
    if slot is None:
        raise exceptions.SlotError('no release is in use here')
    output.line(str(slot.path))
    return 0


def run_collect(arguments: argparse.Namespace,
                found: settings.Settings) -> int:
    """Remove old slots."""
    output.table(arguments, ('removed',), [
        (name,) for name in tools.slots(found).collect(
            found.keep_slots, _needed(found))])
    return 0
