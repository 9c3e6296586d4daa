"""Every change that must survive a crash, made to a file system.

The local engine and the updater make theirs here: one thin function per
system call, so that there is one place where a crash can be injected, counted
or traced.  All names are relative to a directory
descriptor: when a disk is unmounted under us, we go on in the directory that
we opened (and fail there), and never in the one that shows up beneath.

What makes something durable (see also fsync(2)):

* the bytes of a file: :func:`fsync` of the file;
* its name, after :func:`create`, :func:`mkdir`, :func:`rename` or
  :func:`unlink`: :func:`fsync` of the directory that holds the name;
* or all of both: :func:`sync_file_system`.

All functions raise OSError as the system call does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import contextlib
import ctypes
import errno
import fcntl
import os
import stat

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
#: What the name of a file ends with while it is being replaced.
NEW = '.new'
#: What Python does not wrap.
_LIBC = ctypes.CDLL(None, use_errno=True)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_directory(path: str, dir_fd: int | None = None) -> int:
    """Open a directory for use as ``dir_fd`` and for :func:`fsync`.

    Within a device, that is with ``dir_fd``, no link is followed, at the end
    of the path or before: nothing that lies on a device may lead out of it.
    """
    if dir_fd is None:
        return os.open(path, _DIRECTORY)
    with parent(path, dir_fd) as (fd, name):
        return _step(name, fd, path)


@contextlib.contextmanager
def parent(path: str, dir_fd: int) -> Iterator[tuple[int, str]]:
    """Open the directory in which a path within a device ends.

    Step by step, as no step may be a link; Python has no openat2(2).

    :returns: its descriptor, and the last name of the path
    """
    *steps, name = path.split('/')
    fd = dir_fd
    try:
        for step in steps:
            above, fd = fd, _step(step, fd, path)
            if above != dir_fd:
                os.close(above)
        yield fd, name
    finally:
        if fd != dir_fd:
            os.close(fd)


def _step(name: str, dir_fd: int, path: str) -> int:
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise NotADirectoryError(
            errno.ENOTDIR, f'{path}: {name} is a file or a link, not a '
            'directory') from None


@contextlib.contextmanager
def directory(path: str, dir_fd: int) -> Iterator[int]:
    """Open a directory for a while."""
    fd = open_directory(path, dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def mkdir(name: str, dir_fd: int) -> None:
    """Create a directory that only its owner may enter."""
    os.mkdir(name, DIRECTORY_MODE, dir_fd=dir_fd)


def create(name: str, dir_fd: int, flags: int = 0) -> int:
    """Create a file that must not exist yet, for reading and writing."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                   | os.O_NOFOLLOW | flags, FILE_MODE, dir_fd=dir_fd)


def write_at(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset`` (bytes)."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        if not written:
            raise OSError(errno.EIO, 'nothing was written')
        view = view[written:]
        offset += written


def truncate(fd: int, size: int) -> None:
    """Set the size of a file, in bytes; what is added is a hole."""
    os.ftruncate(fd, size)


def fsync(fd: int) -> None:
    """Make the content of a file, or the names in a directory, durable."""
    os.fsync(fd)


def sync_file_system(fd: int) -> None:
    """Make all durable that is on the file system of a file.

    For a great many small files, where :func:`fsync` of each would take long.
    See syncfs(2); Linux tells of errors since 5.8.
    """
    if _LIBC.syncfs(fd):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def rename(source: str, target: str, source_fd: int, target_fd: int) -> None:
    """Give a file or directory its new name in one indivisible step.

    A directory does not replace one that has something in it: then OSError
    is raised with ENOTEMPTY or EEXIST.
    """
    os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def symlink(leads_to: str, name: str, dir_fd: int) -> None:
    """Create a symbolic link.

    :param leads_to: what is written in the link; it need not exist
    :param name: of the link, which must not exist yet
    """
    os.symlink(leads_to, name, dir_fd=dir_fd)


def replace_link(leads_to: str, name: str, dir_fd: int) -> None:
    """Have a symbolic link lead elsewhere in one step, durably.

    It is never missing: the new link takes its place by a rename.  Whoever
    calls this keeps others from doing so at the same time.
    """
    if exists(name + NEW, dir_fd):
        unlink(name + NEW, dir_fd)
    symlink(leads_to, name + NEW, dir_fd)
    fsync(dir_fd)
    rename(name + NEW, name, dir_fd, dir_fd)
    fsync(dir_fd)


def unlink(name: str, dir_fd: int) -> None:
    """Remove the name of a file."""
    os.unlink(name, dir_fd=dir_fd)


def rmdir(name: str, dir_fd: int) -> None:
    """Remove an empty directory."""
    os.rmdir(name, dir_fd=dir_fd)


def remove_tree(name: str, dir_fd: int) -> None:
    """Remove a directory and the files in it; it may be gone already.

    The engine's directories hold files only, so one level is enough; a
    directory in it makes this fail, rather than go where it should not.
    """
    with contextlib.suppress(FileNotFoundError):
        with directory(name, dir_fd) as tree:
            for entry in os.listdir(tree):
                unlink(entry, tree)
        rmdir(name, dir_fd)


def write_file(name: str, data: bytes, dir_fd: int,
               mode: int = FILE_MODE) -> None:
    """Create a file with ``data`` in it and make its content durable.

    Its name is durable only after an :func:`fsync` of the directory.

    :param mode: of the file, whatever the umask is
    """
    fd = create(name, dir_fd)
    try:
        write_at(fd, data, 0)
        if mode != FILE_MODE:
            os.fchmod(fd, mode)
        fsync(fd)
    finally:
        os.close(fd)


def replace_file(name: str, data: bytes, dir_fd: int,
                 mode: int = FILE_MODE) -> None:
    """Give a file new content in one step, durably.

    The new content is durable under another name, ``name.new``, before the
    rename; a crash leaves the old file or the new one.  The directory is
    locked meanwhile: two processes must not rename each other's.

    :param mode: that it has, whatever the umask is, from the rename on
    """
    with locked(dir_fd):
        if exists(name + NEW, dir_fd):
            unlink(name + NEW, dir_fd)
        write_file(name + NEW, data, dir_fd, mode)
        fsync(dir_fd)
        rename(name + NEW, name, dir_fd, dir_fd)
        fsync(dir_fd)


@contextlib.contextmanager
def locked(dir_fd: int) -> Iterator[None]:
    """Lock a directory against others that replace its files.

    :param dir_fd: a descriptor of it that nobody else uses; replacing a file
        through it lets go of the lock
    """
    fcntl.flock(dir_fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(dir_fd, fcntl.LOCK_UN)


def try_lock(fd: int, how: int = fcntl.LOCK_EX) -> bool:
    """Lock a file, without waiting; tell whether that was possible.

    :param how: ``fcntl.LOCK_EX``, or ``fcntl.LOCK_SH``
    """
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def discard_unfinished(names: Iterable[str], dir_fd: int) -> None:
    """Remove what :func:`replace_file` left when it was cut short.

    :param names: of the files that it replaces
    """
    for name in names:
        if exists(name + NEW, dir_fd):
            with locked(dir_fd), contextlib.suppress(FileNotFoundError):
                unlink(name + NEW, dir_fd)


def touch(name: str, seconds: float, dir_fd: int) -> None:
    """Set the times of a file; they need not be durable."""
    os.utime(name, (seconds, seconds), dir_fd=dir_fd, follow_symlinks=False)


def open_file(name: str, dir_fd: int) -> int:
    """Open a file for reading, at once, or not at all.

    What stands in the place of a file may make its readers wait for ever (a
    pipe), or lead elsewhere (a link).  OSError is raised for a link (ELOOP)
    and for all else that is no plain file (EINVAL; ENXIO for a socket).
    """
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                 | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, f'{name} is not a regular file')
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_file(name: str, dir_fd: int, limit: int) -> bytes:
    """Read a whole file.

    :param limit: the most bytes it may have; more raise OSError (EFBIG)
    """
    fd = open_file(name, dir_fd)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f'{name} has {size} bytes, at most '
                                       f'{limit} were expected')
        pieces = []
        while piece := os.read(fd, size + 1):
            pieces.append(piece)
        return b''.join(pieces)
    finally:
        os.close(fd)


def status(path: str, dir_fd: int) -> os.stat_result:
    """Return the status of what is at a path; no links are followed."""
    with parent(path, dir_fd) as (fd, name):
        return os.stat(name, dir_fd=fd, follow_symlinks=False)


def exists(path: str, dir_fd: int) -> bool:
    """Tell whether there is something at a path; no links are followed."""
    try:
        status(path, dir_fd)
    except FileNotFoundError:
        return False
    return True


def on_disk(found: os.stat_result) -> bool:
    """Tell whether the file system of a file lies on a block device.

    Others (FUSE, NFS) may have to ask somebody where the kernel itself knows
    the answer of those: what is in the page cache, or who has a lock.
    """
    return os.major(found.st_dev) != 0
