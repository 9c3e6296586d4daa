"""Runs the hooks of a point, for whoever does an upgrade.

First the classes, with the Python of a slot: the target's if it is there,
else the origin's; a first installation has none before the target is staged.
Then the deployer's executables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import json
from pathlib import Path
import time

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota import redaction
from easystack_image.ota import settings as settings_module
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import executables as executables_module
from easystack_image.ota.hooks import leashed
from easystack_image.ota.hooks import listing

#: Seconds to wait for hooks of an updater that was killed, where what comes
#: decides and where not, and between looks.  What need not finish takes less.
_PATIENCE, _SHORT, _PACE = 30.0, 15.0, 0.1
#: Why what a hook says does not count, where none decides.
_TOO_LATE = 'it is too late to decide'


def glance_files(settings: settings_module.Settings,
                 ) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return Glance's configuration files and directories.

    As the service reads them: see glance/common/wsgi_app.py.
    """
    path = Path(settings.config_file)
    more = path.with_name('glance-image-import.conf')
    directory = Path(f'{path}.d')
    return ((str(more), str(path)) if more.exists() else (str(path),),
            (str(directory),) if directory.is_dir() else ())


class HookCaller:
    """Runs hooks.

    :param settings: the updater's
    :param report: hears how each hook ended, right then
    :param pause: see :func:`leashed.run`
    """

    def __init__(self, settings: settings_module.Settings,
                 report: Callable[[base.Outcome], None] | None = None,
                 pause: Callable[[float], None] | None = None) -> None:
        self._settings = settings
        self._pause = pause
        self._report = report or (lambda outcome: None)
        self._home = home.Home(Path(settings.state_directory))
        self._listing = listing.Listing(self._home)

    def run(self, point: base.Point, context: base.Context,
            ) -> list[base.Outcome]:
        """Run the hooks of a point, in order.

        :param context: its point does not count
        :returns: how they ended; those that failed and are not required, or
            forced, or failed where nothing can be decided any more, are
            among them
        :raises easystack_image.exceptions.HookFailed: if one failed; those
            after it did not run
        :raises easystack_image.exceptions.RetryLater: if one asks for it,
            or one of an earlier run is still at work; where nothing can be
            decided any more, that is told, and none runs
        """
        context = dataclasses.replace(
            context, point=point, notify_url=self._settings.notify_url)
        with contextlib.ExitStack() as stack:
            try:
                classes, found = self._of_point(point, context)
                if not classes and not found:
                    return []
                lock = stack.enter_context(self._locked(
                    _PATIENCE if point.decides else _SHORT))
            except (exceptions.InvalidHooks, exceptions.RetryLater) as error:
                if point.decides:
                    raise
                # As with one that fails here: it is too late.
                self._report(_ignored(base.Outcome(
                    hook='hooks', point=point, state=base.State.FAILED,
                    message=f'none runs at {point}: {error}'), _TOO_LATE))
                return []
            redact = redaction.of(context.config_files, context.config_dirs,
                                  [context.notify_url])
            outcomes = []
            for make in (*(self._of_class(each, context, lock)
                           for each in classes),
                         *(self._of_executable(each, context, lock)
                           for each in found)):
                outcome = _redacted(make(), redact)
                self._report(outcome)
                _decide(outcome)
                outcomes.append(outcome)
            return outcomes

    def _of_point(self, point: base.Point, context: base.Context,
                  ) -> tuple[list[base.Listed],
                             list[executables_module.Executable]]:
        """Return what has to run at a point.

        :raises easystack_image.exceptions.InvalidHooks: if that cannot be
            known, or must not be run
        """
        listed = self.classes(context.slot or context.origin_slot)
        return ([each for each in listed if point in each.points
                 and context.kind in each.kinds], self.executables(point))

    def classes(self, slot: str | None) -> list[base.Listed]:
        """Return the classes of a slot, in the order in which they run.

        :raises easystack_image.exceptions.InvalidHooks: if they do not go
            together, or the slot cannot be asked
        """
        return [] if slot is None else self._listing.of(slot)

    def executables(self, point: base.Point | None = None,
                    ) -> list[executables_module.Executable]:
        """Return the deployer's executables, of one point or all.

        :raises easystack_image.exceptions.InvalidHooks: if one cannot be run
        """
        return executables_module.find(
            Path(self._settings.hooks_directory), point)

    def check(self, slot: str | None) -> None:
        """Find out whether the hooks go together, without running one.

        :raises easystack_image.exceptions.InvalidHooks: if they do not
        """
        self.classes(slot)
        self.executables()

    @contextlib.contextmanager
    def _locked(self, patience: float) -> Iterator[int]:
        """Wait until no hook of an earlier run is at work.

        :param patience: for how many seconds
        :raises easystack_image.exceptions.RetryLater: if one still is
        """
        with contextlib.ExitStack() as stack:
            until = time.monotonic() + patience
            while True:
                try:
                    lock = stack.enter_context(
                        self._home.locked(listing.DIRECTORY))
                    break
                except exceptions.AlreadyRunning:
                    if time.monotonic() > until:
                        raise exceptions.RetryLater(
                            'a hook of an earlier run is still at work',
                            base.RETRY) from None
                    time.sleep(_PACE)
            yield lock

    def _of_class(self, listed: base.Listed, context: base.Context,
                  lock: int) -> Callable[[], base.Outcome]:
        slot = context.slot or context.origin_slot or ''

        def run() -> base.Outcome:
            ended = leashed.run(
                [listing.python(slot), *listing.RUNNER, 'run', listed.name],
                listed.timeout, stdin=json.dumps(context.record()),
                keep=(lock,), finish=listed.finishes, pause=self._pause)
            outcome = _read(listed, context, ended)
            return _ignored(outcome, 'it is not required') if (
                not listed.required) else _forced(
                    outcome, context, listed.overridable)
        return run

    def _of_executable(self, executable: executables_module.Executable,
                       context: base.Context, lock: int,
                       ) -> Callable[[], base.Outcome]:
        return lambda: _forced(executables_module.run(
            executable, context, self._settings.hook_timeout, (lock,),
            self._pause), context, overridable=True)


def _read(listed: base.Listed, context: base.Context, ended: leashed.Ended,
          ) -> base.Outcome:
    """Return what a class answered."""
    failed = base.Outcome(
        hook=listed.name, point=context.point, state=base.State.FAILED,
        seconds=ended.seconds, output=ended.stderr.strip())
    try:
        answer = json.loads(ended.stdout)
        return dataclasses.replace(
            failed, state=base.State(answer['state']),
            message=str(answer['message']), again=float(answer['again']))
    except (ValueError, KeyError, TypeError):
        return dataclasses.replace(failed, message=ended.reason or (
            f'it ended with {ended.code}, and no answer'))


def _forced(outcome: base.Outcome, context: base.Context,
            overridable: bool) -> base.Outcome:
    if outcome.hook not in context.forced:
        return outcome
    if overridable:
        return _ignored(outcome, 'the operator forced it')
    return dataclasses.replace(
        outcome, message=f'{outcome.message} (it cannot be forced)'
        if outcome.state is base.State.FAILED else outcome.message)


def _ignored(outcome: base.Outcome, reason: str) -> base.Outcome:
    if outcome.state is base.State.DONE:
        return outcome
    return dataclasses.replace(
        outcome, state=base.State.IGNORED,
        message=f'{outcome.message} (ignored: {reason})')


def _redacted(outcome: base.Outcome, redact: redaction.Redactor,
              ) -> base.Outcome:
    if not outcome.point.decides:
        outcome = _ignored(outcome, _TOO_LATE)
    return dataclasses.replace(outcome, message=redact(outcome.message),
                               output=redact(outcome.output))


def _decide(outcome: base.Outcome) -> None:
    """Raise if a hook said that the upgrade must not go on."""
    if outcome.state is base.State.FAILED:
        raise exceptions.HookFailed(
            f'{outcome.hook} at {outcome.point}: '
            f'{outcome.message or "it failed"}')
    if outcome.state is base.State.RETRY:
        raise exceptions.RetryLater(
            f'{outcome.hook} at {outcome.point}: {outcome.message}',
            outcome.again)
