"""What a draft changes: for whoever is about to sign it.

A signature says that its holder knows what is signed.  Where the draft lies,
others may have changed it: all that differs from what is published is told
here, or refused if ours never have it (see :mod:`shape`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata
from tuf.api.metadata import TargetFile

from easystack_image import exceptions
from easystack_image.ota.release import archive
from easystack_image.ota.release import channels
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release.repository import Repository


def changes(repository: Repository, role: str,
            draft: Metadata[Any] | None = None) -> list[str]:
    """Return what the draft of a role has, and changes, in words.

    :param draft: as it was read; None to read it
    :raises easystack_image.exceptions.OtaError: if the archives or the index
        of a channel are not what the draft says, or it is no draft of ours
    """
    draft = draft or repository.latest(role)
    before = repository.published(role)
    lines = [_validity(draft)]
    if role in indexes.CHANNELS:
        old = indexes.Index(role) if before is None else indexes.load(
            channels.read_index(repository, role, before), role)
        index = _index(repository, role, draft)
        _check_releases(repository, draft, index, before, old)
        return [*lines, *_targets(draft, before),
                *_differences(index, old)]
    return [*lines, *_keys(draft, before)]


def _validity(draft: Metadata[Any]) -> str:
    return (f'is version {draft.signed.version}, and holds until '
            f'{draft.signed.expires:%Y-%m-%d}')


def _targets(draft: Metadata[Any], before: Metadata[Any] | None,
             ) -> Iterator[str]:
    old = _hashes(before)
    new = _hashes(draft)
    for path in sorted({*old, *new}):
        if path not in new:
            yield f'no longer offers {path}'
        elif new[path] != old.get(path):
            yield f'offers {path} with SHA-256 {new[path]}'


def _hashes(metadata: Metadata[Any] | None) -> dict[str, str]:
    """Return the SHA-256 of what a channel offers, but for its index."""
    return {} if metadata is None else {
        path: target.hashes['sha256']
        for path, target in metadata.signed.targets.items()
        if not path.endswith(f'/{indexes.NAME}')}


def _index(repository: Repository, channel: str, draft: Metadata[Any],
           ) -> indexes.Index:
    """Return the index of a draft.

    :raises easystack_image.exceptions.InvalidRelease: unless it is as ours
        are, to the byte
    """
    data = channels.read_index(repository, channel, draft)
    index = indexes.load(data, channel)
    if index.dump() != data:
        raise exceptions.InvalidRelease(
            f'the index of {channel} has something in it that ours do not '
            'have: ask who made it, and sign nothing')
    return index


def _check_releases(repository: Repository, draft: Metadata[Any],
                    index: indexes.Index, before: Metadata[Any] | None,
                    old: indexes.Index) -> None:
    """Raise unless a channel offers what its index lists, and that only.

    What is published like that was compared before, but for its bytes: they
    are where others can write.
    """
    new, known = _hashes(draft), _hashes(before)
    paths = {f'{index.channel}/{each.archive}': each
             for each in index.releases}
    for path in sorted({*new, *paths}):
        if path not in new:
            raise exceptions.InvalidRelease(
                f'{index.channel} lists {paths[path]}, and does not offer it')
        if path not in paths:
            raise exceptions.InvalidRelease(
                f'{index.channel} offers {path}, and does not list it')
        if new[path] != known.get(path) or paths[path] not in old.releases:
            _check_archive(repository, draft, path, paths[path])
        else:
            _check_bytes(repository, draft.signed.targets[path])


def _check_archive(repository: Repository, draft: Metadata[Any], path: str,
                   release: declarations.Declaration) -> None:
    target = draft.signed.targets[path]
    place = channels.find(repository, target)
    if not _fits(place, target) or archive.inspect(place) != release:
        raise exceptions.InvalidRelease(
            f'{place} is not the release {release} that '
            f'{path.partition("/")[0]} lists')


def _check_bytes(repository: Repository, target: TargetFile) -> None:
    """Raise if an archive is there, and is another; it may be elsewhere."""
    name = indexes.location(target.path, target.hashes['sha256'])
    place = repository.targets / name
    if place.exists() and not _fits(place, target):
        raise exceptions.InvalidRelease(
            f'{place} is not the archive that was published: somebody has '
            'changed it')


def _fits(place: Path, target: TargetFile) -> bool:
    found = archive.describe(place)
    return (found.sha256, found.size) == (target.hashes['sha256'],
                                          target.length)


def _differences(index: indexes.Index, old: indexes.Index) -> Iterator[str]:
    """Yield what an index says of releases that must not be installed."""
    if index.floor < old.floor:
        yield f'LOWERS the floor from {old.floor} to {index.floor}'
    elif index.floor:
        yield f'has the floor {index.floor}'
    revoked = index.all_revoked()
    for number, reason in sorted(revoked.items()):
        yield f'has number {number} revoked: {reason}'
    for number, reason in sorted(old.all_revoked().items()):
        if number not in revoked:
            yield f'NO LONGER has number {number} revoked: {reason}'
    left = index.installable()
    yield (f'leaves {len(left)} releases that may be installed, the newest '
           f'is {left[-1]}' if left else
           'leaves NOTHING that may be installed')
    made = datetime.datetime.fromtimestamp(index.made, datetime.UTC)
    yield f'says that it was made at {made:%Y-%m-%d %H:%M:%S} UTC'


def _keys(draft: Metadata[Any], before: Metadata[Any] | None,
          ) -> Iterator[str]:
    old, new = _holders(before), _holders(draft)
    for role in new:
        threshold, keyids = new[role]
        yield (f'has {role} signed by {threshold} of the keys '
               + ', '.join(keyids)
               + (', as before' if new[role] == old.get(role) else ''))


def _holders(metadata: Metadata[Any] | None,
             ) -> dict[str, tuple[int, list[str]]]:
    """Return the threshold and the keys of each role that one delegates."""
    if metadata is None:
        return {}
    delegations = getattr(metadata.signed, 'delegations', None)
    roles: Mapping[str, Any] = (
        metadata.signed.roles if delegations is None else delegations.roles)
    return {role: (held.threshold, sorted(held.keyids))
            for role, held in roles.items()}
