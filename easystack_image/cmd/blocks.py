"""Rows as blocks of lines, where a table is too wide for the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
import io
import shutil
import textwrap
from typing import Any, TextIO

from cliff import columns as cliff_columns
from cliff.formatters import base as formatters

#: What a value has at least, beside its name.
_NARROWEST = 20


class Fitting:
    """A formatter for a terminal: a table if there is room for it, or blocks.

    :param table: the formatter that makes the table
    """

    def __init__(self, table: formatters.ListFormatter) -> None:
        self._table = table

    def emit_list(self, column_names: Sequence[str],
                  data: Iterable[Sequence[Any]], stdout: TextIO,
                  parsed_args: argparse.Namespace) -> None:
        """Print the rows."""
        rows = list(data)
        text = io.StringIO()
        self._table.emit_list(column_names, rows, text, parsed_args)
        width = _width()
        if width and max(map(len, text.getvalue().split('\n'))) > width:
            stdout.write('\n'.join(block(column_names, row, width)
                                   for row in rows))
        else:
            stdout.write(text.getvalue())


def _width() -> int:
    """Return how wide the terminal is (or what COLUMNS says), 0 for none."""
    return shutil.get_terminal_size((0, 0)).columns


def block(names: Sequence[str], row: Sequence[Any], width: int) -> str:
    """Return a row with a line for each column, but for those without value.

    :param width: at which to wrap; what has no space (ids, paths) stays in
        one piece
    """
    indent = max(map(len, names)) + 2
    lines = []
    for name, value in zip(names, row, strict=True):
        text = str(value.human_readable() if isinstance(
            value, cliff_columns.FormattableColumn) else value).strip()
        if text:
            lines.append(textwrap.fill(
                text, max(width, indent + _NARROWEST),
                initial_indent=name.ljust(indent),
                subsequent_indent=' ' * indent, break_long_words=False,
                break_on_hyphens=False))
    return '\n'.join([*lines, ''])
