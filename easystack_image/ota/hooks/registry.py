"""The classes that are installed beside this package, in order.

On the slot's side.  All must go together: a hook whose turn cannot be told,
or that waits for one that is not there, is found when they are loaded, and
not in the middle of an upgrade.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import graphlib
import inspect
import math

import stevedore

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.journal.records import Kind

NAMESPACE = 'easystack_image.ota_hooks'


@dataclasses.dataclass(frozen=True)
class Found:
    """A class, and the name of its entry point."""

    name: str
    kind: type[base.Hook]

    @property
    def package(self) -> str:
        """The Python package that it comes with."""
        return self.kind.__module__.partition('.')[0]

    def listed(self) -> base.Listed:
        """Return what the updater has to know."""
        summary = (inspect.getdoc(self.kind) or '').partition('\n')[0]
        return base.Listed(
            name=self.name, points=tuple(self.kind.points),
            timeout=self.kind.timeout, required=self.kind.required,
            overridable=self.kind.overridable, finishes=self.kind.finishes,
            kinds=tuple(map(str, self.kind.kinds)), package=self.package,
            summary=summary)


def load() -> list[Found]:
    """Return the classes that are installed, in order.

    :raises easystack_image.exceptions.InvalidHooks: naming what is wrong
    """
    manager: stevedore.ExtensionManager[base.Hook] = (
        stevedore.ExtensionManager(NAMESPACE,
                                   on_load_failure_callback=_fail))
    return in_order(Found(each.name, each.plugin)
                    for each in manager.extensions)


def load_one(name: str) -> type[base.Hook]:
    """Return a class by its name; the others are left alone.

    :raises easystack_image.exceptions.InvalidHooks: if it is not there
    """
    manager: stevedore.NamedExtensionManager[base.Hook] = (
        stevedore.NamedExtensionManager(
            NAMESPACE, [name], on_load_failure_callback=_fail))
    for each in manager.extensions:
        return each.plugin
    raise exceptions.InvalidHooks(f'there is no hook {name}')


def _fail(_: object, entry_point: object, error: BaseException) -> None:
    raise exceptions.InvalidHooks(
        f'{entry_point} cannot be loaded: {error!r}') from error


def in_order(found: Iterable[Found]) -> list[Found]:
    """Return hooks in an order that suits all, always the same.

    :raises easystack_image.exceptions.InvalidHooks: naming what is wrong
    """
    hooks: dict[str, Found] = {}
    for each in found:
        _check(each)
        if each.name in hooks:
            raise exceptions.InvalidHooks(
                f'two hooks have the name {each.name}: those of '
                f'{hooks[each.name].package} and {each.package}; remove one '
                'of the packages')
        hooks[each.name] = each
    sorter = graphlib.TopologicalSorter(_predecessors(hooks))
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise exceptions.InvalidHooks(
            'no order suits these hooks, each of which is to run before the '
            'next: ' + ', '.join(error.args[1])) from None
    return [hooks[name] for name in _sorted(sorter)]


def _sorted(sorter: graphlib.TopologicalSorter[str]) -> Iterator[str]:
    while sorter.is_active():
        ready = sorter.get_ready()
        yield from sorted(ready)
        sorter.done(*ready)


def _predecessors(hooks: Mapping[str, Found]) -> dict[str, set[str]]:
    earlier: dict[str, set[str]] = {name: set() for name in hooks}
    for name, found in hooks.items():
        for other in (*found.kind.after, *found.kind.before):
            if other not in hooks:
                raise exceptions.InvalidHooks(
                    f'{name} is to run before or after {other}, which is '
                    'not installed; there are ' + ', '.join(sorted(hooks)))
        earlier[name].update(found.kind.after)
        for other in found.kind.before:
            earlier[other].add(name)
    return earlier


def _check(found: Found) -> None:
    """Raise unless a class says all that it has to."""
    kind, name = found.kind, found.name
    if not (inspect.isclass(kind) and issubclass(kind, base.Hook)):
        raise exceptions.InvalidHooks(
            f'{name} is no class that derives from base.Hook')
    if inspect.isabstract(kind):
        raise exceptions.InvalidHooks(f'{name} has no method run')
    for each in ('name', 'points'):
        if not hasattr(kind, each):
            raise exceptions.InvalidHooks(f'{name} does not say its {each}')
    if kind.name != name or not base.NAME.fullmatch(name):
        raise exceptions.InvalidHooks(
            f'{name}: the class calls itself {kind.name!r}; it has to have '
            'the name of its entry point, of small letters, digits and "-"')
    _check_values(name, kind)


def _check_values(name: str, kind: type[base.Hook]) -> None:
    for each in ('points', 'kinds', 'after', 'before'):
        if isinstance(getattr(kind, each), str):
            # Or its letters would be names.
            raise exceptions.InvalidHooks(f'{name}: {each} must be a tuple')
    if not kind.points:
        raise exceptions.InvalidHooks(f'{name} has no point to run at')
    for point in kind.points:
        try:
            base.Point(point)
        except exceptions.InvalidHooks as error:
            raise exceptions.InvalidHooks(f'{name}: {error}') from None
    if not kind.kinds or not set(kind.kinds) <= set(Kind):
        raise exceptions.InvalidHooks(
            f'{name}: kinds may list ' + ', '.join(Kind))
    if not (isinstance(kind.timeout, int | float)
            and math.isfinite(kind.timeout)
            and 0 < kind.timeout <= base.LONGEST):
        raise exceptions.InvalidHooks(
            f'{name}: timeout is {kind.timeout!r}, and not from 0 to '
            f'{base.LONGEST:g} seconds')
