"""What the filters that look at images cost: with them, and without.

``python -m tests.bench.filters --help`` tells the choices.  Two Glances with
the same store, one of them without the filters, take turns.  The figures mean
something only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import contextlib
from pathlib import Path
import statistics
import sys
import tempfile

from tests.bench import http_level
from tests.bench import results
from tests.bench import sources
from tests.functional import server

#: Those whose cost is measured.
FILTERS = ('easystack_properties', 'easystack_content')
#: How much slower each may be with them, in percent.
LIMITS = {'put': 3.0, 'get': 2.0}
WITH, WITHOUT = 'with', 'without'


def _pipelines(filters: bool) -> str:
    """Return the sample's pipelines, with the filters or without."""
    text = server.paste()
    if not filters:
        for name in FILTERS:
            if f' {name} ' not in text:
                raise RuntimeError(f'no pipeline has {name}')
            text = text.replace(f' {name} ', ' ')
    return text


def _start(root: Path, filters: bool,
           stack: contextlib.ExitStack) -> http_level.Service:
    root.mkdir()
    glance = server.Glance(
        root, [server.file_store('plain', root / 'plain')],
        database=server.SQLite(root / 'glance.sqlite'),
        pipelines=_pipelines(filters))
    glance.prepare()
    stack.callback(glance.stop)
    glance.start()
    return http_level.Service(glance)


def measure(directory: Path, size: int,
            rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return MiB/s by operation and pipeline, a figure for each round.

    :param directory: for all that is written
    :param size: of the image, in bytes
    """
    found: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        image = sources.prepare(directory, 'random', size)
        services = {name: _start(directory / name, name == WITH, stack)
                    for name in (WITH, WITHOUT)}
        for turn in range(rounds):
            for name in results.rotated([*services], turn):
                for operation, sample in services[name].measure(
                        image).items():
                    found.setdefault((operation, name), []).append(
                        sample.mib_per_second)
    return found


def report(found: dict[tuple[str, str], list[float]]) -> bool:
    """Print the medians, and tell whether all is within the limits."""
    good = True
    for operation, limit in LIMITS.items():
        with_them = statistics.median(found[operation, WITH])
        without = statistics.median(found[operation, WITHOUT])
        cost = (1 - with_them / without) * 100
        good = good and cost <= limit
        print(f'{operation}: {with_them:.0f} MiB/s with the filters, '
              f'{without:.0f} without: {cost:+.1f} % slower (at most '
              f'{limit:.0f})')
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--size', type=int, default=1024, metavar='MIB')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--quick', action='store_true',
                        help='64 MiB, once: see that it runs')
    parser.add_argument('--judge', action='store_true',
                        help='fail if a limit is passed')
    given = parser.parse_args(arguments)
    size, rounds = (64, 1) if given.quick else (given.size, given.rounds)
    with tempfile.TemporaryDirectory(prefix='.bench-', dir='.') as work:
        Path(work, '.gitignore').write_text('*\n')
        found = measure(Path(work).resolve(), size << 20, rounds)
    return 0 if report(found) or not given.judge else 1


if __name__ == '__main__':
    sys.exit(main())
