"""A node that should get no new users for a while: a file that says so.

The updater writes it, the health check ``easystack_ota`` reads it.  It has an
end of its own, so that an updater that dies does not keep a node out.
"""

from __future__ import annotations

import json
from pathlib import Path
import time

from easystack_image.ota.serving import layout

NAME = 'aside'
#: Seconds for which a node may stand aside at most; more is of an earlier
#: boot, after which the clock began anew.
LONGEST = 3600.0
#: Whoever reads it may be another user.
_MODE = 0o644


def step_aside(instances: Path, seconds: float) -> None:
    """Have the node stand aside from now on.

    :param instances: the directory with those of the instances
    :param seconds: after which it is over in any case
    :raises OSError: if the file cannot be written
    """
    until = time.monotonic() + min(seconds, LONGEST)
    layout.write(instances / NAME, json.dumps({'until': until}), _MODE)


def step_back(instances: Path) -> None:
    """Have the node take its part again; it may do so already.

    :raises OSError: if the file cannot be removed
    """
    (instances / NAME).unlink(missing_ok=True)


def is_aside(instances: Path) -> bool:
    """Tell whether the node stands aside at this moment."""
    try:
        until = float(json.loads((instances / NAME).read_text())['until'])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, LookupError, TypeError):
        # To take part is what is safe.
        return False
    return 0 < until - time.monotonic() <= LONGEST
