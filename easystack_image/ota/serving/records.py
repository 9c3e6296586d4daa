"""What the holder has to know of its instances when it was killed.

::

    lock               held by the holder, as long as it lives
    records/NAME.json  what an instance is; written before it is started, and
                       again when its process is known
    records/NAME.lock  held by all processes of it, as long as one lives

A lock is one of flock(2): the processes inherit it from the holder, which
lets go of it then.  So it can be told whether there is anything of an
instance, at whatever point the holder was killed; who has the file open and
leads a session is its master.  A new lock is made for each start: workers
whose master died may live on for a while, and have the old one.

Nothing of it is meant to survive the machine: no process does either.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import fcntl
import json
import os
from pathlib import Path
import time

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.serving import processes

RECORDS = 'records'
_RECORD, _LOCK = '.json', '.lock'
#: Seconds for which the master of an instance is looked for, and between two
#: looks: whoever is about to become one may not lead a session yet.
_PATIENCE, _PACE = 2.0, 0.02


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An instance.

    :param slot: the resolved path of its slot
    :param wanted: whether it is started again when it ends
    :param starts: how often it was started
    :param process: its master; None if it was about to be started
    """

    name: str
    slot: Path
    wanted: bool = True
    starts: int = 1
    process: processes.Process | None = None


class Records:
    """The directory.

    :param path: exists, and belongs to the holder alone
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: Record) -> None:
        """Write, in one step, what is known of an instance.

        :raises OSError: if it cannot be written
        """
        path = self._path / f'{record.name}{_RECORD}'
        text = json.dumps(dataclasses.asdict(record)
                          | {'slot': str(record.slot)})
        temporary = self._path / f'.{record.name}.new'
        temporary.write_text(text)
        temporary.rename(path)

    def remove(self, name: str) -> None:
        """Forget an instance of which nothing is left."""
        for suffix in (_LOCK, _RECORD):
            (self._path / f'{name}{suffix}').unlink(missing_ok=True)

    def all(self) -> list[Record]:
        """Return what is known.

        :raises InstanceError: if a record makes no sense
        """
        return [_read(path) for path in sorted(self._path.iterdir())
                if path.name[0] != '.' and path.suffix == _RECORD]

    @contextlib.contextmanager
    def new_lock(self, name: str) -> Iterator[int]:
        """Make a lock for a start.

        :returns: its descriptor, for whoever inherits it
        :raises OSError: if it cannot be made
        """
        temporary = self._path / f'.{name}{_LOCK}'
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL
                             | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.rename(self._path / f'{name}{_LOCK}')
            yield descriptor
        finally:
            os.close(descriptor)

    def held(self, name: str) -> bool:
        """Whether any process of the last start of an instance lives."""
        return home.is_locked(self._path / f'{name}{_LOCK}')

    def master(self, record: Record) -> processes.Process | None:
        """Return the master of an instance, whoever started it.

        :returns: None if it has ended
        """
        deadline = time.monotonic() + _PATIENCE
        while self.held(record.name):
            if record.process is not None and record.process.lives:
                return record.process
            # The holder was killed before it knew.
            found = list(processes.leaders(
                self._path / f'{record.name}{_LOCK}'))
            if found:
                # What it has started is younger.
                return min(found, key=lambda each: each.started)
            if time.monotonic() > deadline:
                # These are workers that have lost their master.
                return None
            time.sleep(_PACE)
        return None


def _read(path: Path) -> Record:
    try:
        found = json.loads(path.read_text())
        process = found.pop('process')
        return Record(**found | {
            'slot': Path(found['slot']),
            'process': process and processes.Process(**process)})
    except (ValueError, LookupError, TypeError) as error:
        raise exceptions.InstanceError(
            f'{path} makes no sense ({error!r}): stop what is left of that '
            'instance, and remove the file') from error
