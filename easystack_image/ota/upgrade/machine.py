"""Goes from step to step, and back if one fails.

Whatever is done is in the journal before and after: a process that is killed
anywhere leaves an upgrade with which another one goes on (:func:`resume`), or
goes back (:func:`roll_back`).  Once it goes back, it goes back to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.journal import journal as journals
from easystack_image.ota.journal import records
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade
from easystack_image.ota.upgrade import hooking
from easystack_image.ota.upgrade import node_lock
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import plans
from easystack_image.ota.upgrade import rollback
from easystack_image.ota.upgrade import tools as tools_module
from easystack_image.ota.upgrade import work as works
from easystack_image.ota.upgrade.steps import canarying
from easystack_image.ota.upgrade.steps import database
from easystack_image.ota.upgrade.steps import ending
from easystack_image.ota.upgrade.steps import preparing
from easystack_image.ota.upgrade.steps import switching

_STEPS: dict[Step, Callable[[works.Work], dict[str, Any]]] = {
    Step.PREFLIGHT: preparing.preflight, Step.STAGE: preparing.stage,
    Step.CHECK: preparing.check, Step.EXPAND: database.phase,
    Step.MIGRATE: database.phase, Step.START: switching.start,
    Step.CANARY: canarying.canary, Step.HAND_OVER: switching.hand_over,
    Step.DRAIN: switching.drain, Step.SOAK: ending.soak,
    Step.CONTRACT: database.contract, Step.COMMIT: ending.commit}
#: What does not mean that the new release is bad: another time it goes on.
_LATER = (exceptions.NotNow, exceptions.AlreadyRunning,
          exceptions.JournalError)


@dataclasses.dataclass(frozen=True)
class Result:
    """How an upgrade ended.

    :param outcome: None if it did not end: it stopped where it was told to
    :param reason: why it was rolled back, or ''
    """

    number: int
    kind: Kind
    origin: str | None
    target: str
    outcome: Outcome | None
    reason: str = ''


class Machine:
    """Does one upgrade, in this process.

    :param work: the upgrade
    :param until: the step after which to stop, None for none
    """

    def __init__(self, work: works.Work, until: Step | None = None) -> None:
        self._work = work
        self._until = until
        self._hooks = hooking.Hooks(work)
        self._held = contextlib.ExitStack()
        self._lock: node_lock.NodeLock | None = None

    def run(self) -> Result:
        """Go on where it is, to its end.

        :raises easystack_image.exceptions.OtaError: if it can neither be
            gone on with now, nor be rolled back
        """
        # Nobody whose turn is next begins before this one has gone back.
        with contextlib.ExitStack() as self._held:
            return self._run()

    def _run(self) -> Result:
        work = self._work
        failed = _failure(work.upgrade)
        if work.rolling_back:
            return self._see_and_roll_back(failed)
        if failed and self._may_go_back():
            return self._roll_back(failed)
        try:
            return self._forward()
        except _LATER:
            raise
        except exceptions.RollbackAsked as error:
            if not self._may_go_back():
                # It came too late; whoever asked is told.
                work.tools.asked.unlink(missing_ok=True)
                return self._run()
            return self._roll_back(str(error))
        except (exceptions.EasystackImageError, OSError) as error:
            if not work.irrevocable:
                rollback.hurry(work)
            try:
                self._fail(str(error))
            except exceptions.JournalFull as full:
                # There is space that is kept for what matters more.
                work.say(str(full))
            if not self._may_go_back():
                raise
            return self._roll_back(str(error))

    def _fail(self, reason: str) -> None:
        for step in plans.of(self._work.upgrade):
            if self._work.upgrade.event(step) is Event.BEGUN:
                self._work.writer.failed(step, reason)

    def _forward(self) -> Result:
        for step in plans.of(self._work.upgrade):
            if self._work.upgrade.event(step) is not Event.DONE:
                if plans.needs_turn(self._work.upgrade, step):
                    self._take_turn()
                self._do(step)
            if step is self._until:
                return result(self._work.upgrade)
        self._work.writer.close(Outcome.COMMITTED)
        ending.collect(self._work)
        return result(self._work.upgrade)

    def _take_turn(self) -> None:
        """Wait until no other node is upgraded, or see that none is still.

        :raises easystack_image.exceptions.NotNow: if the lock was lost, or
            does not come
        """
        work = self._work
        if self._lock is not None:
            work.check_turn()
            return
        self._lock = self._held.enter_context(nodes.lock(work))
        work.check_turn = self._lock.check
        if work.upgrade.kind is Kind.ROLLBACK and work.origin is not None and (
                work.upgrade.event(Step.HAND_OVER) is not Event.DONE):
            nodes.begin_return(work, work.origin, work.target.release)

    def _do(self, step: Step) -> None:
        """Do a step, with all hooks around it."""
        work, hooks = self._work, self._hooks
        work.tools.pause(0)
        works.refuse_barred(work)
        began = time.monotonic()
        work.writer.begin(step, **(
            {'forced': list(work.forced_now)} if work.forced_now else {}))
        hooks.run(hooks_base.Point.before(step), step)
        details = _STEPS[step](work)
        hooks.run(hooks_base.Point.at(step), step)
        hooks.run(hooks_base.Point.after(step), step)
        work.writer.done(step, **details)
        work.say(f'{step}: done in {time.monotonic() - began:.1f} s')

    def roll_back(self, reason: str) -> Result:
        """Go back to the release that it began with.

        :raises easystack_image.exceptions.NoWayBack: if the database may be
            one that it cannot use
        """
        with contextlib.ExitStack() as self._held:
            return self._see_and_roll_back(reason)

    def _see_and_roll_back(self, reason: str) -> Result:
        """Go back, for who did not ask :meth:`_may_go_back`."""
        works.refuse_irrevocable(self._work.upgrade)
        self._leave_settled()
        return self._roll_back(reason)

    def _roll_back(self, reason: str) -> Result:
        work = self._work
        rollback.hurry(work)
        reason = work.upgrade.details(Step.ROLLBACK).get('reason', reason)
        if work.upgrade.event(Step.ROLLBACK) is not Event.DONE:
            work.writer.begin(Step.ROLLBACK, reason=reason)
            work.say(f'rolling back: {reason}')
            rollback.run(work, self._hooks, reason)
            work.writer.done(Step.ROLLBACK)
        outcome = (Outcome.ROLLED_BACK if work.upgrade.event(Step.START)
                   else Outcome.ABANDONED)
        work.writer.close(outcome, reason=reason)
        return result(work.upgrade)

    def _may_go_back(self) -> bool:
        """Whether there is a way back; if others have barred it, say so.

        :raises easystack_image.exceptions.NotNow: if nobody knows
        """
        if self._work.irrevocable:
            return False
        try:
            self._leave_settled()
        except exceptions.RefusedRelease as error:
            self._work.say(str(error))
            return False
        return True

    def _leave_settled(self) -> None:
        """See that no other node has gone by what was about to be committed.

        If one has, it is written down: there only is a way on from then on,
        and another release may supersede this one.

        :raises easystack_image.exceptions.RefusedRelease: if one has
            contracted the database
        :raises easystack_image.exceptions.NotNow: if nobody knows that
        """
        work = self._work
        if not nodes.has_settled(work) or work.origin is None:
            # It may have been killed when it was about to contract.
            nodes.recant(work)
            return
        if self._lock is None:
            self._lock = self._held.enter_context(
                nodes.lock(work, in_order=False))
        try:
            nodes.begin_return(work, work.target, work.origin.release)
        except exceptions.RefusedRelease:
            work.writer.begin(Step.COMMIT,
                              **{records.IRREVOCABLE: True})
            raise


def result(upgrade: Upgrade) -> Result:
    """Return how an upgrade ended, or that it did not."""
    reason = upgrade.details(Step.ROLLBACK).get('reason', '')
    return Result(upgrade.number, upgrade.kind, upgrade.origin,
                  upgrade.target, upgrade.outcome, reason)


def resume(tools: tools_module.Tools,
           forced: Sequence[str] = (), told: bool = True) -> Result | None:
    """Go on with what did not end; None if there is nothing.

    Then others hear at least what this node stays with.

    :param told: False to leave alone what stopped where it was told to
    :param forced: hooks whose failure the operator overrides from now on
    :raises easystack_image.exceptions.OtaError: see :meth:`Machine.run`
    """
    with tools.writer() as writer:
        if writer.unfinished is None:
            nodes.catch_up(tools, writer.upgrades)
            return None
        if not told and writer.unfinished.stopped:
            return None
        return go_on(tools, writer, writer.unfinished, forced)


def go_on(tools: tools_module.Tools, writer: journals.Writer,
          upgrade: Upgrade, forced: Sequence[str] = (),
          until: Step | None = None) -> Result:
    """Go on with an upgrade that did not end.

    Where an operator wanted to decide how, it stops, whoever goes on; once it
    has stopped there, to go on is what was decided.

    :param until: the step after which to stop; None for what was said before
    :raises easystack_image.exceptions.OtaError: see :meth:`Machine.run`
    """
    works.refuse_foreign(tools.slots, upgrade)
    said = upgrade.until
    if said is not None and upgrade.event(said) is Event.DONE:
        said = None
    if until is None:
        until = said
    elif until is not said:
        # At once: it may be killed anywhere from here on.
        writer.note(**{records.UNTIL: until})
    return Machine(works.Work(tools, writer, upgrade, forced), until).run()


def _failure(upgrade: Upgrade) -> str:
    """Return why a step failed that whoever wrote it did not roll back."""
    last = upgrade.records[-1]
    return str(last.details.get('reason')) if (
        last.event is Event.FAILED) else ''
