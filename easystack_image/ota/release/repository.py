"""The folder of a TUF repository: what is published, and what is in work.

::

    DIR/public/metadata/    N.root.json, N.targets.json, N.stable.json,
                            N.candidate.json, N.snapshot.json, timestamp.json
    DIR/public/targets/     CHANNEL/SHA256.index.json, the list of a channel,
                            and CHANNEL/SHA256.easystack-image-VERSION.tar
    DIR/staged/             ROLE.json and targets/..., not yet published
    DIR/trusted-root.json   the first root that was published from here
    DIR/expiry.json         for how many days each role's signatures hold
    DIR/lock                held by whoever changes anything

``public`` is what a web server or a USB stick gets, as it is; since others can
write there, it is read by :mod:`published` only.  The roles are
those of the TUF specification (https://theupdateframework.github.io); the
role ``targets`` signs nothing itself but delegates the two channels, each to
keys of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import datetime
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import Any

from tuf.api.metadata import Metadata
from tuf.api.metadata import Root
from tuf.api.metadata import Snapshot
from tuf.api.metadata import Targets
from tuf.api.metadata import Timestamp

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import published
from easystack_image.ota.release import shape

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = (
    Root.type, Targets.type, Snapshot.type, Timestamp.type)
#: Signed by people, in this order.
OFFLINE = (ROOT, TARGETS, *indexes.CHANNELS)
#: Signed whenever something is published.
ONLINE = (SNAPSHOT, TIMESTAMP)
ROLES = (*OFFLINE, *ONLINE)
TRUSTED = 'trusted-root.json'
#: Days.
EXPIRY = {ROOT: 365, TARGETS: 365, 'stable': 180, 'candidate': 90,
          SNAPSHOT: 14, TIMESTAMP: 14}
#: A web server has to read it.
_MODE = 0o644
#: Bytes that are copied at once.
_PIECE = 1024 * 1024


class Repository:
    """Reads and writes the folder.

    :param root: the folder, ``DIR`` above
    :param trusted: the first root, got by a way that can be trusted; None for
        ``DIR/trusted-root.json``, if it is there
    :param resuming: whether a root may be published already without all that
        goes with it, as when publishing was cut short
    """

    def __init__(self, root: Path, trusted: Path | None = None,
                 resuming: bool = False) -> None:
        self.root = root
        self._trusted = trusted
        self._resuming = resuming
        self.metadata = root / 'public' / 'metadata'
        self.targets = root / 'public' / 'targets'
        self.staged = root / 'staged'

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have the folder to ourselves; wait for others that change it.

        :raises OSError: if it cannot be made
        """
        self._make(self.root)
        fd = os.open(self.root / 'lock', os.O_RDWR | os.O_CREAT
                     | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            with fsio.locked(fd):
                yield
        finally:
            os.close(fd)

    def resumed(self) -> Repository:
        """Return the same, for whoever may have been cut short publishing.

        People must not sign then: until all is published, keys count that the
        new root has taken away.
        """
        return Repository(self.root, self._trusted, resuming=True)

    @property
    def trusted(self) -> Path | None:
        """Where the root is that all others have to follow, if we have it."""
        kept = self.root / TRUSTED
        return self._trusted or (kept if kept.exists() else None)

    def keep_root(self, root: Metadata[Any]) -> None:
        """Keep the first root where no web server writes."""
        self.write(self.root / TRUSTED, root.to_bytes())

    def published(self, role: str) -> Metadata[Any] | None:
        """Return what is published of a role, verified, or None.

        It may have expired.

        :raises easystack_image.exceptions.InvalidRelease: if something of
            what is published cannot be understood
        :raises easystack_image.exceptions.Untrusted: if something of it is
            not signed as it must be, or lacking
        """
        return published.read(
            self.metadata, self.trusted,
            self.draft(ROOT) if self._resuming else None).get(role)

    def draft(self, role: str) -> Metadata[Any] | None:
        """Return what is staged of a role, or None.

        :raises easystack_image.exceptions.OtaError: if it has something in
            it that ours never have, see :mod:`shape`
        """
        found = _read(self.staged / f'{role}.json')
        if found is not None:
            shape.check(role, found)
        return found

    def latest(self, role: str) -> Metadata[Any]:
        """Return the draft of a role, or what is published.

        :raises easystack_image.exceptions.InvalidRelease: if there is neither
        """
        found = self.draft(role) or self.published(role)
        if found is None:
            raise exceptions.InvalidRelease(
                f'{self.root} has no role {role}: is it a repository? '
                '"release init" makes one')
        return found

    def stage(self, role: str, draft: Metadata[Any],
              now: datetime.datetime) -> None:
        """Write a draft; whatever signatures it had are void.

        :param draft: a published one, or a draft, changed
        """
        before = self.published(role)
        draft.signed.version = before.signed.version + 1 if before else 1
        draft.signed.expires = self.expires(role, now)
        draft.signatures.clear()
        self.write(self.staged / f'{role}.json', draft.to_bytes())

    def expires(self, role: str, now: datetime.datetime,
                ) -> datetime.datetime:
        """Return until when what is signed now holds."""
        return (now + self.period(role)).replace(microsecond=0)

    def period(self, role: str) -> datetime.timedelta:
        """Return for how long what is signed holds."""
        days: int = json.loads(
            (self.root / 'expiry.json').read_bytes())[role]
        return datetime.timedelta(days=days)

    def write_expiry(self, days: Mapping[str, int]) -> None:
        """Remember for how many days each role's signatures hold."""
        self.write(self.root / 'expiry.json', json.dumps(
            {**EXPIRY, **days}, indent=1).encode() + b'\n')

    def drafts(self) -> Iterator[str]:
        """Yield the roles that have a draft."""
        for role in OFFLINE:
            if (self.staged / f'{role}.json').exists():
                yield role

    def discard(self) -> None:
        """Remove all drafts, durably."""
        if self.staged.exists():
            shutil.rmtree(self.staged)
            with _directory(self.root) as fd:
                fsio.fsync(fd)

    def write(self, path: Path, data: bytes, mode: int = _MODE) -> None:
        """Replace a file in one step, durably; make its directories."""
        self._make(path.parent)
        with _directory(path.parent) as fd:
            fsio.replace_file(path.name, data, fd, mode)

    def link(self, source: Path, target: Path) -> None:
        """Have a file appear at another place, too, whole and durable."""
        self._make(target.parent)
        new = f'{target.name}{fsio.NEW}'
        with source.open('rb') as file, _directory(target.parent) as fd:
            if fsio.exists(new, fd):
                fsio.unlink(new, fd)
            # Not by its name again: others may put a link there meanwhile.
            with os.fdopen(fsio.create(new, fd), 'wb') as copy:
                shutil.copyfileobj(file, copy, _PIECE)
                copy.flush()
                os.fchmod(copy.fileno(), _MODE)
                fsio.fsync(copy.fileno())
            fsio.rename(new, target.name, fd, fd)
            fsio.fsync(fd)

    def _make(self, directory: Path) -> None:
        if directory.is_dir():
            return
        self._make(directory.parent)
        directory.mkdir(exist_ok=True)
        with _directory(directory.parent) as fd:
            fsio.fsync(fd)


def fingerprint(metadata: Metadata[Any]) -> str:
    """Return the SHA-256 of what is signed of metadata."""
    return hashlib.sha256(metadata.signed_bytes).hexdigest()


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    fd = fsio.open_directory(str(path))
    try:
        yield fd
    finally:
        os.close(fd)


def _read(path: Path) -> Metadata[Any] | None:
    try:
        with path.open('rb') as file:
            data = file.read(published.LIMIT)
    except FileNotFoundError:
        return None
    return published.parse(data, str(path))
