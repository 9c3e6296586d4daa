"""Says what the comparison needs and this machine has not got."""

from __future__ import annotations

from collections.abc import Iterator
import shutil
import sys

from tests.functional import mariadb


def problems() -> Iterator[str]:
    """Yield what is missing, and what to do about it."""
    if mariadb.missing_programs():
        yield f'MariaDB is missing: apt-get install {mariadb.PACKAGE}'
    if shutil.which('qemu-img') is None:
        yield 'qemu-img is missing: apt-get install qemu-utils'


def main() -> int:
    """Print what is missing and return the exit code."""
    found = list(problems())
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
