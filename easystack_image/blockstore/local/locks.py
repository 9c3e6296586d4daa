"""Locks that hold between all processes that use the devices.

A lock is a file of the same name on every device that can be used, and who
has all of them has the lock.  Two processes that do not see the same devices
still meet on each that both see; only two that have none in common do not.

All take the files in the same order, that of the devices' ids, so that no two
wait for each other.  Earlier releases locked the first of them alone; they
are kept out as well, and keep us out.  Whoever dies lets go: see flock(2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import errno
import fcntl
import functools
import os
import time

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import timed
from easystack_image.blockstore.local import writer

Failures = dict[str, exceptions.DeviceError]
#: Calls a function that may hang for the device at a path; returns what went
#: wrong.
Ask = Callable[[str, Callable[[device_module.Device], object]], Failures]
#: Seconds between looks whether a lock is free by now.
PAUSE = 0.01


class Busy(Exception):
    """Somebody else has the lock; the message is where (a device path)."""


@dataclasses.dataclass(slots=True)
class File:
    """The file of a lock on one device, open."""

    identity: device_module.Identity
    fd: int
    #: Whether the kernel keeps the locks of its file system, and need not
    #: ask anybody.
    on_disk: bool

    def close(self) -> None:
        """Let go of the file, and of its lock; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_file(device: device_module.Device, store_id: str | None,
              name: str) -> File:
    """Open the file of a lock on a device; create it if need be."""
    with contextlib.closing(device.attach(store_id)) as attached, \
            fsio.parent(name, attached.fd) as (directory, file):
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                     | os.O_NOFOLLOW, fsio.FILE_MODE, dir_fd=directory)
        try:
            return File(attached.identity, fd, fsio.on_disk(os.fstat(fd)))
        except BaseException:
            os.close(fd)
            raise


def check(device: device_module.Device, store_id: str | None) -> None:
    """Raise if the file system of a device keeps no locks as they are needed.

    The sweep has to lock what it opens for reading.  NFS makes locks of
    records of them, on the server, and refuses that (see flock(2)).

    :raises easystack_image.exceptions.DeviceError: saying what to do
    """
    with contextlib.closing(device.attach(store_id)) as attached:
        fd = fsio.open_file(device_module.IDENTITY, attached.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Another process that starts just now has it, so there are locks.
            pass
        except OSError as error:
            raise exceptions.DeviceError(
                device.path, 'its file system cannot lock files '
                f'({error.strerror}), so what crashes leave there is not '
                'swept: use a local one, such as ext4 or XFS (NFS 3 only with '
                'the mount option local_lock=flock, and for one machine)',
                error.errno) from error
        finally:
            os.close(fd)


def take(files: Mapping[str, File], patience: float, ask: Ask) -> Failures:
    """Lock files, one after the other; close those that cannot be locked.

    :param files: by device path; after an exception they are all closed
    :param patience: seconds to wait until others have let go of all
    :returns: why some could not be locked, by device path
    :raises Busy: if another process has one of them for longer
    """
    deadline = time.monotonic() + patience
    failures: Failures = {}
    try:
        for path, file in sorted(files.items(), key=lambda item:
                                 item[1].identity.device_id):
            failure = _lock(path, file, deadline, ask)
            if failure is not None:
                if failure.errno == errno.EWOULDBLOCK:
                    raise Busy(path)
                failures[path] = failure
                file.close()
    except BaseException:
        for file in files.values():
            file.close()
        raise
    return failures


def _lock(path: str, file: File, deadline: float,
          ask: Ask) -> exceptions.DeviceError | None:
    if not file.on_disk:
        return ask(path, functools.partial(_lock_afar, file,
                                           deadline)).get(path)
    try:
        _wait_for(file.fd, deadline)
    except OSError as error:
        return writer.as_device_error(path, error)
    return None


def _lock_afar(file: File, deadline: float, _: device_module.Device) -> None:
    """Lock a file where that may hang."""
    # One of its own, with the same lock: the file may be closed meanwhile.
    fd = os.dup(file.fd)
    try:
        _wait_for(fd, deadline)
    finally:
        os.close(fd)


def _wait_for(fd: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        timed.beat()
        time.sleep(PAUSE)
