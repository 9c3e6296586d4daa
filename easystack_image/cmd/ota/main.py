"""``easystack-image-ota``: releases, and getting them onto a machine.

argparse, and no cliff: the updater's environment has tuf and its two
dependencies, and nothing else beside this package.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import importlib.metadata
from pathlib import Path
import sys

from easystack_image import exceptions
from easystack_image.cmd.ota import output

#: What the command exits with, and what it means.
EXIT_CODES = {
    0: 'success',
    1: 'failure, refused, or rolled back; the reason is printed, and the '
       'release before serves',
    2: 'wrong use',
    3: 'done, but something needs attention',
    4: 'not now: the repository cannot be reached, or the updater runs, or '
       'other nodes come first',
    5: 'an upgrade did not end: "resume", or "rollback"',
    130: 'stopped by SIGINT (Ctrl-C); run it again to go on',
}
FAILED, NOT_NOW, STOPPED = 1, 4, 130
#: Options of the configuration that the command line has, too.
_OVERRIDES = ('repository', 'channel', 'trusted_root', 'state_directory',
              'slots_directory', 'proxy', 'ca_file', 'uv', 'python')


def make_parser() -> argparse.ArgumentParser:
    """Return what reads the command line.

    :raises ImportError: if tuf is not installed
    """
    parser = argparse.ArgumentParser(
        prog='easystack-image-ota',
        description='Get signed releases of the image service, and install '
                    'them. Exit codes: ' + '; '.join(
                        f'{code} {meaning}' for code, meaning
                        in EXIT_CODES.items()) + '.')
    parser.add_argument(
        '--version', action='version',
        version=importlib.metadata.version('easystack-image'))
    parser.add_argument(
        '--config-file', type=Path, metavar='FILE',
        help='Default: /etc/easystack-image/ota.conf, if it is there.')
    for name in _OVERRIDES:
        parser.add_argument(
            f'--{name.replace("_", "-")}', metavar='VALUE',
            help=f'Instead of {name} in the configuration.')
    from easystack_image.cmd.ota import boot
    from easystack_image.cmd.ota import client
    from easystack_image.cmd.ota import hold
    from easystack_image.cmd.ota import hooks
    from easystack_image.cmd.ota import merge
    from easystack_image.cmd.ota import releases
    from easystack_image.cmd.ota import upgrade

    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    client.add(commands)
    hooks.add(commands)
    upgrade.add(commands)
    hold.add(commands)
    boot.add(commands)
    merge.add(commands)
    releases.add(commands)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from easystack_image.ota import settings

    if hasattr(arguments, 'release'):
        code: int = arguments.release(arguments)
        return code
    given = {name: getattr(arguments, name) for name in (
        *_OVERRIDES, 'keep_slots', 'listen') if hasattr(arguments, name)}
    path = arguments.config_file
    if path is None and not settings.FILE.exists():
        found = settings.Settings(**{
            name: value for name, value in given.items()
            if value is not None})
    else:
        found = settings.read(path or settings.FILE, **given)
    code = arguments.run(arguments, found)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``easystack-image-ota``; return its exit code."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        return STOPPED


def _main(argv: Sequence[str] | None) -> int:
    output.lost.clear()
    try:
        found = make_parser()
    except ImportError as error:
        output.say(f'{error}: install "easystack-image[ota]", or tuf beside '
                   'this package')
        return FAILED
    arguments = found.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        if output.end() or getattr(arguments, 'acts', False):
            # It tells what came of it, whoever cannot read the rest.
            return code
        return code or FAILED
    except (exceptions.Unreachable, exceptions.AlreadyRunning,
            exceptions.NotNow) as error:
        output.say(str(error))
        return NOT_NOW
    except (exceptions.EasystackImageError, OSError) as error:
        output.say(str(error))
        return FAILED


if __name__ == '__main__':
    sys.exit(main())
