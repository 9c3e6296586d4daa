"""A user other than root, and where he gets to."""

from __future__ import annotations

import functools
import os
from pathlib import Path
import shutil
import stat
import sys
import tempfile

#: Who runs the tests, or if that is root, somebody without a name.
USER = os.getuid() or 65533
GROUP = os.getgid() or 65533
#: Where a copy of Python looks, in the words of ld.so(8).
_LIBRARIES = b'$ORIGIN/../lib'


def directory(prefix: str) -> Path:
    """Make a directory that everybody may enter; the caller removes it."""
    # Where temporary files belong may be closed to others.
    places = (tempfile.gettempdir(), '/tmp', '/var/tmp')  # noqa: S108
    place = next(each for each in places if _may_enter(Path(each).resolve()))
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=place)).resolve()
    path.chmod(0o755)
    return path


def give(path: Path) -> None:
    """Have a directory, and all in it, belong to the user."""
    for each in (path, *path.rglob('*')):
        os.chown(each, USER, GROUP, follow_symlinks=False)


def _may_enter(path: Path) -> bool:
    return all(each.stat().st_mode & stat.S_IXOTH
               for each in (path, *path.parents))


@functools.cache
def _base() -> Path:
    """Return the interpreter behind this environment."""
    return Path(sys.executable).resolve()


def python(copies: Path) -> str:
    """Return a Python, as this one, that everybody may run.

    :param copies: an existing directory, for a copy if it takes one: those
        of pyenv, for instance, are in somebody's home
    """
    if _may_enter(_base().parent):
        return str(_base())
    name = f'python3.{sys.version_info.minor}'
    home, copied = Path(sys.base_prefix, 'lib'), copies / 'python'
    (copied / 'bin').mkdir(parents=True)
    shutil.copytree(home / name, copied / 'lib' / name, ignore=(
        shutil.ignore_patterns('site-packages', 'test', 'tests',
                               '__pycache__', 'config-*', 'idlelib')))
    for library in home.glob('libpython3*.so*'):
        shutil.copy2(library, copied / 'lib')
    # Where it looks for that library stands in it.
    (copied / 'bin' / name).write_bytes(_base().read_bytes().replace(
        f'{home}'.encode() + b'\0',
        _LIBRARIES.ljust(len(f'{home}') + 1, b'\0')))
    (copied / 'bin' / name).chmod(0o755)
    return str(copied / 'bin' / name)
