"""Making up for copies that are missing or damaged.

New copies are complete before anything is taken away: a damaged copy goes to
quarantine just before its replacement takes its place, so that there are
never fewer good copies than before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
import contextlib
import dataclasses
import functools
import logging
import os
import threading
import time

from easystack_image import exceptions
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import fsio
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import reader as reader_module
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import timed
from easystack_image.blockstore.local import verified
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

#: Seconds that the clock of a file server may be ahead of ours.
AHEAD = 60.0


def verify(copy: reader_module.CopyFile, timeout: float,
           job: work.Job | None = None) -> str:
    """Read all of a copy; return what is wrong with it, or ''.

    :param timeout: seconds that a block may take
    :param job: what the bytes are accounted to
    """
    job = job or work.Job()
    ahead = reader_module.ReadAhead(copy, 0, copy.manifest.blocks, fresh=True)
    try:
        for _ in range(copy.manifest.blocks):
            job.take(len(ahead.take(timeout)))
    except OSError as error:
        copy.hung = isinstance(error, TimeoutError) and error.errno is None
        return error.strerror or str(error)
    finally:
        ahead.stop(0.0 if copy.hung else 1.0)
    return ''


@dataclasses.dataclass(slots=True)
class Diagnosis:
    """How the copies of an image are, once all of each was read."""

    #: The manifest that they all should have.
    manifest: manifest_module.Manifest
    #: By device path: '' for a good copy, else what is wrong with it.
    copies: dict[str, str]
    #: Devices that hung meanwhile; how their copies are is not known.
    hung: set[str]

    def good(self) -> list[str]:
        """Return the devices that have a good copy."""
        return [path for path, fault in self.copies.items() if not fault]


def diagnose(survey: fleet_module.Survey, timeout: float,
             job: work.Job | None = None) -> Diagnosis:
    """Verify all of every copy, side by side.

    :param job: what the work is accounted to
    :raises easystack_image.exceptions.BlockStoreError: if there is no sound
        copy
    """
    sound = survey.sound()
    if not sound:
        raise survey.absence()
    manifest = sound[0].described()
    copies = {finding.path: finding.damage for finding in survey.damaged()}
    hung: set[str] = set()
    opened = [reader_module.CopyFile(finding.path, os.dup(finding.data),
                                     manifest) for finding in sound]
    try:
        # Each ends in time, so that the threads may be waited for.
        faults = timed.gather(
            {copy: functools.partial(verify, copy, timeout, job)
             for copy in opened}, threading.TIMEOUT_MAX, 'verify')
        for copy, fault in faults.items():
            if isinstance(fault, Exception):
                raise fault
            if copy.hung:
                hung.add(copy.path)
            else:
                copies[copy.path] = fault
    finally:
        for copy in opened:
            copy.close()
    return Diagnosis(manifest, copies, hung)


class Repairer:
    """Repairs images on the devices of a fleet."""

    def __init__(self, fleet: fleet_module.Fleet,
                 settings: settings_module.Settings) -> None:
        self._fleet = fleet
        self._settings = settings
        self._copier = copying.Copier(fleet, settings)

    def repair(self, image_id: str, wait: bool = True,
               patient: bool = False,
               job: work.Job | None = None) -> bool | None:
        """Bring an image back to ``copies`` good copies.

        :param wait: whether to wait for another process that repairs it
        :param patient: whether to count on a device that is away for a copy
            that it may have, and to leave it at the others; one that has
            been given up is not counted on
        :returns: whether it has as many good copies now; None if another
            process is at it and ``wait`` is false
        :raises easystack_image.exceptions.ImageNotFound: if there is no such
            image
        :raises easystack_image.exceptions.DamagedImage: if no good copy can
            be made from what is left; nothing was changed then
        :raises easystack_image.exceptions.BlockStoreError: if it cannot be
            read, or no device can take a copy
        """
        job = job or work.Job()
        with self._fleet.locked(image_id, 'repair', wait) as mine:
            if not mine:
                return None
            began = time.time()
            with self._fleet.survey(image_id) as survey:
                if not (survey.sound() or survey.damaged()):
                    self._refuse_deleted(image_id)
                diagnosis = diagnose(survey, self._settings.io_timeout, job)
                verified.stamp(self._fleet, image_id, diagnosis.good())
                missing = self._settings.copies - len(diagnosis.good())
                if patient:
                    missing -= len(self._fleet.awaited(
                        {*survey.failures, *diagnosis.hung}))
                made = self._rebuild(survey, diagnosis, missing, job)
            if self._rest(image_id, diagnosis, made)[0]:
                self._remove_rest(image_id, diagnosis, made)
        enough = len(diagnosis.good()) + len(made) >= self._settings.copies
        if enough:
            # Who asked for it since then may mean what was read before.
            self.unmark({upload for upload in self.marked()
                         if upload.image_id == image_id}, began)
        return enough

    def _refuse_deleted(self, image_id: str) -> None:
        """Raise ImageNotFound if what waits for repair was deleted.

        A device that is away may have a copy of it; that does not count any
        more, and is not to be waited for.
        """
        waiting = {upload for upload in self.marked()
                   if upload.image_id == image_id}
        for upload in waiting:
            with self._fleet.survey(image_id, upload.generation) as survey:
                if not survey.deleted(upload.generation):
                    return
        if waiting:
            raise exceptions.ImageNotFound(f'image {image_id} was deleted')

    def _rebuild(self, survey: fleet_module.Survey, diagnosis: Diagnosis,
                 missing: int, job: work.Job) -> list[str]:
        """Write ``missing`` new copies; return where they are."""
        if missing <= 0:
            return []
        good = diagnosis.good()
        return self._copier.make(
            survey, diagnosis.copies,
            [path for path in survey.findings
             if path not in {*good, *diagnosis.hung}], missing,
            [survey.findings[path].zone for path in good], job)

    def _rest(self, image_id: str, diagnosis: Diagnosis,
              made: Collection[str]) -> tuple[dict[str, str], set[str]]:
        """Return the damaged and stale copies that may go.

        Only where good copies stand: never the last that there is.

        :returns: why they may, by device path; and the older uploads
        """
        with self._fleet.survey(image_id) as survey:
            if survey.current != diagnosis.manifest.generation:
                return {}, set()
            rest = {path: fault for path, fault in diagnosis.copies.items()
                    if fault and path not in made}
            rest |= {finding.path: finding.damage or 'of another upload'
                     for finding in [*survey.damaged(), *survey.stale()]}
            older = survey.replaced_by(diagnosis.manifest.generation)
            sound = {finding.path for finding in survey.sound()}
            enough = len(sound - set(rest)) >= self._settings.copies
        return (rest, older) if enough else ({}, set())

    def _remove_rest(self, image_id: str, diagnosis: Diagnosis,
                     made: Collection[str]) -> None:
        """Take damaged and stale copies out of the way."""
        try:
            # Or what is uploaded meanwhile could be in their places.
            with self._fleet.locked(image_id, 'commit'):
                self._put_aside(image_id,
                                *self._rest(image_id, diagnosis, made))
        except (exceptions.ImageBusy, exceptions.NotEnoughCopies) as error:
            LOG.warning('Bad copies of image %(image)s stay where they are: '
                        '%(error)s', {'image': image_id, 'error': error})

    def _put_aside(self, image_id: str, rest: Mapping[str, str],
                   older: Collection[str]) -> None:
        def aside(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                removal.aside(attached, image_id, rest[device.path])()

        for generation in older:
            # Or it would count again, once this one is deleted.
            removal.Remover(self._fleet).mark(
                layout.Upload(image_id, generation))
        if rest:
            _, failures = self._fleet.run(aside, paths=rest)
            for failure in failures.values():
                LOG.warning('A bad copy of image %(image)s stays where it '
                            'is: %(failure)s',
                            {'image': image_id, 'failure': failure})

    def present(self) -> frozenset[str]:
        """Return the paths of the devices that can be used now."""
        attached, _ = self._fleet.attach()
        for each in attached.values():
            each.close()
        return frozenset(attached)

    def mark(self, upload: layout.Upload, anew: bool = False) -> None:
        """Note, where it can be, that an image waits for repair.

        A hint that survives this process; losing it loses no data.

        :param anew: whether a repair that is under way does not count
        """
        def mark(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached, \
                    attached.directory(layout.REPAIR) as repair:
                try:
                    fsio.write_file(upload.name, b'', repair)
                except FileExistsError:
                    if anew:
                        fsio.touch(upload.name, time.time(), repair)

        _, failures = self._fleet.run(mark)
        for failure in failures.values():
            LOG.debug('Repair is not noted: %s', failure)

    def marked(self) -> set[layout.Upload]:
        """Return the uploads that wait for repair."""
        def look(device: device_module.Device) -> list[str]:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached, \
                    attached.directory(layout.REPAIR) as repair:
                return os.listdir(repair)

        found, _ = self._fleet.run(look)
        return {upload for names in found.values() for name in names
                if (upload := layout.upload_of_mark(name))}

    def marked_at(self, image_id: str) -> float | None:
        """Return when an image was marked last; None if it is not."""
        def look(device: device_module.Device) -> float | None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached, \
                    attached.directory(layout.REPAIR) as repair:
                return max((_time_of(name, repair)
                            for name in os.listdir(repair)
                            if (upload := layout.upload_of_mark(name))
                            and upload.image_id == image_id), default=None)

        found, _ = self._fleet.run(look)
        return max((each for each in found.values() if each), default=None)

    def unmark(self, uploads: set[layout.Upload],
               before: float = float('inf')) -> None:
        """Forget that uploads wait for repair.

        :param before: keep the marks that were made since then, in seconds
            since the epoch
        """
        def unmark(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached, \
                    attached.directory(layout.REPAIR) as repair:
                # A time to come tells nothing: the clock was wrong.
                after = time.time() + AHEAD
                for upload in uploads:
                    with contextlib.suppress(FileNotFoundError):
                        if not before <= _time_of(upload.name,
                                                  repair) <= after:
                            fsio.unlink(upload.name, repair)

        if uploads:
            self._fleet.run(unmark)


def _time_of(name: str, directory: int) -> float:
    """Return when a mark was made, or renewed; 0 if it is gone."""
    try:
        return os.stat(name, dir_fd=directory,
                       follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0
