"""What the commands share: the store, exit codes, long work."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import logging
import threading
from typing import Any, Protocol, TypeVar, cast

from cliff import columns as cliff_columns
from cliff import command
from cliff import lister

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore import loading
from easystack_image.blockstore.ceph import engine as ceph_engine
from easystack_image.blockstore.local import engine as local_engine
from easystack_image.blockstore.local import work
from easystack_image.cmd import blocks
from easystack_image.cmd import progress

LOG = logging.getLogger(__name__)
#: What the commands exit with, and what it means.
EXIT_CODES = {
    0: 'success',
    1: 'failure, or refused; the reason is printed',
    2: 'wrong use',
    3: 'done, but some copies are not good, or some images were left out',
    130: 'stopped by SIGINT (Ctrl-C) or SIGTERM; run it again to go on',
}
FAILED = 1
NOT_GOOD = 3
STOPPED = 130
#: What to use instead of a command where Ceph keeps the copies.
_OF_CEPH = {
    'capacity': 'ceph df detail',
    'device add': 'ceph-volume lvm create',
    'device drain': 'ceph osd out',
    'device init': 'ceph osd pool create',
    'device remove': 'ceph osd purge',
    'device replace': 'ceph osd destroy',
    'fsck': 'ceph health detail", "easystack-image-manage scrub',
    'location': 'rbd info',
    'rebalance': 'ceph balancer status',
}
#: Column names and rows.
Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]
T = TypeVar('T', bound=engine_module.Engine)


class WrongUse(exceptions.EasystackImageError):
    """The command cannot be meant as it was given."""


class StoreApp(Protocol):
    """The program that commands about a store are a part of."""

    options: argparse.Namespace
    stderr: Any

    @property
    def store_options(self) -> dict[str, Any]:
        """The options of the store, without prefix."""


class StoreCommand(command.Command):
    """A command about a store."""

    #: Set it for the command to exit with.
    exit_code = 0

    @property
    def store_app(self) -> StoreApp:
        """The program that this command is a part of."""
        return cast('StoreApp', self.app)

    def make_engine(self) -> engine_module.Engine:
        """Return the engine of the store; nothing is touched yet."""
        return loading.load(
            self.store_app.store_options | {'self_repair': False})

    def engine(self) -> engine_module.Engine:
        """Return the engine of the store, started."""
        made = self.make_engine()
        made.start()
        return made

    def local(self, expected: str = '') -> local_engine.LocalEngine:
        """Return the engine of the store, started, if it is our own.

        :param expected: a device that may well be unusable
        :raises easystack_image.exceptions.ConfigurationError: if the store
            has another engine
        """
        made = self.check_local(self.make_engine())
        with _unreported(expected):
            made.start()
        return made

    def keeper(self) -> local_engine.LocalEngine | ceph_engine.CephEngine:
        """Return the engine of the store, started, if we look after it.

        :raises easystack_image.exceptions.ConfigurationError: if the store
            has an engine that is not part of this package
        """
        made = self.make_engine()
        if not isinstance(made, ceph_engine.CephEngine):
            return self.local()
        made.start()
        return made

    def check_local(self, made: engine_module.Engine,
                    ) -> local_engine.LocalEngine:
        """Return an engine if it is the local one, or raise."""
        if not isinstance(made, local_engine.LocalEngine):
            name = self.store_app.store_options['engine']
            instead = _OF_CEPH.get(self.cmd_name or '', 'ceph status')
            raise exceptions.ConfigurationError(
                f'"{self.cmd_name}" is for stores with the engine "local"; '
                f'this one has "{name}", which looks after its copies '
                'itself' + (f': use "{instead}"' if name == 'ceph' else ''))
        return made

    def say(self, message: str) -> None:
        """Tell the operator something, unless told to be quiet."""
        LOG.info('%s', message)

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Do it, and return the exit code."""
        try:
            super().run(parsed_args)
        except exceptions.Interrupted:
            LOG.warning('Stopped; nothing is half done. Run the same command '
                        'again to go on.')
            return STOPPED
        except WrongUse as error:
            LOG.error('%s', error)
            return 2
        return self.exit_code


class ListCommand(StoreCommand, lister.Lister):
    """A command about a store that prints a table."""

    #: The columns of tables that are to fit a narrow terminal, for each kind
    #: of table that the command prints, and fewer for a narrower one; other
    #: formats, and tables with ``--long``, have all.
    BRIEF: tuple[tuple[str, ...], ...] = ()

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the choice of columns."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        if self.BRIEF:
            parser.add_argument(
                '--long', action='store_true',
                help='Show all columns in a table, too; json, csv and yaml '
                     'always have them. Where they do not fit the terminal, '
                     'each row is a block of lines.')
        return parser

    def produce_output(self, parsed_args: argparse.Namespace,
                       column_names: Sequence[str], data: Any) -> int:
        """Print the table; of a brief one, the reasons beside it."""
        brief = [list(columns) for columns in self.BRIEF
                 if set(columns).issubset(column_names)]
        if (brief and parsed_args.formatter == 'table'
                and not (parsed_args.long or parsed_args.columns)):
            parsed_args.columns = next(
                (each for each in brief if blocks.fits(
                    self.formatter, column_names, data, each, parsed_args)),
                brief[-1])
            _tell_reasons(column_names, data)
        elif parsed_args.formatter == 'table' and not (
                parsed_args.columns or parsed_args.max_width
                or parsed_args.fit_width):
            self.formatter = cast('Any', blocks.Fitting(self.formatter))
        elif parsed_args.formatter == 'csv':
            # Or it has the word "None" for what there is not.
            data = [[_without_none(cell) for cell in row] for row in data]
        return int(super().produce_output(parsed_args, column_names, data)
                   or 0)


def _without_none(cell: Any) -> Any:
    value = (cell.machine_readable()
             if isinstance(cell, cliff_columns.FormattableColumn) else cell)
    return '' if value is None else cell


def _tell_reasons(names: Sequence[str], rows: Sequence[Any]) -> None:
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        # Devices that are away are in the log already.
        if cells.get('reason') and cells.get('state') not in (
                'unavailable', 'unreachable', 'removed'):
            LOG.warning('%s: %s', row[0], cells['reason'])


class LongCommand(ListCommand):
    """A command whose work takes long."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add how to go about the work."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--rate-limit', type=more_than_0, metavar='MIB_PER_SECOND',
            help='Read at most so many MiB per second. Default: as fast as '
                 'it goes.')
        parser.add_argument(
            '--report-every', type=more_than_0, metavar='SECONDS',
            default=30.0, help='Without a terminal, print how far it is '
                               'every so many seconds (default 30).')
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Do the work, in one job or several one after another."""
        self._stop: threading.Event | None = None
        with contextlib.ExitStack() as self._jobs:
            return super().run(parsed_args)

    @contextlib.contextmanager
    def job(self, parsed_args: argparse.Namespace, title: str,
            one: bool = False) -> Iterator[work.Job]:
        """Go about long work: watched, at a bounded rate, until a signal.

        The exit code becomes 3 if something could not be done.

        :param title: what is done, in one word
        :param one: whether it is about one image, so that each step is told
        """
        rate = parsed_args.rate_limit
        verbosity = self.store_app.options.verbose_level
        if self._stop is None:
            # To the end of the command: a signal that comes between two jobs
            # ends the next one as it begins.
            self._stop = self._jobs.enter_context(progress.until_signal())
        with progress.report(
                title, self.store_app.stderr, parsed_args.report_every,
                verbosity and verbosity + one) as report:
            job = work.Job(rate * progress.MIB if rate else None, self._stop,
                           report)
            job.check()
            yield job
        if report.problems:
            self.exit_code = NOT_GOOD


def add_force(parser: argparse.ArgumentParser, help: str) -> None:
    """Add the option to do what may lose copies."""
    parser.add_argument('--force', metavar='DEVICE', default='',
                        type=device_path, help=help)


def check_force(parsed_args: argparse.Namespace, device: str) -> str:
    """Return the device that is named by ``--force``, or ''.

    :param device: as the command names it
    :raises WrongUse: if it is another one than the command is about
    """
    force: str = parsed_args.force
    if force not in ('', device):
        raise WrongUse(
            f'--force must repeat the device, {device}, to show that it is '
            f'meant; it names {force}')
    return force


def device_path(text: str) -> str:
    """Return a path as the configuration has it, for argparse.

    Shells complete the name of a directory with a slash.
    """
    return text.rstrip('/') or text


def at_least_0(text: str) -> float:
    """Return a number of at least 0, for argparse."""
    number = _number(text)
    if not 0 <= number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not 0 or more')
    return number


def more_than_0(text: str) -> float:
    """Return a number of more than 0, for argparse."""
    number = _number(text)
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not more than 0')
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no number') from None


@contextlib.contextmanager
def _unreported(expected: str) -> Iterator[None]:
    """Keep the log silent about a device that may well be unusable."""
    def other(record: logging.LogRecord) -> bool:
        return not any(isinstance(each, exceptions.DeviceError)
                       and each.device == expected
                       for each in record.args or ())

    log = logging.getLogger(local_engine.__name__)
    log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)
