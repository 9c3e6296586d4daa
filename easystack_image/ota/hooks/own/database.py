"""The database: expand, migrate, contract, and whether a release lies.

``glance-manage db`` of the new release does the work, as Glance's
documentation of rolling upgrades has it: expand and migrate while the old
release serves, contract when nobody uses it any more.  Each phase may be
run again.
"""

from __future__ import annotations

import re
from typing import ClassVar

from easystack_image import exceptions
from easystack_image.ota.checks import database as checks
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks.own import programs
from easystack_image.ota.release.declaration import Phase

_PROGRAM = 'glance-manage'
#: MariaDB does not answer, or goes away: it may be failing over.
_AWAY = re.compile(r'OperationalError.*\((2002|2003|2006|2013|1927|1053),')
#: A table, column or index is there already.
_THERE = re.compile(r'\((1050|1060|1061),')
_HALF_DONE = ('. An earlier run was cut short: remove what is there already '
              '(nothing uses it yet), and run it again')
_LEFT = ('the database waits for the contraction of {release}, which is in '
         'use: the last of nodes does it, so end the upgrade to {release} '
         'there first. If that node is gone for good, and all others have '
         'committed {release}, run "{slot}/bin/glance-manage db contract", '
         'after which no node can go back')
#: Seconds after which to ask it again.
_SOON = 15.0
_HOUR = 3600.0


def _manage(context: base.Context, what: str, *accept: int,
            ) -> tuple[int, str]:
    """Call ``glance-manage db``; return its exit code and last words.

    :param accept: exit codes besides 0 that are no failure
    """
    done = programs.run(context, _PROGRAM, 'db', what)
    said = programs.last_words(done)
    if done.returncode in (0, *accept):
        return done.returncode, said
    if _AWAY.search(done.stderr):
        raise exceptions.RetryLater(
            f'{_PROGRAM} db {what} does not reach the database: {said}',
            _SOON)
    advice = _HALF_DONE if _THERE.search(done.stderr) else ''
    raise exceptions.HookFailed(f'{_PROGRAM} db {what} failed: {said}{advice}')


def _is_left(context: base.Context) -> bool:
    """Whether the release in use waits for its own contraction already."""
    if context.point != 'at-check' or context.origin_slot is None:
        return False
    try:
        done = programs.run(context, _PROGRAM, 'db', 'check',
                            directory=context.origin_slot)
    except exceptions.HookFailed:
        return False
    return checks.LACKING.get(done.returncode) is Phase.CONTRACT


class DatabaseCheck(base.Hook):
    """Compare the phases that a release declares with what is needed.

    An older release cannot tell what it does not know of.
    """

    name = 'database-check'
    points = ('at-check', 'after-expand', 'after-migrate', 'after-contract')
    kinds = base.FORWARD
    overridable = True
    after = ('configuration',)

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        code, _ = _manage(context, 'check', *checks.LACKING)
        needed = checks.LACKING.get(code)
        if needed is None:
            return ('the database needs nothing'
                    + (', though phases are declared' if context.phases
                       and context.point == 'at-check' else ''))
        if needed not in context.phases:
            if needed is Phase.CONTRACT and _is_left(context):
                raise exceptions.HookFailed(_LEFT.format(
                    release=context.origin, slot=context.origin_slot))
            declared = ', '.join(context.phases) or 'none'
            raise exceptions.HookFailed(
                f'release {context.target} declares these phases of the '
                f'database: {declared}; but it needs {needed} next. Do not '
                'install it; tell who made it')
        self._check_done(context, needed)
        return f'the database needs {needed} next'

    def _check_done(self, context: base.Context, needed: Phase) -> None:
        """Raise if what was done just now is needed still."""
        step = context.point.partition('-')[2]
        done = list(Phase)[:list(Phase).index(Phase(step)) + 1] if (
            step in list(Phase)) else []
        if needed in done:
            raise exceptions.HookFailed(
                f'{needed} was run, and the database needs it still: look '
                f'into it with "{_PROGRAM} db check"')


class _Run(base.Hook):
    """A phase of the database.

    Most databases cannot take back what changes tables: a phase that is cut
    short between two changes cannot be run again before somebody has taken
    the first one back by hand.
    """

    finishes = True
    kinds = base.FORWARD
    phase: ClassVar[Phase]
    timeout = 6 * _HOUR

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        if self.phase not in context.phases:
            return None
        return _manage(context, self.phase)[1]


class DatabaseExpand(_Run):
    """Add to the database what the release needs; the old one goes on."""

    name = 'database-expand'
    points = ('at-expand',)
    phase = Phase.EXPAND


class DatabaseMigrate(_Run):
    """Convert what is in the database, while both releases can use it."""

    name = 'database-migrate'
    points = ('at-migrate',)
    phase = Phase.MIGRATE
    timeout = 48 * _HOUR


class DatabaseContract(_Run):
    """Remove from the database what only the old release needed."""

    name = 'database-contract'
    points = ('at-contract',)
    phase = Phase.CONTRACT
