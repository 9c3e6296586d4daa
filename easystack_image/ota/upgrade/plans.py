"""Which steps there are, by what is done."""

from __future__ import annotations

from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Step
from easystack_image.ota.journal.records import Upgrade

#: The steps, in their order.
ALL = (Step.PREFLIGHT, Step.STAGE, Step.CHECK, Step.EXPAND, Step.MIGRATE,
        Step.START, Step.CANARY, Step.HAND_OVER, Step.DRAIN, Step.SOAK,
        Step.CONTRACT, Step.COMMIT)
_PLANS = {
    Kind.INSTALL: ALL,
    Kind.UPGRADE: ALL,
    # Its slot was checked, and served, before; who goes back is in a hurry.
    Kind.ROLLBACK: (Step.PREFLIGHT, Step.START, Step.CANARY, Step.HAND_OVER,
                    Step.DRAIN, Step.COMMIT),
}


def of(upgrade: Upgrade) -> tuple[Step, ...]:
    """Return the steps of an upgrade, in their order."""
    return _PLANS[upgrade.kind]


def needs_turn(upgrade: Upgrade, step: Step) -> bool:
    """Whether other nodes may notice a step, so that one is at it at a time.

    Before the first of them there is nothing to be seen.  And whoever has
    handed over watches the new release, whatever became of the lock: it is
    known by what the node has settled on that it may go back yet.
    """
    steps = of(upgrade)
    first = Step.START if upgrade.kind is Kind.ROLLBACK else Step.EXPAND
    return steps.index(step) >= steps.index(first) and (
        step not in (Step.DRAIN, Step.SOAK))
