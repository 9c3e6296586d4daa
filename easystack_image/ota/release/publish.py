"""Signing drafts, telling what they lack, and publishing them.

What is published appears in an order in which a client never sees a part: the
targets, then the metadata that names them, and ``timestamp.json``, which
names all of it, last.  Who is cut short does it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import datetime
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata
from tuf.api.metadata import MetaFile
from tuf.api.metadata import Snapshot
from tuf.api.metadata import Timestamp

from easystack_image import exceptions
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release.repository import Repository


@dataclasses.dataclass(frozen=True)
class State:
    """How a role is."""

    role: str
    version: int
    expires: datetime.datetime
    #: How many keys have signed, and how many have to; for a root that is to
    #: follow another, whichever of the two asks for more.
    signed: int
    threshold: int
    #: Whether it waits to be published.
    draft: bool
    #: For how long signatures of it hold, when they are made.
    period: datetime.timedelta

    def ends_soon(self, now: datetime.datetime,
                  margin: datetime.timedelta) -> bool:
        """Whether it has to be signed again.

        Less than a margin is left, or than a quarter of its time, if that is
        less: what holds for a week is signed again every few days.
        """
        return self.expires - now < min(margin, self.period / 4)


def sign(repository: Repository, signers: Sequence[Signer],
         expected: Mapping[str, str] | None = None,
         ) -> list[tuple[str, str]]:
    """Sign the drafts with the keys that may.

    :param expected: the fingerprints of the drafts to sign, by their roles;
        None for all drafts, whatever they are
    :returns: pairs of a role and the id of the key that signed it
    :raises easystack_image.exceptions.InvalidRelease: if a draft is not the
        one that was expected; then none is signed
    :raises easystack_image.exceptions.NotSigned: if there was nothing to
        sign for a key
    """
    done = []
    for role, draft in _read(repository, expected).items():
        allowed = _keyids(repository, role)
        for signer in signers:
            if signer.public_key.keyid in allowed:
                draft.sign(signer, append=True)
                done.append((role, signer.public_key.keyid))
        repository.write(repository.staged / f'{role}.json',
                         draft.to_bytes())
    for signer in signers:
        keyid = signer.public_key.keyid
        if keyid not in [each for _, each in done]:
            raise exceptions.NotSigned(
                f'key {keyid} may sign none of the drafts '
                f'({", ".join(repository.drafts()) or "there are none"})')
    return done


def _read(repository: Repository, expected: Mapping[str, str] | None,
          ) -> dict[str, Metadata[Any]]:
    """Return the drafts to sign; what is signed is what is compared here."""
    if expected is None:
        return {role: repository.latest(role)
                for role in repository.drafts()}
    found = {}
    for role, fingerprint in expected.items():
        draft = repository.draft(role)
        if draft is None or repositories.fingerprint(draft) != fingerprint:
            raise exceptions.InvalidRelease(
                f'the draft of {role} is not the one that was reviewed, with '
                f'the SHA-256 {fingerprint}: somebody has changed it. '
                'Nothing was signed')
        found[role] = draft
    return found


def _keyids(repository: Repository, role: str) -> set[str]:
    """Return the ids of the keys that a signature of a role may be of."""
    found = set(_delegator(repository, role).get_delegated_role(role).keyids)
    before = repository.published(repositories.ROOT)
    if role == repositories.ROOT and before is not None:
        found |= set(before.signed.roles[role].keyids)
    return found


def _delegator(repository: Repository, role: str) -> Any:
    return repository.latest(
        repositories.TARGETS if role in indexes.CHANNELS
        else repositories.ROOT).signed


def states(repository: Repository) -> Iterator[State]:
    """Yield how each role is."""
    for role in repositories.ROLES:
        metadata = repository.draft(role) or repository.published(role)
        if metadata is not None:
            yield _state(repository, role, metadata)


def _state(repository: Repository, role: str, metadata: Metadata[Any],
           ) -> State:
    draft = repository.draft(role) is not None
    results = [_delegator(repository, role)]
    before = repository.published(repositories.ROOT)
    if role == repositories.ROOT and draft and before is not None:
        results.append(before.signed)
    results = [each.get_verification_result(
        role, metadata.signed_bytes, metadata.signatures)
        for each in results]
    worst = min(results, key=lambda each: len(each.signed) - each.threshold)
    return State(role, metadata.signed.version, metadata.signed.expires,
                 len(worst.signed), worst.threshold, draft,
                 repository.period(role))


def publish(repository: Repository, signers: Iterable[Signer],
            now: datetime.datetime) -> int:
    """Publish the drafts, or nothing but signatures that hold for longer.

    :param signers: with the keys of snapshot and timestamp
    :returns: the version of ``timestamp.json``
    :raises easystack_image.exceptions.NotSigned: if signatures are lacking
    :raises easystack_image.exceptions.InvalidRelease: if a draft does not
        follow what is published
    :raises easystack_image.exceptions.Untrusted: if somebody has changed what
        is published
    """
    repository = repository.resumed()
    _check(repository)
    changed = {role: repository.latest(role) for role in repository.drafts()}
    root = repository.latest(repositories.ROOT).signed
    version = _publish(repository, changed, root, signers, now)
    if root.version == 1 and repositories.ROOT in changed:
        repository.keep_root(changed[repositories.ROOT])
    repository.discard()
    return version


def renew(repository: Repository, signers: Iterable[Signer],
          now: datetime.datetime) -> int:
    """Have snapshot and timestamp hold for longer; leave drafts alone.

    For a timer: it must neither be stopped by a draft that is being signed,
    nor publish one because the last signature came.

    :param signers: with the keys of snapshot and timestamp
    :returns: the version of ``timestamp.json``
    :raises easystack_image.exceptions.NotSigned: if signatures are lacking
    :raises easystack_image.exceptions.InvalidRelease: if nothing is published
    :raises easystack_image.exceptions.Untrusted: if somebody has changed what
        is published
    """
    # Not what was cut short: only a whole publication may end that.
    root = repository.published(repositories.ROOT)
    if root is None or repository.published(
            repositories.TIMESTAMP) is None:
        raise exceptions.InvalidRelease(
            f'{repository.root} has published nothing yet')
    return _publish(repository, {}, root.signed, signers, now)


def _publish(repository: Repository, changed: dict[str, Metadata[Any]],
             root: Any, signers: Iterable[Signer], now: datetime.datetime,
             ) -> int:
    keys = {signer.public_key.keyid: signer for signer in signers}
    _check_keys(root, keys)
    snapshot = repository.published(repositories.SNAPSHOT) or Metadata(
        Snapshot())
    timestamp = repository.published(repositories.TIMESTAMP) or Metadata(
        Timestamp())
    for role, metadata in changed.items():
        if role != repositories.ROOT:
            snapshot.signed.meta[f'{role}.json'] = _described(metadata)
    _renew(repository, repositories.SNAPSHOT, snapshot, root, keys, now)
    timestamp.signed.snapshot_meta = _described(snapshot)
    _renew(repository, repositories.TIMESTAMP, timestamp, root, keys, now)
    _write(repository, {**changed, repositories.SNAPSHOT: snapshot},
           timestamp)
    version: int = timestamp.signed.version
    return version


def _check(repository: Repository) -> None:
    """Raise unless the drafts follow what is published, and are signed."""
    for state in states(repository):
        if not state.draft:
            continue
        draft = repository.latest(state.role)
        before = repository.published(state.role)
        # The same once more: it was cut short when it had nearly published.
        if state.version != (before.signed.version + 1 if before else 1) and (
                before is None or draft.to_bytes() != before.to_bytes()):
            raise exceptions.InvalidRelease(
                f'the draft of {state.role} is version {state.version}, and '
                f'version {before.signed.version if before else 0} is '
                'published: it was not made from that. Remove '
                f'{repository.staged / state.role}.json, and make it anew')
        if state.signed < state.threshold:
            raise exceptions.NotSigned(
                f'{state.role} is signed by {state.signed} of the '
                f'{state.threshold} keys that it takes: have others run '
                '"release sign"')


def _check_keys(root: Any, keys: dict[str, Signer]) -> None:
    for role in repositories.ONLINE:
        held = root.get_delegated_role(role)
        found = len(set(held.keyids).intersection(keys))
        if found < held.threshold:
            raise exceptions.NotSigned(
                f'{role} takes {held.threshold} of its keys; {found} were '
                'given with --key')


def _described(metadata: Metadata[Any]) -> MetaFile:
    return MetaFile.from_data(metadata.signed.version, metadata.to_bytes(),
                              ['sha256'])


def _renew(repository: Repository, role: str, metadata: Metadata[Any],
           root: Any, keys: dict[str, Signer],
           now: datetime.datetime) -> None:
    before = repository.published(role)
    metadata.signed.version = before.signed.version + 1 if before else 1
    metadata.signed.expires = repository.expires(role, now)
    metadata.signatures.clear()
    for keyid in root.get_delegated_role(role).keyids:
        if keyid in keys:
            metadata.sign(keys[keyid], append=True)


def _write(repository: Repository, changed: dict[str, Metadata[Any]],
           timestamp: Metadata[Any]) -> None:
    """Write files; the root is the first of those that changed."""
    staged = repository.staged / 'targets'
    for path in sorted(staged.rglob('*')) if len(changed) > 1 else ():
        target = repository.targets / path.relative_to(staged)
        if path.is_file() and not target.exists():
            repository.link(path, target)
    # A client needs the root before anything that its new keys signed.
    for role, metadata in changed.items():
        repository.write(repository.metadata /
                         f'{metadata.signed.version}.{role}.json',
                         metadata.to_bytes())
    repository.write(repository.metadata / 'timestamp.json',
                     timestamp.to_bytes())
