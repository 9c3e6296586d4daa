"""An ext4 file system of its own, on a loop device."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
import subprocess

from tests.faults import workspace
from tests.functional import processes

MIB = 1 << 20
#: FS_IOC_SHUTDOWN with FS_SHUTDOWN_FLAGS_NOLOGFLUSH: _IOR('X', 125, u32).
_SHUTDOWN = 0x8004587d
_AT_ONCE = (2).to_bytes(4, 'little')


class LoopDevice:
    """A small disk with ext4 on it, mounted.

    :param space: where it is mounted
    :param name: of the mount point, and of the file behind it
    :param size: of the disk, in bytes; it takes only what is used
    :param inodes: how many files there can be, 0 for what is usual
    :param directory: where the file is that is behind it; by default in
        memory
    """

    def __init__(self, space: workspace.Workspace, name: str,
                 size: int = 256 * MIB, inodes: int = 0,
                 directory: Path | None = None) -> None:
        self._space = space
        self.mount_point = space.mount_point(name)
        self._file = (directory or space.memory) / f'{name}.img'
        self._size = size
        self._inodes = inodes
        self._make()

    def _make(self) -> None:
        with open(self._file, 'wb') as file:
            file.truncate(self._size)
        workspace.run('mkfs.ext4', '-q', '-F', '-m', '0', '-E',
                      'lazy_itable_init=1,lazy_journal_init=1,nodiscard',
                      *(['-N', str(self._inodes)] if self._inodes else []),
                      self._file)
        self.block_device, self._hold = attach(self._file)
        self.mount()

    def renew(self) -> None:
        """Put a new, empty disk in its place; the old one is lost.

        Who has files of the old one open gets EIO.
        """
        if self.mounted:
            self.die()
        self.close()
        # The kernel keeps the old file as long as the old disk is in use.
        self._file.unlink()
        self._make()

    @property
    def path(self) -> str:
        """The directory that is given to the store."""
        return str(self.mount_point)

    @property
    def inside(self) -> Path:
        """Where what lies on the device can be looked at."""
        return self.mount_point

    @property
    def mounted(self) -> bool:
        """Whether the file system is mounted at its place."""
        return os.path.ismount(self.mount_point)

    @property
    def alive(self) -> bool:
        """Whether the kernel still has the file system, mounted or not.

        It keeps one that was lazily unmounted as long as something on it is
        open.
        """
        return self._control.exists()

    @property
    def _control(self) -> Path:
        return Path('/sys/fs/ext4', Path(self.block_device).name)

    def mount(self, options: str = 'rw') -> None:
        """Mount it at its place, if it is not."""
        if not self.mounted:
            workspace.run('mount', '-t', 'ext4', '-o',
                          f'{options},errors=remount-ro', self.block_device,
                          self.mount_point)

    def unmount(self) -> None:
        """Unmount it at once, whoever uses it (``umount -l``)."""
        workspace.run('umount', '-l', self.mount_point)

    def busy(self) -> bool:
        """Tell whether a plain ``umount`` is refused; else it is done."""
        try:
            workspace.run('umount', self.mount_point)
        except subprocess.CalledProcessError as error:
            if 'busy' not in error.stderr:
                raise
            return True
        return False

    def await_gone(self, timeout: float = 20) -> None:
        """Wait until nothing on it is open, so that the kernel let it go."""
        processes.poll(lambda: not self.alive,
                       f'{self.path} being let go', timeout, 0.01)

    def bring_back(self) -> None:
        """Mount it again, after it was unmounted, broken or read-only.

        What was written before it broke is recovered, as on a boot.
        """
        if self.mounted:
            self.unmount()
        self.await_gone()
        # 1: errors were corrected, as is to be expected.
        workspace.run('e2fsck', '-fy', self.block_device, accept=(0, 1))
        self.mount()

    def remount(self, mode: str) -> None:
        """Remount it ``ro`` or ``rw``, as an administrator does."""
        workspace.run('mount', '-o', f'remount,{mode}', self.mount_point)

    def trip(self) -> None:
        """Have ext4 find an error: it goes read-only while in use."""
        (self._control / 'trigger_fs_error').write_text('1')

    def die(self) -> None:
        """Let every call on it fail with EIO, also for files in use."""
        fd = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _AT_ONCE)
        finally:
            os.close(fd)

    def free(self) -> int:
        """Return how many bytes can be written."""
        usage = os.statvfs(self.mount_point)
        return usage.f_bavail * usage.f_frsize

    def fill(self, leave: int = 0) -> Path:
        """Take up its room, but for ``leave`` bytes; return the file."""
        ballast = self.mount_point / 'lost+found' / 'ballast'
        fd = os.open(ballast, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            while self.free() > leave:
                os.posix_fallocate(fd, os.fstat(fd).st_size,
                                   max(4096, (self.free() - leave) // 2))
        except OSError:
            # The file system needs some of it for its own maps.
            pass
        finally:
            os.close(fd)
        return ballast

    def close(self) -> None:
        """Unmount and remove it."""
        while self.mounted:
            self.unmount()
        os.close(self._hold)


def attach(file: Path) -> tuple[str, int]:
    """Make a loop device of a file, which may be given partitions.

    It lives as long as it is mounted or the returned descriptor is open, so
    it goes with this process, however that ends.
    """
    device = workspace.run('losetup', '--find', '--show', '--partscan',
                           file).strip()
    hold = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    workspace.run('losetup', '--detach', device)
    return device, hold
