"""Reading and writing the journal.

To read what happened, or to find out whether an upgrade did not end::

    for upgrade in Journal(home).history(): ...

To do an upgrade, or go on with it, which only one process at a time can::

    with Journal(home).writer() as writer:
        upgrade = writer.unfinished or writer.open(Kind.UPGRADE, '1', '2')
        if upgrade.event(Step.STAGE) is not Event.DONE:
            writer.begin(Step.STAGE)
            ...
            writer.done(Step.STAGE, slot='/opt/easystack-image/slots/2')
        writer.close(Outcome.COMMITTED)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota import home as homes
from easystack_image.ota.journal import chain
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Record
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade

#: How often to look again while another process writes, and seconds between.
_LOOKS, _PAUSE = 20, 0.05


class Journal:
    """The journal.

    :param home: the updater's directory
    """

    def __init__(self, home: homes.Home) -> None:
        self._home = home

    def history(self) -> list[Upgrade]:
        """Return all upgrades, the oldest first; nothing is changed.

        :raises easystack_image.exceptions.JournalError: if it is damaged, or
            a replay
        """
        for look in range(_LOOKS):
            try:
                return chain.Chain(self._home).read()[1]
            except exceptions.JournalError:
                # Perhaps somebody wrote a line right now.
                if look == _LOOKS - 1:
                    raise
                time.sleep(_PAUSE)
        return []

    @contextlib.contextmanager
    def writer(self) -> Iterator[Writer]:
        """Have the journal to ourselves, as long as an upgrade takes.

        :raises easystack_image.exceptions.AlreadyRunning: if another process
            upgrades
        :raises easystack_image.exceptions.JournalError: if it is damaged, or
            a replay
        """
        with self._home.locked(chain.DIRECTORY):
            yield Writer(chain.Chain(self._home))


class Writer:
    """Writes the journal, for who has it locked.

    What a crash left of a line that was not acknowledged is gone afterwards.
    A line that cannot be written raises
    :class:`easystack_image.exceptions.JournalFull`, and is taken back.
    """

    def __init__(self, files: chain.Chain) -> None:
        self._files = files
        self._upgrades = files.recover()

    @property
    def unfinished(self) -> Upgrade | None:
        """The upgrade that did not end yet, or None."""
        if self._upgrades and self._upgrades[-1].outcome is None:
            return self._upgrades[-1]
        return None

    @property
    def upgrades(self) -> Sequence[Upgrade]:
        """All upgrades, the oldest first."""
        return self._upgrades

    def open(self, kind: Kind, origin: str | None, target: str,
             **details: Any) -> Upgrade:
        """Begin an upgrade.

        :param origin: the version in use, None for the first installation
        :param target: the version that is to be in use afterwards
        :raises easystack_image.exceptions.JournalError: if another did not
            end
        :raises easystack_image.exceptions.JournalFull: if there is no room
            for it, or would be none for a rollback
        """
        if self.unfinished is not None:
            raise exceptions.JournalError(
                f'the {self.unfinished.kind} to {self.unfinished.target} '
                'did not end: resume it, or roll it back, first')
        record = Record(time.time(), Event.OPENED, None, {
            'kind': kind, 'origin': origin, 'target': target, **details})
        upgrade = Upgrade(self._files.anchor.upgrade + 1, [record])
        self._files.create(upgrade.number, record, kind is Kind.ROLLBACK)
        self._upgrades.append(upgrade)
        return upgrade

    def begin(self, step: Step, **details: Any) -> None:
        """Write that a step is about to be done, or done once more."""
        self._add(Event.BEGUN, step, details)

    def done(self, step: Step, **details: Any) -> None:
        """Write that a step is done."""
        self._expect_begun(step)
        self._add(Event.DONE, step, details)

    def failed(self, step: Step, reason: str, **details: Any) -> None:
        """Write that a step failed."""
        self._expect_begun(step)
        self._add(Event.FAILED, step, {'reason': reason, **details})

    def note(self, **details: Any) -> None:
        """Write something more of where it is: the last line once more.

        No step is begun, done or failed by that.
        """
        last = self._open().records[-1]
        self._write(dataclasses.replace(
            last, details={**last.details, **details}))

    def close(self, outcome: Outcome, **details: Any) -> None:
        """Write how the upgrade ended."""
        self._add(Event.CLOSED, None, {'outcome': outcome, **details})

    def _expect_begun(self, step: Step) -> None:
        if self._open().event(step) is not Event.BEGUN:
            raise exceptions.JournalError(f'{step} was not begun')

    def _open(self) -> Upgrade:
        if self.unfinished is None:
            raise exceptions.JournalError('no upgrade is open')
        return self.unfinished

    def _add(self, event: Event, step: Step | None,
             details: Mapping[str, Any]) -> None:
        self._write(Record(time.time(), event, step, details))

    def _write(self, record: Record) -> None:
        upgrade = self._open()
        # What goes back has to be written even if a disk is full.
        self._files.append(record, urgent=record.event is Event.FAILED or (
            record.step is Step.ROLLBACK or upgrade.kind is Kind.ROLLBACK
            or upgrade.event(Step.ROLLBACK) is not None))
        upgrade.records.append(record)
