"""``hold``: keeps the listening socket, where systemd does not."""

from __future__ import annotations

import argparse
import contextlib
import logging
from pathlib import Path
import signal
import sys
import threading

from easystack_image.cmd.ota import output
from easystack_image.ota import settings
from easystack_image.ota.serving import boot
from easystack_image.ota.serving import holder
from easystack_image.ota.slots import slots
from easystack_image.ota.upgrade import tools


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser],
        ) -> None:
    """Add the command."""
    help = ('Keep the listening socket, and the instances of the service on '
            'it, until told to end by SIGTERM: then all that was asked is '
            'answered first. Again, it kills what is left. What an earlier '
            'holder has left, if it was killed, is taken over; if nothing '
            'serves, the current release is started.')
    hold = commands.add_parser('hold', help=help, description=help)
    hold.add_argument('--listen', metavar='HOST:PORT',
                      help='Instead of listen in the configuration.')
    hold.set_defaults(run=run_hold)


def run_hold(arguments: argparse.Namespace,
             found: settings.Settings) -> int:
    """Hold."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO,
                        format='%(asctime)s %(levelname)s %(message)s')
    host, _, port = found.listen.rpartition(':')
    kept = holder.Holder(Path(found.run_directory), host.strip('[]'),
                         int(port), tools.service(found))
    # If this fails, the instances serve on, for another holder.
    with contextlib.closing(kept):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, kept.end)
        ended = threading.Event()
        threading.Thread(target=_boot, args=(found, ended),
                         daemon=True).start()
        try:
            return 0 if kept.run() else 1
        finally:
            ended.set()


def _boot(found: settings.Settings, ended: threading.Event) -> None:
    """Have the current release serve, if there is one, and nothing serves.

    What serves was taken over.  If it is another release, an upgrade, or the
    way back from one, is not done yet, and for ``resume``.
    """
    made = tools.make(found, output.say)

    def needed() -> slots.Slot | None:
        if any(made.launcher.instance(each.name).place.gate.exists()
               for each in made.launcher.list()):
            return None
        return made.slots.current()

    boot.keep_trying(made.launcher, needed, found.start_timeout, ended.wait)
