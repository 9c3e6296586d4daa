"""What the demonstration shows, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
from pathlib import Path
import time
from typing import Any

from rich import box
from rich import console
from rich import markup
from rich import padding
from rich import progress
from rich import table

_COLOURS = {'good': 'green', 'damaged': 'red', 'missing': 'red'}


class Screen:
    """Numbered steps, tables and progress."""

    def __init__(self) -> None:
        self.console = console.Console(highlight=False)
        self.console.width = min(self.console.width, 80)
        self._steps = 0

    def step(self, title: str) -> None:
        """Begin the next step of the story."""
        self._steps += 1
        self.console.print(f'\n[bold cyan]{self._steps}.[/] [bold]'
                           f'{markup.escape(title)}[/]')

    def say(self, text: str, style: str = '') -> None:
        """Print a paragraph, indented."""
        self.console.print(markup.escape(text), style=style)

    def paste(self, text: str) -> None:
        """Print a line that is meant to be pasted, so without breaks."""
        self.console.print(text, markup=False, soft_wrap=True)

    def fact(self, name: str, value: object) -> None:
        """Print a name and its value, in two columns."""
        self.console.print(f'   {name:<12}{markup.escape(str(value))}')

    def copies(self, rows: Sequence[Mapping[str, Any]],
               digests: Mapping[str, str]) -> None:
        """Show where the copies are and how they are.

        :param digests: sha512 of each device's file, by device, as read
            beside the store's back
        """
        shown = table.Table(box=box.SIMPLE_HEAD)
        for title in ('device', 'state', 'sha512 of the file', 'reason'):
            shown.add_column(title, overflow='fold')
        for row in rows:
            state = row['state']
            colour = _COLOURS.get(state, 'yellow')
            shown.add_row(
                Path(row['device']).name, f'[{colour}]{state}[/]',
                f'{digests[row["device"]][:12] or "no file":<18}',
                markup.escape(row['reason']) or '-')
        self.console.print(padding.Padding(shown, (0, 0, 0, 2)))

    @contextlib.contextmanager
    def bytes_bar(self, title: str,
                  total: int) -> Iterator[progress.Progress]:
        """Show how far a transfer is; advance task 0 of what is yielded."""
        columns = (progress.TextColumn('   {task.description}'),
                   progress.BarColumn(bar_width=24),
                   progress.DownloadColumn(binary_units=True),
                   progress.TransferSpeedColumn())
        with progress.Progress(*columns, console=self.console) as bar:
            bar.add_task(title, total=total)
            yield bar

    @contextlib.contextmanager
    def waiting(self, title: str) -> Iterator[None]:
        """Show that something is under way, and say how long it took."""
        begin = time.monotonic()
        with self.console.status(f'   {title} ...'):
            yield
        self.console.print(f'   {title}: done in '
                           f'{time.monotonic() - begin:.1f} s')
