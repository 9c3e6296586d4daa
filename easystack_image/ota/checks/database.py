"""What has to be done to the database before this release can use it."""

from __future__ import annotations

from collections.abc import Sequence
import subprocess
import sys

from easystack_image.ota import checks
from easystack_image.ota import redaction
from easystack_image.ota.release.declaration import Phase

#: What ``glance-manage db check`` exits with, and what is lacking then: see
#: glance/cmd/manage.py.
LACKING = {3: Phase.EXPAND, 4: Phase.MIGRATE, 5: Phase.CONTRACT}
#: Its program, whose script may be anywhere.
_PROGRAM = 'import sys; from glance.cmd import manage; sys.exit(manage.main())'
#: Seconds for it to start, and to find that there is no database.
_TIME = 120


def findings(config_files: Sequence[str], config_dirs: Sequence[str] = (),
             ) -> list[checks.Finding]:
    """Return which phase of the database is due, or why that is not known.

    :param config_files: of Glance
    """
    given = [*(f'--config-file={path}' for path in config_files),
             *(f'--config-dir={path}' for path in config_dirs)]
    try:
        done = subprocess.run(  # noqa: S603 (our own words)
            [sys.executable, '-P', '-W', 'ignore', '-c', _PROGRAM, *given,
             'db', 'check'], capture_output=True, text=True, timeout=_TIME,
            stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return [checks.Finding(
            True, f'the database does not answer within {_TIME} s')]
    if not done.returncode:
        return []
    if done.returncode in LACKING:
        phase = LACKING[done.returncode]
        # Without the others, the release cannot work.
        serious = phase is not Phase.CONTRACT
        return [checks.Finding(
            serious, f'the database waits for "glance-manage db {phase}"'
            + ('' if serious else ', which is for when no older release of '
               'Glance uses it any more'))]
    *_, last = ['', *(done.stderr.strip() or done.stdout.strip()
                      ).splitlines()]
    return [checks.Finding(
        True, f'"glance-manage db check" fails ({done.returncode}): '
        + redaction.of(config_files, config_dirs)(last))]
