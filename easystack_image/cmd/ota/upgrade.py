"""``install``, ``upgrade``, ``rollback``, ``resume`` and ``status``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import contextlib
import dataclasses
import functools
from pathlib import Path
import sys
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.cmd.ota import output
from easystack_image.ota import settings
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade
from easystack_image.ota.upgrade import beginning
from easystack_image.ota.upgrade import machine
from easystack_image.ota.upgrade import plans
from easystack_image.ota.upgrade import returning
from easystack_image.ota.upgrade import state
from easystack_image.ota.upgrade import tools

#: Exit codes: see ``cmd/ota/main.py``.
FAILED, NOT_NOW, UNFINISHED = 1, 4, 5
_BACK = {Outcome.ROLLED_BACK, Outcome.ABANDONED}
_Run = Callable[[argparse.Namespace, settings.Settings], int]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser],
        ) -> None:
    """Add the commands."""
    for kind, help in (
            (Kind.INSTALL, 'Install the first release, and have it serve.'),
            (Kind.UPGRADE, 'Have another release serve, without users '
                           'noticing.')):
        parser = commands.add_parser(kind, help=help, description=help)
        parser.set_defaults(run=_telling(run_begin), kind=kind, acts=True)
        _add_order(parser)
        if kind is Kind.UPGRADE:
            parser.add_argument(
                '--again', action='store_true',
                help='Take the newest release even if it was rolled back '
                     'here.')
        output.add_format(parser)
    for name, function, help in (
            ('rollback', run_rollback,
             'Go back to the release before: from an upgrade that did not '
             'end, or after one.'),
            ('resume', run_resume,
             'Go on with an upgrade, or a rollback, that did not end.'),
            ('status', run_status,
             'Show what serves, and how far an upgrade is.')):
        parser = commands.add_parser(name, help=help, description=help)
        parser.set_defaults(run=function if name == 'status' else
                            _telling(function), acts=name != 'status')
        if name != 'status':
            _add_force(parser)
        if name == 'resume':
            parser.add_argument(
                '--unless-told-to-stop', action='store_true',
                help='Leave alone what stopped after the step of --until.')
        output.add_format(parser)


def _add_order(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        'version', nargs='?', metavar='VERSION',
        help='Default: the newest that the channel offers.')
    which.add_argument(
        '--archive', type=Path, metavar='FILE',
        help='One that was downloaded before; nothing is asked of the '
             'repository.')
    parser.add_argument(
        '--until', type=Step, choices=plans.ALL, metavar='STEP',
        help='Stop after a step: ' + ', '.join(plans.ALL) + '. "resume" '
             'goes on, "rollback" goes back.')
    parser.add_argument(
        '--soak', type=_seconds, metavar='SECONDS', dest='soak_seconds',
        help='Instead of soak in the configuration.')
    parser.add_argument(
        '--drain-timeout', type=_seconds, metavar='SECONDS',
        dest='drain_seconds',
        help='Instead of drain_timeout in the configuration.')
    _add_force(parser)


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--force', action='append', default=[], metavar='HOOK',
        help='Go on although this hook fails, if it can be overridden. May '
             'be given more than once. For a rollback, "canary" as well.')


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float('inf'):
        raise ValueError(text)
    return seconds


def _tools(found: settings.Settings) -> tools.Tools:
    output.outlive_terminal()
    return tools.make(found, output.say)


def run_begin(arguments: argparse.Namespace,
              found: settings.Settings) -> int:
    """Install or upgrade."""
    bar = output.Bar(sys.stderr)
    used = _tools(found)
    try:
        result = beginning.begin(used, beginning.Order(
            arguments.kind, arguments.version, arguments.archive,
            arguments.until, tuple(arguments.force), arguments.soak_seconds,
            arguments.drain_seconds, getattr(arguments, 'again', False)), bar)
    finally:
        bar.close()
    code = _show(arguments, result)
    # It matters whatever came of it.
    return code or output.attention(state.warning(used))


def _telling(action: _Run) -> _Run:
    """Have a command tell an upgrade that did not end from a mere failure."""
    return functools.partial(_run, action)


def _run(action: _Run, arguments: argparse.Namespace,
         found: settings.Settings) -> int:
    try:
        return action(arguments, found)
    except (exceptions.EasystackImageError, OSError) as error:
        upgrade = _unfinished(found)
        if upgrade is None or _tools(found).upgrading:
            # Then it is another process that is at it.
            raise
        output.say(str(error))
        output.record(arguments, {
            **dataclasses.asdict(machine.result(upgrade)),
            'error': str(error)})
        return NOT_NOW if isinstance(error, (
            exceptions.NotNow, exceptions.Unreachable,
            exceptions.AlreadyRunning)) else UNFINISHED


def _unfinished(found: settings.Settings) -> Upgrade | None:
    """Return the upgrade that did not end; None if that cannot be known."""
    with contextlib.suppress(exceptions.EasystackImageError, OSError):
        upgrades = _tools(found).journal.history()
        if upgrades and upgrades[-1].outcome is None:
            return upgrades[-1]
    return None


def run_rollback(arguments: argparse.Namespace,
                 found: settings.Settings) -> int:
    """Go back."""
    result = returning.roll_back(_tools(found), arguments.force)
    _show(arguments, result)
    wanted = {Outcome.COMMITTED} if result.kind is Kind.ROLLBACK else _BACK
    return 0 if result.outcome in wanted else FAILED


def run_resume(arguments: argparse.Namespace,
               found: settings.Settings) -> int:
    """Go on, or go on going back."""
    before = _unfinished(found)
    result = machine.resume(_tools(found), arguments.force,
                            not arguments.unless_told_to_stop)
    if result is None:
        output.say('there is nothing to go on with')
    code = _show(arguments, result)
    if before and before.event(Step.ROLLBACK) and result and (
            result.outcome in _BACK):
        return 0
    return code


def _show(arguments: argparse.Namespace,
          result: machine.Result | None) -> int:
    """Print how it ended; return the exit code."""
    if result is None:
        output.record(arguments, {'outcome': None})
        return 0
    output.record(arguments, dataclasses.asdict(result))
    return 0 if result.outcome in (None, Outcome.COMMITTED) else FAILED


def run_status(arguments: argparse.Namespace,
               found: settings.Settings) -> int:
    """Show what there is."""
    status = state.read(_tools(found))
    code = output.ATTENTION if status['attention'] else 0
    for text in status['attention']:
        output.say(text)
    if arguments.format == 'json':
        output.record(arguments, status)
        return output.attention(status['warning'] or '') or code
    current = status['current'] or {}
    output.record(arguments, {
        'release': current.get('version'), 'floor': status['floor'],
        'slots': status['slots'], **({'damaged': status['damaged']}
                                     if status['damaged'] else {})})
    if status['instances'] is not None:
        _lines()
        output.table(arguments, ('instance', 'release', 'role', 'pid',
                                 'in flight'), [
            tuple(each.values()) for each in status['instances']])
    if status['upgrade']:
        _show_upgrade(arguments, status['upgrade'])
    return output.attention(status['warning'] or '') or code


def _show_upgrade(arguments: argparse.Namespace,
                  upgrade: dict[str, Any]) -> None:
    _lines()
    output.record(arguments, {name: upgrade[name] for name in (
        'kind', 'origin', 'target', 'outcome', 'advice')})
    _lines()
    output.table(arguments, ('step', 'state', 'began', 'seconds', 'reason'), [
        (step['step'], step['event'], step['began'] and time.strftime(
            '%Y-%m-%dT%H:%M:%SZ', time.gmtime(step['began'])),
         None if step['seconds'] is None else f'{step["seconds"]:.1f}',
         step['reason']) for step in upgrade['steps']])


def _lines() -> None:
    output.line('')
