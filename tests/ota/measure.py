"""Measure exchanges of releases under load: "tox -e ota-bench".

A table by default; ``--format json`` gives all figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
import tempfile
import time

from tests.ota import baselines
from tests.ota import exchanges as exchanges_module
from tests.ota import releases
from tests.ota import results
from tests.ota import site as site_module

#: What is exchanged for what: another Glance, then another plugin.
CONTENTS = (
    releases.Content('32.0.0', 1, releases.OLD_GLANCE),
    releases.Content('33.0.0', 2),
    releases.Content('33.0.1', 3, plugin='1.0.1'))


def exchange(site: site_module.Site, exchanges: int,
             patience: float = 1.0) -> results.Run:
    """Upgrade, roll back and so on, between all neighbours in turn.

    :param site: where nothing is installed yet, and all contents are
        published
    :param exchanges: at least how many
    :param patience: of the clients; see ``load``
    """
    first, *others = (content.version for content in CONTENTS)
    # There are the upgrades that stay, and one rollback from there.
    cycles = max(len(others), -(-(exchanges - len(others) - 1) // 2))
    with exchanges_module.Exchanges(site) as handing:
        handing.install(first)
        with site_module.Loading(site.port, site.root / 'answers',
                                 patience) as loading:
            # Until everybody has begun.
            time.sleep(2)
            for place, version in enumerate(others):
                for _ in range(place, cycles, len(others)):
                    handing.upgrade_and_back(version)
                handing.upgrade(version)
            handing.roll_back()
        return handing.run(loading)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tox -e ota-bench --', description=__doc__)
    parser.add_argument('--exchanges', type=int, default=20, metavar='NUMBER',
                        help='upgrades and rollbacks (default 20)')
    parser.add_argument('--baselines', type=int, default=2, metavar='NUMBER',
                        help='exchanges by each of the other methods '
                             '(default 2)')
    parser.add_argument('--format', choices=('table', 'json'),
                        default='table')
    parser.add_argument('--output', type=Path, metavar='FILE',
                        help='write the figures there, too, as JSON')
    parser.add_argument('--limit', type=float, metavar='RATIO',
                        help='fail if the 99th percentile during exchanges '
                             'is more than so many times that before')
    return parser.parse_args()


def main() -> int:
    """Measure, and print; return the exit code."""
    arguments = _arguments()
    # Sockets need short paths.
    with tempfile.TemporaryDirectory(prefix='ota-') as directory:
        root = Path(directory).resolve()
        runs = _measure(root, arguments)
    text = json.dumps([run.record() for run in runs], indent=2)
    if arguments.output:
        arguments.output.write_text(text + '\n')
    print(text if arguments.format == 'json' else results.table(runs))
    found = results.outcomes(runs[0].answers)
    slow = arguments.limit and any(
        ratio > arguments.limit for ratio in runs[0].ratios().values())
    return int(bool(slow) or any(found[bad] for bad in results.BAD))


def _measure(root: Path, arguments: argparse.Namespace) -> list[results.Run]:
    workshop = releases.Workshop(root)
    site = site_module.Site(root)
    site.prepare()
    archives = [workshop.archive(content) for content in CONTENTS]
    publisher = releases.Publisher(root)
    publisher.publish(*archives)
    site.configure(publisher, soak=1)
    runs = [exchange(site, arguments.exchanges)]
    if arguments.baselines:
        slot = site.build_slot(archives[-1])
        runs += [baselines.measure(site, slot, method, arguments.baselines)
                 for method in baselines.METHODS]
    return runs


if __name__ == '__main__':
    sys.exit(main())
