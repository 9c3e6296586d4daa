"""Sweeping up what crashes and absent devices left behind.

* An upload whose process is gone: if the same upload has a copy in its place
  on some device, it was being committed when the crash came, and its other
  complete copies are moved to their places too.  Otherwise it is removed;
  but a complete one is kept while a device is away, because that device may
  have the copy that tells.
* Copies on their way out: removed.
* Copies of deleted uploads, on devices that were away: removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
import contextlib
import dataclasses
import errno
import fcntl
import functools
import logging
import os
import stat
from typing import TypeVar

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import scrub
from easystack_image.blockstore.local import status
from easystack_image.blockstore.local import stragglers
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)
T = TypeVar('T')
Attached = device_module.Attached
#: Files that are replaced now and then.
REPLACED = (device_module.IDENTITY, members.MEMBERS, status.STATUS,
            scrub.STATE, claims.CLAIMS)
#: How many leftovers of a device are held open at once.
MOST = 16
#: Seconds that a look at everything on a device may take.
LONG = 600.0


def names(attached: Attached, directory: str) -> list[str]:
    """Return the names in a directory of a device."""
    timed.beat()
    with attached.directory(directory) as fd:
        return os.listdir(fd)


@dataclasses.dataclass(slots=True)
class Claim:
    """What lies in a device's tmp and belongs to no process any more.

    It is locked until :meth:`close`.
    """

    attached: Attached
    #: Manifests of complete uploads, None for everything else, by name.
    leftovers: dict[str, manifest_module.Manifest | None]
    locks: list[int]
    #: Whether there may be more than was claimed.
    more: bool = False

    def close(self) -> None:
        """Let go of the device and the locks."""
        for fd in self.locks:
            os.close(fd)
        self.locks = []
        self.attached.close()


def claim(attached: Attached, known: Collection[str] = ()) -> Claim:
    """Claim what is left over on a device, or some of it.

    At most :data:`MOST` at once: each is held open.

    :param attached: the device; it is taken over
    :param known: names of what was claimed before
    """
    result = Claim(attached, {}, [])
    try:
        with attached.directory(layout.TMP) as tmp:
            # Exclusive: see CopyWriter.begin().
            fcntl.flock(tmp, fcntl.LOCK_EX)
            for name in filter(layout.is_ours, os.listdir(tmp)):
                if name in known:
                    continue
                if len(result.leftovers) >= MOST:
                    result.more = True
                    break
                try:
                    with fsio.directory(name, tmp) as directory:
                        if _lock_data(directory, result.locks):
                            result.leftovers[name] = _complete(name,
                                                               directory)
                except FileNotFoundError:
                    # Another process removed it just now.
                    continue
                except NotADirectoryError:
                    # It stood in the place of a copy that was deleted.
                    result.leftovers[name] = None
    except BaseException:
        result.close()
        raise
    return result


def _lock_data(directory: int, locks: list[int]) -> bool:
    """Tell whether no process has the data file locked."""
    try:
        fd = fsio.open_file(layout.DATA, directory)
    except FileNotFoundError:
        # Killed before it was created, or while it was being removed.
        return True
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EINVAL):
            raise
        # A link, a pipe and the like: no process of ours made it.
        return True
    taken = False
    try:
        taken = fsio.try_lock(fd)
    finally:
        if not taken:
            os.close(fd)
    if taken:
        locks.append(fd)
    return taken


def leftovers(device: device_module.Device,
              store_id: str | None) -> list[str]:
    """Return the names of all that is left over on a device."""
    found: list[str] = []
    more = True
    while more:
        with contextlib.closing(claim(device.attach(store_id),
                                      found)) as some:
            found += some.leftovers
            more = some.more
    return found


class Sweeper:
    """Sweeps all devices of a fleet."""

    def __init__(self, fleet: fleet_module.Fleet, copies: int) -> None:
        """Describe the sweeper.

        :param copies: how many copies an image should have
        """
        self._fleet = fleet
        self._copies = copies
        self._stragglers = stragglers.Stragglers(fleet, copies)
        self._seen: frozenset[str] = frozenset()

    def sweep(self) -> None:
        """Sweep every device that can be reached.

        Raises nothing on account of a device: it is swept when it is back.
        """
        self.sweep_uploads()
        self.sweep_deleted()

    def sweep_uploads(self) -> None:
        """Settle the uploads of processes that are gone."""
        self._fleet.run(self._discard_unfinished)
        tried: dict[str, set[str]] = {path: set()
                                      for path in self._fleet.devices}
        paths = list(tried)
        while paths:
            claims, failures = self._fleet.run(
                lambda device: claim(device.attach(self._fleet.store_id),
                                     tried[device.path]),
                Claim.close, paths)
            self._log(failures)
            with contextlib.ExitStack() as stack:
                for each in claims.values():
                    stack.callback(each.close)
                for path, each in claims.items():
                    tried[path].update(each.leftovers)
                    self._settle_all(path, each)
            paths = [path for path, each in claims.items() if each.more]

    def _settle_all(self, path: str, claimed: Claim) -> None:
        for name, manifest in claimed.leftovers.items():
            self._try_settle(path, claimed.attached, name, manifest)
        claimed.close()

    def _discard_unfinished(self, device: device_module.Device) -> None:
        """Remove files of the root directory that were being replaced."""
        with contextlib.closing(device.attach(
                self._fleet.store_id)) as attached:
            fsio.discard_unfinished(REPLACED, attached.fd)

    def _try_settle(self, path: str, attached: Attached, name: str,
                    manifest: manifest_module.Manifest | None) -> None:
        try:
            self._settle(path, attached, name, manifest)
        except exceptions.BlockStoreError as error:
            # The others do not wait for this one.
            LOG.warning('The leftover %(name)s stays on %(device)s for now: '
                        '%(error)s', {'device': path, 'name': name,
                                      'error': error})

    def _log(self, failures: dict[str, exceptions.DeviceError]) -> None:
        for failure in failures.values():
            LOG.debug('Not swept: %s', failure)

    def _settle(self, path: str, attached: Attached, name: str,
                manifest: manifest_module.Manifest | None) -> None:
        """Move a leftover to its place, remove it, or leave it for later."""
        if manifest is not None:
            upload = layout.Upload(manifest.image_id, manifest.generation)
            committed = self._committed(upload)
            if committed is None or (
                    committed and self._complete(path, attached, name,
                                                 upload)):
                return

        def remove(_device: device_module.Device) -> None:
            with attached.directory(layout.TMP) as tmp:
                removal.discard(name, tmp)

        self._on(path, remove)
        LOG.info('Removed the leftover %(name)s from %(device)s.',
                 {'name': name, 'device': path})

    def _complete(self, path: str, attached: Attached, name: str,
                  upload: layout.Upload) -> bool:
        with self._fleet.locked(upload.image_id, 'commit'):
            # Again, now that nobody can delete it, or make a copy of it,
            # under us.
            committed = self._committed(upload)
            if not committed or committed >= self._copies:
                return False
            placed = self._on(path, lambda _: _place(attached, name, upload))
        if placed:
            LOG.info('Image %(image)s: completed its copy on %(device)s '
                     'after a crash.',
                     {'image': upload.image_id, 'device': path})
        return placed

    def _on(self, path: str,
            function: Callable[[device_module.Device], T]) -> T:
        """Run a function for one device; raise what goes wrong."""
        results, failures = self._fleet.run(function, paths=[path])
        if failures:
            raise failures[path]
        return results[path]

    def _committed(self, upload: layout.Upload) -> int | None:
        """Return how many copies of an upload are in their places.

        None if none is found, but a device is away that may have one.
        """
        with self._fleet.survey(upload.image_id,
                                upload.generation) as survey:
            if survey.deleted(upload.generation):
                return 0
            count = len(survey.sound())
            return None if survey.failures and not count else count

    def sweep_deleted(self) -> None:
        """Remove copies of deleted uploads from devices that were away.

        Looks at nothing while the devices are the same as the last time.
        """
        devices, _ = self._fleet.run(self._identify)
        identities = frozenset(devices.values())
        if identities == self._seen:
            return
        found, failures = self._fleet.run(self._marks, patience=LONG)
        marks = set().union(*found.values())
        if marks:
            failures |= self._remove_deleted(marks)
        failures |= self._stragglers.settle(
            {upload.image_id for upload in marks})
        self._log(failures)
        if not self._fleet.awaited(failures):
            self._seen = identities

    def _remove_deleted(self, marks: set[layout.Upload],
                        ) -> dict[str, exceptions.DeviceError]:
        """Remove copies of deleted uploads; return where it failed."""
        def find(device: device_module.Device) -> set[layout.Upload]:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return {upload for upload in marks
                        if removal.holds(attached, upload)}

        found, failures = self._fleet.run(find, patience=LONG)
        for upload in set().union(*found.values()):
            paths = [path for path, held in found.items() if upload in held]
            try:
                # Or what is uploaded meanwhile could be in its place.
                with self._fleet.locked(upload.image_id, 'commit'):
                    failures |= self._fleet.run(functools.partial(
                        self._remove, upload), paths=paths)[1]
            except (exceptions.ImageBusy,
                    exceptions.NotEnoughCopies) as error:
                failures |= {path: exceptions.DeviceError(path, str(error))
                             for path in paths}
        return failures

    def _remove(self, upload: layout.Upload,
                device: device_module.Device) -> None:
        with contextlib.closing(device.attach(
                self._fleet.store_id)) as attached:
            if removal.holds(attached, upload):
                removal.mark_deleted(attached, upload)
                removal.remove_copy(attached, upload.image_id)
                LOG.info('Image %s: removed the copy on %s, which was away '
                         'when the image was deleted.', upload.image_id,
                         attached.path)

    def expect_return(self) -> None:
        """Look again at the next sweep: an absent device missed a deletion.

        It may be back by then, as if it had never been away.
        """
        self._seen = frozenset()

    def _identify(self, device: device_module.Device) -> str:
        with contextlib.closing(device.attach(
                self._fleet.store_id)) as attached:
            return attached.identity.device_id

    def _marks(self, device: device_module.Device) -> set[layout.Upload]:
        with contextlib.closing(device.attach(
                self._fleet.store_id)) as attached:
            return {upload for shard in device_module.SHARDS
                    for name in names(attached, f'deleted/{shard}')
                    if (upload := layout.upload_of_mark(name))}


def _complete(name: str, directory: int) -> manifest_module.Manifest | None:
    """Return the manifest of a leftover upload that was complete.

    One that was being removed may have its manifest left, and no data.
    """
    if layout.generation_of_upload(name) is None:
        return None
    try:
        manifest = manifest_module.unpack(fsio.read_file(
            layout.MANIFEST, directory, manifest_module.MAX_LENGTH))
        data = fsio.status(layout.DATA, directory)
    except (OSError, manifest_module.ManifestError):
        return None
    return (manifest if stat.S_ISREG(data.st_mode)
            and data.st_size == manifest.size else None)


def _make_durable(name: str, tmp: int) -> None:
    """Sync an upload once more.

    It may have been killed after it wrote its manifest and before that was
    synced; the data was durable before.
    """
    with fsio.directory(name, tmp) as directory:
        fd = fsio.open_file(layout.MANIFEST, directory)
        try:
            fsio.fsync(fd)
        finally:
            os.close(fd)
        fsio.fsync(directory)


def _place(attached: Attached, name: str, upload: layout.Upload) -> bool:
    """Rename a complete upload to its place; False if that is taken."""
    with attached.directory(layout.TMP) as tmp, attached.directory(
            layout.images_directory(upload.image_id)) as images:
        _make_durable(name, tmp)
        try:
            fsio.rename(name, upload.image_id, tmp, images)
        except OSError:
            return False
        fsio.fsync(images)
    return True
