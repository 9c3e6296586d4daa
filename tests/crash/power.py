"""What is left on the devices when the power fails.

A killed process loses nothing that it had handed to the kernel; a machine
without power loses whatever was not synced.  :class:`Recorder` follows the
changes that this process makes and knows at any time what would be left in
the worst case, if POSIX is taken at its word:

* of a file, what it held when it was last synced, and nothing before;
* of a directory, the names that it had when it was last synced.

Two things are granted that every journaling file system does: a rename is
one change, which is lost or kept in both directories, and what was there
before the recording began is safe.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import Any

#: By relative path: the bytes of a file, text for where a symbolic link leads
#: to, or None for a directory.
Rest = dict[str, bytes | str | None]


class File:
    """A file, and what is safe of it."""

    def __init__(self, safe: bytes = b'') -> None:
        self.safe = safe


class Link(File):
    """A symbolic link; what it leads to is safe with its name."""

    def __init__(self, leads_to: str) -> None:
        super().__init__()
        self.leads_to = leads_to


class Directory:
    """A directory, and what is safe of it."""

    def __init__(self) -> None:
        self.names: dict[str, File | Directory] = {}
        self.safe: dict[str, File | Directory] = {}


@dataclasses.dataclass(frozen=True)
class Rename:
    """A rename that is not known to be safe."""

    source: Directory
    old: str
    target: Directory
    new: str
    what: File | Directory


@dataclasses.dataclass(frozen=True)
class Moment:
    """What would be left after a step."""

    step: str
    rest: Rest
    #: Whether the work had been acknowledged by then.
    acknowledged: bool


class Recorder:
    """Follows the changes below a directory; see the module.

    :param root: the directory; all in it is taken as safe
    """

    def __init__(self, root: str) -> None:
        self.moments: list[Moment] = []
        self._root = root
        self._lock = threading.Lock()
        self._inodes: dict[tuple[int, int], File | Directory] = {}
        self._renames: list[Rename] = []
        self._tree = self._load(root)
        self._note('the beginning')

    def _load(self, path: str) -> Directory:
        directory = Directory()
        with os.scandir(path) as entries:
            for entry in entries:
                node: File | Directory
                if entry.is_dir(follow_symlinks=False):
                    node = self._load(entry.path)
                elif entry.is_symlink():
                    node = Link(os.readlink(entry.path))
                else:
                    with open(entry.path, 'rb') as file:
                        node = File(file.read())
                directory.names[entry.name] = node
                self._remember(entry.stat(follow_symlinks=False), node)
        directory.safe = dict(directory.names)
        return directory

    def _remember(self, status: os.stat_result,
                  node: File | Directory) -> None:
        self._inodes[status.st_dev, status.st_ino] = node

    def _at(self, fd: int) -> Any:
        status = os.fstat(fd)
        return self._inodes[status.st_dev, status.st_ino]

    def observe(self, name: str, given: dict[str, Any],
                result: Any) -> None:
        """Take note of a change; see :func:`tests.crash.steps.observed`."""
        with self._lock:
            follow = getattr(self, f'_{name}', None)
            if follow is not None:
                follow(result=result, **given)

    def acknowledge(self) -> None:
        """Take note that the work is done, and was acknowledged."""
        self._note('the acknowledgement', True)

    def _create(self, name: str, dir_fd: int, result: int,
                flags: int = 0) -> None:
        node = File()
        self._at(dir_fd).names[name] = node
        self._remember(os.fstat(result), node)

    def _mkdir(self, name: str, dir_fd: int, result: None) -> None:
        node = Directory()
        self._at(dir_fd).names[name] = node
        self._remember(os.stat(name, dir_fd=dir_fd), node)

    def _symlink(self, leads_to: str, name: str, dir_fd: int,
                 result: None) -> None:
        self._at(dir_fd).names[name] = Link(leads_to)

    def _unlink(self, name: str, dir_fd: int, result: None) -> None:
        del self._at(dir_fd).names[name]

    _rmdir = _unlink

    def _rename(self, source: str, target: str, source_fd: int,
                target_fd: int, result: None) -> None:
        rename = Rename(self._at(source_fd), source, self._at(target_fd),
                        target, self._at(source_fd).names.pop(source))
        rename.target.names[target] = rename.what
        self._renames.append(rename)

    def _fsync(self, fd: int, result: None) -> None:
        node = self._at(fd)
        if isinstance(node, File):
            # Opened anew: this descriptor may want aligned reads.
            with open(f'/proc/self/fd/{fd}', 'rb') as file:
                node.safe = file.read()
        else:
            self._sync_directory(node)
        self._note('fsync ' + os.path.relpath(
            os.readlink(f'/proc/self/fd/{fd}'), self._root))

    def _sync_directory(self, directory: Directory) -> None:
        for rename in list(self._renames):
            if directory in (rename.source, rename.target):
                self._renames.remove(rename)
                if rename.source.safe.get(rename.old) is rename.what:
                    del rename.source.safe[rename.old]
                rename.target.safe[rename.new] = rename.what
        directory.safe = dict(directory.names)

    def _note(self, step: str, acknowledged: bool = False) -> None:
        rest: Rest = {}
        _collect(self._tree, '', rest)
        self.moments.append(Moment(step, rest, acknowledged))


def _collect(directory: Directory, path: str, rest: Rest) -> None:
    for name, node in directory.safe.items():
        if isinstance(node, Link):
            rest[path + name] = node.leads_to
        elif isinstance(node, File):
            rest[path + name] = node.safe
        else:
            rest[path + name] = None
            _collect(node, f'{path}{name}/', rest)

