"""The embedded engine: whole copies, as plain files, on several devices."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import logging
import os
import time
from typing import Any
import uuid

from easystack_image import exceptions
from easystack_image.blockstore import digest
from easystack_image.blockstore import engine
from easystack_image.blockstore import validate
from easystack_image.blockstore.local import background
from easystack_image.blockstore.local import balance
from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import forecast
from easystack_image.blockstore.local import fsck
from easystack_image.blockstore.local import healer
from easystack_image.blockstore.local import health
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import locks
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import membership
from easystack_image.blockstore.local import metrics
from easystack_image.blockstore.local import reader as reader_module
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import repair as repair_module
from easystack_image.blockstore.local import scrub
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import status as status_module
from easystack_image.blockstore.local import sweep as sweep_module
from easystack_image.blockstore.local import transfer as transfer_module
from easystack_image.blockstore.local import verified

LOG = logging.getLogger(__name__)


class LocalEngine(engine.Engine):
    """See :class:`easystack_image.blockstore.engine.Engine`.

    Memory per transfer: six buffers of 4 MiB for an upload, at most sixteen
    blocks of 1 MiB for a download, and 4 bytes per MiB of the image for both.
    """

    def __init__(self, settings: settings_module.Settings) -> None:
        """Describe the engine; nothing is touched before :meth:`start`."""
        self.settings = settings
        self.copies = settings.copies
        self.min_copies = settings.min_copies
        self.fleet = fleet_module.Fleet(settings.devices,
                                         settings.io_timeout, settings.copies)
        self.remover = removal.Remover(self.fleet)
        self.repairer = repair_module.Repairer(self.fleet, settings)
        self.sweeper = sweep_module.Sweeper(self.fleet, settings.copies)
        self.balancer = balance.Balancer(self.fleet, settings,
                                         self.repairer)
        self.scrubber = scrub.Scrubber(self.fleet, settings, self.repairer)
        self.membership = membership.Membership(
            self.fleet, self.balancer, settings.allow_shared_disk)
        self.forecast = forecast.Forecast(self.fleet, self.balancer,
                                          self.membership)
        self._background = background.Background(
            self.repairer, self.sweeper, settings.sweep_interval)
        #: When it was told how many copies are wanted, if it was.
        self._announced: float | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> LocalEngine:
        """See :meth:`~easystack_image.blockstore.engine.Engine.from_options`.

        Takes the fields of
        :class:`~easystack_image.blockstore.local.settings.Settings`.
        """
        fields = {field.name for field in
                  dataclasses.fields(settings_module.Settings)}
        return cls(settings_module.Settings(
            **{name: value for name, value in options.items()
               if name in fields}))

    def start(self) -> None:
        """See :meth:`easystack_image.blockstore.engine.Engine.start`.

        Devices that are away do not prevent the start, as long as one is
        there: the images on the others can be served.
        """
        attached, failures = self.fleet.attach(clones=True)
        try:
            self.fleet.store_id = _check_identities(attached, failures)
            if not self.settings.allow_shared_disk:
                disks, hung = self.fleet.run(
                    lambda device: device_module.disk_of(device.path),
                    paths=attached)
                device_module.refuse_shared(disks)
                failures |= hung
        finally:
            for each in attached.values():
                each.close()
        for failure in failures.values():
            LOG.error('Device %s. Images are served from the other devices.',
                      failure)
        _, lockless = self.fleet.run(
            lambda device: locks.check(device, self.fleet.store_id),
            paths=attached)
        for failure in lockless.values():
            LOG.warning('Device %s', failure)
        if len(attached) < self.min_copies:
            LOG.error('Only %(count)d of %(all)d devices can be used: '
                      'uploads need %(least)d and are refused for now.',
                      {'count': len(attached),
                       'all': len(self.settings.devices),
                       'least': self.min_copies})
        # Which devices are away, so that they keep their images.
        members.Members(self.fleet).known()
        status = self.status()
        differ = status and status.disagreement(self.copies)
        if differ:
            LOG.warning('%s.', differ)
        self.sweeper.sweep_uploads()

    def announce(self) -> None:
        """See :meth:`easystack_image.blockstore.engine.Engine.announce`.

        Done anew every hour in which an image is written or read.
        """
        self._announced = time.monotonic()
        claims.make(self.fleet, self.settings.store_name, self.copies)

    @property
    def store_id(self) -> str:
        """The UUID of the set of devices."""
        if self.fleet.store_id is None:
            raise exceptions.BlockStoreError('the engine is not started')
        return self.fleet.store_id

    def write(self, image_id: str, source: engine.Source,
              size: int | None = None, algorithm: str = 'sha512',
              sink: engine.Sink | None = None) -> engine.ImageInfo:
        """See :meth:`easystack_image.blockstore.engine.Engine.write`."""
        image_id = validate.canonical_uuid(image_id)
        validate.hash_algorithm(algorithm)
        if size is not None:
            validate.byte_count(size, 'size')
        self._ensure_background()
        # Whole microseconds, as the manifest keeps them.
        created_at = time.time_ns() // 1000 / 1_000_000
        self._refuse_existing(image_id)
        upload = layout.Upload(image_id, str(uuid.uuid4()))
        transfer = transfer_module.Transfer(
            upload, self.settings.io_timeout, self.min_copies,
            self.settings.direct_io, self.fleet.hang)
        try:
            transfer.begin(self._devices_for(image_id, size), self.copies)
            manifest = self._receive(transfer, source, size, algorithm, sink,
                                     created_at)
            transfer.seal(manifest.size, manifest_module.pack(manifest))
            done = self._commit(transfer)
        finally:
            transfer.end()
        if done < self.copies:
            self._notice(upload)
        return copying.info_of(manifest)

    def _refuse_existing(self, image_id: str) -> dict[str, str]:
        """Raise ImageExists, or return what is in the way and why.

        By device path: stale copies, and damaged ones of which no sound copy
        is left.
        """
        with self.fleet.survey(image_id) as survey:
            if survey.sound():
                raise exceptions.ImageExists(
                    f'image {image_id} is in this store already')
            return {finding.path: finding.damage or 'of an earlier upload'
                    for finding in [*survey.stale(), *survey.damaged()]}

    def _devices_for(self, image_id: str,
                     size: int | None) -> list[device_module.Attached]:
        """Return the devices for a new image, best first, attached."""
        devices, failures = self.fleet.attach_targets(image_id, size or 0)
        if len(devices) < self.min_copies:
            for attached in devices:
                attached.close()
            raise exceptions.NotEnoughCopies(
                f'image {image_id}: only {len(devices)} devices can be used, '
                f'{self.min_copies} copies are needed',
                list(failures.values()))
        return devices

    def _receive(self, transfer: transfer_module.Transfer,
                 source: engine.Source, size: int | None, algorithm: str,
                 sink: engine.Sink | None,
                 created_at: float) -> manifest_module.Manifest:
        """Read the source into all copies; return what they must be."""
        followers = digest.Followers(transfer.pool, size, algorithm, sink)
        try:
            received, checksums = transfer.pump(source, followers.feed)
            followers.finish(received)
        finally:
            followers.close()
        return manifest_module.Manifest(
            image_id=transfer.upload.image_id,
            generation=transfer.upload.generation, store_id=self.store_id,
            size=received, created_at=created_at, md5=followers.md5.digest(),
            algorithm=algorithm, multihash=followers.multihash.digest(),
            checksums=checksums)

    def _commit(self, transfer: transfer_module.Transfer) -> int:
        """Move the copies to their places; return how many are durable."""
        upload = transfer.upload
        with self.fleet.locked(upload.image_id, 'commit'):
            in_the_way = self._refuse_existing(upload.image_id)
            for lane in transfer.lanes:
                if lane.path in in_the_way:
                    lane.submit(removal.aside(
                        lane.copy.attached, upload.image_id,
                        in_the_way[lane.path]))
            done = len(transfer.commit())
            if done < self.min_copies:
                self.remover.delete(upload)
                # A device that hangs may go through with its commit later.
                self.sweeper.expect_return()
                raise exceptions.NotEnoughCopies(
                    f'image {upload.image_id}: {done} of at least '
                    f'{self.min_copies} copies could be completed',
                    transfer.failures)
        return done

    def info(self, image_id: str,
             generation: str | None = None) -> engine.ImageInfo:
        """See :meth:`easystack_image.blockstore.engine.Engine.info`."""
        with self._survey(image_id, generation) as survey:
            return _info(survey)

    def open(self, image_id: str, offset: int = 0, length: int | None = None,
             generation: str | None = None) -> engine.Reader:
        """See :meth:`easystack_image.blockstore.engine.Engine.open`."""
        validate.byte_count(offset, 'offset')
        if length is not None:
            validate.byte_count(length, 'length')
        self._ensure_background()
        with self._survey(image_id, generation) as survey:
            info = _info(survey)
            upload = layout.Upload(info.image_id, info.generation)
            sound = survey.sound()
            # A device that is away may come back, with its copy.
            lacking = len(sound) + len(self.fleet.awaited(
                survey.failures)) < self.copies
            if lacking or survey.damaged() or survey.stale():
                self._notice(upload)
            reader = reader_module.LocalReader(
                info, reader_module.open_copies(sound), offset, length,
                self.settings.io_timeout,
                lambda path, reason, hung: self._fault(upload, path, hung))
        try:
            reader.prefetch()
        except BaseException:
            reader.close()
            raise
        return reader

    @contextlib.contextmanager
    def _survey(self, image_id: str, generation: str | None,
                ) -> Iterator[fleet_module.Survey]:
        image_id = validate.canonical_uuid(image_id)
        if generation is not None:
            generation = validate.canonical_uuid(generation, 'generation')
        with contextlib.ExitStack() as stack:
            survey = stack.enter_context(
                self.fleet.survey(image_id, generation))
            if survey.current is None and not survey.damaged() and (
                    generation is None or not survey.deleted(generation)):
                # While copies move from one device to another, none may be
                # seen: each device was asked at another moment.
                with contextlib.suppress(exceptions.NotEnoughCopies,
                                         exceptions.ImageBusy), \
                        self.fleet.locked(image_id, 'commit'):
                    survey = stack.enter_context(
                        self.fleet.survey(image_id, generation))
            yield survey

    def _fault(self, upload: layout.Upload, path: str, hung: bool) -> None:
        if hung:
            self.fleet.devices[path].avoid()
        self._notice(upload)

    def _notice(self, upload: layout.Upload) -> None:
        """Have an image repaired, now or by whoever finds its mark."""
        if self.settings.self_repair:
            self._background.notice(upload)
        else:
            self.repairer.mark(upload)

    def _ensure_background(self) -> None:
        if self._announced is not None and (
                time.monotonic() >= self._announced + claims.AGAIN):
            self.announce()
        if self.settings.self_repair:
            self._background.ensure()

    def delete(self, image_id: str, generation: str | None = None) -> None:
        """See :meth:`easystack_image.blockstore.engine.Engine.delete`."""
        image_id = validate.canonical_uuid(image_id)
        if generation is not None:
            generation = validate.canonical_uuid(generation, 'generation')
        with self.fleet.locked(image_id, 'commit'):
            with self.fleet.survey(image_id, generation) as survey:
                generation = generation or survey.current
                if generation is None:
                    raise survey.absence()
                replaced = survey.replaced_by(generation)
                # What is damaged is of this upload or of an older one.
                damaged_too = not survey.has_others(generation, *replaced)
                there = _present(survey, generation, damaged_too)
                gone = survey.deleted(generation)
                if not (there or gone or survey.failures):
                    raise survey.absence()
            # If it was deleted already: in case that was cut short.
            if not self.remover.delete(
                    layout.Upload(image_id, generation), damaged_too):
                self.sweeper.expect_return()
            for each in replaced:
                # Or it would pass for the image from now on.
                self.remover.delete(layout.Upload(image_id, each))
            if gone:
                raise survey.absence()

    def list_images(self) -> Iterator[str]:
        """See :meth:`easystack_image.blockstore.engine.Engine.list_images`.

        :raises easystack_image.exceptions.ImageUnavailable: if no device can
            be asked
        """
        listed = inventory.take(self.fleet)
        for image_id in sorted(listed.images):
            if image_id not in listed.deleted:
                yield image_id
                continue
            # Some upload of it was deleted; is there another one?
            with self.fleet.survey(image_id) as survey:
                if survey.sound():
                    yield image_id

    def list_copies(self, image_id: str,
                    verify: bool = False) -> list[engine.Copy]:
        """See :meth:`easystack_image.blockstore.engine.Engine.list_copies`.

        Without ``verify`` the manifest and the size of each copy are
        checked, not its content; what a repair found out counts.
        """
        with self._survey(image_id, None) as survey:
            if survey.current is None and not survey.damaged():
                raise survey.absence()
            faults: Mapping[str, str]
            if not verify or survey.current is None:
                faults = self.repairer.known_faults(survey)
            else:
                diagnosis = repair_module.diagnose(
                    survey, self.settings.io_timeout)
                faults = diagnosis.copies
                verified.stamp(self.fleet, image_id, diagnosis.good())
                for path in diagnosis.hung:
                    survey.failures[path] = exceptions.DeviceTimeout(
                        path, 'did not answer in time')
            return self._describe(survey, faults)

    def _describe(self, survey: fleet_module.Survey,
                  faults: Mapping[str, str]) -> list[engine.Copy]:
        place = layout.copy_directory(survey.image_id)
        copies: list[engine.Copy] = []
        absent: list[str] = []
        for path, finding in survey.findings.items():
            if path in survey.failures:
                continue
            state, reason = _state(survey, finding, faults.get(path, ''))
            if state is engine.CopyState.MISSING:
                absent.append(path)
                continue
            copies.append(engine.Copy(
                path, finding.zone, state, reason,
                f'{path}/{place}/{layout.DATA}', finding.verified_at,
                finding.size))
        zones = [copy.zone for copy in copies
                 if copy.state is engine.CopyState.GOOD]
        for path in self.fleet.targets(survey.image_id, absent, zones)[
                :max(0, self.copies - len(zones))]:
            copies.append(engine.Copy(
                path, survey.findings[path].zone,
                engine.CopyState.MISSING, 'has no copy'))
        for path, failure in survey.failures.items():
            identity = self.fleet.devices[path].known
            copies.append(engine.Copy(
                path, identity.zone if identity else '',
                engine.CopyState.UNREACHABLE, failure.reason))
        return copies

    def repair(self, image_id: str) -> list[engine.Copy]:
        """See :meth:`easystack_image.blockstore.engine.Engine.repair`."""
        image_id = validate.canonical_uuid(image_id)
        self.repairer.repair(image_id)
        return self.list_copies(image_id)

    def request_repair(self, image_id: str) -> None:
        """Note a request; see the base class.

        By this process, or by whoever finds the mark that is left on the
        devices.
        """
        with self._survey(image_id, None) as survey:
            upload = survey.upload()
        self.repairer.mark(upload, anew=True)
        if self.settings.self_repair:
            self._background.notice(upload, again=True)

    def repair_requested_at(self, image_id: str) -> float | None:
        """See the base class; that is the time of the newest mark."""
        waiting = self.repairer.waiting(validate.canonical_uuid(image_id))
        return waiting.requested_at if waiting else None

    def repair_attempt(self, image_id: str) -> engine.RepairAttempt | None:
        """See the base class; that lies beside the mark."""
        waiting = self.repairer.waiting(validate.canonical_uuid(image_id))
        return waiting.attempt if waiting else None

    def awaits_repair(self, image_id: str) -> bool:
        """Tell whether an image is still to be verified and repaired."""
        return self.repair_requested_at(image_id) is not None

    def problems(self) -> list[engine.Problem]:
        """See :meth:`easystack_image.blockstore.engine.Engine.problems`."""
        return health.assess(self)

    def status(self) -> status_module.Status | None:
        """Return what the healer saw last, or None if it never ran."""
        return status_module.read(self.fleet)

    def healer(self, report: Callable[[status_module.Status], object],
               ) -> healer.Healer:
        """Return a healer for this store.

        Writes metrics, if ``metrics_file`` is set.

        :param report: called with the status after each round
        """
        def publish(status: status_module.Status) -> None:
            if self.settings.metrics_file:
                metrics.write(self, status, self.settings.metrics_file)
            report(status)

        return healer.Healer(self.fleet, self.settings, self.repairer,
                             self.sweeper, self.balancer, publish)

    def checker(self) -> fsck.Checker:
        """Return what checks everything on the devices.

        It may be used before :meth:`start`, which refuses devices that do
        not belong together and sweeps what crashes left.
        """
        return fsck.Checker(self.fleet, self.settings)

    def devices(self) -> list[engine.DeviceInfo]:
        """See :meth:`easystack_image.blockstore.engine.Engine.devices`."""
        found, failures = self.fleet.run(
            lambda device: _measure(device, self.fleet.store_id))
        infos = []
        for path, device in self.fleet.devices.items():
            if path in found:
                infos.append(found[path])
                continue
            identity = device.known
            infos.append(engine.DeviceInfo(
                path, identity.zone if identity else '',
                identity.weight if identity else 0.0, False, 0, 0,
                failures[path].reason))
        return infos

    def close(self) -> None:
        """See :meth:`easystack_image.blockstore.engine.Engine.close`."""
        self._background.stop()


def _info(survey: fleet_module.Survey) -> engine.ImageInfo:
    sound = survey.sound()
    if not sound:
        raise survey.absence()
    return copying.info_of(sound[0].described())


def _present(survey: fleet_module.Survey, generation: str,
             damaged_too: bool) -> bool:
    """Tell whether there is something of an upload that could be deleted."""
    return any(damaged_too and finding.damage if finding.manifest is None
               else finding.manifest.generation == generation
               for finding in survey.findings.values())


def _state(survey: fleet_module.Survey, finding: fleet_module.Finding,
           fault: str) -> tuple[engine.CopyState, str]:
    if finding.damage or fault:
        return engine.CopyState.DAMAGED, finding.damage or fault
    if finding.manifest is None:
        return engine.CopyState.MISSING, ''
    if finding.manifest.generation != survey.current:
        return engine.CopyState.STALE, 'of a deleted or replaced upload'
    return engine.CopyState.GOOD, ''


def _measure(device: device_module.Device,
             store_id: str | None) -> engine.DeviceInfo:
    with contextlib.closing(device.attach(store_id)) as attached:
        usage = os.fstatvfs(attached.fd)
        identity = attached.identity
        return engine.DeviceInfo(
            device.path, identity.zone, identity.weight, True,
            usage.f_blocks * usage.f_frsize, usage.f_bavail * usage.f_frsize)


def _check_identities(
        attached: Mapping[str, device_module.Attached],
        failures: Mapping[str, exceptions.DeviceError]) -> str:
    """Return the set that all devices belong to, or raise."""
    if not attached:
        details = '; '.join(map(str, failures.values()))
        raise exceptions.ConfigurationError(
            f'none of the devices can be used ({details}): mount them, or '
            'prepare new ones with "easystack-image-manage device init"')
    sets = collections.defaultdict(list)
    for path, each in attached.items():
        sets[each.identity.store_id].append(path)
    if len(sets) > 1:
        details = '; '.join(f'{store_id}: {", ".join(paths)}'
                            for store_id, paths in sets.items())
        raise exceptions.ConfigurationError(
            f'the devices belong to different sets ({details}): list only '
            'devices of one set')
    owners = collections.defaultdict(list)
    for path, each in attached.items():
        owners[each.identity.device_id].append(path)
    for device_id, paths in owners.items():
        if len(paths) > 1:
            raise exceptions.ConfigurationError(
                f'{" and ".join(paths)} are the same device ({device_id}): '
                'list it once; a cloned disk must be prepared anew')
    return next(iter(sets))
