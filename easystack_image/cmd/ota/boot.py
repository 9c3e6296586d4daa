"""``boot``: what systemd starts when the machine does."""

from __future__ import annotations

import argparse

from easystack_image import exceptions
from easystack_image.cmd.ota import output
from easystack_image.ota import settings
from easystack_image.ota.serving import boot
from easystack_image.ota.upgrade import tools


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser],
        ) -> None:
    """Add the command."""
    help = ('Have the current release serve, unless it does; return when it '
            'does. For easystack-image.service; "hold" does the same.')
    parser = commands.add_parser('boot', help=help, description=help)
    parser.set_defaults(run=run_boot)
    output.add_format(parser)


def run_boot(arguments: argparse.Namespace,
             found: settings.Settings) -> int:
    """Have the current release serve."""
    made = tools.make(found, output.say)
    slot = made.slots.current()
    if slot is None:
        raise exceptions.SlotError(
            'no release is in use here: "easystack-image-ota install" '
            'installs one')
    instance = boot.boot(made.launcher, slot, found.start_timeout)
    output.record(arguments, {'instance': instance.name,
                              'slot': str(slot.path)})
    return 0
