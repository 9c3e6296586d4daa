"""Measure exchanges of releases under load: "tox -e ota-bench".

A table by default; ``--format json`` gives all figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import sys
import tempfile

from tests.ota import baselines
from tests.ota import handovers
from tests.ota import releases
from tests.ota import results
from tests.ota import site as site_module

#: What is exchanged for what: another Glance, then another plugin.
CONTENTS = (
    releases.Content('32.0.0', 1, releases.OLD_GLANCE),
    releases.Content('33.0.0', 2),
    releases.Content('33.0.1', 3, plugin='1.0.1'))


def exchange(site: site_module.Site, slots: Sequence[Path],
             exchanges: int) -> results.Run:
    """Upgrade, roll back and so on, between all neighbours in turn.

    :param slots: from the oldest to the newest release
    :param exchanges: at least how many
    """
    with site_module.Holding(site) as holding:
        handing = handovers.Handovers(holding)
        serving = handing.begin(slots[0])
        with site_module.Loading(site.port,
                                 site.root / 'answers') as loading:
            pairs = list(zip(slots, slots[1:], strict=False))
            # For each pair, there is the upgrade that stays.
            cycles = max(1, -(-(exchanges - len(pairs)) // (2 * len(pairs))))
            for old, new in pairs:
                for _ in range(cycles):
                    serving = handing.upgrade_and_back(serving, old, new)
                serving = handing.upgrade(serving, new)
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
    slots = [site.build_slot(workshop.archive(content))
             for content in CONTENTS]
    runs = [exchange(site, slots, arguments.exchanges)]
    if arguments.baselines:
        runs += [baselines.measure(site, slots[-1], method,
                                   arguments.baselines)
                 for method in baselines.METHODS]
    return runs


if __name__ == '__main__':
    sys.exit(main())
