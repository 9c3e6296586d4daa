"""The updater's directory: what it has to remember over crashes.

::

    lock          held by the process that changes anything in here
    memory.json   the highest that was seen, see client/memory.py
    metadata/     of the repository, as it was trusted last
    downloads/    archives, and the begun ones (SHA256.part)
    journal/      of the upgrades, see journal.py
    anchor.json   the last line of the journal, see journal/chain.py
    hooks/        nothing but a lock, held while hooks run
    memory/       nothing but a lock, held while memory.json changes
    scratch/      of the process that holds the lock; means nothing later

All of it belongs to its owner alone, and all changes are durable in an order
that leaves either the old or the new.  The directory of the slots is locked
the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import fcntl
import os
from pathlib import Path
import shutil

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import owners

LOCK = 'lock'
SCRATCH = 'scratch'
_ABOVE = 0o755


class Home:
    """The directory.

    :param path: is made, with what is in it, when it is used first
    :param mode: of the directories that are made
    """

    def __init__(self, path: Path, mode: int = fsio.DIRECTORY_MODE) -> None:
        self.path = path
        self._mode = mode

    @contextlib.contextmanager
    def locked(self, part: str = '', wait: bool = False) -> Iterator[int]:
        """Have the directory to ourselves, for a while.

        Whoever dies lets go: see flock(2).

        :param part: a directory in it, if it is only about that
        :param wait: whether to wait, for what nobody has for long
        :returns: the descriptor: a process that inherits it shares the lock
        :raises easystack_image.exceptions.AlreadyRunning: if another process
            has it, unless it is waited for
        :raises easystack_image.exceptions.ConfigurationError: if other users
            could change what is in it
        :raises OSError: if it cannot be made
        """
        path = self._made(part)
        for each in {self.path, path}:
            owners.check(each, each.stat(),
                         'what is in it decides what is installed')
        fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                     | os.O_NOFOLLOW, fsio.FILE_MODE)
        try:
            if wait:
                fcntl.flock(fd, fcntl.LOCK_EX)
            elif not fsio.try_lock(fd):
                raise exceptions.AlreadyRunning(
                    f'{path} is in use: another easystack-image-ota runs, '
                    'or the build of one that was killed is still at work; '
                    'try again when that is done')
            yield fd
        finally:
            os.close(fd)

    def _made(self, part: str) -> Path:
        """Return the path of one of the directories, which is there then."""
        # By itself: those above others may be entered by all.
        make(self.path, self._mode)
        make(self.path / part, self._mode)
        return self.path / part

    def in_use(self, part: str = '') -> bool:
        """Whether somebody has a directory locked.

        See :func:`is_locked`.
        """
        return is_locked(self.path / part / LOCK)

    @contextlib.contextmanager
    def directory(self, name: str) -> Iterator[int]:
        """Open one of the directories; make it if need be.

        :returns: its descriptor
        """
        fd = fsio.open_directory(str(self._made(name)))
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make an empty directory, which goes afterwards, or next time."""
        path = self.path / SCRATCH
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=fsio.DIRECTORY_MODE)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def is_locked(path: Path) -> bool:
    """Whether somebody has a file locked (flock(2)), for himself alone.

    It is asked by a shared lock, for no time, so that those who ask do not
    find each other.  (/proc/locks knows no processes of other containers.)
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not fsio.try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def make(path: Path, mode: int) -> None:
    """Make a directory and those above it, durably; it may be there.

    :param mode: of the directory itself; all may enter those above
    :raises OSError: if it cannot be made
    """
    if path.is_dir():
        return
    make(path.parent, _ABOVE)
    above = fsio.open_directory(str(path.parent))
    # Under its name, it has its mode: whoever dies leaves another.
    new = f'.{path.name}.new'
    try:
        with contextlib.suppress(FileExistsError):
            fsio.mkdir(new, above)
        os.chmod(new, mode, dir_fd=above)
        fsio.rename(new, path.name, above, above)
        fsio.fsync(above)
    except OSError:
        # Another process may make it, too.
        if not path.is_dir():
            raise
    finally:
        os.close(above)
