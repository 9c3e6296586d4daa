"""Who signs what: making a repository, replacing keys, signing anew.

Each of these makes drafts only.  They count when enough of the keys have
signed them, and they are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import datetime
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole
from tuf.api.metadata import Delegations
from tuf.api.metadata import Metadata
from tuf.api.metadata import Role
from tuf.api.metadata import Root
from tuf.api.metadata import TargetFile
from tuf.api.metadata import Targets

from easystack_image import exceptions
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import keys as keys_module
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release.repository import Repository


@dataclasses.dataclass(frozen=True)
class Holders:
    """The keys of a role, and how many of them have to sign.

    :raises easystack_image.exceptions.NotSigned: if it cannot be met
    """

    threshold: int
    keys: Sequence[Key]

    def __post_init__(self) -> None:
        for key in self.keys:
            keys_module.check(key.keyid, key.to_dict())
        different = len({key.keyid for key in self.keys})
        if not 1 <= self.threshold <= different:
            raise exceptions.NotSigned(
                f'{self.threshold} of {different} different keys cannot sign')


def initialise(repository: Repository, holders: Mapping[str, Holders],
               days: Mapping[str, int], now: datetime.datetime) -> None:
    """Make a repository: drafts of all that people sign.

    :param holders: of each role
    :param days: for how long signatures hold, where it is not the default
    :raises easystack_image.exceptions.NotSigned: if a role has no keys
    :raises easystack_image.exceptions.InvalidRelease: if there is one
    """
    lacking = [role for role in repositories.ROLES if role not in holders]
    if lacking:
        raise exceptions.NotSigned('no keys for: ' + ', '.join(lacking))
    if repository.published(repositories.ROOT) is not None:
        raise exceptions.InvalidRelease(
            f'{repository.root} has a repository already')
    repository.write_expiry(days)
    root = Root(expires=now)
    targets = Targets(expires=now, delegations=Delegations({}, {}))
    for role, held in holders.items():
        _give(root, targets, role, held)
    repository.stage(repositories.ROOT, Metadata(root), now)
    repository.stage(repositories.TARGETS, Metadata(targets), now)
    for channel in indexes.CHANNELS:
        draft = Metadata(Targets(expires=now))
        put_index(repository, draft, indexes.Index(channel), now)
        repository.stage(channel, draft, now)


def rotate(repository: Repository, holders: Mapping[str, Holders],
           now: datetime.datetime) -> None:
    """Give roles other keys than they had, or another threshold.

    Whatever those keys sign is staged, too: what the former keys signed does
    not count any more.

    :raises easystack_image.exceptions.NotSigned: for a role that is none
    """
    unknown = sorted(set(holders) - set(repositories.ROLES))
    if unknown:
        raise exceptions.NotSigned(f'{unknown[0]!r} is none of the roles '
                                   + ', '.join(repositories.ROLES))
    root = repository.latest(repositories.ROOT)
    targets = repository.latest(repositories.TARGETS)
    changed = set()
    for role, held in holders.items():
        _give(root.signed, targets.signed, role, held)
        changed.add(repositories.TARGETS if role in indexes.CHANNELS
                    else repositories.ROOT)
        if role in indexes.CHANNELS:
            repository.stage(role, repository.latest(role), now)
        elif role == repositories.TARGETS:
            changed.add(role)
    for role, draft in ((repositories.ROOT, root),
                        (repositories.TARGETS, targets)):
        if role in changed:
            repository.stage(role, draft, now)


def renew(repository: Repository, roles: Sequence[str],
          now: datetime.datetime) -> None:
    """Stage what roles have signed once more, to hold for longer."""
    for role in roles:
        repository.stage(role, repository.latest(role), now)


def _give(root: Root, targets: Targets, role: str, held: Holders) -> None:
    """Have a role signed by these keys, and no others."""
    keyids = [key.keyid for key in held.keys]
    if role not in indexes.CHANNELS:
        root.roles[role] = Role(keyids, held.threshold)
        _keep(root.keys, held, root.roles.values())
        return
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        raise exceptions.InvalidRelease('the role targets delegates nothing')
    # Each channel can offer what is below its own name only.
    delegations.roles[role] = DelegatedRole(
        role, keyids, held.threshold, terminating=True, paths=[f'{role}/*'])
    _keep(delegations.keys, held, delegations.roles.values())


def _keep(keys: dict[str, Key], held: Holders,
          roles: Iterable[Role]) -> None:
    """Add the keys of a role, and drop those that no role has any more."""
    keys.update({key.keyid: key for key in held.keys})
    used = {keyid for role in roles for keyid in role.keyids}
    for keyid in set(keys) - used:
        del keys[keyid]


def put_index(repository: Repository, draft: Metadata[Any],
              index: indexes.Index, now: datetime.datetime) -> None:
    """Have the draft of a channel offer an index, made now."""
    made = dataclasses.replace(index, made=int(now.timestamp()))
    data = made.dump()
    path = f'{index.channel}/{indexes.NAME}'
    target = TargetFile.from_data(path, data, ['sha256'])
    draft.signed.targets[path] = target
    repository.write(repository.staged / 'targets' / indexes.location(
        path, target.hashes['sha256']), data)
