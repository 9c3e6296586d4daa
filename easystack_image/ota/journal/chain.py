"""The files of the journal, each line chained to the one before it.

Each upgrade has a file of its own, ``journal/000007.jsonl``, with a JSON
object per line.  The first says from which release to which, those that
follow which step was begun, done or failed, the last how it ended.  A line is
on disk before the call that writes it returns.

Each line has the SHA-256 of the line before it, the first that of the last
line of the upgrade before.  ``anchor.json`` has the place and SHA-256 of the
last line, and who this machine is.  It is replaced after each line, so a
journal that is older than the anchor, or another machine's, is a replay: to
resume from it would do again what was done long ago.  One line may be ahead
of the anchor, which a crash in between leaves.
"""

from __future__ import annotations

import dataclasses
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

    def read(self) -> tuple[list[list[bytes]], list[Upgrade]]:
        """Return the lines of all upgrades, and what they say."""
        with self._home.directory(DIRECTORY) as fd:
            self.anchor = _read_anchor(fd)
            numbers = sorted(int(name.removesuffix(_SUFFIX))
                             for name in os.listdir(fd)
                             if name.endswith(_SUFFIX))
            lines = [_split(fsio.read_file(_name(number), fd, _LIMIT))
                     for number in numbers]
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

    def _check_place(self, numbers: list[int],
                     lines: list[list[bytes]]) -> None:
        """Raise unless the journal is as long as the anchor says."""
        anchor = self.anchor
        last = (numbers[-1], len(lines[-1])) if numbers else (0, 0)
        if numbers != list(range(1, len(numbers) + 1)) or last not in (
                (anchor.upgrade, anchor.lines),
                (anchor.upgrade, anchor.lines + 1), (anchor.upgrade + 1, 1)):
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
        """Clear away what a crash left; return all upgrades."""
        with self._home.directory(DIRECTORY) as fd:
            lines, upgrades = self.read()
            if not self.anchor.node:
                self.anchor = Anchor(str(uuid.uuid4()))
                self._drop_anchor(fd)
            unwritten = _name(len(upgrades) + 1)
            if fsio.exists(unwritten, fd):
                fsio.unlink(unwritten, fd)
                fsio.fsync(fd)
            if lines:
                self._cut(fd, len(lines), sum(map(len, lines[-1])))
                self._settle(fd, len(lines), lines[-1])
        return upgrades

    def _cut(self, fd: int, number: int, size: int) -> None:
        """Remove the beginning of a line from the end of a file."""
        file = _open_to_write(fd, number)
        try:
            if os.fstat(file).st_size != size:
                fsio.truncate(file, size)
            # Whoever wrote the last line may have died before it was.
            fsio.fsync(file)
        finally:
            os.close(file)

    def _settle(self, fd: int, number: int, lines: list[bytes]) -> None:
        wanted = Anchor(self.anchor.node, number, len(lines),
                         _digest(lines[-1]))
        if wanted != self.anchor:
            self.anchor = wanted
            # Its name, too, may not be on disk yet.
            fsio.fsync(fd)
            self._drop_anchor(fd)

    def create(self, number: int, record: Record) -> None:
        """Write the first line of an upgrade."""
        line = self._line(record)
        with self._home.directory(DIRECTORY) as fd:
            fsio.write_file(_name(number), line, fd)
            fsio.fsync(fd)
            self.anchor = Anchor(self.anchor.node, number, 1,
                                  _digest(line))
            self._drop_anchor(fd)

    def append(self, record: Record) -> None:
        """Write the next line of the last upgrade."""
        line = self._line(record)
        anchor = self.anchor
        with self._home.directory(DIRECTORY) as fd:
            file = _open_to_write(fd, anchor.upgrade)
            try:
                fsio.write_at(file, line, os.fstat(file).st_size)
                fsio.fsync(file)
            finally:
                os.close(file)
            self.anchor = dataclasses.replace(
                anchor, lines=anchor.lines + 1, digest=_digest(line))
            self._drop_anchor(fd)

    def _line(self, record: Record) -> bytes:
        return json.dumps({
            'format': FORMAT, 'node': self.anchor.node,
            'previous': self.anchor.digest, **dataclasses.asdict(record)},
            sort_keys=True).encode() + b'\n'

    def _drop_anchor(self, fd: int) -> None:
        fsio.replace_file(ANCHOR, json.dumps(
            {'format': FORMAT, **dataclasses.asdict(self.anchor)},
            indent=1).encode() + b'\n', fd)


def _read_anchor(fd: int) -> Anchor:
    try:
        record = json.loads(fsio.read_file(ANCHOR, fd, _LIMIT))
        if record.pop('format') == FORMAT:
            return Anchor(**record)
        reason = 'unknown format'
    except FileNotFoundError:
        return Anchor('')
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = repr(error)
    raise exceptions.JournalError(f'{ANCHOR} of the journal is damaged '
                                  f'({reason})')


def _open_to_write(fd: int, number: int) -> int:
    return os.open(_name(number), os.O_WRONLY | os.O_CLOEXEC
                   | os.O_NOFOLLOW, dir_fd=fd)


def _name(number: int) -> str:
    return f'{number:06}{_SUFFIX}'


def _split(data: bytes) -> list[bytes]:
    """Return the whole lines of a file, without a last one that is not."""
    return [line for line in data.splitlines(keepends=True)
            if line.endswith(b'\n')]


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
