"""Asking for findings in a process of its own, by the same Python.

Libraries are loaded to ask them something that read the global configuration
anew when they are imported (manilaclient does), and what was read before is
gone; or they print, exit, or hang.
"""

from __future__ import annotations

from collections.abc import Sequence
import subprocess
import sys

from easystack_image.ota import checks
from easystack_image.ota import redaction

#: Seconds for it to load all that it needs, from a disk that is busy.
_TIME = 300


def findings(what: str, config_files: Sequence[str],
             config_dirs: Sequence[str] = ()) -> list[checks.Finding]:
    """Return what ``python -m easystack_image.ota.checks`` finds.

    :param what: to look at
    :param config_files: of Glance
    """
    given = [*(f'--config-file={path}' for path in config_files),
             *(f'--config-dir={path}' for path in config_dirs)]
    try:
        done = subprocess.run(  # noqa: S603 (our own words)
            [sys.executable, '-P', '-W', 'ignore', '-m', checks.__name__,
             *given, what], capture_output=True, text=True, errors='replace',
            timeout=_TIME, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return [checks.Finding(True, 'it cannot be found out within '
                                     f'{_TIME} s')]
    try:
        return checks.from_json(done.stdout)
    except ValueError:
        *_, last = ['', *done.stderr.strip().splitlines()]
    return [checks.Finding(
        True, f'it cannot be found out ({done.returncode}): '
        + redaction.of(config_files, config_dirs)(last))]
