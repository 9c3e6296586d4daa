"""Asking devices who they are and how full, in a few system calls each.

Changes nothing, on the devices or in this process: a disk that does not
belong to us can be asked, and one that is slow is not left alone afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
import contextlib
import dataclasses
import functools
import os
import stat

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.local import claims as claims_module
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import members as members_module
from easystack_image.blockstore.local import status as status_module

#: A device on which fewer files than this can be created is full.
_FEWEST_FILES = 8
#: What file systems that cannot be written have among their options.
_READ_ONLY = frozenset({'ro', 'emergency_ro', 'shutdown'})


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """What a device says of itself."""

    identity: device_module.Identity
    #: The room on its file system, and what of it we may use, in bytes.
    total: int
    free: int
    #: The share of its room, or of its files, that is in use: 0 to 1.
    used: float
    #: Whether not even one more piece of an image has room.
    full: bool
    read_only: bool
    #: The name of the disk that it lies on; see device.py.
    disk: str
    #: Which of its directories are not there.
    lacks: tuple[str, ...]
    #: What the healer left on it last.
    status: status_module.Status | None
    #: Which devices it remembers.
    memory: members_module.Memory
    #: How many copies those want who use it.
    claims: Sequence[claims_module.Claim]


def run(fleet: fleet_module.Fleet, patience: float,
        ) -> tuple[dict[str, Probe], dict[str, exceptions.DeviceError]]:
    """Ask all devices, side by side.

    :param patience: seconds that they have to answer
    :returns: answers, and why there is none, by the path of the device
    """
    return fleet.run(functools.partial(_probe, read_only_disks()),
                     limit=patience)


def read_only_disks() -> set[str]:
    """Return the file systems that the kernel takes no more writes for.

    By the numbers of their devices.  When ext4 found an error, recent
    kernels (seen with Linux 6.18) say nothing of that in statvfs(2), only
    here (``emergency_ro``, ``shutdown``); see proc_pid_mountinfo(5).  No disk
    is asked for it.
    """
    found = set()
    # Without it, statvfs(2) has to do.
    with contextlib.suppress(OSError), open('/proc/self/mountinfo') as lines:
        for line in lines:
            fields = line.split()
            if not _READ_ONLY.isdisjoint(fields[-1].split(',')):
                found.add(fields[2])
    return found


def _probe(read_only: Collection[str],
           device: device_module.Device) -> Probe:
    # Not by Device.attach(), which takes note of the identity.
    fd = fsio.open_directory(device.path)
    try:
        identity = device_module.read_identity(device.path, fd)
        usage = os.fstatvfs(fd)
        return Probe(
            identity, usage.f_blocks * usage.f_frsize,
            usage.f_bavail * usage.f_frsize, _used(usage), _is_full(usage),
            is_read_only(fd, usage, read_only),
            device_module.disk_of(device.path), _lacking(fd), _status(fd),
            _memory(fd), claims_module.load(fd))
    finally:
        os.close(fd)


def _lacking(fd: int) -> tuple[str, ...]:
    """Return the directories that a device should have, and has not.

    Something else in its place is none.
    """
    def there(name: str) -> bool:
        try:
            return stat.S_ISDIR(os.stat(name, dir_fd=fd,
                                        follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    return tuple(name for name in device_module.DIRECTORIES
                 if not there(name))


def is_read_only(fd: int, usage: os.statvfs_result,
                 disks: Collection[str]) -> bool:
    """Tell whether nothing can be written where ``fd`` is.

    :param usage: of its file system
    :param disks: as :func:`read_only_disks` returns them
    """
    number = os.fstat(fd).st_dev
    return bool(usage.f_flag & os.ST_RDONLY) or (
        f'{os.major(number)}:{os.minor(number)}' in disks)


def _used(usage: os.statvfs_result) -> float:
    """Return the share in use, as df prints it."""
    shares = [0.0]
    for total, free, available in (
            (usage.f_blocks, usage.f_bfree, usage.f_bavail),
            # File systems that make room for files as they go have 0.
            (usage.f_files, usage.f_ffree, usage.f_favail)):
        used = total - free
        if total and used + available > 0:
            shares.append(used / (used + available))
    return max(shares)


def _is_full(usage: os.statvfs_result) -> bool:
    return (usage.f_bavail * usage.f_frsize < pipeline.CHUNK_SIZE
            or bool(usage.f_files) and usage.f_favail < _FEWEST_FILES)


def _status(fd: int) -> status_module.Status | None:
    # One that cannot be read is as good as none; other devices have it.
    with contextlib.suppress(OSError, ValueError, TypeError):
        return status_module.unpack(fsio.read_file(
            status_module.STATUS, fd, status_module.LIMIT))
    return None


def _memory(fd: int) -> members_module.Memory:
    # The same.
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return members_module.read_back(fsio.read_file(
            members_module.MEMBERS, fd, members_module.LIMIT))
    return members_module.Memory()
