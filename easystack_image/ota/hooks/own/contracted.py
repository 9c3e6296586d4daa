"""Whether the database was contracted: for who wants to go back.

``python -I -m easystack_image.ota.hooks.own.contracted``, with the Python of
the slot in use: reads a context, as JSON, from stdin, and exits as
``glance-manage db check`` of that slot does; with 1 if it cannot be asked.
"""

from __future__ import annotations

import json
import sys

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks.own import programs


def main() -> int:
    """Ask it; return the exit code."""
    context = base.Context.from_record(json.load(sys.stdin))
    try:
        return programs.run(context, 'glance-manage', 'db',
                            'check').returncode
    except exceptions.HookFailed as error:
        sys.stderr.write(f'{error}\n')
        return 1


if __name__ == '__main__':
    sys.exit(main())
