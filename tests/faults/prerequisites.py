"""What a machine must have for these tests.

``python -m tests.faults.prerequisites`` checks it, and says what to do when
something is missing: to skip the tests would look as if they had passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import ctypes.util
import importlib.util
import os
from pathlib import Path
import shutil
import sys

#: By command, the Debian package that brings it.
COMMANDS = {
    'addpart': 'util-linux',
    'losetup': 'mount',
    'mount': 'mount',
    'umount': 'mount',
    'mkfs.ext4': 'e2fsprogs',
    'e2fsck': 'e2fsprogs',
    'qemu-img': 'qemu-utils',
}
#: Where Debian keeps the commands of the administrator.
SEARCH = os.pathsep.join([os.environ.get('PATH', ''), '/usr/sbin', '/sbin'])
#: In /proc/self/status, the bit of CAP_SYS_ADMIN.
SYS_ADMIN = 21


class Missing(Exception):
    """The machine cannot run these tests; the message says what to do."""


def command(name: str) -> str:
    """Return the path of a command.

    :raises Missing: if it is not installed
    """
    path = shutil.which(name, path=SEARCH)
    if path is None:
        raise Missing(f'{name} is missing: apt-get install {COMMANDS[name]}')
    return path


def _may_mount() -> bool:
    for line in Path('/proc/self/status').read_text().splitlines():
        name, _, value = line.partition(':')
        if name == 'CapEff':
            return bool(int(value, 16) >> SYS_ADMIN & 1)
    return False


def problems(commands: Mapping[str, str] = COMMANDS) -> Iterator[str]:
    """Yield everything that is missing, and what to do about it.

    :param commands: those that are needed, and their packages
    """
    if os.geteuid() != 0 or not _may_mount():
        yield ('these tests mount file systems: run them as root (in a '
               'container, with CAP_SYS_ADMIN)')
    packages = {package for name, package in commands.items()
                if shutil.which(name, path=SEARCH) is None}
    if ctypes.util.find_library('fuse3') is None:
        packages.add('fuse3')
    if packages:
        yield ('Debian packages are missing: apt-get install '
               + ' '.join(sorted(packages)))
    for device, module in (('/dev/loop-control', 'loop'),
                           ('/dev/fuse', 'fuse')):
        if not os.path.exists(device):
            yield (f'{device} is missing: modprobe {module} (a container '
                   'must be given the device)')
    if importlib.util.find_spec('mfusepy') is None:
        yield 'a Python package is missing: pip install mfusepy'


def demand() -> None:
    """Make sure that nothing is missing.

    :raises Missing: telling everything that is
    """
    found = list(problems())
    if found:
        raise Missing('\n'.join(found))


if __name__ == '__main__':
    try:
        demand()
    except Missing as error:
        sys.exit(str(error))
