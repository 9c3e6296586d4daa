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


def locked_from(upgrade: Upgrade) -> Step:
    """Return the first step that other nodes may notice."""
    return Step.START if upgrade.kind is Kind.ROLLBACK else Step.EXPAND
