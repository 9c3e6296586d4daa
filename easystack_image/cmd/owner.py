"""Seeing to it that devices stay usable for the user they belong to."""

from __future__ import annotations

from collections.abc import Sequence
import functools
import os
import pwd

from easystack_image import exceptions
from easystack_image.blockstore.local import timed


def check(paths: Sequence[str], timeout: float) -> None:
    """Refuse to work as root on devices that belong to somebody else.

    Glance runs as a user of its own, and operators tend to be root: what
    root left on a device (directories, copies, locks) would lock Glance out.

    :param paths: of the devices; those that do not exist, or do not answer,
        do not count
    :param timeout: seconds that one operation on a device may take
    :raises easystack_image.exceptions.ConfigurationError: saying which user
        to be instead
    """
    if os.geteuid() != 0:
        return
    found = timed.gather(
        {path: functools.partial(os.stat, path) for path in paths}, timeout,
        'device-owner')
    for path, status in found.items():
        if isinstance(status, Exception):
            # Whoever uses the device says what is wrong with it.
            continue
        user = status.st_uid
        if user != 0:
            raise exceptions.ConfigurationError(
                f'device {path} belongs to user {_name(user)}: run this '
                f'command as that user, for instance with "sudo -u '
                f'{_name(user)}"')


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f'#{user}'
