"""What a channel offers: adding releases, and revoking them.

These make drafts, as :mod:`easystack_image.ota.release.ceremony` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
import dataclasses
import datetime
from pathlib import Path
from typing import Any

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata
from tuf.api.metadata import TargetFile

from easystack_image import exceptions
from easystack_image.ota.release import archive
from easystack_image.ota.release import ceremony
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release.repository import Repository

#: Seconds by which clocks may differ, as clients have it.
_TOLERANCE = 300


def add(repository: Repository, channel: str, path: Path,
        now: datetime.datetime) -> declarations.Declaration:
    """Offer a release in a channel; its archive is copied.

    :raises easystack_image.exceptions.InvalidRelease: if the archive is not
        as it should be, or there is another release of this number or version
    """
    declaration = archive.inspect(path)
    draft, index = read(repository, channel)
    # Clients know releases, floor and what is revoked by numbers, whatever
    # channel they came from.
    for name, other in _all(repository):
        _check_unique(name, other, declaration, path)
    target = TargetFile.from_file(f'{channel}/{declaration.archive}',
                                  str(path), ['sha256'])
    draft.signed.targets[target.path] = target
    repository.link(path, repository.staged / 'targets' /
                    indexes.location(target.path,
                                          target.hashes['sha256']))
    _stage(repository, draft, _with(index, declaration), now)
    return declaration


def _all(repository: Repository) -> Iterator[tuple[str, indexes.Index]]:
    for channel in indexes.CHANNELS:
        yield channel, read(repository, channel)[1]


def _check_unique(channel: str, index: indexes.Index,
                  declaration: declarations.Declaration, path: Path) -> None:
    same = [each for each in index.releases if declaration.number ==
            each.number or declaration.version == each.version]
    if same and same != [declaration]:
        raise exceptions.InvalidRelease(
            f'{channel} has release {same[0]} already; {path} is another: '
            'give it a version and a number of its own')
    if declaration.number in index.all_revoked():
        raise exceptions.InvalidRelease(
            f'release {declaration} is revoked in {channel}')


def _with(index: indexes.Index, declaration: declarations.Declaration,
          ) -> indexes.Index:
    releases = {each.number: each for each in index.releases}
    releases[declaration.number] = declaration
    return dataclasses.replace(index, releases=tuple(
        releases[number] for number in sorted(releases)))


def revoke(repository: Repository, channel: str, numbers: Collection[int],
           reason: str, now: datetime.datetime, force: bool = False,
           ) -> list[str]:
    """Have nobody install some releases any more.

    :param reason: told to whoever asks for one of them
    :param force: whether numbers that no channel has may be revoked
    :returns: the other channels that still offer some of them
    :raises easystack_image.exceptions.InvalidRelease: for a number that no
        channel has: there is no way back, if a later release gets it
    """
    draft, index = read(repository, channel)
    offered = {name: {each.number for each in other.releases}
               for name, other in _all(repository)}
    unknown = sorted(set(numbers).difference(*offered.values()))
    if unknown and not force:
        raise exceptions.InvalidRelease(
            f'no channel has a release with number {unknown[0]}. Revoking '
            'cannot be undone, and would hit a later release that gets it; '
            '--force does it')
    revoked = dict(index.revoked)
    revoked.update(dict.fromkeys(numbers, reason))
    _stage(repository, draft, dataclasses.replace(
        index, revoked=revoked), now)
    return [name for name, other in _all(repository) if name != channel and
            offered[name].intersection(numbers).difference(
                other.all_revoked())]


def raise_floor(repository: Repository, channel: str, number: int,
                now: datetime.datetime, force: bool = False) -> None:
    """Have nobody install releases below a number any more.

    :param force: whether nothing may be left to be installed
    :raises easystack_image.exceptions.InvalidRelease: if it was higher, or
        nothing would be left: there is no way back
    """
    draft, index = read(repository, channel)
    if number < index.floor:
        raise exceptions.InvalidRelease(
            f'the floor of {channel} is {index.floor}; it is never lowered')
    raised = dataclasses.replace(index, floor=number)
    if not raised.installable() and not force:
        raise exceptions.InvalidRelease(
            f'{channel} has no release from number {number} on that may be '
            'installed. A floor is never lowered; --force does it')
    _stage(repository, draft, raised, now)


def check_clock(repository: Repository, channel: str,
                now: datetime.datetime) -> None:
    """Raise if the last index was made at a time that is still to come.

    Clients refuse an index that a clock made which was ahead; they go on to
    know one that is older than the last.

    :raises easystack_image.exceptions.ClockSetBack: one of two clocks was
        wrong
    """
    _, index = read(repository, channel)
    if now.timestamp() < index.made - _TOLERANCE:
        made = datetime.datetime.fromtimestamp(index.made, datetime.UTC)
        raise exceptions.ClockSetBack(
            f'the clock shows {now:%Y-%m-%d %H:%M:%S} UTC, but the index of '
            f'{channel} was made at {made:%Y-%m-%d %H:%M:%S} UTC: set the '
            'clock right. If it is right, the last one was made by a machine '
            'whose clock was ahead, and clients refuse it: --accept-clock '
            'makes it anew')


def _stage(repository: Repository, draft: Metadata[Any],
           index: indexes.Index, now: datetime.datetime) -> None:
    ceremony.put_index(repository, draft, index, now)
    repository.stage(index.channel, draft, now)


def read(repository: Repository, channel: str,
         ) -> tuple[Metadata[Any], indexes.Index]:
    """Return what a channel offers, drafts included, and its index.

    :raises easystack_image.exceptions.InvalidRelease: if there is none
    """
    metadata = repository.latest(channel)
    return metadata, indexes.load(read_index(repository, channel, metadata),
                                  channel)


def read_index(repository: Repository, channel: str,
               metadata: Metadata[Any]) -> bytes:
    """Return the index that metadata of a channel names, as it is.

    :raises easystack_image.exceptions.InvalidRelease: if it is lacking, or
        another
    """
    target = metadata.signed.targets[f'{channel}/{indexes.NAME}']
    path = find(repository, target)
    data = path.read_bytes()
    try:
        target.verify_length_and_hashes(data)
    except tuf_errors.LengthOrHashMismatchError:
        raise exceptions.InvalidRelease(
            f'{path} is not the file that {channel} names') from None
    return data


def find(repository: Repository, target: TargetFile) -> Path:
    """Return where a target lies, staged or published.

    :raises easystack_image.exceptions.InvalidRelease: if it is lacking
    """
    name = indexes.location(target.path, target.hashes['sha256'])
    for place in (repository.staged / 'targets', repository.targets):
        if (place / name).exists():
            return place / name
    raise exceptions.InvalidRelease(f'{repository.targets / name} is lacking')
