"""What a machine must have for these tests.

``python -m tests.ceph.prerequisites`` checks it, says what to do when
something is missing, and gives this Python environment Debian's modules
``rados`` and ``rbd``.  They are on no package index, and an environment that
saw all of the system's packages would no longer be one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import shutil
import sys
import sysconfig

from tests.faults import prerequisites

#: By command, the Debian package that brings it.
COMMANDS = {
    'ceph': 'ceph-common',
    'ceph-authtool': 'ceph-common',
    'monmaptool': 'ceph-common',
    'rbd': 'ceph-common',
    'ceph-mon': 'ceph-mon',
    'ceph-mgr': 'ceph-mgr',
    'ceph-objectstore-tool': 'ceph-osd',
    'ceph-osd': 'ceph-osd',
}
#: By module, the Debian package that brings it; the command ``ceph`` needs
#: the last one.
MODULES = {
    'rados': 'python3-rados',
    'rbd': 'python3-rbd',
    'ceph_argparse': 'python3-ceph-argparse',
}
#: The modules that the tests import, written in C.
LINKED = ('rados', 'rbd')
#: Where Debian keeps modules for its own Python.
DIST_PACKAGES = Path('/usr/lib/python3/dist-packages')


def command(name: str) -> str:
    """Return the path of a command.

    :raises Missing: if it is not installed
    """
    path = shutil.which(name, path=prerequisites.SEARCH)
    if path is None:
        raise prerequisites.Missing(
            f'{name} is missing: apt-get install {COMMANDS[name]}')
    return path


def _library(module: str) -> Path:
    """Return where Debian's module for this Python is, or would be."""
    return DIST_PACKAGES / (module + sysconfig.get_config_var('EXT_SUFFIX'))


def problems() -> Iterator[str]:
    """Yield everything that is missing, and what to do about it."""
    packages = {package for name, package in COMMANDS.items()
                if shutil.which(name, path=prerequisites.SEARCH) is None}
    packages |= {package for name, package in MODULES.items()
                 if not [*DIST_PACKAGES.glob(f'{name}.*')]}
    if packages:
        yield ('Debian packages are missing: apt-get install '
               '--no-install-recommends ' + ' '.join(sorted(packages)))
        return
    foreign = [path.name for module in LINKED if not _library(module).exists()
               for path in DIST_PACKAGES.glob(f'{module}.*.so')]
    if foreign:
        yield (f'{" and ".join(foreign)} in {DIST_PACKAGES} cannot be loaded '
               f'by {sys.implementation.name} '
               f'{sys.version_info.major}.{sys.version_info.minor}: run the '
               'tests with the Python version that their names tell '
               "(cpython-311 is CPython 3.11), best with Debian's python3")


def link() -> None:
    """Let this Python environment import ``rados`` and ``rbd``.

    :raises Missing: if this is not a virtual environment
    """
    if sys.prefix == sys.base_prefix:
        raise prerequisites.Missing(
            f'{sys.executable} is in no virtual environment: use "tox -e '
            'ceph"')
    site_packages = Path(sysconfig.get_path('platlib'))
    for module in LINKED:
        library = _library(module)
        place = site_packages / library.name
        if not place.is_symlink() or place.readlink() != library:
            place.unlink(missing_ok=True)
            place.symlink_to(library)


def demand() -> None:
    """Make sure that nothing is missing.

    :raises Missing: telling everything that is
    """
    found = list(problems())
    if found:
        raise prerequisites.Missing('\n'.join(found))


if __name__ == '__main__':
    try:
        demand()
        link()
    except prerequisites.Missing as error:
        sys.exit(str(error))
