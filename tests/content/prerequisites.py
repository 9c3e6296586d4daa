"""Tells whether this machine has what the tests of the content gate need."""

from __future__ import annotations

from pathlib import Path
import shutil
import sys

#: Programs, by the Debian package that has them.
PROGRAMS = {'qemu-utils': 'qemu-img', 'e2fsprogs': 'mke2fs'}
#: Images that Debian's packages carry, by package.
ISOS = {'ipxe': Path('/usr/lib/ipxe/ipxe.iso'),
        'grub-rescue-pc': Path('/usr/lib/grub-rescue/grub-rescue-cdrom.iso')}


def missing() -> list[str]:
    """Return the packages that are not there."""
    return [package for package, name in PROGRAMS.items()
            if shutil.which(name, path='/usr/bin:/usr/sbin:/sbin') is None
            ] + [package for package, path in ISOS.items()
                 if not path.exists()]


def main() -> None:
    """Say what is missing, and fail if anything is."""
    absent = missing()
    if absent:
        sys.exit(f'Install the Debian packages: {" ".join(absent)}')


if __name__ == '__main__':
    main()
