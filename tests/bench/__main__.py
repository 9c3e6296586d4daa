"""Compare easystack_block with Glance's own drivers on this machine.

By default the local engine with the file driver; with "ceph" the ceph engine
with the rbd driver, on a Ceph cluster that is made for it; with "api" our
pipeline with Glance's own, and lists as CSV with lists in JSON.  Ends with 0
whatever the figures are, with 1 if something is broken (an error or a wrong
byte), with 2 if it cannot be run as asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import datetime
from pathlib import Path
import signal
import sys

from rich import console as rich_console

from tests.bench import results
from tests.bench import run
from tests.bench import sources
from tests.functional import processes

#: MiB, rounds and small images, in full and for a quick run.
_FULL = 1024, 5, 10_000
_QUICK = 128, 3, 1000
#: The same of "api", with the images of a long list.
_API_FULL = 512, 3, 100_000
_API_QUICK = 32, 1, 2000


def _at_least(least: int) -> Callable[[str], int]:
    """Return a type of argument: a whole number, not below ``least``."""
    def parse(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f'must be at least {least}')
        return number

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m tests.bench', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'engine', nargs='?', choices=('local', 'ceph', 'api'),
        default='local',
        help='what to compare (default: local)')
    parser.add_argument(
        '--quick', action='store_true',
        help=f'images of {_QUICK[0]} MiB and {_QUICK[1]} rounds: shows that '
             'everything works')
    parser.add_argument(
        '--size', type=_at_least(32), metavar='MIB',
        help=f'size of each image in MiB (default: {_FULL[0]})')
    parser.add_argument(
        '--rounds', type=_at_least(1), metavar='N',
        help=f'how often everything is measured (default: {_FULL[1]})')
    parser.add_argument(
        '--only', action='append', choices=run.LEVELS,
        help='measure this alone of the local engine; may be given again '
             'for more')
    parser.add_argument(
        '--without', action='append', metavar='FILTER', default=[],
        help='with "api": measure our pipeline without this filter as well; '
             'may be given again for others')
    parser.add_argument(
        '--directory', type=Path, default=Path(),
        help='a directory on the disk to measure (default: the current one)')
    parser.add_argument(
        '--output', type=Path, metavar='FILE',
        help='the JSON file (default: bench-DATE.json here)')
    return parser


def _plan(arguments: argparse.Namespace) -> run.Plan:
    full, quick = ((_API_FULL, _API_QUICK) if arguments.engine == 'api'
                   else (_FULL, _QUICK))
    size, rounds, images = quick if arguments.quick else full
    name = f'bench-{datetime.datetime.now():%Y%m%d-%H%M%S}.json'
    return run.Plan(
        size=(arguments.size or size) * results.MIB,
        rounds=arguments.rounds or rounds,
        images=images,
        levels=tuple(level for level in run.LEVELS
                     if level in (arguments.only or run.LEVELS)),
        directory=arguments.directory.resolve(),
        output=(arguments.output or Path(name)).resolve(),
        quick=arguments.quick)


def _suite(engine: str, without: Sequence[str]) -> run.Suite:
    """Return what is to be compared.

    :param without: filters that "api" leaves out once
    :raises CannotRun: if this machine has not what it takes
    """
    if engine == 'local':
        return run.LOCAL
    if engine == 'api':
        # It takes Keystone, and nothing else does.
        from tests.bench import api_level
        return api_level.suite(tuple(without))
    # Ceph's modules may not be there, and nothing else needs them.
    from tests.bench import ceph_level
    return ceph_level.suite()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments of the command say; return the exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    plan = _plan(chosen)
    if chosen.without and chosen.engine != 'api':
        parser.error('--without is about "api"')
    if chosen.engine != 'local' and chosen.only:
        parser.error('--only is about the local engine')
    if not plan.directory.is_dir():
        parser.error(f'"{plan.directory}" is not a directory')
    # Whoever ends us wants the servers stopped and the images removed too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = rich_console.Console()
    try:
        run.execute(plan, console, _suite(chosen.engine, chosen.without))
    except run.CannotRun as error:
        parser.error(str(error))
    except (RuntimeError, sources.WrongBytes,
            processes.ProcessFailed) as error:
        console.print(f'Broken: {error}', markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print('Interrupted')
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
