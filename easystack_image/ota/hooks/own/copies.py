"""Whether the images are safe, and the other release can read them.

The copies are the block store's business: its own command is asked, with the
Python of a slot, as an operator would.
"""

from __future__ import annotations

import json
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.hooks import base
from easystack_image.ota.hooks.own import glance
from easystack_image.ota.hooks.own import programs

_MANAGE = 'easystack-image-manage'
#: What it exits with: see easystack_image/cmd/base.py.
_NOT_GOOD = 3
#: Images that are named in a message.
_NAMED = 3
#: How often to look at images with too few copies, and seconds in between.
_LOOKS, _PAUSE = 3, 1.0
_HOUR = 3600.0


def _ask(context: base.Context, slot: str, store: str, *arguments: str,
         ) -> list[dict[str, Any]]:
    """Return what ``easystack-image-manage`` of a slot prints as JSON."""
    done = programs.run(context, _MANAGE, f'--store={store}', *arguments,
                        '-f', 'json', directory=slot)
    if done.returncode not in (0, _NOT_GOOD):
        raise exceptions.HookFailed(
            f'{_MANAGE} {" ".join(arguments)} failed: '
            f'{programs.last_words(done)}')
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


class Copies(base.Hook):
    """Refuse to upgrade while images have fewer copies than min_copies.

    Who upgrades then stakes the last copies on software that is new here.
    """

    name = 'copies'
    points = ('at-preflight', 'at-check')
    timeout = _HOUR
    kinds = base.FORWARD
    overridable = True
    after = ('replica-format',)

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        found = []
        for store, options in glance.Configuration(context).local:
            lacking = _lacking(context, store, options['min_copies'])
            if lacking:
                names = ', '.join(lacking[:_NAMED])
                found.append(
                    f'{len(lacking)} images of store {store} have fewer '
                    f'than {options["min_copies"]} copies ({names}'
                    f'{", ..." if len(lacking) > _NAMED else ""}): run '
                    f'"{_MANAGE} --store {store} repair" first')
        if found:
            raise exceptions.HookFailed('; '.join(found))
        return None


def _lacking(context: base.Context, store: str, least: int) -> list[str]:
    """Return the images with too few copies, however often one looks.

    One that is deleted just then has fewer from moment to moment.
    """
    found: set[str] | None = None
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        lacking = {row['image'] for row in _ask(
            context, programs.slot(context), store, 'copies', 'list',
            '--lacking') if row['copies'] < least}
        found = lacking if found is None else found & lacking
        if not found:
            break
    return sorted(found or ())


class ReplicaFormat(base.Hook):
    """See that each release can read what the other writes to devices."""

    name = 'replica-format'
    points = ('at-check',)
    timeout = 6 * _HOUR
    after = ('configuration',)

    def run(self, context: base.Context) -> str | None:
        """See the base class."""
        for store, _ in glance.Configuration(context).local:
            targets = _formats(context, programs.slot(context), store)
            origins = (_formats(context, context.origin_slot, store)
                       if context.origin_slot else {})
            for kind, origin in origins.items():
                self._check_origin(context, store, origin, targets.get(kind))
            for kind, target in targets.items():
                self._check_target(context, store, target, origins.get(kind))
        return None

    def _check_origin(self, context: base.Context, store: str,
                      origin: dict[str, Any], target: dict[str, Any] | None,
                      ) -> None:
        """See that a format of the release in use can be read."""
        reads: set[int] = set(target['reads']) if target else set()
        if origin['writes'] not in reads:
            # There need be none of it by now.
            raise exceptions.HookFailed(
                f'release {context.origin} writes format {origin["writes"]} '
                f'of {origin["format"]} to store {store}, and goes on with '
                'it until the hand-over, on other nodes even longer; release '
                f'{context.target} does not read it (it reads '
                f'{_list(reads) or "none"}). A release in between has to '
                'read both')

    def _check_target(self, context: base.Context, store: str,
                      target: dict[str, Any], origin: dict[str, Any] | None,
                      ) -> None:
        """See that a format of the new release can be used, and read."""
        kind, reads = target['format'], set(target['reads'])
        before: set[int] = set(origin['reads']) if origin else set()
        if not origin or not before <= reads:
            # Nobody knows without a look which of them are there.
            there = _found(context, store, kind)
            if not there <= reads:
                raise exceptions.HookFailed(
                    f'release {context.target} does not read format '
                    f'{_list(there - reads)} of {kind} that store {store} '
                    f'has; it reads {_list(reads)}')
        if origin and target['writes'] not in before:
            raise exceptions.HookFailed(
                f'release {context.target} writes format '
                f'{target["writes"]} of {kind}, which release '
                f'{context.origin} does not read: there would be no way '
                'back. A release in between has to read both')


def _formats(context: base.Context, slot: str, store: str,
             ) -> dict[str, dict[str, Any]]:
    """Return what the release of a slot knows of formats, by their kinds."""
    return {row['format']: row for row in _ask(
        context, slot, store, 'device', 'formats')}


def _found(context: base.Context, store: str, kind: str) -> set[int]:
    """Return the versions that the devices have."""
    rows = _ask(context, programs.slot(context), store, 'device', 'formats',
                '--scan')
    return {int(version) for row in rows if row['format'] == kind
            for version in row['found'] or ()}


def _list(versions: set[int]) -> str:
    return ', '.join(map(str, sorted(versions)))
