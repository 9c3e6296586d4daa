"""Configuration files, as oslo.config reads them."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path

#: Option groups and what stands in them, as in a configuration file.
Options = Mapping[str, Mapping[str, object]]


def merge(*layers: Options) -> dict[str, dict[str, object]]:
    """Return all options in one; what comes later wins, option by option."""
    merged: dict[str, dict[str, object]] = {}
    for layer in layers:
        for group, values in layer.items():
            merged.setdefault(group, {}).update(values)
    return merged


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read: it may hold passwords."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, 'w') as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)


def write(path: Path, options: Options) -> None:
    """Write a configuration file.

    A value that is a list or a tuple is written as an option given several
    times.
    """
    lines = []
    for group, values in options.items():
        lines.append(f'[{group}]')
        for name, value in values.items():
            several = value if isinstance(value, list | tuple) else [value]
            lines += [f'{name} = {one}' for one in several]
    write_private(path, '\n'.join(lines) + '\n')
