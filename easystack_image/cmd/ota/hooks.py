"""``easystack-image-ota hooks``: what is run in an upgrade besides."""

from __future__ import annotations

import argparse

from easystack_image import exceptions
from easystack_image.cmd.ota import output
from easystack_image.ota import settings
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import calls
from easystack_image.ota.journal import records
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.upgrade import tools

#: Waited for; see EXIT_CODES.
NOT_NOW = 4


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser],
        ) -> None:
    """Add the commands."""
    hooks = commands.add_parser(
        'hooks', help='What is run before, at and after each step of an '
                      'upgrade.')
    which = hooks.add_subparsers(required=True, metavar='COMMAND')
    for name, function, help in (
            ('list', run_list, 'Show the hooks, in the order in which they '
                               'run.'),
            ('check', run_check, 'Find out whether the hooks go together; '
                                 'none is run.'),
            ('run', run_run, 'Run the hooks of a point, to try them.')):
        parser = which.add_parser(name, help=help, description=help)
        parser.set_defaults(run=function)
        parser.add_argument(
            '--slot', metavar='VERSION',
            help='The release whose hooks are meant (default: the one in '
                 'use).')
        if name != 'check':
            output.add_format(parser)
        if name == 'run':
            parser.add_argument('point', metavar='POINT')
            parser.add_argument(
                '--kind', choices=[str(kind) for kind in records.Kind],
                default=str(records.Kind.UPGRADE),
                help='What the hooks are told is done (default: upgrade).')
            parser.add_argument(
                '--force', action='append', default=[], metavar='HOOK',
                help='Go on although this one fails; may be given again.')


def _slot(arguments: argparse.Namespace, found: settings.Settings,
          ) -> slots_module.Slot | None:
    """Return the slot whose hooks are meant, None before the first."""
    slots = tools.slots(found)
    if arguments.slot is None:
        return slots.current()
    slot = slots.get(arguments.slot)
    if slot is None:
        raise exceptions.SlotError(
            f'{arguments.slot} is not installed, or not whole')
    return slot


def run_list(arguments: argparse.Namespace,
             found: settings.Settings) -> int:
    """Show the hooks."""
    slot = _slot(arguments, found)
    caller = calls.HookCaller(found)
    classes = caller.classes(str(slot.path) if slot else None)
    rows = [(point, each.name, each.timeout, each.required, each.overridable,
             each.package, each.summary)
            for point in base.Point.ALL for each in classes
            if point in each.points]
    rows += [(each.point, each.name, found.hook_timeout, True, True,
              str(each.path), '') for each in caller.executables()]
    # Stable: at a point, classes come first.
    rows.sort(key=lambda row: base.Point.ALL.index(row[0]))
    output.table(arguments, ('point', 'hook', 'timeout', 'required',
                             'overridable', 'from', 'summary'), rows)
    return 0


def run_check(arguments: argparse.Namespace,
              found: settings.Settings) -> int:
    """Find out whether the hooks go together."""
    slot = _slot(arguments, found)
    calls.HookCaller(found).check(str(slot.path) if slot else None)
    return 0


def run_run(arguments: argparse.Namespace, found: settings.Settings) -> int:
    """Run the hooks of a point."""
    point = base.Point(arguments.point)
    slots = tools.slots(found)
    slot, current = _slot(arguments, found), slots.current()
    if slot is None:
        raise exceptions.SlotError('no release is in use here')
    origin = current if current and current != slot else slots.previous()
    config_files, config_dirs = calls.glance_files(found)
    outcomes: list[base.Outcome] = []
    try:
        calls.HookCaller(found, outcomes.append).run(point, base.Context(
            point=point, kind=records.Kind(arguments.kind),
            origin=origin.release.version if origin else None,
            target=slot.release.version,
            origin_slot=str(origin.path) if origin else None,
            slot=str(slot.path), config_files=config_files,
            config_dirs=config_dirs, state_directory=found.state_directory,
            slots_directory=found.slots_directory,
            phases=tuple(map(str, slot.release.database)),
            forced=tuple(arguments.force),
            archive_bytes=sum(file.size for file
                              in slot.release.files.values())))
    except exceptions.RetryLater as error:
        output.say(str(error))
        return NOT_NOW
    finally:
        output.table(arguments, ('hook', 'state', 'seconds', 'message'), [
            (each.hook, each.state, each.seconds, each.message)
            for each in outcomes])
        for each in outcomes:
            if each.state is not base.State.DONE and each.output:
                output.say(f'{each.hook} printed:\n{each.output}')
    return 0
