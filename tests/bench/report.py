"""The tables that people read, and the file that programs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any

from rich import box
from rich import console as rich_console
from rich import table as rich_table

from tests.bench import results
from tests.bench import targets
from tests.bench import upkeep

#: Of the JSON file; a reader can rely on what it knows of a format.
FORMAT = 1

_TITLES = {
    'driver': 'Through the driver',
    'http': 'Through HTTP, a Glance under uWSGI for each store',
    'limits': 'Limits of this machine',
    'upkeep': 'Upkeep of three copies, large images',
    'ceph': 'Through the driver, all on one Ceph cluster',
}

#: Levels without stores: one row per operation.
_PLAIN = ('limits', 'upkeep')

#: Which share of the processors others may have before we mention it.
_BUSY = 0.1

_LOCAL_NOTES = """\
MiB/s: median of all rounds. × file: that median over the file driver's, for
the same operation and data (limits: over its add, or get, of random data).
CPU: user and system, of the driver's process or of Glance; client: of the
HTTP client. Peak: the most resident memory in any round, less idle. Gets are
served from the page cache, {gets} in a row. Half-zero: runs of {run:.0f} MiB,
random and zero in turn. The file driver neither syncs nor verifies; each
copy of block-N is durable when its add ends, and each block is verified in a
get. Upkeep: all copies lie on one disk, and nothing of them in the page cache
at first; scrub is compared with one thread per device that reads the same
files and computes CRC32C, rebuild (replacing a lost device, and filling the
new one) with cp of one device's images, sync, and CRC32C of what was copied.
"""

_API_NOTES = """\
ms, s: median of all rounds; a round of show and list is the median of its
requests, which go to all servers in turn, one at a time, with a token of
Keystone. × vanilla: how many times as long as through Glance's own pipeline,
the median and the extremes of all rounds; the servers differ in nothing else,
and keep their images with the file driver. Lists: through our pipeline, by an
administrator. Peak: the most resident memory of the workers in any round, less
idle.
"""

_CEPH_NOTES = """\
MiB/s: median of all rounds. × rbd: that median over the one of glance_store's
rbd driver (8 MiB objects, its defaults else), for the same operation and
data. CPU: user and system, of the driver's process, not of the cluster's.
Peak: the most resident memory in any round, less idle. Short reads: the
source gives 64 KiB at a time. Ranges: {ranges} of 1 MiB anywhere in the image.
Half-zero: runs of {run:.0f} MiB, random and zero in turn. rbd command: "rbd
import" and "rbd export", which compute no digests. All three OSDs lie on one
disk and share the processors with the client.
"""

#: By the level that they are about.
_NOTES = {'ceph': _CEPH_NOTES, 'api': _API_NOTES}


def _number(value: float | None, form: str) -> str:
    return '–' if value is None else format(value, form)


def _speeds(summary: results.Summary) -> list[str]:
    return [f'{summary.median:.0f}',
            f'{summary.lowest:.0f}–{summary.highest:.0f}',
            _number(summary.ratio, '.2f')]


def _large(key: results.Key, level: str) -> bool:
    return key.level == level and key.data != upkeep.SMALL


def _counts(summaries: Mapping[results.Key, results.Summary],
            ) -> rich_table.Table:
    """Return the table of what is told in images, not in bytes."""
    counted = {key: summary for key, summary in summaries.items()
               if summary.images}
    number = max(summary.images or 0 for summary in counted.values())
    table = rich_table.Table(
        title=f'Upkeep of {number} small images, nothing wrong',
        title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('', no_wrap=True)
    for heading in ('seconds', 'images/s', 'CPU s'):
        table.add_column(heading, justify='right', no_wrap=True)
    for key, summary in counted.items():
        seconds = summary.seconds or 0.0
        table.add_row(key.operation, f'{seconds:.2f}',
                      f'{number / seconds:.0f}',
                      _number(summary.cpu_seconds, '.2f'))
    return table


def _table(level: str,
           summaries: Mapping[results.Key, results.Summary]) -> (
               rich_table.Table):
    """Return the table of one level, grouped by operation and data."""
    table = rich_table.Table(title=_TITLES[level], title_justify='left',
                             box=box.SIMPLE_HEAD, pad_edge=False)
    headings = ['MiB/s', 'min–max', '× plain' if level == 'upkeep' else
                f'× {results.baseline_store(level)}', 'CPU s/GiB']
    if level == 'http':
        headings.append('client')
    if level not in _PLAIN:
        headings.append('peak MiB')
    table.add_column('', no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify='right', no_wrap=True)
    group = ''
    for key, summary in summaries.items():
        if not _large(key, level):
            continue
        label = key.operation
        if level not in _PLAIN:
            if group != (group := f'{key.operation}, {key.data}'):
                table.add_row(f'[bold]{group}[/bold]')
            label = f'  {key.store}'
        cells = [label, *_speeds(summary),
                 _number(summary.cpu_seconds_per_gib, '.2f')]
        if level == 'http':
            cells.append(_number(summary.client_cpu_seconds_per_gib, '.2f'))
        if level not in _PLAIN:
            cells.append(_number(summary.peak_mib, '.1f'))
        table.add_row(*cells)
    return table


def _requests(summaries: Mapping[results.Key, results.Summary],
              ) -> rich_table.Table:
    """Return the table of requests through different pipelines."""
    table = rich_table.Table(title='Requests, one at a time',
                             title_justify='left', box=box.SIMPLE_HEAD,
                             pad_edge=False)
    table.add_column('', no_wrap=True)
    for heading in 'ms', '× vanilla', 'min–max':
        table.add_column(heading, justify='right', no_wrap=True)
    group = ''
    for key, summary in summaries.items():
        if key.level != 'api':
            continue
        if group != (group := key.operation):
            table.add_row(f'[bold]{group}[/bold]')
        table.add_row(
            f'  {key.store}', f'{1000 * (summary.seconds or 0):.1f}',
            _number(summary.cost, '.3f'),
            f'{_number(summary.least_cost, ".3f")}–'
            f'{_number(summary.greatest_cost, ".3f")}')
    return table


def _lists(summaries: Mapping[results.Key, results.Summary],
           ) -> rich_table.Table:
    """Return the table of clients that want all of a long list."""
    lists = {key: summary for key, summary in summaries.items()
             if key.level == 'export'}
    number = max(summary.images or 0 for summary in lists.values())
    table = rich_table.Table(title=f'A list of {number} images',
                             title_justify='left', box=box.SIMPLE_HEAD,
                             pad_edge=False)
    table.add_column('', no_wrap=True)
    for heading in 's', 'images/s', 'CPU s', 'peak MiB':
        table.add_column(heading, justify='right', no_wrap=True)
    for key, summary in lists.items():
        seconds = summary.seconds or 0.0
        table.add_row(
            f'{key.store}, {key.operation}', f'{seconds:.3f}',
            _number(summary.images and summary.images / seconds, '.0f'),
            _number(summary.cpu_seconds, '.2f'),
            _number(summary.peak_mib, '.1f'))
    return table


def _verdicts(verdicts: Sequence[targets.Verdict]) -> rich_table.Table:
    words = {True: '[green]met[/green]', False: '[red]not met[/red]',
             None: 'not measured'}
    table = rich_table.Table(title='Targets',
                             title_justify='left', box=box.SIMPLE_HEAD,
                             pad_edge=False)
    for heading in ('', 'wanted', 'measured', ''):
        table.add_column(heading)
    for verdict in verdicts:
        table.add_row(verdict.target, verdict.wanted, verdict.measured,
                      words[verdict.met])
    return table


def show(console: rich_console.Console, about: Mapping[str, Any],
         summaries: Mapping[results.Key, results.Summary],
         verdicts: Sequence[targets.Verdict]) -> None:
    """Print all tables and what they mean."""
    console.print()
    for level in _TITLES:
        if any(_large(key, level) for key in summaries):
            console.print(_table(level, summaries))
    levels = {key.level for key in summaries}
    if 'api' in levels:
        console.print(_requests(summaries))
        console.print(_lists(summaries))
    elif any(summary.images for summary in summaries.values()):
        console.print(_counts(summaries))
    notes = next((_NOTES[level] for level in _NOTES if level in levels),
                 _LOCAL_NOTES)
    console.print(notes.format(
        run=about['zero_run_mib'], gets=results.GETS, ranges=results.RANGES)
        .replace('\n', ' '), style='dim', highlight=False)
    console.print()
    console.print(_verdicts(verdicts))
    if about['disturbance'] > _BUSY:
        console.print(f'[bold]Busy machine[/bold]: other programs had '
                      f'{about["disturbance"]:.0%} of the processors; '
                      'ratios taken beside other work are rough.',
                      highlight=False)
    if about['quick']:
        console.print('[bold]Quick run[/bold]: small images and few rounds; '
                      'its figures prove that everything works, not how '
                      'fast it is.', highlight=False)


def save(path: Path, about: Mapping[str, Any],
         samples: Mapping[results.Key, Sequence[results.Sample]],
         summaries: Mapping[results.Key, results.Summary],
         verdicts: Sequence[targets.Verdict]) -> None:
    """Write everything that was measured to a JSON file."""
    measurements = [
        {**dataclasses.asdict(key), **dataclasses.asdict(summary),
         'samples': [{**dataclasses.asdict(sample),
                      'mib_per_second': sample.mib_per_second}
                     for sample in samples[key]]}
        for key, summary in summaries.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(
        {'format': FORMAT, **about, 'measurements': measurements,
         'targets': [dataclasses.asdict(verdict) for verdict in verdicts]},
        indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
