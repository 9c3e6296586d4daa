"""Rows as blocks of lines, where a table is too wide for the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
import io
import shutil
import sys
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
        text = _whole(self._table, column_names, rows, parsed_args)
        if _fits(text):
            stdout.write(text)
        else:
            stdout.write('\n'.join(block(column_names, row, _width())
                                   for row in rows))


def fits(table: formatters.ListFormatter, column_names: Sequence[str],
         rows: Iterable[Sequence[Any]], chosen: Sequence[str],
         parsed_args: argparse.Namespace) -> bool:
    """Tell whether a table of some columns fits the terminal."""
    places = [column_names.index(name) for name in chosen]
    return _fits(_whole(table, chosen, [[row[place] for place in places]
                                        for row in rows], parsed_args))


def _whole(table: formatters.ListFormatter, column_names: Sequence[str],
           rows: Sequence[Sequence[Any]],
           parsed_args: argparse.Namespace) -> str:
    """Return a table as wide as it is.

    Cliff wraps cells to make it fit a terminal: a few letters on each of many
    lines are hard to read.
    """
    text = io.StringIO()
    table.emit_list(column_names, rows, text, argparse.Namespace(
        **{**vars(parsed_args), 'max_width': sys.maxsize}))
    return text.getvalue()


def _fits(text: str) -> bool:
    return not _width() or max(map(len, text.split('\n'))) <= _width()


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
