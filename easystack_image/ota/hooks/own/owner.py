"""As whom the programs of a slot run: as the user of the service.

The updater is root where it tells systemd what to start.  What root made on
a device, or in a directory of logs, would lock Glance out; so programs that
work on what is Glance's run as the user whom that belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import os
import pwd
import queue
import threading
import time
from typing import Any

from easystack_image.ota.hooks import base
from easystack_image.ota.hooks.own import glance

#: Of the files that a program makes: as in etc/systemd.
_UMASK = 0o027
#: Seconds that directories which are no devices may take to answer.
_PATIENCE = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """A user.

    :param user: its number
    :param group: its main one
    :param groups: all others that it is in
    """

    user: int
    group: int
    groups: tuple[int, ...] = ()
    name: str = ''
    home: str = '/'

    def options(self) -> dict[str, Any]:
        """Return how ``subprocess`` starts a program as this user."""
        name = self.name or str(self.user)
        return {'user': self.user, 'group': self.group,
                'extra_groups': list(self.groups), 'umask': _UMASK,
                # Where root was started, others may not be allowed to be.
                'cwd': '/',
                'env': os.environ | {'HOME': self.home, 'USER': name,
                                     'LOGNAME': name}}


def of(context: base.Context) -> Owner | None:
    """Return the user whom the images belong to; None if that is ours.

    That is the owner of the devices, or without any, of Glance's staging
    directory, or else of Glance's configuration: it names code, and who may
    write to it must not become root by that.

    :raises easystack_image.exceptions.HookFailed: if Glance's configuration
        cannot be read
    """
    if os.geteuid() != 0:
        # Nobody else can become another user.
        return None
    configuration = glance.Configuration(context)
    for paths, patience in (
            *((options['devices'] or (), options['io_timeout'])
              for _, options in configuration.local),
            (filter(None, [configuration.staging]), _PATIENCE),
            # One after the other, or it could be another one each time.
            *(([path], _PATIENCE) for path in configuration.deciding)):
        found = _first(paths, patience)
        if found is not None:
            return _owner(found.st_uid, found.st_gid)
    return None


def _first(paths: Iterable[str], patience: float) -> os.stat_result | None:
    """Return the first that answers, and does not belong to root.

    A disk that hangs is left to its thread, which does not hold up the end
    of this process.

    :param patience: seconds
    """
    answers: queue.SimpleQueue[os.stat_result | None] = queue.SimpleQueue()

    def look(path: str) -> None:
        try:
            answers.put(os.stat(path))
        except OSError:
            # Whoever uses the device says what is wrong with it.
            answers.put(None)

    threads = [threading.Thread(target=look, args=(path,), daemon=True)
               for path in paths]
    for thread in threads:
        thread.start()
    until = time.monotonic() + patience
    for _ in threads:
        try:
            status = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None
        if status is not None and status.st_uid != 0:
            return status
    return None


def _owner(user: int, group: int) -> Owner:
    """Return a user of the operating system, or one that it has no name for.

    :param group: of the directory, for a user that is in no others
    """
    try:
        found = pwd.getpwuid(user)
    except KeyError:
        # In containers, perhaps.
        return Owner(user, group)
    return Owner(user, found.pw_gid, tuple(os.getgrouplist(
        found.pw_name, found.pw_gid)), found.pw_name, found.pw_dir)
