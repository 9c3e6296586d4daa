"""The classes that a slot has, as it lists them.

A slot never changes, so it is asked once, and the answer kept: a rollback
must not wait for a Python to start, only to hear that there is nothing to do.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home as homes
from easystack_image.ota import redaction
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import leashed
from easystack_image.ota.slots import seal

#: The directory, in the updater's, of a lock and of what is kept.
DIRECTORY = 'hooks'
KEPT = 'listed.json'
#: How the slot's side is called, with the Python of a slot.
RUNNER = ('-I', '-m', 'easystack_image.ota.hooks')
#: Seconds that an answer may take: a first start is slow.
_PATIENCE = 300.0
#: What Python exits with if a slot has no hooks at all.
_NONE = 69
#: What a slot is asked: Python exits with 1 for many other reasons.
_LIST = f"""\
import sys
try:
    import stevedore, easystack_image.ota.hooks
except ModuleNotFoundError:
    sys.exit({_NONE})
from easystack_image.ota.hooks import __main__
sys.exit(__main__.main(['list']))
"""
_LIMIT = 4 * 1024 * 1024


def python(slot: str) -> str:
    """Return the path of the Python of a slot."""
    return str(Path(slot) / 'bin' / 'python')


class Listing:
    """What slots list.

    :param home: the updater's directory
    """

    def __init__(self, home: homes.Home) -> None:
        self._home = home
        self._known: dict[str, list[base.Listed]] = {}

    def of(self, slot: str) -> list[base.Listed]:
        """Return the classes of a slot, in the order in which they run.

        :raises easystack_image.exceptions.InvalidHooks: if they do not go
            together, or the slot cannot be asked
        """
        if slot not in self._known:
            kept = self._load()
            mark = _mark(slot)
            record = kept.get(slot)
            if mark is None or record is None or record['mark'] != mark:
                record = {'mark': mark, 'hooks': _ask(slot)}
                if mark is not None:
                    self._save({**kept, slot: record})
            self._known[slot] = [_listed(each) for each in record['hooks']]
        return self._known[slot]

    def _load(self) -> dict[str, Any]:
        with self._home.directory(DIRECTORY) as fd:
            try:
                found: dict[str, Any] = json.loads(
                    fsio.read_file(KEPT, fd, _LIMIT))
            except (FileNotFoundError, ValueError):
                # Whatever it was, the slots can be asked again.
                return {}
            return found

    def _save(self, records: dict[str, Any]) -> None:
        # Of slots that are gone nothing is kept.
        there = {slot: record for slot, record in records.items()
                 if _mark(slot) is not None}
        with self._home.directory(DIRECTORY) as fd:
            fsio.replace_file(KEPT, json.dumps(there, indent=1).encode(), fd)


def _mark(slot: str) -> list[int] | None:
    """Return what a slot is known by, None for one that may change."""
    try:
        status = (Path(slot) / seal.NAME).stat()
    except OSError:
        return None
    return [status.st_ino, status.st_mtime_ns, status.st_size]


def _listed(record: dict[str, Any]) -> base.Listed:
    # The slot may be of a later release, which has more to say.
    known = {field.name for field in dataclasses.fields(base.Listed)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record.items() if name in known}
    return base.Listed(**values)


def _ask(slot: str) -> list[dict[str, Any]]:
    ended = leashed.run([python(slot), '-I', '-c', _LIST], _PATIENCE)
    if ended.code == _NONE:
        # Nor does it have Glance then, which needs stevedore, too.
        return []
    try:
        answer = json.loads(ended.stdout)
        if 'error' not in answer:
            hooks: list[dict[str, Any]] = [
                _listed(each).record() for each in answer['hooks']]
            return hooks
        reason = answer['error']
    except (ValueError, KeyError, TypeError):
        reason = ended.reason or ended.stderr.strip()[-2000:]
    raise exceptions.InvalidHooks(
        f'the hooks in {slot}: {redaction.Redactor()(reason)}')
