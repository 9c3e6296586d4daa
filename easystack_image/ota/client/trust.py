"""The repository's metadata, verified by tuf's client, and kept durably.

tuf's client writes without fsync, and a crash at the wrong moment can leave
it without a root to begin with.  So it always begins with the root that this
machine was given, and works on copies in a scratch directory; what it has
verified there is kept one file at a time, each replaced in one step.  Any
mixture of old and new ones is a good beginning for the next time.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata
from tuf.api.metadata import Root
from tuf.api.metadata import Targets
from tuf.ngclient import Updater
from tuf.ngclient import UpdaterConfig

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home as homes
from easystack_image.ota.client import fetcher as fetchers
from easystack_image.ota.release import keys

METADATA = 'metadata'
_HISTORY = 'root_history'
_LIMIT = 16 * 1024 * 1024


@contextlib.contextmanager
def session(home: homes.Home, url: str, root: bytes,
            fetcher: fetchers.Fetcher) -> Iterator[Updater]:
    """Verify what a repository has now; what the updater then asks is true.

    :param home: locked
    :param url: of the repository
    :param root: its first ``root.json``, which this machine was given
    :raises easystack_image.exceptions.Untrusted: if something is not signed
        as it must be, older than before, or has expired
    :raises easystack_image.exceptions.Unreachable: if it does not answer
    """
    with home.scratch() as scratch, home.directory(METADATA) as kept, \
            translated(url):
        _bring(kept, scratch)
        try:
            updater = Updater(
                str(scratch), f'{url}/metadata/', fetcher=fetcher,
                config=UpdaterConfig(max_delegations=8), bootstrap=root)
            updater.refresh()
            _check_keys(scratch)
            yield updater
        finally:
            # Even if it ends in an error, as with a root that has expired:
            # what is there was verified, and must not be taken back.
            _keep(scratch, kept)


def _bring(kept: int, scratch: Path) -> None:
    """Copy what is kept to where tuf looks for it."""
    (scratch / _HISTORY).mkdir()
    for name in os.listdir(kept):
        if name.endswith('.json'):
            place = _HISTORY if name.endswith('.root.json') else ''
            (scratch / place / name).write_bytes(
                fsio.read_file(name, kept, _LIMIT))


def _check_keys(scratch: Path) -> None:
    """Raise unless each key has the id that is its own.

    tuf counts ids: under two of them, one key would sign for two people.  It
    also asks the role targets for a file before the channels that it
    delegates to; ours offers none.
    """
    root = Metadata[Root].from_file(str(scratch / 'root.json')).signed
    targets = Metadata[Targets].from_file(
        str(scratch / 'targets.json')).signed
    delegations = targets.delegations
    for held in (root.keys, delegations.keys if delegations else {}):
        for keyid, key in held.items():
            try:
                keys.check(keyid, key.to_dict())
            except exceptions.NotSigned as error:
                raise exceptions.Untrusted(
                    'what the repository offers cannot be trusted: '
                    f'{error}') from None
    if targets.targets:
        raise exceptions.Untrusted(
            'what the repository offers cannot be trusted: the role targets '
            'offers files itself, past the keys of the channels')


def _keep(scratch: Path, kept: int) -> None:
    """Keep what tuf has verified and written; the roots first."""
    roots = sorted((scratch / _HISTORY).glob('*.root.json'),
                   key=lambda path: int(path.name.partition('.')[0]))
    others = sorted(path for path in scratch.glob('*.json')
                    if not path.is_symlink())
    for path in [*roots, *others]:
        data = path.read_bytes()
        if not (fsio.exists(path.name, kept) and data == fsio.read_file(
                path.name, kept, _LIMIT)):
            fsio.replace_file(path.name, data, kept)


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise errors of ours, which say what they mean, for those of tuf.

    :param url: of the repository
    """
    try:
        yield
    except tuf_errors.ExpiredMetadataError as error:
        again = ('a copy on a stick or disk is good for some days only: make '
                 'a new one' if url.startswith('file:') else
                 'it has to be published again by those who keep it')
        raise exceptions.Untrusted(
            f'what the repository offers is out of date ({error}): {again}; '
            'or somebody keeps newer releases from this machine; or the '
            'clock here is wrong') from error
    except (tuf_errors.RepositoryError,
            tuf_errors.DownloadLengthMismatchError) as error:
        raise exceptions.Untrusted(
            'what the repository offers cannot be trusted: '
            f'{error or type(error).__name__}') from error
    except tuf_errors.DownloadError as error:
        raise exceptions.Unreachable(
            f'the repository cannot be read: {error}') from error
