"""What is moved, or would be, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from easystack_image.blockstore.local import balance
from easystack_image.cmd import base
from easystack_image.cmd import columns

BRIEF = ('image', 'action', 'device')


class MovingCommand(base.ListCommand):
    """A command that moves or removes copies, or only tells which."""

    BRIEF: tuple[tuple[str, ...], ...] = (BRIEF,)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the option to only tell."""
        parser = super().get_parser(prog_name)
        parser.add_argument('--dry-run', action='store_true',
                            help='Change nothing; list what would be done.')
        return parser

    def forecast(self, plans: Sequence[balance.Plan]) -> base.Table:
        """Return what would be done."""
        if not plans:
            self.say('No copy would be moved or removed.')
        return table(plans)


def table(plans: Sequence[balance.Plan]) -> base.Table:
    """Return each step: a copy that is made, or removed after that."""
    return (*BRIEF, 'size'), [
        (plan.image_id, action, path, columns.Size(plan.size))
        for plan in plans
        for action, paths in (('copy', plan.make), ('remove', plan.remove))
        for path in paths]


def summary(plans: Sequence[balance.Plan],
            left: int | None = None) -> base.Table:
    """Return what was done, in one row.

    :param left: how many copies are still to be moved, where that counts
    """
    made = [plan for plan in plans for _ in plan.make]
    names: tuple[str, ...] = ('images', 'copied', 'removed', 'size')
    row: tuple[object, ...] = (
        len(plans), len(made), sum(len(plan.remove) for plan in plans),
        columns.Size(sum(plan.size for plan in made)))
    return (names, [row]) if left is None else (
        (*names, 'left'), [(*row, left)])
