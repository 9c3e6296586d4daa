"""What a unit of systemd runs: a small shell script for each instance.

It says all that there is to say of the instance, so that systemd can start
it again, as it was, with nobody else at hand; and who looks for what runs can
read it.  It ends as uWSGI, in the same process.
"""

from __future__ import annotations

import json
from pathlib import Path
import shlex

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import layout

_MARK = '# slot: '
#: What systemd says of the socket is for us: uWSGI, which is told by its
#: arguments, would act on it by itself.
_TEXT = """\
#!/bin/sh
{mark}{slot}
if [ "$LISTEN_FDS" != 1 ]; then
    echo "There must be one listening socket, not ${{LISTEN_FDS:-0}}:" \\
        "one ListenStream in easystack-image.socket" >&2
    exit 1
fi
unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES {removed}
for name in $(env | sed -En 's/^({options}[A-Za-z0-9_]*)=.*/\\1/p'); do
    echo "$name of the environment is left out: options of uWSGI stand in" \\
        "uwsgi_file" >&2
    unset "$name"
done
{exports}
# Of a process that was killed.
rm -f {stale}
exec {words}
"""


def text(slot: Path, place: layout.Place, service: command.Service) -> str:
    """Return the script of an instance.

    :raises ConfigurationError: if the slot has no uWSGI
    """
    exports = (f'export {name}={shlex.quote(value)}' for name, value in
               command.variables(place, service).items())
    stale = [str(path) for path in (place.fifo, place.stats, place.private)]
    return _TEXT.format(
        stale=shlex.join(stale),
        options=command.OPTIONS, mark=_MARK, slot=json.dumps(str(slot)),
        removed=' '.join(command.LEFT_OUT), exports='\n'.join(exports),
        words=shlex.join(command.arguments(slot, place, service)))


def slot_of(path: Path) -> Path:
    """Return the slot that a script starts from.

    :raises InstanceError: if it is none of ours
    """
    for line in path.read_text().splitlines():
        if line.startswith(_MARK):
            return Path(json.loads(line.removeprefix(_MARK)))
    raise exceptions.InstanceError(f'{path} names no slot')
