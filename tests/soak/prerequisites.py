"""What a machine must have for the soak; run as a module, says what lacks."""

from __future__ import annotations

from collections.abc import Iterator
import sys

from tests.faults import prerequisites
from tests.functional import mariadb

_NEEDLESS = {'qemu-img', 'addpart'}


def problems() -> Iterator[str]:
    """Yield everything that is missing, and what to do about it."""
    yield from prerequisites.problems({
        name: package for name, package in prerequisites.COMMANDS.items()
        if name not in _NEEDLESS})
    if mariadb.missing_programs():
        yield f'MariaDB is missing: apt-get install {mariadb.PACKAGE}'


if __name__ == '__main__':
    found = list(problems())
    if found:
        sys.exit('\n'.join(found))
