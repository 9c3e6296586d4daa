"""Which of the releases that a channel offers this machine may install.

Decided without asking or writing anything, so that it can be tested in full.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

from easystack_image import exceptions
from easystack_image.ota.client import memory as memories
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import index as indexes


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """A release of the channel."""

    release: declarations.Declaration
    #: Why it must not be installed here, or ''.
    refusal: str = ''


def judge(index: indexes.Index, memory: memories.Memory,
          installed: declarations.Declaration | None) -> list[Offer]:
    """Return all that a channel offers, the newest first.

    :param installed: the release that is in use here, if there is one
    """
    return [Offer(each, refusal(each, memory, installed))
            for each in reversed(index.releases)]


def refusal(release: declarations.Declaration, memory: memories.Memory,
            installed: declarations.Declaration | None) -> str:
    """Return why a release must not be installed here, or ''."""
    barred = bar(release.number, memory)
    if barred:
        return barred
    if installed is not None and installed.number < release.minimum:
        return (f'it can be upgraded to from number {release.minimum} on '
                f'only, and {installed} is installed: install one in between '
                'first')
    return ''


def bar(number: int, memory: memories.Memory) -> str:
    """Return why nobody must install a release any more, or ''."""
    if number in memory.revoked:
        return f'it is revoked: {memory.revoked[number]}'
    if number < memory.floor:
        return (f'its number is below {memory.floor}, the lowest that may '
                'still be installed here')
    return ''


def warning(installed: declarations.Declaration | None,
            memory: memories.Memory) -> str:
    """Return why the release that is in use should not be, or ''."""
    if installed is None:
        return ''
    # It was upgraded to already.
    reason = refusal(installed, memory, None)
    return reason and (f'release {installed}, which is installed, should not '
                       f'be used any more: {reason}')


def choose(offers: Sequence[Offer], version: str | None,
           installed: declarations.Declaration | None,
           ) -> declarations.Declaration | None:
    """Return the release to install.

    :param version: which it has to be; None for the newest that may be
    :returns: None if nothing newer than what is installed may be
    :raises easystack_image.exceptions.RefusedRelease: if the one that was
        asked for must not be installed, or is none
    """
    for offer in offers:
        if version is None:
            if not offer.refusal and (
                    installed is None
                    or offer.release.number > installed.number):
                return offer.release
        elif offer.release.version == version:
            if offer.refusal:
                raise exceptions.RefusedRelease(
                    f'release {offer.release} must not be installed: '
                    f'{offer.refusal}')
            return offer.release
    if version is not None:
        known = ', '.join(each.release.version for each in offers)
        raise exceptions.RefusedRelease(
            f'the channel has no release {version[:80]!r}; it has: '
            f'{known or "none"}')
    return None
