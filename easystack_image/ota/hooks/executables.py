"""The deployer's own executables: ``DIRECTORY/POINT/NAME``.

They run after the classes of the same point, in the order of their names,
and are told by environment variables, as RAUC's handlers are.  An executable
that others may change would be theirs to decide what the updater, usually
root, does; it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import os
from pathlib import Path
import re

from easystack_image import exceptions
from easystack_image.ota import owners
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks import leashed

#: What they exit with.
GO_ON, ROLL_BACK, RETRY_LATER = 0, 1, 21
_NAME = re.compile('[A-Za-z0-9][A-Za-z0-9._-]{0,127}')
#: What editors and package managers leave.
_LEFT = re.compile(r'\.|.*(~|\.(bak|orig|rej|sw[op]|dpkg-\w+|rpm(new|save|'
                   r'orig)|pacnew|md|txt)|README)$', re.IGNORECASE)
_PREFIX = 'EASYSTACK_OTA_'


@dataclasses.dataclass(frozen=True)
class Executable:
    """An executable."""

    point: base.Point
    path: Path

    @property
    def name(self) -> str:
        """What operators know it by: no class can have such a name."""
        return f'{self.point}/{self.path.name}'


def find(directory: Path, point: base.Point | None = None,
         ) -> list[Executable]:
    """Return the executables, in the order in which they run.

    :param directory: need not exist
    :param point: of this one only
    :raises easystack_image.exceptions.InvalidHooks: if the directory has
        something that cannot be run, or must not be trusted
    """
    return list(_find(directory, point))


def _find(directory: Path, point: base.Point | None) -> Iterator[Executable]:
    names = _names(directory)
    if names:
        _check_trusted(directory)
    found = [_point(directory, name) for name in names]
    for each in sorted(found, key=base.Point.ALL.index):
        if point in (None, each):
            _check_trusted(directory / each)
            for name in _names(directory / each):
                path = directory / each / name
                _check(path)
                yield Executable(each, path)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory)
                      if not _LEFT.match(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise exceptions.InvalidHooks(
            f'{directory} cannot be read: {error.strerror}') from None


def _point(directory: Path, name: str) -> base.Point:
    path = directory / name
    if not path.is_dir():
        raise exceptions.InvalidHooks(
            f'{path} is no directory: executables belong in {directory}/'
            'POINT')
    try:
        return base.Point(name)
    except exceptions.InvalidHooks as error:
        raise exceptions.InvalidHooks(f'{path}: {error}') from None


def _check(path: Path) -> None:
    """Raise unless an executable can be run, and is nobody else's."""
    if not _NAME.fullmatch(path.name):
        raise exceptions.InvalidHooks(
            f'{path}: a name has letters, digits, ".", "_" and "-" only')
    resolved = path.resolve()
    if not resolved.is_file():
        raise exceptions.InvalidHooks(
            f'{path} is no file: remove it, or put an executable there')
    for each in {resolved, resolved.parent}:
        _check_trusted(each)
    if not os.access(resolved, os.X_OK):
        raise exceptions.InvalidHooks(
            f'{path} is not executable: "chmod +x" it, or remove it')


def _check_trusted(path: Path) -> None:
    owners.check(path, path.stat(), 'the updater executes what is there',
                 exceptions.InvalidHooks)


def environment(context: base.Context) -> dict[str, str]:
    """Return what an executable is told."""
    values = {
        'POINT': context.point, 'KIND': context.kind,
        'ORIGIN_VERSION': context.origin or '',
        'TARGET_VERSION': context.target,
        'ORIGIN_SLOT': context.origin_slot or '',
        'SLOT': context.slot or '',
        'ATTEMPT': str(context.attempt),
        'CONFIG_FILES': os.pathsep.join(context.config_files),
        'CONFIG_DIRS': os.pathsep.join(context.config_dirs),
        'STATE_DIRECTORY': context.state_directory,
        'SLOTS_DIRECTORY': context.slots_directory,
        'DATABASE_PHASES': ' '.join(context.phases),
        'FORCED': ' '.join(context.forced),
        'REASON': context.reason}
    return {f'{_PREFIX}{name}': str(value) for name, value in values.items()}


def run(executable: Executable, context: base.Context, timeout: float,
        keep: tuple[int, ...] = (),
        pause: Callable[[float], None] | None = None) -> base.Outcome:
    """Run an executable; whatever it does, no exception is raised for it.

    :param timeout: seconds
    :param keep: see :func:`leashed.run`, and ``pause`` as well
    """
    ended = leashed.run([str(executable.path)], timeout,
                        environment=environment(context), keep=keep,
                        pause=pause)
    said = ended.stderr.strip().splitlines() or ended.stdout.strip(
        ).splitlines()
    state, message = _judge(ended, said[-1].strip() if said else '')
    return base.Outcome(
        hook=executable.name, point=context.point, state=state,
        message=message, seconds=ended.seconds,
        output=(ended.stdout[-leashed.KEPT:] + ended.stderr).strip())


def _judge(ended: leashed.Ended, last: str) -> tuple[base.State, str]:
    """Return how it ended, and why: the last line that it printed."""
    if ended.code == GO_ON:
        return base.State.DONE, ''
    if ended.code == RETRY_LATER:
        return base.State.RETRY, last or 'it is not ready'
    if ended.code is None:
        return base.State.FAILED, ended.reason
    how = (f'signal {-ended.code} ended it' if ended.code < 0
           else f'it exited with {ended.code}')
    return base.State.FAILED, f'{how}: {last}' if last else how
