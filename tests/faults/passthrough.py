"""A FUSE file system that passes everything on, unless told otherwise.

Runs in a process of its own (see ``fuse``)::

    python -m tests.faults.passthrough DIRECTORY MOUNTPOINT SOCKET

DIRECTORY is what is behind it, SOCKET the number of an inherited descriptor,
over which requests and answers go as one line of JSON each.  When the other
end is closed the process ends, and with it every call that hangs.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import errno
import fcntl
import functools
import json
import os
import re
import socket
import sys
import threading
from typing import Any

import mfusepy

#: Seconds that a call may hang: more than any test takes that works.
PATIENCE = 60.0


@dataclasses.dataclass(slots=True)
class Rule:
    """What is to happen to some calls."""

    #: The operation, as FUSE calls it.
    call: str
    #: Searched for in the path (on the device, beginning with a slash).
    path: str
    #: ``hang`` until the rule is gone, ``delay``, ``fail``, or ``corrupt``.
    action: str
    #: For ``delay`` and ``fail``: how long before (seconds).
    seconds: float = 0.0
    #: For ``fail``: the error.
    number: int = errno.EIO
    #: Calls that end before this offset are let through (bytes).
    offset: int = 0
    #: For ``fail``: do what was asked, and fail all the same.
    done: bool = False
    #: For ``fail``: only files that are open with this flag.
    flag: int = 0
    #: How many calls to let through before.
    skip: int = 0
    #: How many calls came so far.
    seen: int = 0


class Control:
    """The rules, and what happened so far."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rules: list[Rule] = []
        self._hung = 0
        self._hits = 0
        self._written = 0

    def serve(self, connection: socket.socket) -> None:
        """Answer requests; end the process when there are no more."""
        with connection.makefile('rw') as lines:
            for line in lines:
                request = json.loads(line)
                with self._changed:
                    if 'rules' in request:
                        self._rules = [Rule(**each)
                                       for each in request['rules']]
                        self._hits = 0
                        self._changed.notify_all()
                    answer = {'hung': self._hung, 'hits': self._hits,
                              'written': self._written,
                              'seen': sum(rule.seen for rule in self._rules)}
                lines.write(json.dumps(answer) + '\n')
                lines.flush()
        os._exit(0)

    def count(self, written: int) -> None:
        """Count what was written, in bytes."""
        with self._changed:
            self._written += written

    def rule_for(self, call: str, path: str, end: int | None,
                 flags: int) -> Rule | None:
        """Return the rule for a call, if there is one.

        A call that hangs stays in here until it may go on.

        :param end: the offset before which it ends, if it has one
        """
        with self._changed:
            rule = self._find(call, path, end, flags)
            if rule is None:
                return None
            rule.seen += 1
            if rule.seen <= rule.skip:
                return None
            self._hits += 1
            if rule.action == 'hang':
                self._hung += 1
                if not self._changed.wait_for(
                        lambda: rule not in self._rules, PATIENCE):
                    # A test is stuck in this call; let it fail instead.
                    os._exit(1)
                self._hung -= 1
            elif rule.seconds:
                self._changed.wait_for(lambda: rule not in self._rules,
                                       rule.seconds)
            return rule

    def _find(self, call: str, path: str, end: int | None,
              flags: int) -> Rule | None:
        for rule in self._rules:
            if (rule.call in (call, '*') and re.search(rule.path, path)
                    and (end is None or end > rule.offset)
                    and (not rule.flag or flags & rule.flag)):
                return rule
        return None


@dataclasses.dataclass(slots=True)
class Handle:
    """An open file or directory."""

    path: str
    #: As they were asked for; O_DIRECT is not passed on.
    flags: int


class Passthrough(mfusepy.Operations):
    """Everything that the engine does, on a directory."""

    use_ns = True

    def __init__(self, root: str, control: Control,
                 ready: Callable[[], object]) -> None:
        self._root = root
        self._control = control
        self._ready = ready
        self._handles: dict[int, Handle] = {}

    def _do(self, call: str, path: str, function: Callable[[], Any],
            end: int | None = None, flags: int = 0) -> Any:
        """Do what was asked, or what a rule says."""
        rule = self._control.rule_for(call, path, end, flags)
        if rule is None or rule.action in ('hang', 'delay'):
            return function()
        if rule.action == 'corrupt':
            return _flip(function(), end, rule.offset)
        if rule.done:
            function()
        raise OSError(rule.number, os.strerror(rule.number))

    def _real(self, path: str) -> str:
        return self._root + path

    def _keep(self, fd: int, path: str, flags: int) -> int:
        self._handles[fd] = Handle(path, flags)
        return fd

    def _forget(self, fd: int) -> int:
        del self._handles[fd]
        os.close(fd)
        return 0

    def init(self, path: str) -> None:
        del path
        self._ready()

    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        if path is None:
            path = self._handles[fh.fh].path
            status = os.fstat(fh.fh)
        else:
            status = self._do('getattr', path,
                              lambda: os.lstat(self._real(path)))
        return {name: getattr(status, name) for name in (
            'st_ino', 'st_mode', 'st_nlink', 'st_uid', 'st_gid', 'st_size',
            'st_blocks', 'st_blksize')} | {
            f'st_{kind}time': getattr(status, f'st_{kind}time_ns')
            for kind in 'acm'}

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._real(path), mode)
        return 0

    def utimens(self, path: str,
                times: tuple[int, int] | None = None) -> int:
        os.utime(self._real(path), ns=times)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        usage = self._do('statfs', path,
                         lambda: os.statvfs(self._real(path)))
        return {name: getattr(usage, name) for name in (
            'f_bsize', 'f_frsize', 'f_blocks', 'f_bfree', 'f_bavail',
            'f_files', 'f_ffree', 'f_favail', 'f_namemax')}

    def mkdir(self, path: str, mode: int) -> int:
        self._do('mkdir', path, lambda: os.mkdir(self._real(path), mode))
        return 0

    def rmdir(self, path: str) -> int:
        self._do('rmdir', path, lambda: os.rmdir(self._real(path)))
        return 0

    def unlink(self, path: str) -> int:
        self._do('unlink', path, lambda: os.unlink(self._real(path)))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._do('rename', new, lambda: os.rename(self._real(old),
                                                  self._real(new)))
        return 0

    def opendir(self, path: str) -> int:
        return self._keep(self._do(
            'opendir', path, lambda: os.open(
                self._real(path), os.O_RDONLY | os.O_DIRECTORY)), path, 0)

    def readdir(self, path: str, fh: int) -> list[
            tuple[str, dict[str, int], int]]:
        def read() -> list[tuple[str, dict[str, int], int]]:
            with os.scandir(fh) as entries:
                return [(entry.name, {'st_ino': entry.inode()}, 0)
                        for entry in entries]

        entries: list[tuple[str, dict[str, int], int]] = self._do(
            'readdir', path, read)
        return entries

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._do('fsyncdir', self._handles[fh].path, lambda: os.fsync(fh))
        return 0

    def releasedir(self, path: str, fh: int) -> int:
        return self._forget(fh)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        def create() -> int:
            flags = (fi.flags & ~os.O_DIRECT) | os.O_CREAT
            return os.open(self._real(path), flags, mode)

        fi.fh = self._keep(self._do('create', path, create, flags=fi.flags),
                           path, fi.flags)
        return 0

    def open(self, path: str, fi: Any) -> int:
        fi.fh = self._keep(self._do(
            'open', path, lambda: os.open(
                self._real(path), fi.flags & ~os.O_DIRECT),
            flags=fi.flags), path, fi.flags)
        return 0

    def read(self, path: str, size: int, offset: int, fh: Any) -> bytes:
        return self._do('read', self._handles[fh.fh].path,
                        lambda: os.pread(fh.fh, size, offset), offset + size)

    def write(self, path: str, data: bytes, offset: int, fh: Any) -> int:
        handle = self._handles[fh.fh]
        # The flags can be changed while the file is open.
        flags = handle.flags & ~os.O_DIRECT | fh.flags & os.O_DIRECT
        written = self._do('write', handle.path,
                           lambda: os.pwrite(fh.fh, data, offset),
                           offset + len(data), flags)
        self._control.count(written)
        return written

    def truncate(self, path: str, length: int, fh: Any = None) -> int:
        target = fh.fh if fh else self._real(path)
        self._do('truncate', path or '', lambda: os.truncate(target, length))
        return 0

    def fsync(self, path: str, datasync: int, fh: Any) -> int:
        self._do('fsync', self._handles[fh.fh].path,
                 lambda: os.fsync(fh.fh))
        return 0

    def flock(self, path: str, fh: Any, op: int) -> int:
        """Locks of files; those of directories are the kernel's."""
        self._do('flock', self._handles[fh.fh].path,
                 lambda: fcntl.flock(fh.fh, op))
        return 0

    def release(self, path: str, fh: Any) -> int:
        return self._forget(fh.fh)


def _flip(data: bytes, end: int | None, offset: int) -> bytes:
    """Change the byte at ``offset`` of the file, if it was read."""
    assert end is not None
    damaged = bytearray(data)
    index = offset - (end - len(data))
    if 0 <= index < len(damaged):
        damaged[index] ^= 0x01
    return bytes(damaged)


def main(directory: str, mount_point: str, descriptor: str) -> None:
    """Serve ``directory`` at ``mount_point`` until the other end closes."""
    connection = socket.socket(fileno=int(descriptor))
    control = Control()
    serve = threading.Thread(target=control.serve, args=[connection],
                             daemon=True)
    operations = Passthrough(
        directory, control,
        functools.partial(connection.sendall, b'{"ready": true}\n'))
    serve.start()
    # Nothing is remembered in the kernel, so every call comes here; many
    # may hang at once; and a file in use is removed at once when told so.
    mfusepy.FUSE(operations, mount_point, raw_fi=True, foreground=True,
                 use_ino=True, hard_remove=True, entry_timeout=0,
                 attr_timeout=0, negative_timeout=0, max_threads=200,
                 max_idle_threads=20, fsname='faults', subtype='faults',
                 default_permissions=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
