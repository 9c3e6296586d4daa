"""Configuration files of three sides: two releases', and the operator's.

A release brings its default configuration (``config/`` in its slot).  Where
an operator has edited a file, nobody but him can say what an upgrade means
for it: what he changed, what the new release changed, and where these meet.
That is found here, line by line, by the classical way of three-way merges
(diff3: where both sides agree with their origin, the texts are in step; in
between, at most one side has changed something, or it is a conflict).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import difflib
import enum
from pathlib import Path

from easystack_image import exceptions

#: The most bytes that a file may have that is compared.
LIMIT = 4 << 20


class Change(enum.StrEnum):
    """Who has changed a part of a file."""

    NOBODY = 'nobody'
    OPERATOR = 'operator'
    RELEASE = 'release'
    #: To the same.
    BOTH = 'both'
    CONFLICT = 'conflict'


class State(enum.StrEnum):
    """What an upgrade means for a file."""

    #: The defaults are the same, whatever the operator has.
    SAME = 'same'
    #: The new default is what the operator has already.
    DONE = 'done'
    #: The default has changed; the operator has the old one as it was.
    OUTDATED = 'outdated'
    #: The default has changed, and the operator something else.
    MERGE = 'merge'
    #: The default has changed where the operator has changed something.
    CONFLICT = 'conflict'
    #: The release brings it, and the operator has none.
    NEW = 'new'
    #: The release brings it no longer, and the operator has one.
    GONE = 'gone'


#: Those that an operator should look at.
ATTENTION = frozenset({State.OUTDATED, State.MERGE, State.CONFLICT,
                       State.NEW, State.GONE})


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of a file, in its three versions."""

    change: Change
    #: The number of its first line in the operator's file, from 1 on.
    line: int
    origin: tuple[str, ...]
    target: tuple[str, ...]
    operator: tuple[str, ...]

    def __len__(self) -> int:
        return max(map(len, (self.origin, self.target, self.operator)))


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One file.

    :param name: relative to the directories
    :param parts: all of it, in order; none if one of the sides has no file
    """

    name: str
    state: State
    parts: tuple[Part, ...] = ()

    def lines(self, change: Change) -> int:
        """Return how many lines have been changed by someone."""
        return sum(len(part) for part in self.parts
                   if part.change is change)


def compare(origin: Path, target: Path, operator: Path) -> list[Report]:
    """Compare all files that one of two releases brings.

    :param origin: ``config/`` of the release that is in use
    :param target: ``config/`` of the other one
    :param operator: where the deployment has them, under the same names
    :raises ConfigurationError: if a file cannot be read
    """
    names = sorted({path.relative_to(root).as_posix()
                    for root in (origin, target)
                    for path in root.rglob('*') if path.is_file()})
    return [report for name in names for report in [_compare(
        name, *(_read(root / name) for root in (origin, target, operator)))]
        if report]


def _compare(name: str, origin: Sequence[str] | None,
             target: Sequence[str] | None, operator: Sequence[str] | None,
             ) -> Report | None:
    """Compare one file; None for one that has to do with nobody."""
    if target is None:
        return Report(name, State.GONE) if operator is not None else None
    if operator is None:
        # What was left out before may stay so.
        return Report(name, State.NEW) if origin is None else None
    parts = tuple(merge(origin or (), target, operator))
    changes = {part.change for part in parts}
    if Change.CONFLICT in changes:
        state = State.CONFLICT
    elif Change.RELEASE not in changes:
        state = State.DONE if Change.BOTH in changes else State.SAME
    else:
        state = (State.MERGE if Change.OPERATOR in changes
                 else State.OUTDATED)
    return Report(name, state, parts)


def merge(origin: Sequence[str], target: Sequence[str],
          operator: Sequence[str]) -> Iterator[Part]:
    """Yield the parts of a file; together they are all of each version.

    :param origin: lines, without their ends
    """
    at = [0, 0, 0]
    for start, length, ours, theirs in _in_step(origin, target, operator):
        yield from _part(origin[at[0]:start], target[at[1]:ours],
                         operator[at[2]:theirs], at[2])
        same = tuple(origin[start:start + length])
        if same:
            yield Part(Change.NOBODY, theirs + 1, same, same, same)
        at = [start + length, ours + length, theirs + length]


def _part(origin: Sequence[str], target: Sequence[str],
          operator: Sequence[str], line: int) -> Iterator[Part]:
    """Yield a part that is not in step, if there is anything."""
    base, new, own = tuple(origin), tuple(target), tuple(operator)
    if base == new == own:
        return
    change = (Change.BOTH if new == own else
              Change.RELEASE if own == base else
              Change.OPERATOR if new == base else Change.CONFLICT)
    yield Part(change, line + 1, base, new, own)


def _in_step(origin: Sequence[str], target: Sequence[str],
             operator: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Yield where all three agree: start and length, and the other starts.

    The last one, of no length, is their end.
    """
    ours, theirs = _blocks(origin, target), _blocks(origin, operator)
    left, right = next(ours), next(theirs)
    while True:
        begin = max(left.a, right.a)
        end = min(left.a + left.size, right.a + right.size)
        if begin < end:
            yield (begin, end - begin, left.b + begin - left.a,
                   right.b + begin - right.a)
        if not left.size and not right.size:
            yield len(origin), 0, len(target), len(operator)
            return
        # Each ends with one of no size, behind all others.
        if right.size == 0 or (left.size and left.a + left.size
                               <= right.a + right.size):
            left = next(ours)
        else:
            right = next(theirs)


def _blocks(one: Sequence[str], other: Sequence[str],
            ) -> Iterator[difflib.Match]:
    return iter(difflib.SequenceMatcher(
        None, one, other, autojunk=False).get_matching_blocks())


def merged(report: Report, names: Mapping[str, str]) -> str:
    """Return the operator's file with what the release has changed.

    Conflicts are in it as version control systems mark them.

    :param names: what the sides are called: ``origin``, ``target`` and
        ``operator``
    """
    lines: list[str] = []
    for part in report.parts:
        if part.change is Change.CONFLICT:
            lines += [f'<<<<<<< {names["operator"]}', *part.operator,
                      f'||||||| {names["origin"]}', *part.origin, '=======',
                      *part.target, f'>>>>>>> {names["target"]}']
        else:
            lines += (part.target if part.change is Change.RELEASE
                      else part.operator)
    return ''.join(f'{line}\n' for line in lines)


def _read(path: Path) -> list[str] | None:
    """Return the lines of a file, None if there is none."""
    try:
        with path.open('rb') as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise exceptions.ConfigurationError(
                f'{path} has more than {LIMIT} bytes')
        # Of all that ends lines for str.splitlines(), only what an editor
        # makes of them does here: the rest may stand in a comment.
        return [line.removesuffix('\r') for line
                in data.decode().removesuffix('\n').split('\n')]
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise exceptions.ConfigurationError(
            f'{path} cannot be read: {error}') from error
