"""Run the demonstration; see ``--help``."""

from __future__ import annotations

import argparse
from pathlib import Path
import shlex
import signal
import sys
import tempfile
import time
from typing import NoReturn

import openstack.exceptions
import requests

from tests.demo import screen as screen_module
from tests.demo import story as story_module
from tests.functional import processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tox -e demo --',
        description='Store an image in three copies in a real Glance, damage '
                    'two of them, download it intact, and see them mended.')
    parser.add_argument('--image', type=Path, metavar='FILE',
                        help='a disk image to use; by default one is made up')
    parser.add_argument('--size', type=int, default=256, metavar='MIB',
                        help='size of the image that is made up, in MiB '
                             '(default 256, at least 40)')
    parser.add_argument('--stay', action='store_true',
                        help='leave the API up until Ctrl-C')
    arguments = parser.parse_args()
    if arguments.image and not arguments.image.is_file():
        parser.error(f'{arguments.image} is not a file')
    if arguments.size < 40:
        parser.error('--size must be at least 40')
    return arguments


def _terminated(*args: object) -> NoReturn:
    raise SystemExit(143)


def _stay(screen: screen_module.Screen, story: story_module.Story) -> None:
    screen.say('\nThe API stays up until Ctrl-C. Its URL:')
    screen.paste(story.glance.url)
    screen.say('From another terminal:')
    screen.paste(shlex.join(story.client_command()))
    screen.paste(shlex.join(story.glance.manage_command(
        'copies', 'show', story.image.id)))
    screen.say('The devices:')
    for device in story.devices:
        screen.paste(str(device))
    try:
        while story.glance.running:
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    raise story_module.Failed('Glance has ended by itself')


def _run(arguments: argparse.Namespace, screen: screen_module.Screen,
         root: Path) -> int:
    story = story_module.Story(root, screen, arguments.image,
                               arguments.size << 20)
    begin = time.monotonic()
    try:
        story.run()
        screen.say(f'\nStored in three copies, damaged, read intact, mended: '
                   f'all in {time.monotonic() - begin:.0f} s.', 'bold green')
        if arguments.stay:
            _stay(screen, story)
    except (story_module.Failed, processes.ProcessFailed,
            openstack.exceptions.SDKException,
            requests.RequestException) as exc:
        screen.say(f'\nThe demonstration failed: {exc}', 'bold red')
        screen.paste(f'\nThe end of the log:\n{story.glance.log_tail()}')
        return 1
    except KeyboardInterrupt:
        screen.say('\nInterrupted.')
        return 130
    finally:
        # Whoever is in a hurry presses Ctrl-C twice, and tox hurries too.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        story.glance.kill()
    return 0


def main() -> int:
    """Run the demonstration and return the exit code."""
    arguments = _arguments()
    for number in _SIGNALS[1:]:
        signal.signal(number, _terminated)
    with tempfile.TemporaryDirectory(prefix='easystack-demo-') as root:
        return _run(arguments, screen_module.Screen(), Path(root))


if __name__ == '__main__':
    sys.exit(main())
