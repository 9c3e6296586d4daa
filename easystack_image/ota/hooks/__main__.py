"""``python -I -m easystack_image.ota.hooks``, with the Python of a slot.

``list``
    Print ``{"hooks": [...]}``, in order, or ``{"error": TEXT}``.
``run NAME``
    Read a context, as JSON, from stdin; run the class; print how it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
import os
import sys
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.hooks import base


def _list() -> dict[str, Any]:
    from easystack_image.ota.hooks import registry

    try:
        return {'hooks': [each.listed().record()
                          for each in registry.load()]}
    except exceptions.InvalidHooks as error:
        return {'error': str(error)}


def _run(name: str) -> dict[str, Any]:
    from easystack_image.ota.hooks import registry
    from easystack_image.ota.hooks import runner

    context = base.Context.from_record(json.load(sys.stdin))
    return runner.run(registry.load_one(name), context)


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; return the exit code."""
    what, *names = sys.argv[1:] if argv is None else argv
    # Nothing but the answer goes to stdout, whatever a hook prints.
    with os.fdopen(os.dup(1), 'w') as answers:
        os.dup2(2, 1)
        answer = _list() if what == 'list' else _run(*names)
        answers.write(json.dumps(answer) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
