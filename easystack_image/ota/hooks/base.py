"""What a hook is, when it runs, and what it is told.

The contract in short: a hook is told a :class:`Context`, and either returns,
or raises :class:`easystack_image.exceptions.HookFailed` (the upgrade is
rolled back) or :class:`easystack_image.exceptions.RetryLater` (it is asked
again later).  The updater, the hook, or the machine may be killed at any
moment, and the same point is run again afterwards: a hook must be
idempotent.  ``testing`` has what checks that.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
import dataclasses
import enum
import re
from typing import Any, ClassVar

from easystack_image import exceptions
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Step

#: What names of hooks look like.
NAME = re.compile('[a-z0-9][a-z0-9-]{0,63}')
#: Seconds that a hook may take unless it says otherwise, and the most.
TIMEOUT, LONGEST = 600.0, 7 * 86400.0
#: Kinds for hooks that are no reason to stay with a release, nor to wait.
FORWARD = (Kind.INSTALL, Kind.UPGRADE)
#: Seconds after which to ask a hook again that did not say when.
RETRY = 60.0


class Point(str):
    """When hooks run: before, at, or after a step; or around a rollback.

    At a step, hooks do a part of the step itself, such as the database's.

    :raises easystack_image.exceptions.InvalidHooks: if there is no such
        point
    """

    __slots__ = ()

    #: All of them, in the order in which they come.
    ALL: ClassVar[tuple[str, ...]] = (
        *(f'{when}-{step}' for step in Step if step is not Step.ROLLBACK
          for when in ('before', 'at', 'after')),
        'before-rollback', 'after-rollback')

    def __new__(cls, name: str) -> Point:
        """Return the point of a name."""
        if name not in cls.ALL:
            raise exceptions.InvalidHooks(
                f'there is no point {name[:80]!r}; there are '
                + ', '.join(cls.ALL))
        return super().__new__(cls, name)

    @classmethod
    def before(cls, step: Step) -> Point:
        """Return the point before a step."""
        return cls(f'before-{step}')

    @classmethod
    def at(cls, step: Step) -> Point:
        """Return the point at which hooks do a part of a step."""
        return cls(f'at-{step}')

    @classmethod
    def after(cls, step: Step) -> Point:
        """Return the point after a step."""
        return cls(f'after-{step}')

    @property
    def decides(self) -> bool:
        """Whether a hook that fails here changes what happens.

        A rollback is not rolled back, nor what is committed.
        """
        return self not in ('before-rollback', 'after-rollback',
                            'after-commit')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What a hook is told.  All paths are absolute."""

    point: Point
    kind: Kind
    #: The version in use before, None for the first installation.
    origin: str | None
    target: str
    #: Where the origin is installed, and the target, None if it is not yet.
    origin_slot: str | None = None
    slot: str | None = None
    #: From 1: how often the point is run for this upgrade.
    attempt: int = 1
    #: Of Glance, as ``--config-file`` and ``--config-dir`` name them.
    config_files: tuple[str, ...] = ()
    config_dirs: tuple[str, ...] = ()
    state_directory: str = ''
    slots_directory: str = ''
    #: The phases of the database that the target declares.
    phases: tuple[str, ...] = ()
    #: The hooks that do not stop the upgrade, because the operator says so.
    forced: tuple[str, ...] = ()
    #: The size of what the target's archive holds, in bytes; 0 if unknown.
    archive_bytes: int = 0
    #: Why it is rolled back, if it is.
    reason: str = ''
    #: Where notifications go, '' for nowhere; may be a secret.
    notify_url: str = ''

    def record(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Context:
        """Read what :meth:`record` returned.

        What this release does not know is left out: the updater may be of a
        later one.

        :raises easystack_image.exceptions.InvalidHooks: if it is malformed
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        try:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in record.items() if name in known}
            values['point'] = Point(record['point'])
            values['kind'] = Kind(record['kind'])
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise exceptions.InvalidHooks(
                f'what the hook was told is malformed: {error!r}') from None


class State(enum.StrEnum):
    """How a hook ended."""

    DONE = 'done'
    FAILED = 'failed'
    #: It failed, and does not stop the upgrade all the same.
    IGNORED = 'ignored'
    RETRY = 'retry'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a hook ended, without secrets in it."""

    hook: str
    point: Point
    state: State
    #: What it has to say; why it failed.
    message: str = ''
    #: How long it took.
    seconds: float = 0.0
    #: The end of what it printed.
    output: str = ''
    #: Seconds after which to ask it again, for ``RETRY``.
    again: float = RETRY

    def record(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """What the updater knows of a class in a slot; see :class:`Hook`."""

    name: str
    points: tuple[str, ...]
    timeout: float = TIMEOUT
    required: bool = True
    overridable: bool = False
    finishes: bool = False
    kinds: tuple[str, ...] = tuple(Kind)
    #: The package that it comes with.
    package: str = ''
    #: What it does, in a line.
    summary: str = ''

    def record(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return dataclasses.asdict(self)


class Hook(abc.ABC):
    """A hook.  An object of it is made for each run."""

    #: What operators know it by; that of its entry point.
    name: ClassVar[str]
    #: When it runs; names of :class:`Point`.
    points: ClassVar[Sequence[str]]
    #: Names of hooks that run earlier, and later, at the same point.
    after: ClassVar[Sequence[str]] = ()
    before: ClassVar[Sequence[str]] = ()
    #: What it is for: installing, upgrading, going back.
    kinds: ClassVar[Sequence[str]] = tuple(Kind)
    #: Seconds; it is killed afterwards, and has failed.
    timeout: ClassVar[float] = TIMEOUT
    #: Whether the upgrade is stopped if it fails.
    required: ClassVar[bool] = True
    #: Whether an operator may go on although it fails (``Context.forced``).
    overridable: ClassVar[bool] = False
    #: Whether it goes on when the updater is killed, which waits for it when
    #: the upgrade is resumed: for what must not be cut short.  Others are
    #: killed with the updater.
    finishes: ClassVar[bool] = False

    @abc.abstractmethod
    def run(self, context: Context) -> str | None:
        """Do it; it may have been done already, or in part.

        What it prints is kept for the operator, and shown if it fails.
        Passwords of Glance's configuration are taken out of it.

        :returns: what operators should know, if anything
        :raises easystack_image.exceptions.HookFailed: to have the upgrade
            rolled back; the message says what to do
        :raises easystack_image.exceptions.RetryLater: to be asked again
        """
