"""Run a store through everything that can happen, and check it.

Ends with 0 if nothing was lost and nothing is wrong, with 1 otherwise, with
2 if it cannot be run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent import futures
import contextlib
from pathlib import Path
import random
import shutil
import sys
import tempfile
import threading

from tests.faults import workspace
from tests.soak import catalogue
from tests.soak import chaos
from tests.soak import clients
from tests.soak import disks as disks_module
from tests.soak import faults as faults_module
from tests.soak import prerequisites
from tests.soak import report as report_module
from tests.soak import schedule
from tests.soak import settle
from tests.soak import world as world_module

#: Seconds for which a fault may be felt after its end: a device that hung is
#: left alone for the time limit.
SLACK = 2.0 * world_module.TIMEOUT + 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m tests.soak', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--minutes', type=float, default=10.0,
        help='how long to go on before the dust settles, which takes about '
             'two minutes more (default: %(default)g)')
    parser.add_argument(
        '--seed', type=int,
        help='of an earlier run, to have it again (default: a new one)')
    parser.add_argument(
        '--devices', type=int, default=6, metavar='N', choices=range(5, 13),
        help='how many devices, one more not counted that is added on the '
             'way (5 to 12, default: %(default)s)')
    parser.add_argument(
        '--clients', type=int, default=4, metavar='N',
        help='how many clients at a time (default: %(default)s)')
    parser.add_argument(
        '--keep', type=Path, metavar='DIRECTORY',
        help='where to leave the logs of Glance and of the healer')
    return parser


def _live(world: world_module.World, images: catalogue.Catalogue,
          report: report_module.Report,
          arguments: argparse.Namespace) -> None:
    """Have clients and chaos at work for a while."""
    faults = faults_module.Faults(SLACK)
    stop, calm = threading.Event(), threading.Event()
    trouble = chaos.Chaos(
        world, images, faults, report,
        schedule.acts(arguments.seed, len(world.disks), world_module.TIMEOUT),
        calm)
    users = [clients.Client(number, arguments.seed, world, images, faults,
                            report, stop)
             for number in range(arguments.clients)]
    with futures.ThreadPoolExecutor(len(users) + 1) as pool:
        served = [pool.submit(user.run) for user in users]
        troubled = pool.submit(trouble.run)
        try:
            calm.wait(arguments.minutes * 60)
        finally:
            calm.set()
            futures.wait([troubled])
            stop.set()
        for each in (*served, troubled):
            each.result()


def _run(arguments: argparse.Namespace,
         report: report_module.Report) -> dict[str, object]:
    """Run everything; return figures for the summary."""
    images = catalogue.Catalogue()
    with contextlib.ExitStack() as stack:
        space = workspace.Workspace()
        stack.callback(space.close)
        root = Path(tempfile.mkdtemp(prefix='soak-'))
        stack.callback(shutil.rmtree, root)
        disks = disks_module.make(space, arguments.devices)
        for disk in disks:
            stack.callback(disk.close)
        world = world_module.World(root, disks)
        if arguments.keep:
            stack.callback(_keep_logs, root, arguments.keep)
        stack.callback(world.stop)
        world.start()
        report.say('Glance and the healer are at work')
        _live(world, images, report, arguments)
        settle.Reckoning(world, images, report).run()
        return world.repairs()


def _keep_logs(root: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for log in root.glob('*.log'):
        shutil.copy(log, target)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as the arguments of the command say; return the exit code."""
    arguments = _parser().parse_args(argv)
    found = list(prerequisites.problems())
    if found:
        print('\n'.join(found), file=sys.stderr)
        return 2
    # Before there is any other thread.
    workspace.isolate()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1 << 32)
    print(f'seed {arguments.seed} (--seed {arguments.seed} --devices '
          f'{arguments.devices} --clients {arguments.clients})', flush=True)
    report = report_module.Report()
    figures: dict[str, object] = {}
    try:
        figures = _run(arguments, report)
    except Exception as error:
        report.fail(f'{type(error).__name__}: {error}')
        raise
    finally:
        print(report.summary(figures))
        print(f'seed {arguments.seed}', flush=True)
    return 1 if report.failures else 0


if __name__ == '__main__':
    sys.exit(main())
