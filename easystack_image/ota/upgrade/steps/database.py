"""Expand, migrate and contract: what is done to the database.

Hooks of this package do it (``easystack_image.ota.hooks.own``), with the
``glance-manage`` of the new slot.  Here is only what has to be so before.
"""

from __future__ import annotations

from collections.abc import Iterator
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota import settings as settings_module
from easystack_image.ota.journal.records import Step
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.slots import using
from easystack_image.ota.upgrade import work as works

#: Seconds between two looks whether the old release still lives.
_PACE = 0.5
#: Seconds after which the operator is told again what is waited for.
_EVERY = 60.0


def phase(work: works.Work) -> dict[str, Any]:
    """Expand or migrate, which the old release does not notice."""
    return {'declared': list(work.phases)}


def contract(work: works.Work) -> dict[str, Any]:
    """See that no process of an old release lives, and that none comes.

    The instance that waits for a rollback is given up last: until then there
    is a way back.  From then on there is none.

    :raises NotNow: if the old release is at something for too long
    """
    if declarations.Phase.CONTRACT not in work.phases:
        return {}
    if not _is_last(work.settings):
        # The others before it serve the new release when the last one does,
        # and nothing of the old one answers anybody there: it waits for us.
        _wait(work, {work.standby_name})
        return {'left_to': work.settings.nodes.split()[-1]}
    if not work.irrevocable:
        _wait(work, {work.standby_name})
        work.fleet.let_go(work.standby_name)
        _wait(work, set())
        work.writer.begin(Step.CONTRACT, irrevocable=True)
    return {'contracted': True}


def _is_last(settings: settings_module.Settings) -> bool:
    """Whether no other node has to be upgraded after this one."""
    return settings.nodes.split()[-1:] in ([], [settings.node_url])


def _wait(work: works.Work, but: set[str]) -> None:
    """Wait until nothing of other releases is left.

    :param but: names of instances that are not waited for
    """
    begin = time.monotonic()
    limit = work.options.get('drain_timeout', 0)
    told = begin - _EVERY
    while living := list(_living(work, but)):
        now = time.monotonic()
        what = ', '.join(living)
        if limit and now - begin > limit:
            raise exceptions.NotNow(
                f'before the database can be contracted, {what} must end: it '
                'answers what it was asked. Resume the upgrade later')
        if now - told >= _EVERY:
            work.say(f'waiting for the end of {what}')
            told = now
        work.tools.pause(_PACE)


def _living(work: works.Work, but: set[str]) -> Iterator[str]:
    """Yield what there is of other releases: instances, or processes."""
    names = [name for name in work.fleet.of_others(work.target.path)
             if name not in but]
    yield from (f'instance {name}' for name in names)
    if names or but:
        return
    for version in work.slots.versions():
        if version != work.upgrade.target:
            yield from (f'process {pid} of {version}' for pid in
                        using.processes(work.slots.path(version)))
