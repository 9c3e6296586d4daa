"""Expand, migrate and contract: what is done to the database.

Hooks of this package do it (``easystack_image.ota.hooks.own``), with the
``glance-manage`` of the new slot.  Here is only what has to be so before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.journal import records
from easystack_image.ota.journal.records import Step
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.slots import using
from easystack_image.ota.upgrade import nodes
from easystack_image.ota.upgrade import peers
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
    is a way back.  From then on there is none, on whatever node.

    :raises NotNow: if the old release is at something for too long, or
        another node has not settled on the new one
    """
    if declarations.Phase.CONTRACT not in work.phases:
        return {}
    if not peers.is_last(work.settings):
        wait_for_old(work, {work.standby_name})
        return {'left_to': work.settings.nodes.split()[-1]}
    if not work.irrevocable:
        wait_for_old(work, {work.standby_name})
        _wait(work, lambda: nodes.behind(work))
        work.fleet.let_go(work.standby_name)
        wait_for_old(work)
        # That may have taken long.
        work.check_turn()
        _wait(work, lambda: nodes.behind(work))
        _announce(work)
        work.writer.begin(Step.CONTRACT, **{records.IRREVOCABLE: True})
    # Whatever became of the file, if something is half done already.
    nodes.contracted(work)
    return {'contracted': True}


def _announce(work: works.Work) -> None:
    """Tell others that they cannot go back any more, and see that none does.

    Whoever does has told so before it asked, or hears now that it is too
    late: the lock that should keep both apart may be lost, or there is none.

    :raises NotNow: if one does, for too long
    """
    nodes.contracted(work)
    try:
        _wait(work, lambda: nodes.behind(work))
    except exceptions.OtaError:
        nodes.recant(work)
        raise


def wait_for_old(work: works.Work, but: Collection[str] = ()) -> None:
    """Wait until nothing of other releases is left.

    :param but: names of instances that are not waited for
    :raises NotNow: if it takes too long
    """
    def left() -> str:
        what = ', '.join(_living(work, but))
        return what and (
            f'{what} must end: an instance does when it has answered what it '
            'was asked, anything else has to be started again')

    _wait(work, left)


def _wait(work: works.Work, look: Callable[[], str]) -> None:
    """Wait until nothing is in the way of the contraction.

    :param look: returns what is; '' for nothing
    :raises NotNow: if it takes too long
    """
    begin = time.monotonic()
    limit = work.options.get('drain_timeout', 0)
    told = begin - _EVERY
    while found := work.tools.attentively(look):
        now = time.monotonic()
        if limit and now - begin > limit:
            raise exceptions.NotNow(
                f'before the database can be contracted, {found}. Resume the '
                'upgrade later')
        if now - told >= _EVERY:
            work.say(f'waiting: {found}')
            told = now
        work.tools.pause(_PACE)


def _living(work: works.Work, but: Collection[str]) -> Iterator[str]:
    """Yield what there is of other releases: instances, or processes."""
    names = [name for name in work.fleet.of_others(work.target.path)
             if name not in but]
    yield from (f'instance {name}' for name in names)
    if names:
        return
    masters = {work.fleet.pid(name) or 0 for name in but}
    for version in work.slots.versions():
        if version != work.upgrade.target:
            yield from (f'process {pid} of {version} ({using.name(pid)})'
                        for pid in using.processes(work.slots.path(version))
                        if not using.descends(pid, masters))
