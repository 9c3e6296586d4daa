"""Running the hooks of an upgrade, and waiting for those that ask for it."""

from __future__ import annotations

import time

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import calls
from easystack_image.ota.journal.records import Step
from easystack_image.ota.upgrade import peers
from easystack_image.ota.upgrade import work as works

#: Seconds from one run of a point to the next, at least.
_LEAST = 1.0


class Hooks:
    """The hooks of one upgrade.

    :param work: the upgrade
    """

    def __init__(self, work: works.Work) -> None:
        self._work = work
        self._caller = calls.HookCaller(work.settings, self._report,
                                        self._pause)

    def _pause(self, seconds: float) -> None:
        """Sleep, unless a rollback is wanted, and is not under way."""
        if self._work.rolling_back:
            time.sleep(seconds)
        else:
            self._work.tools.pause(seconds)

    def _report(self, outcome: base.Outcome) -> None:
        if outcome.message:
            self._work.say(f'{outcome.hook}: {outcome.message}')

    def run(self, point: base.Point, step: Step, reason: str = '') -> None:
        """Run the hooks of a point, as often as they ask for within a limit.

        That counts from when one asks first, what they take included: it may
        have been at work for hours before that.

        Those of the contraction run where it is done: on the last node.

        :param step: to which the point belongs
        :param reason: why it is rolled back, if it is
        :raises easystack_image.exceptions.HookFailed: if one failed
        :raises easystack_image.exceptions.NotNow: if one asks for more time
            than there is
        :raises easystack_image.exceptions.RollbackAsked: if a rollback is
            wanted meanwhile
        """
        if step is Step.CONTRACT and not peers.is_last(self._work.settings):
            return
        limit = self._work.settings.retry_limit
        asked: float | None = None
        while True:
            try:
                self._caller.run(point, self.context(point, step, reason))
                return
            except exceptions.RetryLater as later:
                now = time.monotonic()
                asked = now if asked is None else asked
                pause = max(_LEAST, later.seconds)
                if now + pause - asked > limit:
                    raise exceptions.NotNow(
                        f'{later}; that takes more than {limit:g} s: resume '
                        'the upgrade later') from None
                self._work.say(f'{later}; once more in {pause:g} s')
                self._pause(pause)

    def context(self, point: base.Point, step: Step,
                reason: str = '') -> base.Context:
        """Return what hooks are told."""
        work = self._work
        upgrade = work.upgrade
        target = work.target if work.staged else None
        origin = work.slots.get(upgrade.origin) if upgrade.origin else None
        config_files, config_dirs = calls.glance_files(work.settings)
        release = target.release if target else None
        return base.Context(
            point=point, kind=upgrade.kind, origin=upgrade.origin,
            target=upgrade.target,
            origin_slot=str(origin.path) if origin else None,
            slot=str(target.path) if target else None,
            attempt=max(1, upgrade.begun(step)),
            config_files=config_files, config_dirs=config_dirs,
            state_directory=work.settings.state_directory,
            slots_directory=work.settings.slots_directory,
            phases=tuple(map(str, work.phases)) if release else (),
            forced=work.forced,
            archive_bytes=work.options.get('archive_bytes', 0),
            reason=reason)
