"""What is published, read only if those who should have signed it have.

The folder ``public`` is where a web server, or whoever runs one, can write.
What they changed there must not come back as a draft that people sign, nor be
what a draft is compared with.  So nothing is taken from it that clients would
not take, but for the dates: what has expired is there to be renewed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata
from tuf.api.metadata import MetaFile
from tuf.api.metadata import Root
from tuf.api.metadata import Snapshot
from tuf.api.metadata import Targets
from tuf.api.metadata import Timestamp

from easystack_image import exceptions
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import keys

#: Bytes of metadata, at most.
LIMIT = 16 * 1024 * 1024

Roles = dict[str, Metadata[Any]]


def read(directory: Path, trusted: Path | None = None,
         unfinished: Metadata[Any] | None = None) -> Roles:
    """Return the newest metadata of each role; none, if nothing is published.

    :param directory: ``public/metadata``
    :param trusted: a root got by a way that can be trusted, which the others
        have to follow; None for the first of those that are published
    :param unfinished: a root that may be published without all that goes
        with it, since whoever published it was cut short
    :raises easystack_image.exceptions.InvalidRelease: if something cannot be
        understood
    :raises easystack_image.exceptions.Untrusted: if something is lacking, or
        another, or not signed by the keys that it takes
    :raises OSError: if something cannot be read
    """
    numbers = sorted(_numbers(directory))
    if not numbers and trusted is None and not (
            directory / 'timestamp.json').exists():
        return {}
    roots = _roots(directory, numbers, trusted)
    try:
        return _below(directory, roots[-1])
    except exceptions.Untrusted:
        if unfinished is None or (
                unfinished.signed_bytes != roots[-1].signed_bytes):
            raise
    # Nothing but a root was there before that; or the old keys still count.
    if roots[-1].signed.version == 1 and not (
            directory / 'timestamp.json').exists():
        return {Root.type: roots[-1]}
    return {**_below(directory, roots[-2 if len(roots) > 1 else -1]),
            Root.type: roots[-1]}


def _numbers(directory: Path) -> Iterator[int]:
    for path in directory.glob('*.root.json'):
        number = path.name.partition('.')[0]
        if number.isascii() and number.isdigit():
            yield int(number)


def _roots(directory: Path, numbers: list[int], trusted: Path | None,
           ) -> list[Metadata[Any]]:
    """Return the root to begin with, and those that follow, each verified."""
    first = parse(trusted.read_bytes(), str(trusted)) if trusted else (
        _load(directory, f'{numbers[0] if numbers else 1}.root.json',
              Root.type))
    _check_type(first, Root.type, str(trusted))
    begin = first.signed.version
    if not (directory / f'{begin}.root.json').exists():
        raise exceptions.Untrusted(
            f'{directory} lacks {begin}.root.json, which {trusted} is: what '
            'was published has been taken away, or is another repository')
    chain = [first]
    for number in range(begin, max(numbers) + 1):
        name = f'{number}.root.json'
        root = _load(directory, name, Root.type)
        if number == begin and root.signed_bytes != first.signed_bytes:
            raise exceptions.Untrusted(
                f'{directory / name} is not the root in {trusted}')
        _check_version(directory, name, root, number)
        for each in (chain[-1], root):
            _check_signed(directory, name, each, Root.type, root)
        _check_ids(directory / name, root.signed.keys)
        chain.append(root)
    return chain[1:]


def _below(directory: Path, root: Metadata[Any]) -> Roles:
    """Return all roles, verified by a root that is."""
    found: Roles = {Root.type: root}

    def load(role: str, kind: str, name: str, by: Metadata[Any],
             known: MetaFile | None = None) -> Metadata[Any]:
        found[role] = _load(directory, name, kind, known)
        _check_signed(directory, name, by, role, found[role])
        return found[role]

    timestamp = load(Timestamp.type, Timestamp.type, 'timestamp.json', root)
    known = timestamp.signed.snapshot_meta
    snapshot = load(Snapshot.type, Snapshot.type,
                    f'{known.version}.snapshot.json', root, known)
    for role, by in ((Targets.type, Root.type), *(
            (channel, Targets.type) for channel in indexes.CHANNELS)):
        known = _meta(directory, snapshot.signed.meta, role)
        load(role, Targets.type, f'{known.version}.{role}.json', found[by],
             known)
    delegating = found[Targets.type].signed
    _check_ids(directory / f'{delegating.version}.targets.json',
               delegating.delegations.keys)
    return found


def _meta(directory: Path, meta: Mapping[str, MetaFile], role: str,
          ) -> MetaFile:
    if f'{role}.json' not in meta:
        raise exceptions.Untrusted(
            f'the snapshot in {directory} does not name {role}')
    return meta[f'{role}.json']


def _load(directory: Path, name: str, kind: str,
          known: MetaFile | None = None) -> Metadata[Any]:
    """Return metadata of a type, and, if it is known, of these very bytes."""
    path = directory / name
    data = _bytes(path)
    metadata = parse(data, str(path))
    _check_type(metadata, kind, str(path))
    if known is not None:
        _check_version(directory, name, metadata, known.version)
        try:
            known.verify_length_and_hashes(data)
        except tuf_errors.LengthOrHashMismatchError:
            raise exceptions.Untrusted(
                f'{path} is not the file that was published: somebody has '
                'changed it') from None
    return metadata


def _bytes(path: Path) -> bytes:
    try:
        with path.open('rb') as file:
            return file.read(LIMIT)
    except FileNotFoundError:
        raise exceptions.Untrusted(
            f'{path} is lacking: "release publish" was cut short, and has to '
            'be run again; or somebody has taken it away') from None


def parse(data: bytes, name: str) -> Metadata[Any]:
    """Read metadata.

    :param name: what to call it in a message
    :raises easystack_image.exceptions.InvalidRelease: if it is none
    """
    try:
        return Metadata.from_bytes(data)
    except (tuf_errors.RepositoryError, ValueError) as error:
        raise exceptions.InvalidRelease(
            f'{name} cannot be understood: {error}') from None


def _check_type(metadata: Metadata[Any], kind: str, name: str) -> None:
    # One key may sign for several roles: what it says as one of them must
    # not count as another's.
    if metadata.signed.type != kind:
        raise exceptions.Untrusted(
            f'{name} is of the type {metadata.signed.type}, not {kind}')


def _check_version(directory: Path, name: str, metadata: Metadata[Any],
                   version: int) -> None:
    if metadata.signed.version != version:
        raise exceptions.Untrusted(
            f'{directory / name} is version {metadata.signed.version}, not '
            f'{version}')


def _check_signed(directory: Path, name: str, by: Metadata[Any], role: str,
                  metadata: Metadata[Any]) -> None:
    try:
        by.signed.verify_delegate(role, metadata.signed_bytes,
                                  metadata.signatures)
    except (tuf_errors.RepositoryError, ValueError) as error:
        raise exceptions.Untrusted(
            f'{directory / name} is not signed as it must be ({error}): '
            'somebody has changed what is published; or "release publish" '
            'was cut short, and has to be run again') from None


def _check_ids(path: Path, held: Mapping[str, Any]) -> None:
    """Raise unless each key has its own id: under two, it counts twice."""
    for keyid, key in held.items():
        try:
            keys.check(keyid, key.to_dict())
        except exceptions.NotSigned as error:
            raise exceptions.Untrusted(f'{path}: {error}') from None
