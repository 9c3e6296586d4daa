"""The files of the journal, each line chained to the one before it.

Each upgrade has a file of its own, ``journal/000007.jsonl``, with a JSON
object per line.  The first says from which release to which, those that
follow which step was begun, done or failed, the last how it ended.  A line is
on disk before the call that writes it returns.

Each line has the SHA-256 of the line before it, the first that of the last
line of the upgrade before.  ``anchor.json`` has the place and SHA-256 of the
last line, and who this machine is.  It is replaced after each line, so a
journal that is older than the anchor, or another machine's, is a replay: to
resume from it would do again what was done long ago.  It lies beside the
directory, so that this is so for the whole of it as well.  One line may be
ahead of the anchor, which a crash in between leaves; if the power failed, only
some pages of it may be there, zeros instead of others, and it does not count.

A line that cannot be written, for want of space or because the disk fails, is
taken back, so that never more than one is ahead.  ``reserve`` keeps some
space for the lines of a rollback, which is given up for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from typing import Any
import uuid

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home as homes
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Record
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade

DIRECTORY = 'journal'
ANCHOR = 'anchor.json'
RESERVE = 'reserve'
#: Bytes: a rollback has four lines, and some more if it is resumed.
RESERVED = 64 * 1024
FORMAT = 1
_SUFFIX = '.jsonl'
_LIMIT = 16 * 1024 * 1024
#: Stands for the digest of the line before the very first.
_NOTHING = '0' * 64


@dataclasses.dataclass(frozen=True)
class Anchor:
    """The last line that is certain."""

    node: str
    #: The number of its upgrade, 0 before the first.
    upgrade: int = 0
    #: How many lines that has.
    lines: int = 0
    digest: str = _NOTHING


class Chain:
    """Reads and writes the files of the journal."""

    def __init__(self, home: homes.Home) -> None:
        self._home = home
        self.anchor = Anchor('')
        #: Bytes of the lines of the last upgrade.
        self._size = 0
        #: Whether there may be more of a line than is acknowledged.
        self._torn = False

    def read(self) -> tuple[list[list[bytes]], list[Upgrade]]:
        """Return the lines of all upgrades, and what they say."""
        with self._home.directory(DIRECTORY) as fd:
            self.anchor = self._read_anchor(fd)
            numbers = sorted(int(name.removesuffix(_SUFFIX))
                             for name in os.listdir(fd)
                             if name.endswith(_SUFFIX))
            lines = [_split(fsio.read_file(_name(number), fd, _LIMIT))
                     for number in numbers]
        if self._is_torn(numbers, lines):
            del lines[-1][-1]
        if lines and not lines[-1]:
            # Nothing of its first line was written.
            del lines[-1], numbers[-1]
        self._check_place(numbers, lines)
        digest = _NOTHING
        upgrades = []
        for number, each in zip(numbers, lines, strict=True):
            records, digest = self._follow(number, each, digest)
            upgrades.append(Upgrade(number, records))
        return lines, upgrades

    @property
    def _ahead(self) -> tuple[tuple[int, int], ...]:
        """The places that a line may have that is ahead of the anchor."""
        anchor = self.anchor
        return ((anchor.upgrade, anchor.lines + 1), (anchor.upgrade + 1, 1))

    def _is_torn(self, numbers: list[int], lines: list[list[bytes]]) -> bool:
        """Whether of the last line, which nobody was told of, pages lack.

        One that was acknowledged must be sound, and one that is whole must be
        of this journal.
        """
        return bool(self.anchor.node) and (
            _place(numbers, lines) in self._ahead
            and not _is_json(lines[-1][-1]))

    def _check_place(self, numbers: list[int],
                     lines: list[list[bytes]]) -> None:
        """Raise unless the journal is as long as the anchor says."""
        anchor = self.anchor
        last = _place(numbers, lines)
        if numbers != list(range(1, len(numbers) + 1)) or last not in (
                (anchor.upgrade, anchor.lines), *self._ahead):
            raise exceptions.JournalError(
                f'the journal ends with line {last[1]} of upgrade {last[0]}, '
                f'but line {anchor.lines} of upgrade {anchor.upgrade} was '
                'written last: it is an old one, or incomplete. Put back the '
                'whole directory as it was last')
        if anchor.upgrade:
            line = lines[anchor.upgrade - 1][anchor.lines - 1]
            if _digest(line) != anchor.digest:
                raise exceptions.JournalError(
                    f'line {anchor.lines} of upgrade {anchor.upgrade} is '
                    'another than was written: it is an old journal, or '
                    'somebody changed it')

    def _follow(self, number: int, lines: list[bytes],
                digest: str) -> tuple[list[Record], str]:
        """Return what the lines of an upgrade say, and the last's digest."""
        records = []
        for place, line in enumerate(lines, 1):
            try:
                record: dict[str, Any] = json.loads(line)
                sound = (record['format'], record['previous'],
                         record['node']) == (FORMAT, digest,
                                             self.anchor.node)
                step = record['step']
                records.append(Record(
                    float(record['time']), Event(record['event']),
                    None if step is None else Step(step),
                    dict(record['details'])))
            except (ValueError, KeyError, TypeError):
                sound = False
            if not sound:
                raise exceptions.JournalError(
                    f'line {place} of upgrade {number} does not belong to '
                    'this journal: it is damaged, or of another machine')
            digest = _digest(line)
        return records, digest

    def recover(self) -> list[Upgrade]:
        """Clear away what a crash left; return all upgrades.

        :raises easystack_image.exceptions.JournalFull: if that cannot be
            written
        """
        with self._home.directory(DIRECTORY) as fd:
            lines, upgrades = self.read()
            with _explained():
                _last_resort(fd, lambda: self._clear(fd, lines))
            with contextlib.suppress(OSError):
                _reserve(fd)
        return upgrades

    def _clear(self, fd: int, lines: list[list[bytes]]) -> None:
        if not self.anchor.node:
            self._drop_anchor(fd, Anchor(str(uuid.uuid4())))
        unwritten = _name(len(lines) + 1)
        if fsio.exists(unwritten, fd):
            fsio.unlink(unwritten, fd)
            fsio.fsync(fd)
        if lines:
            self._size = sum(map(len, lines[-1]))
            _cut(fd, len(lines), self._size)
            self._settle(fd, len(lines), lines[-1])

    def _settle(self, fd: int, number: int, lines: list[bytes]) -> None:
        wanted = Anchor(self.anchor.node, number, len(lines),
                        _digest(lines[-1]))
        if wanted != self.anchor:
            # Its name, too, may not be on disk yet.
            fsio.fsync(fd)
            self._drop_anchor(fd, wanted)

    def create(self, number: int, record: Record, urgent: bool) -> None:
        """Write the first line of an upgrade.

        :param urgent: whether it may take the space that is kept, and need
            not leave any
        :raises easystack_image.exceptions.JournalFull: if it cannot be
            written; nothing of it is there then
        """
        line = self._line(record)

        def write(fd: int) -> None:
            if not urgent:
                _reserve(fd)
            fsio.write_file(_name(number), line, fd)
            fsio.fsync(fd)
            self._drop_anchor(fd, Anchor(self.anchor.node, number, 1,
                                         _digest(line)))

        self._write(write, urgent)
        self._size = len(line)

    def append(self, record: Record, urgent: bool) -> None:
        """Write the next line of the last upgrade.

        :param urgent: whether it may take the space that is kept
        :raises easystack_image.exceptions.JournalFull: if it cannot be
            written; nothing of it is there then
        """
        line = self._line(record)
        anchor = dataclasses.replace(
            self.anchor, lines=self.anchor.lines + 1, digest=_digest(line))

        def write(fd: int) -> None:
            with _to_write(fd, anchor.upgrade) as file:
                fsio.write_at(file, line, self._size)
                fsio.fsync(file)
            self._drop_anchor(fd, anchor)

        self._write(write, urgent)
        self._size += len(line)

    def _write(self, write: Callable[[int], None], urgent: bool) -> None:
        with self._home.directory(DIRECTORY) as fd, _explained():
            if urgent:
                _last_resort(fd, lambda: self._try(fd, write))
            else:
                self._try(fd, write)

    def _try(self, fd: int, write: Callable[[int], None]) -> None:
        if self._torn:
            self._take_back(fd)
        try:
            write(fd)
        except OSError:
            self._torn = True
            # If it fails, it is tried again before the next line.
            with contextlib.suppress(OSError):
                self._take_back(fd)
            raise

    def _take_back(self, fd: int) -> None:
        """Remove all of a line that was not acknowledged.

        The anchor first: no crash in here may leave it ahead of the lines.
        """
        if self._read_anchor(fd) != self.anchor:
            self._drop_anchor(fd, self.anchor)
        following = _name(self.anchor.upgrade + 1)
        if fsio.exists(following, fd):
            fsio.unlink(following, fd)
            fsio.fsync(fd)
        if self.anchor.upgrade:
            _cut(fd, self.anchor.upgrade, self._size)
        self._torn = False

    def _line(self, record: Record) -> bytes:
        return json.dumps({
            'format': FORMAT, 'node': self.anchor.node,
            'previous': self.anchor.digest, **dataclasses.asdict(record)},
            sort_keys=True).encode() + b'\n'

    def _drop_anchor(self, fd: int, anchor: Anchor) -> None:
        with self._home.directory('') as above:
            fsio.replace_file(ANCHOR, json.dumps(
                {'format': FORMAT, **dataclasses.asdict(anchor)},
                indent=1).encode() + b'\n', above)
        if fsio.exists(ANCHOR, fd):
            # Of an updater before: that of above is what counts from now on.
            fsio.unlink(ANCHOR, fd)
        self.anchor = anchor

    def _read_anchor(self, fd: int) -> Anchor:
        with self._home.directory('') as above:
            return _read_anchor(above) or _read_anchor(fd) or Anchor('')


def _read_anchor(fd: int) -> Anchor | None:
    try:
        record = json.loads(fsio.read_file(ANCHOR, fd, _LIMIT))
        if record.pop('format') == FORMAT:
            return Anchor(**record)
        reason = 'unknown format'
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = repr(error)
    raise exceptions.JournalError(f'{ANCHOR} of the journal is damaged '
                                  f'({reason})')


@contextlib.contextmanager
def _to_write(fd: int, number: int) -> Iterator[int]:
    file = os.open(_name(number), os.O_WRONLY | os.O_CLOEXEC
                   | os.O_NOFOLLOW, dir_fd=fd)
    try:
        yield file
    finally:
        os.close(file)


def _cut(fd: int, number: int, size: int) -> None:
    """Remove the beginning of a line from the end of a file."""
    with _to_write(fd, number) as file:
        if os.fstat(file).st_size != size:
            fsio.truncate(file, size)
        # Whoever wrote the last line may have died before it was on disk.
        fsio.fsync(file)


def _last_resort(fd: int, write: Callable[[], None]) -> None:
    """Write something, in the space that is kept if there is no other."""
    try:
        write()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or (
                not fsio.exists(RESERVE, fd)):
            raise
        fsio.unlink(RESERVE, fd)
        write()


def _reserve(fd: int) -> None:
    """Keep space for a rollback, unless that is kept.

    :raises OSError: if there is none
    """
    if fsio.exists(RESERVE, fd):
        if fsio.status(RESERVE, fd).st_blocks * 512 >= RESERVED:
            return
        fsio.unlink(RESERVE, fd)
    file = fsio.create(RESERVE, fd)
    try:
        os.posix_fallocate(file, 0, RESERVED)
    except OSError:
        fsio.unlink(RESERVE, fd)
        raise
    finally:
        os.close(file)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say of what fails that it was the journal.

    :raises easystack_image.exceptions.JournalFull: instead of OSError
    """
    try:
        yield
    except OSError as error:
        raise exceptions.JournalFull(
            f'the journal cannot be written ({error}); what is done until now '
            'is in it. When there is room again, "resume", or "rollback"'
        ) from error


def _name(number: int) -> str:
    return f'{number:06}{_SUFFIX}'


def _split(data: bytes) -> list[bytes]:
    """Return the whole lines of a file, without a last one that is not."""
    return [line for line in data.splitlines(keepends=True)
            if line.endswith(b'\n')]


def _place(numbers: list[int], lines: list[list[bytes]]) -> tuple[int, int]:
    """Return the number of the last upgrade, and how many lines that has."""
    return (numbers[-1], len(lines[-1])) if numbers else (0, 0)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
