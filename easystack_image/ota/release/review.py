"""What a draft changes: for whoever is about to sign it.

A signature says that its holder knows what is signed.  Where the draft lies,
others may have changed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuf.api.metadata import Metadata

from easystack_image import exceptions
from easystack_image.ota.release import archive
from easystack_image.ota.release import channels
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release.repository import Repository


def changes(repository: Repository, role: str) -> list[str]:
    """Return what the draft of a role changes, in words.

    :raises easystack_image.exceptions.InvalidRelease: if the archives or the
        index of a channel are not what the draft says
    """
    draft, before = repository.latest(role), repository.published(role)
    if role in indexes.CHANNELS:
        return [*_targets(draft, before), *_index(repository, role)]
    return list(_keys(draft, before))


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


def _index(repository: Repository, channel: str) -> Iterator[str]:
    """Yield what an index says, having compared it with what it names."""
    draft, index = channels.read(repository, channel)
    for release in index.releases:
        path = f'{channel}/{release.archive}'
        target = draft.signed.targets.get(path)
        if target is None:
            raise exceptions.InvalidRelease(
                f'{channel} lists {release}, and does not offer it')
        name = indexes.location(path, target.hashes['sha256'])
        staged = repository.staged / 'targets' / name
        if staged.exists() and (
                archive.describe(staged).sha256 != target.hashes['sha256']
                or archive.inspect(staged) != release):
            raise exceptions.InvalidRelease(
                f'{staged} is not the release {release} that {channel} lists')
    if index.floor:
        yield f'has the floor {index.floor}'
    for number, reason in sorted(index.all_revoked().items()):
        yield f'has number {number} revoked: {reason}'


def _keys(draft: Metadata[Any], before: Metadata[Any] | None,
          ) -> Iterator[str]:
    old, new = _holders(before), _holders(draft)
    for role in new:
        if new[role] != old.get(role):
            threshold, keyids = new[role]
            yield (f'has {role} signed by {threshold} of the keys '
                   + ', '.join(keyids))


def _holders(metadata: Metadata[Any] | None,
             ) -> dict[str, tuple[int, list[str]]]:
    """Return the threshold and the keys of each role that one delegates."""
    if metadata is None:
        return {}
    delegations = getattr(metadata.signed, 'delegations', None)
    roles: Mapping[str, Any] = (
        metadata.signed.roles if delegations is None else delegations.roles)
    return {role: (held.threshold, list(held.keyids))
            for role, held in roles.items()}
