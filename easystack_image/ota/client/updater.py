"""The client: what the channel offers, and getting a release of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
import contextlib
import dataclasses
import os
from pathlib import Path
import time

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home as homes
from easystack_image.ota import owners
from easystack_image.ota import settings as settings_module
from easystack_image.ota.client import downloads
from easystack_image.ota.client import fetcher as fetchers
from easystack_image.ota.client import memory as memories
from easystack_image.ota.client import offers as offers_module
from easystack_image.ota.client import trust
from easystack_image.ota.release import archive
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import index as indexes

DOWNLOADS = 'downloads'


@dataclasses.dataclass(frozen=True)
class Status:
    """What a channel offers to this machine."""

    channel: str
    installed: declarations.Declaration | None
    #: All of the channel's releases, the newest first.
    offers: list[offers_module.Offer]
    #: What to upgrade to, or None.
    next: declarations.Declaration | None
    #: Why the installed release should not be used any more, or that the
    #: updater is too old; or ''.
    warning: str


def _ignore(done: int, size: int) -> None:
    """Show nothing."""


class Client:
    """Asks a repository, trusting nothing but the root that it was given.

    Its methods hold the lock of the updater's directory while they run.

    :param settings: the configuration
    :param installed: the release that is in use here, or None
    :param now: the clock, in seconds since 1970
    :param needed: versions whose archives stay, whatever is downloaded
    :raises easystack_image.exceptions.ConfigurationError: if the repository
        is not configured
    """

    def __init__(self, settings: settings_module.Settings,
                 installed: declarations.Declaration | None = None,
                 now: Callable[[], float] = time.time,
                 needed: Collection[str] = ()) -> None:
        if not settings.repository:
            raise exceptions.ConfigurationError(
                f'[{settings_module.GROUP}] repository is not set, so '
                'nobody knows where releases come from')
        self._settings = settings
        self._installed = installed
        self._now = now
        self._needed = needed
        self._home = homes.Home(Path(settings.state_directory))
        self._url = settings.repository.rstrip('/')
        self._fetcher = fetchers.Fetcher(
            fetchers.Limits(settings.timeout, settings.minimum_rate),
            settings.proxy, settings.ca_file)

    def check(self, accept_clock: bool = False) -> Status:
        """Return what the channel offers.

        :param accept_clock: whether the clock is right, whatever was seen
        :raises easystack_image.exceptions.OtaError: if that cannot be known
            for certain
        """
        with self._home.locked():
            if accept_clock:
                memories.update(self._home, lambda memory: (
                    dataclasses.replace(memory, seen=int(self._now()))))
            with self._session() as (_, index):
                return self._status(index)

    def download(self, version: str | None = None,
                 progress: downloads.Progress = _ignore) -> Path | None:
        """Download a release; it is resumed if it was begun.

        :param version: None for the newest that may be installed
        :returns: the path of its archive, verified and durable; None if
            nothing newer may be installed
        :raises easystack_image.exceptions.OtaError: if it must not, or
            cannot, be had
        """
        with self._home.locked(), self._session() as (updater, index):
            status = self._status(index)
            release = status.next if version is None else (
                offers_module.choose(status.offers, version,
                                     self._installed))
            if release is None:
                return None
            return self._download(updater, release, progress)

    def raise_floor(self, number: int) -> None:
        """Have no release below a number installed here, ever again."""
        memories.raise_floor(self._home, number)

    def warning(self) -> str:
        """Return why the installed release should not be used, or ''.

        What was learned from the repository counts; it is not asked.
        """
        return offers_module.warning(self._installed,
                                     memories.load(self._home))

    @contextlib.contextmanager
    def _session(self) -> Iterator[tuple[Updater, indexes.Index]]:
        """Ask the repository; learn what must not be forgotten."""
        memories.load(self._home).check_clock(self._now())
        with trust.session(self._home, self._url, self._root(),
                           self._fetcher) as updater:
            index = self._read_index(updater)
            memories.check_made(index.made, self._now())
            memories.update(self._home, lambda memory: memory.learn(
                max(self._now(), index.made), index.floor,
                index.all_revoked()))
            yield updater, index

    def _root(self) -> bytes:
        path = self._settings.trusted_root
        try:
            with open(path, 'rb') as file:
                owners.check(
                    path, os.fstat(file.fileno()),
                    'it is trusted_root, with which all trust begins')
                return file.read()
        except OSError as error:
            raise exceptions.ConfigurationError(
                f'trusted_root cannot be read: {error}. It is the file '
                'metadata/1.root.json of the repository; get it by a way '
                'that can be trusted') from None

    def _read_index(self, updater: Updater) -> indexes.Index:
        path = f'{self._settings.channel}/{indexes.NAME}'
        target = self._find(updater, path, indexes.LIMIT)
        data = self._fetcher.download_bytes(self._locate(target),
                                            target.length)
        target.verify_length_and_hashes(data)
        return indexes.load(data, self._settings.channel, lenient=True)

    def _find(self, updater: Updater, path: str, limit: int) -> TargetFile:
        target = updater.get_targetinfo(path)
        if target is None or 'sha256' not in target.hashes:
            raise exceptions.Untrusted(
                f'the repository has no signed {path}')
        if target.length > limit:
            raise tuf_errors.DownloadLengthMismatchError(
                f'{path} has {target.length} bytes, at most {limit} are '
                'allowed here')
        return target

    def _locate(self, target: TargetFile) -> str:
        return f'{self._url}/targets/' + indexes.location(
            target.path, target.hashes['sha256'])

    def _status(self, index: indexes.Index) -> Status:
        memory = memories.load(self._home)
        offers = offers_module.judge(index, memory, self._installed)
        return Status(index.channel, self._installed, offers,
                      offers_module.choose(offers, None, self._installed),
                      '; '.join(filter(None, (
                          offers_module.warning(self._installed, memory),
                          _newer(index)))))

    def _download(self, updater: Updater, release: declarations.Declaration,
                  progress: downloads.Progress) -> Path:
        target = self._find(
            updater, f'{self._settings.channel}/{release.archive}',
            self._settings.maximum_size * settings_module.MIB)
        path = self._home.path / DOWNLOADS / release.archive
        with self._home.directory(DOWNLOADS) as directory:
            downloads.Download(self._fetcher, self._locate(target), target,
                               directory).save(release.archive, progress)
            if archive.inspect(path) != release:
                fsio.unlink(release.archive, directory)
                raise exceptions.InvalidRelease(
                    f'release {release} is not what the index of its channel '
                    'says')
            memories.update(self._home,
                            lambda memory: memory.receive(release))
            _forget_others(directory, [release.archive, *map(
                declarations.archive_name, self._needed)])
        return path


def _newer(index: indexes.Index) -> str:
    return index.unknown and (
        f'the channel has {index.unknown} releases that this updater does '
        'not understand: upgrade the updater') or ''


def _forget_others(directory: int, names: Collection[str]) -> None:
    """Remove what else was downloaded: slots need no archives."""
    for other in sorted(os.listdir(directory)):
        if other not in names:
            fsio.unlink(other, directory)
