"""One upgrade, and what its steps have to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers
from easystack_image.ota.journal import journal as journals
from easystack_image.ota.journal import records
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.upgrade import fleet as fleets
from easystack_image.ota.upgrade import tools as tools_module
from easystack_image.ota.upgrade import warmup


class Work:
    """An upgrade that did not end yet, in the process that is at it.

    :param tools: what it works with
    :param writer: of the journal
    :param upgrade: what the journal has of it
    :param forced: hooks whose failure the operator overrides from now on
    """

    def __init__(self, tools: tools_module.Tools, writer: journals.Writer,
                 upgrade: Upgrade, forced: Sequence[str] = ()) -> None:
        # Who goes back already does what is wanted.
        self.tools = dataclasses.replace(
            tools, heedful=upgrade.kind is not Kind.ROLLBACK)
        self.writer = writer
        self.upgrade = upgrade
        self.forced_now = tuple(forced)
        self.settings = tools.settings
        self.slots = tools.slots
        self.say = tools.say
        #: Raises NotNow if the lock of the nodes was lost.
        self.check_turn: Callable[[], None] = lambda: None

    @property
    def options(self) -> Mapping[str, Any]:
        """What the operator asked for when it was begun."""
        return self.upgrade.records[0].details

    @property
    def forced(self) -> tuple[str, ...]:
        """The hooks whose failure does not count."""
        return (*self.options.get('forced', ()), *self.forced_now)

    @property
    def rolling_back(self) -> bool:
        """Whether it goes back, which it does to the end once it has begun."""
        return self.upgrade.event(Step.ROLLBACK) is not None

    @property
    def irrevocable(self) -> bool:
        """Whether the database may be one that the origin cannot use."""
        return irrevocable(self.upgrade)

    @property
    def fleet(self) -> fleets.Fleet:
        """The instances; waiting for one ends if a rollback is wanted."""
        return fleets.Fleet(
            self.tools.launcher, warmup.WarmUp(
                self.settings, self.say, self.upgrade.kind is Kind.ROLLBACK),
            self.settings.start_timeout,
            time.sleep if self.rolling_back else self.tools.pause)

    @property
    def origin(self) -> slots_module.Slot | None:
        """The slot that it begins with; None for an installation.

        :raises SlotError: if it is gone
        """
        return self._slot(self.upgrade.origin) if self.upgrade.origin else None

    @property
    def target(self) -> slots_module.Slot:
        """The slot that it is to end with.

        :raises SlotError: if it is not built yet, or has another release
            of that version than was chosen
        """
        slot = self._slot(self.upgrade.target)
        if self.digest not in ('', slot.release.digest):
            raise exceptions.SlotError(
                f'{slot.path} has another release of version '
                f'{self.upgrade.target} than the one that was signed, which '
                'this began with')
        return slot

    @property
    def digest(self) -> str:
        """Of the declaration that was signed; '' if nobody wrote it down.

        Updaters of earlier releases did not.
        """
        return str(self.options.get('digest', ''))

    @property
    def staged(self) -> bool:
        """Whether the slot of the target is built, and is the target's."""
        try:
            slot = self.slots.get(self.upgrade.target)
        except exceptions.SlotError:
            return False
        return slot is not None and self.digest in (
            '', slot.release.digest)

    def _slot(self, version: str) -> slots_module.Slot:
        slot = self.slots.get(version)
        if slot is None:
            raise exceptions.SlotError(f'the slot of {version} is gone')
        return slot

    @property
    def phases(self) -> tuple[declarations.Phase, ...]:
        """The phases of the database that have to be done."""
        if self.upgrade.kind is Kind.ROLLBACK:
            return ()
        return self.target.release.database

    @property
    def new_name(self) -> str:
        """The name of the instance of the target that it starts.

        Names follow from the number in the journal: no two upgrades have
        the same, and who resumes one finds what was started.
        """
        return f'{self.upgrade.target}.{2 * self.upgrade.number}'

    @property
    def standby_name(self) -> str:
        """The name of the instance of the origin that waits for a rollback."""
        return f'{self.upgrade.origin}.{2 * self.upgrade.number + 1}'

    def new(self) -> str:
        """Return the name of the instance of the target that serves.

        After a reboot that is another than was started here.
        """
        serving = self.fleet.serving(self.target.path)
        return serving[0] if serving and self.new_name not in serving else (
            self.new_name)


def irrevocable(upgrade: Upgrade) -> bool:
    """Whether the database was contracted for an upgrade, or may be.

    It was begun here, or another node did it before this one had ended its
    commit.
    """
    return any(upgrade.details(step).get(records.IRREVOCABLE)
               for step in (Step.CONTRACT, Step.COMMIT))


def refuse_irrevocable(upgrade: Upgrade) -> None:
    """Raise if there is no way back from an upgrade.

    :raises easystack_image.exceptions.NoWayBack: if the database was, or may
        be, contracted for it
    """
    if irrevocable(upgrade):
        raise exceptions.NoWayBack(
            f'the database has been contracted for {upgrade.target}, and '
            f'{upgrade.origin} cannot use it any more: resume the upgrade, '
            'or install a release that mends it')


def refuse_barred(work: Work) -> None:
    """Raise if the release must not be installed any more.

    A "check" may have learned that since it was chosen.  Who goes back does
    so all the same, and so does who cannot go back.

    :raises easystack_image.exceptions.RefusedRelease: if it must not
    """
    if work.upgrade.kind is Kind.ROLLBACK or work.irrevocable:
        return
    number = work.options.get('number')
    if number is None and work.staged:
        number = work.target.release.number
    barred = offers.bar(number, memories.load(work.tools.home)) if (
        number is not None) else ''
    if barred:
        raise exceptions.RefusedRelease(
            f'release {work.upgrade.target} must not be installed any more: '
            f'{barred}')


def refuse_foreign(slots: slots_module.Slots, upgrade: Upgrade) -> None:
    """Raise if neither end of an upgrade is what is in use.

    Others have been here since it was written: it is an old journal.

    :raises easystack_image.exceptions.JournalError: if so
    """
    current = slots.current_version()
    if current not in (upgrade.origin, upgrade.target):
        raise exceptions.JournalError(
            f'the {upgrade.kind} from {upgrade.origin} to {upgrade.target} '
            f'did not end, says the journal, but {current} is in use: it is '
            'an old journal. Put back state_directory as it was last')
