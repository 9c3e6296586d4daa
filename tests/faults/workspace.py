"""Where the file systems of a test are mounted, and how they go again.

The process that runs the tests has a mount namespace of its own.  So nobody
else sees what is mounted here, and the kernel unmounts it all when the last
process of the run is gone, however it ended.
"""

from __future__ import annotations

from collections.abc import Collection
import contextlib
import ctypes
import fcntl
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

from tests.faults import prerequisites

_PREFIX = 'easystack-faults-'
_CLONE_NEWNS = 0x00020000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000

_isolated = False


def run(name: str, *arguments: str | Path,
        accept: Collection[int] = (0,)) -> str:
    """Run a command that must succeed; return what it printed.

    :param accept: the exit codes that are a success
    :raises subprocess.CalledProcessError: with what it said, if it fails
    """
    result = subprocess.run(
        [prerequisites.command(name), *map(str, arguments)], check=False,
        text=True, capture_output=True, timeout=60)
    if result.returncode not in accept:
        error = subprocess.CalledProcessError(
            result.returncode, result.args, result.stdout, result.stderr)
        error.add_note(result.stderr)
        raise error
    return result.stdout


def _system_call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def isolate() -> None:
    """Give this process mounts of its own, once and for all.

    Call it from the main thread, before there are others: a thread has its
    namespace from the one that started it.
    """
    global _isolated
    if _isolated:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    _system_call(libc.unshare(_CLONE_NEWNS))
    _system_call(libc.mount(None, b'/', None, _MS_REC | _MS_PRIVATE, None))
    _isolated = True


class Workspace:
    """A directory for the file systems of one test.

    ``mnt/NAME`` is where they are mounted; ``beneath/NAME`` is the same
    directory as it is without a mount, at all times.  What is behind them
    lies in memory: then only those are slow or full that are told to be.
    """

    def __init__(self) -> None:
        isolate()
        sweep()
        self.root = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        # Locked as long as this process lives: see sweep().
        self._owner = os.open(self.root / 'owner',
                              os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        self.mounts = self.root / 'mnt'
        self.memory = self.root / 'memory'
        self._beneath = self.root / 'beneath'
        for path in (self.mounts, self.memory, self._beneath):
            path.mkdir()
        run('mount', '-t', 'tmpfs', 'faults', self.memory)
        run('mount', '--bind', self.mounts, self._beneath)

    def mount_point(self, name: str) -> Path:
        """Return a new directory to mount something at."""
        path = self.mounts / name
        path.mkdir()
        return path

    def beneath(self, path: Path) -> list[str]:
        """Return what lies in a mount point, under what is mounted there."""
        return os.listdir(self._beneath / path.name)

    def close(self) -> None:
        """Remove the directory; all that was mounted in it must be gone."""
        run('umount', self._beneath)
        run('umount', self.memory)
        shutil.rmtree(self.root)
        os.close(self._owner)


def sweep() -> None:
    """Remove the workspaces of runs that were killed.

    Their mounts are gone with their namespace, so only files are left.
    """
    for root in Path(tempfile.gettempdir()).glob(f'{_PREFIX}*'):
        with contextlib.suppress(OSError), open(root / 'owner') as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mounts = root / 'mnt'
            if not any(os.path.ismount(path) for path in mounts.iterdir()):
                shutil.rmtree(root)
