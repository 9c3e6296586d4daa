"""All devices of a store, and looking for images on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import errno
import functools
import logging
import os
from typing import TypeVar

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import locks
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import placement
from easystack_image.blockstore.local import timed
from easystack_image.blockstore.local import writer

LOG = logging.getLogger(__name__)
T = TypeVar('T')
Device = device_module.Device
Attached = device_module.Attached
#: Something that is done on one device.
DeviceFunction = Callable[[Device], object]


@dataclasses.dataclass(slots=True)
class Finding:
    """What one device holds of one image."""

    attached: Attached
    #: The sound manifest of the copy, or None.
    manifest: manifest_module.Manifest | None = None
    #: What is wrong with the copy, if there is one and it is damaged.
    damage: str = ''
    #: Whether that is a sound manifest of another image, or another set.
    foreign: bool = False
    #: The copy's data file, open for reading, or -1.
    data: int = -1
    #: When all of the copy was verified last (see verified.py), or 0.
    verified_at: float = 0.0
    #: Of the data file, in bytes, and what it takes on the disk.
    size: int = 0
    allocated: int = 0
    #: Whether its file system lies on a block device; others (FUSE, NFS) may
    #: ask somebody before they hand out what is in the page cache.
    on_disk: bool = False
    #: Generations that were looked up among the deleted ones.
    asked: set[str] = dataclasses.field(default_factory=set)
    #: Those of them that were deleted.
    deleted: set[str] = dataclasses.field(default_factory=set)

    @property
    def path(self) -> str:
        """The path of the device."""
        return self.attached.path

    @property
    def zone(self) -> str:
        """The zone of the device."""
        return self.attached.identity.zone

    @property
    def sound(self) -> bool:
        """Whether there is a copy whose manifest and size are right."""
        return self.manifest is not None and not self.damage

    def described(self) -> manifest_module.Manifest:
        """Return the manifest, where it is known that there is one."""
        if self.manifest is None:
            raise ValueError(f'{self.path} has no sound manifest')
        return self.manifest

    def close_data(self) -> None:
        """Let go of the data file; may be called again."""
        if self.data >= 0:
            os.close(self.data)
            self.data = -1

    def close(self) -> None:
        """Let go of the data file and the device; may be called again."""
        self.close_data()
        self.attached.close()


@dataclasses.dataclass(slots=True)
class Survey:
    """What all devices hold of one image; close it after use."""

    image_id: str
    #: By device path, best device first.
    findings: dict[str, Finding]
    #: The devices that could not be asked.
    failures: dict[str, exceptions.DeviceError]
    #: The only upload that was asked for, or None for any.
    wanted: str | None = None
    #: The upload that counts: None if no copy of one is left.
    current: str | None = None

    def close(self) -> None:
        """Let go of everything that is held open."""
        for finding in self.findings.values():
            finding.close()

    def deleted(self, generation: str) -> bool:
        """Tell whether an upload was deleted."""
        return any(generation in finding.deleted
                   for finding in self.findings.values())

    def replaced_by(self, generation: str) -> set[str]:
        """Return the older uploads that an upload took the place of."""
        ages = {finding.described().generation:
                finding.described().created_at
                for finding in self.findings.values() if finding.sound}
        return {each for each, age in ages.items()
                if generation in ages and age < ages[generation]}

    def has_others(self, *generations: str) -> bool:
        """Tell whether there are sound copies of other uploads than these."""
        return any(finding.sound
                   and finding.described().generation not in generations
                   for finding in self.findings.values())

    def sound(self) -> list[Finding]:
        """Return the copies of the current upload, best device first."""
        return [finding for finding in self.findings.values()
                if finding.sound
                and finding.described().generation == self.current]

    def damaged(self) -> list[Finding]:
        """Return the damaged copies, whichever upload they are of."""
        return [finding for finding in self.findings.values()
                if finding.damage]

    def stale(self) -> list[Finding]:
        """Return the sound copies of uploads that are not the current."""
        return [finding for finding in self.findings.values()
                if finding.sound
                and finding.described().generation != self.current]

    def upload(self) -> layout.Upload:
        """Return which upload the copies are of, good or bad.

        :raises easystack_image.exceptions.BlockStoreError: if that is not
            known
        """
        newest = max((finding.manifest for finding in self.findings.values()
                      if finding.manifest is not None
                      and self.current in (None, finding.manifest.generation)
                      and not self.deleted(finding.manifest.generation)),
                     default=None,
                     key=lambda each: (each.created_at, each.generation))
        if newest is None:
            raise self.absence()
        return layout.Upload(self.image_id, newest.generation)

    def absence(self) -> exceptions.BlockStoreError:
        """Return the error to raise when there is no sound copy."""
        gone = self.wanted is not None and self.deleted(self.wanted)
        # What is damaged is not taken for an upload that nobody ever saw,
        # while there is another that it may have been a copy of.
        others = self.wanted is not None and self.has_others(self.wanted)
        if self.damaged() and not gone and not others:
            details = '; '.join(f'{finding.path}: {finding.damage}'
                                for finding in self.damaged())
            return exceptions.DamagedImage(
                f'image {self.image_id} has no sound copy left ({details})')
        if self.failures and not gone:
            details = '; '.join(map(str, self.failures.values()))
            return exceptions.ImageUnavailable(
                f'image {self.image_id} is on none of the devices that can '
                f'be reached ({details})')
        return exceptions.ImageNotFound(
            f'image {self.image_id} is not in this store')


class _Avoided(exceptions.DeviceTimeout):
    """A device was not asked, because it hung a short while ago."""


class Fleet:
    """The devices that a store was given.

    :param paths: of the devices
    :param timeout: seconds that one operation on a device may take
    :param copies: how many copies an image should have
    """

    def __init__(self, paths: Sequence[str], timeout: float,
                 copies: int = 3) -> None:
        self.timeout = timeout
        self.copies = copies
        self.devices = {path: Device(path, retry_after=timeout)
                        for path in paths}
        #: The set that the devices must belong to, once it is known.
        self.store_id: str | None = None
        #: Paths of devices that have been away for so long that their copies
        #: are made up for on others.
        self.out: frozenset[str] = frozenset()
        #: Whether it is known which devices the set has, besides those that
        #: are there (see members.py).
        self.remembered = False
        #: Ids of devices whose place another took, as the set remembers: the
        #: successor may be away, or at no path of the configuration.
        self.replaced: frozenset[str] = frozenset()

    def run(self, function: Callable[[Device], T],
            discard: Callable[[T], object] | None = None,
            paths: Iterable[str] | None = None,
            patience: float | None = None,
            limit: float | None = None,
            ) -> tuple[dict[str, T], dict[str, exceptions.DeviceError]]:
        """Run a function for every device, side by side.

        A device that does not answer in time is left alone for a while.

        :param discard: for a result that comes too late
        :param paths: of the devices to use, by default all
        :param patience: seconds, if the function does more than a few
            operations; it calls timed.beat() between them, and must not go
            without for longer than one operation may take
        :param limit: seconds, if the caller cannot wait for as long as an
            operation may take; a device that takes longer is left alone by
            such calls only, so that they do not pile up on it
        :returns: results, and errors, by the path of the device
        """
        jobs: dict[str, Callable[[], T]] = {}
        failures: dict[str, exceptions.DeviceError] = {}
        for path in self.devices if paths is None else paths:
            device = self.devices[path]
            if device.avoided() or limit and device.stuck(limit):
                failures[path] = _Avoided(
                    path, 'did not answer a short while ago')
            else:
                jobs[path] = (functools.partial(function, device) if patience
                              else functools.partial(device.watch, function))
        outcome = timed.gather(jobs, patience or limit or self.timeout,
                               'device-call', discard,
                               self.timeout if patience else float('inf'))
        results: dict[str, T] = {}
        for path, result in outcome.items():
            if isinstance(result, Exception):
                failures[path] = writer.as_device_error(path, result)
                if not limit and isinstance(failures[path],
                                            exceptions.DeviceTimeout):
                    self.devices[path].avoid()
            else:
                results[path] = result
        return results, failures

    def hang(self, path: str) -> Callable[[], object]:
        """Note that a call hangs on a device; see Device.hang()."""
        return self.devices[path].hang()

    def attach(self, clones: bool = False,
               ) -> tuple[dict[str, Attached],
                          dict[str, exceptions.DeviceError]]:
        """Attach every device that can be; the caller closes them.

        :param clones: whether to attach what :meth:`without_clones` drops
        """
        found, failures = self.run(
            lambda device: device.attach(self.store_id), Attached.close)
        if not clones:
            self.without_clones(found, failures, lambda each: each.identity,
                                Attached.close)
        return found, failures

    def without_clones(self, found: dict[str, T],
                       failures: dict[str, exceptions.DeviceError],
                       identity_of: Callable[[T], device_module.Identity],
                       discard: Callable[[T], object] | None = None) -> None:
        """Have each device count once, at the path where it always was.

        A disk that is mounted at the path of another one as well shows each
        of its copies twice; to take one of the two for surplus would be the
        end of both.

        :param found: what devices answered, by path
        :param failures: why others did not; the further paths join them
        :param discard: for the answers that are dropped
        """
        owners: dict[str, str] = {}
        # The same order for all processes, as a rule: it is stable.
        for path in sorted(filter(found.__contains__, self.devices),
                           key=lambda path: self.devices[path].exchanged):
            device_id = identity_of(found[path]).device_id
            owner = owners.setdefault(device_id, path)
            if owner != path:
                answer = found.pop(path)
                if discard is not None:
                    discard(answer)
                self.devices[path].mistake()
                failures[path] = exceptions.DeviceUnavailable(
                    path, f'is the same device as {owner}')

    def attach_targets(self, image_id: str, size: int,
                       paths: Iterable[str] | None = None,
                       used_zones: Sequence[str] = (),
                       ) -> tuple[list[Attached],
                                  dict[str, exceptions.DeviceError]]:
        """Attach devices that a new copy may be placed on, best first.

        :param size: of the image, in bytes
        :param paths: of the devices to choose from, by default all
        :param used_zones: zones that hold a copy already
        :returns: the devices, for the caller to close, and those that cannot
            be attached
        """
        def attach(device: Device) -> tuple[Attached, int]:
            attached = device.attach(self.store_id)
            try:
                usage = os.fstatvfs(attached.fd)
            except BaseException:
                attached.close()
                raise
            return attached, usage.f_bavail * usage.f_frsize

        found, failures = self.run(
            attach, lambda result: result[0].close(), paths)
        self.without_clones(found, failures,
                            lambda result: result[0].identity,
                            lambda result: result[0].close())
        order = self.targets(image_id, found, used_zones)
        for path in set(found).difference(order):
            found[path][0].close()
        # An image with holes may fit where its size does not, so a device
        # without enough room is the last choice, not out of the question.
        order.sort(key=lambda path: found[path][1] < size)
        return [found[path][0] for path in order], failures

    def order(self, image_id: str, paths: Iterable[str],
              used_zones: Sequence[str] = ()) -> list[str]:
        """Sort devices (by path) as placement would use them.

        Those on which nothing is placed any more come last, and before them
        those whose identity was never seen.
        """
        ranked = self._rank(image_id, used_zones)
        return sorted(paths, key=lambda path: (
            path not in ranked, self.leaving(path), ranked.get(path, 0)))

    def targets(self, image_id: str, paths: Iterable[str],
                used_zones: Sequence[str] = ()) -> list[str]:
        """Return those devices that a copy may be placed on, best first."""
        ranked = self._rank(image_id, used_zones)
        return sorted(set(paths).intersection(ranked), key=ranked.__getitem__)

    def _rank(self, image_id: str,
              used_zones: Sequence[str]) -> dict[str, int]:
        """Return the place of each device that takes copies, from 0.

        Absent devices keep theirs: their absence moves nothing.
        """
        # A list: a disk that was cloned makes two of one device.
        owners: dict[placement.Candidate, list[str]] = {}
        for path, device in self.devices.items():
            if device.known is not None and not self.leaving(path):
                owners.setdefault(device.known.candidate(), []).append(path)
        ranked = placement.rank(image_id, owners, self.copies, used_zones)
        paths = [path for candidate in ranked for path in owners[candidate]]
        return {path: place for place, path in enumerate(paths)}

    def leaving(self, path: str) -> bool:
        """Tell whether a device is drained, replaced, or given up."""
        identity = self.devices[path].known
        return path in self.out or identity is not None and (
            identity.state != device_module.ACTIVE
            or identity.device_id in self.replaced
            or any(other.known is not None
                   and other.known.replaces == identity.device_id
                   for other in self.devices.values()))

    def awaited(self, paths: Iterable[str]) -> set[str]:
        """Return those of some absent devices that may bring copies back.

        Not those that were given up, nor directories that are configured
        and never were devices of the set.
        """
        return {path for path in paths if path not in self.out
                and (self.devices[path].known is not None
                     or not self.remembered)}

    @contextlib.contextmanager
    def survey(self, image_id: str,
               generation: str | None = None) -> Iterator[Survey]:
        """Look for an image on all devices.

        :param generation: the only upload that counts, or None for the
            newest that was not deleted
        """
        findings, failures = self.run(
            lambda device: look(device.attach(self.store_id), image_id,
                                generation), Finding.close)
        self.without_clones(findings, failures,
                            lambda finding: finding.attached.identity,
                            Finding.close)
        order = self.order(image_id, findings)
        survey = Survey(image_id, {path: findings[path] for path in order},
                        failures, generation)
        try:
            self._ask_about_others(survey)
            survey.current = _choose(survey, generation)
            yield survey
        finally:
            survey.close()

    def _ask_about_others(self, survey: Survey) -> None:
        """Look up the uploads one device has among another's deleted ones."""
        generations = {finding.manifest.generation
                       for finding in survey.findings.values()
                       if finding.manifest is not None}
        lacking = [path for path, finding in survey.findings.items()
                   if generations - finding.asked]
        if not lacking:
            return

        def ask(device: Device) -> Finding:
            finding = survey.findings[device.path]
            try:
                look_up_deleted(finding, survey.image_id, generations)
            except BaseException:
                finding.close()
                raise
            return finding

        _, failures = self.run(ask, Finding.close, lacking)
        for path, failure in failures.items():
            # If it hangs, its descriptors are the thread's to close.
            finding = survey.findings.pop(path)
            survey.failures[path] = failure
            if isinstance(failure, _Avoided):
                finding.close()

    @contextlib.contextmanager
    def locked(self, image_id: str, purpose: str,
               wait: bool = True) -> Iterator[bool]:
        """Hold the lock for ``purpose`` on an image, across processes.

        It is a file on every device that can be used, and is freed with its
        process; see locks.py.

        :param wait: whether to wait for it, up to the time limit
        :returns: whether the lock was free; always true with ``wait``
        :raises easystack_image.exceptions.ImageBusy: if another process
            does not give it back in time
        :raises easystack_image.exceptions.NotEnoughCopies: if no device can
            be locked
        """
        name = layout.lock_file(image_id, purpose)
        patience = self.timeout if wait else 0.0
        with self._locked(name, patience) as (files, failures, busy):
            if busy and wait:
                raise exceptions.ImageBusy(
                    f'another process held {busy}/{name} for {patience:g} s')
            if not (busy or files):
                raise exceptions.NotEnoughCopies('no device can be locked',
                                                 list(failures.values()))
            yield not busy

    @contextlib.contextmanager
    def locked_everywhere(self, purpose: str) -> Iterator[bool]:
        """Hold a lock for the whole set, if it is free.

        Freed with its process.

        :returns: whether the lock was free; false if no device can be locked
        """
        with self._locked(f'locks/{purpose}', 0.0) as (files, _, _busy):
            yield bool(files)

    @contextlib.contextmanager
    def _locked(self, name: str, patience: float) -> Iterator[tuple[
            list[locks.File], dict[str, exceptions.DeviceError], str]]:
        """Hold the lock on a file of all devices.

        :returns: the files; why those of other devices are not locked; and
            the device where another process has the lock (none is held then)
        """
        files, failures = self.run(
            lambda device: locks.open_file(device, self.store_id, name),
            locks.File.close)
        self.without_clones(files, failures, lambda file: file.identity,
                            locks.File.close)
        busy = ''
        try:
            failures |= locks.take(
                files, patience, lambda path, function: self.run(
                    function, paths=[path], patience=2 * self.timeout)[1])
        except locks.Busy as error:
            busy = str(error)
        held = [] if busy else [file for path, file in files.items()
                                if path not in failures]
        try:
            yield held, failures, busy
        finally:
            for file in held:
                file.close()


def look(attached: Attached, image_id: str,
         generation: str | None = None) -> Finding:
    """Look for a copy of an image on one device.

    :param generation: an upload to look up among the deleted ones as well
    :returns: what was found; it takes over ``attached``
    """
    finding = Finding(attached)
    try:
        generations = {generation} if generation else set()
        inspect(finding, image_id)
        if finding.manifest is not None:
            generations.add(finding.manifest.generation)
        look_up_deleted(finding, image_id, generations)
    except BaseException:
        finding.close()
        raise
    return finding


def inspect(finding: Finding, image_id: str) -> None:
    """Note what there is of an image, but not whether it was deleted.

    :param finding: of the device; its data file is open afterwards, if there
        is one
    """
    try:
        with finding.attached.directory(
                layout.images_directory(image_id)) as images:
            _inspect(finding, images, image_id)
    except FileNotFoundError:
        # No copy; _examine() lets this one not through.
        pass


def _inspect(finding: Finding, images: int, image_id: str) -> None:
    try:
        with fsio.directory(image_id, images) as directory:
            _examine(finding, directory, image_id)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        finding.damage = 'it is a file or a link, not a directory'


def _examine(finding: Finding, directory: int, image_id: str) -> None:
    try:
        finding.manifest = manifest_module.unpack(fsio.read_file(
            layout.MANIFEST, directory, manifest_module.MAX_LENGTH))
        finding.data = fsio.open_file(layout.DATA, directory)
    except manifest_module.UnknownVersionError as error:
        # Not damage: a later release wrote it, and can read it.
        raise exceptions.DeviceError(finding.path, str(error)) from error
    except manifest_module.ManifestError as error:
        finding.damage = str(error)
        return
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            # Our own shortage says nothing about the copy.
            raise
        finding.damage = error.strerror or str(error)
        return
    finding.damage = _foreign(finding, image_id)
    if finding.damage:
        # What it says of generations is about another image.
        finding.manifest = None
        finding.foreign = True
        return
    finding.verified_at = fsio.status(layout.MANIFEST, directory).st_mtime
    status = os.fstat(finding.data)
    finding.size = status.st_size
    finding.allocated = status.st_blocks * 512
    finding.on_disk = fsio.on_disk(status)
    if finding.size != finding.manifest.size:
        finding.damage = (f'data has {finding.size} bytes, not '
                          f'{finding.manifest.size}')


def _foreign(finding: Finding, image_id: str) -> str:
    """Tell why a copy with a sound manifest is not one of this image."""
    manifest = finding.described()
    if manifest.image_id != image_id:
        return f'it is the copy of another image, {manifest.image_id}'
    if manifest.store_id != finding.attached.identity.store_id:
        return f'it belongs to another set of devices, {manifest.store_id}'
    return ''


def look_up_deleted(finding: Finding, image_id: str,
                    generations: Iterable[str]) -> None:
    """Look up uploads among those that this device knows to be deleted."""
    directory = layout.deleted_directory(image_id)
    for generation in set(generations) - finding.asked:
        name = layout.Upload(image_id, generation).name
        if fsio.exists(f'{directory}/{name}', finding.attached.fd):
            finding.deleted.add(generation)
        finding.asked.add(generation)


def _choose(survey: Survey, generation: str | None) -> str | None:
    """Return the upload that counts.

    With several (a device was away while the image was deleted and uploaded
    anew) the newest does, in case the marks of the deletion were lost.
    """
    ages: Mapping[str, float] = {
        finding.manifest.generation: finding.manifest.created_at
        for finding in survey.findings.values()
        if finding.manifest is not None and finding.sound
        and generation in (None, finding.manifest.generation)
        and not survey.deleted(finding.manifest.generation)}
    return max(ages, key=lambda each: (ages[each], each), default=None)
