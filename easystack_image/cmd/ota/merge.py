"""``easystack-image-ota config``: what a release means for edited files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import os
from pathlib import Path
import tempfile

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.cmd.ota import output
from easystack_image.ota import merge
from easystack_image.ota import redaction
from easystack_image.ota import settings
from easystack_image.ota.release import archive
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.upgrade import tools

ATTENTION = 3
#: What a line of each side begins with.
_MARKS = (('operator', '!'), ('origin', '-'), ('target', '+'))


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser],
        ) -> None:
    """Add the commands."""
    config = commands.add_parser(
        'config', help='The configuration files that releases bring.')
    which = config.add_subparsers(required=True, metavar='COMMAND')
    help = ('Show what another release means for your configuration files: '
            'what you edited, what its defaults changed, and where both did. '
            'Your files are not touched.')
    diff = which.add_parser('diff', help=help, description=help)
    diff.set_defaults(run=run_diff)
    diff.add_argument(
        'target', metavar='VERSION|ARCHIVE',
        help='The other release: one that is installed beside the one in '
             'use, or a downloaded archive.')
    diff.add_argument(
        '--from', dest='origin', metavar='VERSION',
        help='The release that your files are from (default: the one in '
             'use).')
    diff.add_argument(
        '--directory', type=Path, metavar='PATH',
        help='Where your files are (default: where config_file of the '
             'configuration is).')
    diff.add_argument(
        '--write', type=Path, metavar='PATH',
        help='Write merged files there, with marks where both sides changed '
             'the same lines; a new directory. They may hold passwords.')
    output.add_format(diff)


def run_diff(arguments: argparse.Namespace,
             found: settings.Settings) -> int:
    """Show what a release means for configuration files."""
    slots = tools.slots(found)
    origin = (_slot(slots, arguments.origin) if arguments.origin
              else slots.current())
    if origin is None:
        raise exceptions.SlotError('no release is in use here: say --from')
    directory = arguments.directory or Path(found.config_file).parent
    with tempfile.TemporaryDirectory() as scratch:
        target, version = _target(slots, arguments.target, Path(scratch))
        reports = merge.compare(origin.path / declarations.CONFIG, target,
                                directory)
    names = {'origin': origin.release.version, 'target': version,
             'operator': str(directory)}
    if arguments.write:
        _write(arguments.write, reports, names)
    _show(arguments, reports, redaction.of(
        [str(directory / report.name) for report in reports], (),
        loose=False))
    return ATTENTION if any(report.state in merge.ATTENTION
                            for report in reports) else 0


def _slot(slots: slots_module.Slots, version: str) -> slots_module.Slot:
    slot = slots.get(version)
    if slot is None:
        raise exceptions.SlotError(
            f'{version} is not installed, or not whole')
    return slot


def _target(slots: slots_module.Slots, text: str, scratch: Path,
            ) -> tuple[Path, str]:
    """Return the default configuration of a release, and its version.

    :param scratch: an empty directory to unpack an archive in
    """
    slot = slots.get(text)
    if slot is not None:
        return slot.path / declarations.CONFIG, slot.release.version
    if not Path(text).is_file():
        raise exceptions.SlotError(
            f'{text} is neither an installed release nor an archive')
    fd = fsio.open_directory(str(scratch))
    try:
        release = archive.unpack(Path(text), fd)
    finally:
        os.close(fd)
    return scratch / declarations.CONFIG, release.version


def _write(directory: Path, reports: list[merge.Report],
           names: dict[str, str]) -> None:
    directory.mkdir(mode=0o700, parents=True)
    for report in reports:
        if report.parts:
            path = directory / report.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(merge.merged(report, names))


def _show(arguments: argparse.Namespace, reports: list[merge.Report],
          redact: redaction.Redactor) -> None:
    if arguments.format == 'json':
        output.table(arguments, ('file', 'state', 'parts'), [
            (report.name, report.state, [
                {'change': part.change, 'line': part.line} | {
                    side: [redact(line) for line in getattr(part, side)]
                    for side, _ in _MARKS}
                for part in report.parts
                if part.change is not merge.Change.NOBODY])
            for report in reports])
        return
    output.table(arguments, ('file', 'state', 'yours', 'release',
                             'conflicts'), [
        (report.name, report.state, *(
            report.lines(change) if report.parts else None
            for change in (merge.Change.OPERATOR, merge.Change.RELEASE,
                           merge.Change.CONFLICT)))
        for report in reports])
    for report in reports:
        for line in _sections(report):
            output.line(redact(line))


def _sections(report: merge.Report) -> Iterator[str]:
    """Yield the parts that someone has changed, as lines of text."""
    for part in report.parts:
        if part.change is merge.Change.NOBODY:
            continue
        yield f'==== {report.name}, line {part.line}: {part.change}'
        for side, mark in _MARKS:
            if side == 'operator' and part.operator in (
                    part.origin, part.target):
                continue
            if side == 'target' and part.target == part.origin:
                continue
            for line in getattr(part, side):
                yield f'{mark} {line}'.rstrip()
