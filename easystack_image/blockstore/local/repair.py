"""Making up for copies that are missing or damaged.

New copies are complete before anything is taken away: a damaged copy goes to
quarantine just before its replacement takes its place, so that there are
never fewer good copies than before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
import contextlib
import dataclasses
import functools
import logging
import os
import threading
import time

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import attempts
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import reader as reader_module
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import timed
from easystack_image.blockstore.local import verified
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)
DAY = 86400.0


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


@dataclasses.dataclass(slots=True)
class _Course:
    """How far a repair got."""

    #: In seconds since 1970.
    began: float
    diagnosis: Diagnosis | None = None
    #: Devices that have a new copy.
    made: list[str] = dataclasses.field(default_factory=list)

    def hung(self) -> set[str]:
        """Return the devices that hung when all was read."""
        return self.diagnosis.hung if self.diagnosis else set()

    def hopeless(self) -> bool:
        """Tell whether no copy was found that is good, or may be."""
        return self.diagnosis is None or not (
            self.diagnosis.good() or self.diagnosis.hung)


class Repairer:
    """Repairs images on the devices of a fleet."""

    def __init__(self, fleet: fleet_module.Fleet,
                 settings: settings_module.Settings) -> None:
        self._fleet = fleet
        self._settings = settings
        self._copier = copying.Copier(fleet, settings)
        self._attempts = attempts.Attempts(fleet)

    def repair(self, image_id: str, wait: bool = True,
               patient: bool = False,
               job: work.Job | None = None) -> bool | None:
        """Bring an image back to ``copies`` good copies.

        What comes of it is noted for those who wait for it (see
        attempts.py).

        :param wait: whether to wait for another process that repairs it
        :param patient: whether to count on a device that is away for a copy
            that it may have, and to leave it at the others; one that has
            been given up is not counted on
        :returns: whether it has as many good copies now; None if another
            process is at it and ``wait`` is false
        :raises easystack_image.exceptions.ImageNotFound: if there is no such
            image
        :raises easystack_image.exceptions.DamagedImage: if no good copy can
            be made from what is left; no copy was changed then
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
                with self._noting(survey, _Course(began)) as course:
                    diagnosis = course.diagnosis = diagnose(
                        survey, self._settings.io_timeout, job)
                    verified.stamp(self._fleet, image_id, diagnosis.good())
                    missing = self._settings.copies - len(diagnosis.good())
                    if patient:
                        missing -= len(self._fleet.awaited(
                            {*survey.failures, *diagnosis.hung}))
                    made = course.made = self._rebuild(survey, diagnosis,
                                                       missing, job)
            if self._rest(image_id, diagnosis, made)[0]:
                self._remove_rest(image_id, diagnosis, made)
        enough = len(diagnosis.good()) + len(made) >= self._settings.copies
        if enough:
            # Who asked for it since then may mean what was read before.
            self.unmark({upload for upload in self.marked()
                         if upload.image_id == image_id}, began)
        return enough

    @contextlib.contextmanager
    def _noting(self, survey: fleet_module.Survey,
                course: _Course) -> Iterator[_Course]:
        """Note how a repair ends, unless it makes the image whole."""
        try:
            yield course
        except exceptions.ImageNotFound:
            raise
        except exceptions.BlockStoreError as error:
            self._note(survey, course, str(error), course.hopeless() and
                       isinstance(error, exceptions.DamagedImage))
            raise
        good = len(course.diagnosis.good() if course.diagnosis else ())
        if good + len(course.made) < self._settings.copies:
            away = [f'{path} did not answer in time' for path in sorted(
                course.hung())] + list(map(str, survey.failures.values()))
            self._note(survey, course,
                       f'{good + len(course.made)} of '
                       f'{self._settings.copies} copies are good'
                       + (f' ({"; ".join(away)})' if away else ''))

    def _note(self, survey: fleet_module.Survey, course: _Course,
              reason: str, lost: bool = False) -> None:
        image_id = survey.image_id
        waiting = self._attempts.waiting(image_id)
        if lost and not waiting:
            # Or the healer would not know of it.
            with contextlib.suppress(exceptions.DamagedImage):
                waiting = {survey.upload(): attempts.Waiting(course.began,
                                                             None)}
            for upload in waiting:
                self.mark(upload, at=course.began)
        attempt = attempts.Attempt(
            course.began, time.time(), lost, reason, frozenset(
                finding.attached.identity.device_id
                for path, finding in survey.findings.items()
                if path not in course.hung()))
        # What is tried every few minutes while a device is away is not to be
        # written each time.
        self._attempts.note([upload for upload, each in waiting.items()
                             if not attempt.repeats(each.attempt)], attempt)

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

    def mark(self, upload: layout.Upload, anew: bool = False,
             at: float | None = None) -> None:
        """Note, where it can be, that an image waits for repair.

        A hint that survives this process; losing it loses no data.

        :param anew: whether a repair that is under way does not count
        :param at: since when, in seconds since the epoch, if not since now
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
                else:
                    if at is not None:
                        fsio.touch(upload.name, at, repair)

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

    def waiting(self, image_id: str) -> attempts.Waiting | None:
        """Return since when an image waits for repair, and what came of it.

        None if it does not.
        """
        waiting = self._attempts.waiting(image_id).values()
        if not waiting:
            return None
        requested_at = max(each.requested_at for each in waiting)
        return attempts.newest([(requested_at, each.attempt)
                                for each in waiting])

    def known_faults(self, survey: fleet_module.Survey) -> dict[str, str]:
        """Return what is known to be wrong with copies that look sound.

        Of an image without a good copy, once a repair found that; what it
        finds otherwise is repaired.

        :returns: what it is, by device path
        """
        if survey.current is None:
            return {}
        # Not those that the survey passed over: where a disk is mounted at
        # the path of another one, asking again would take it for that one.
        asked = survey.findings.keys() - survey.failures.keys()
        waiting = self._attempts.waiting(survey.image_id, asked).get(
            layout.Upload(survey.image_id, survey.current))
        return self._attempts.faults(
            waiting.attempt if waiting else None,
            {finding.path: finding.verified_at for finding in survey.sound()})

    def known_bad(self, listed: inventory.Inventory) -> dict[str, set[str]]:
        """Return the devices whose copies are known to be bad, by image.

        Of images without a good copy, as :meth:`known_faults`.
        """
        return {upload.image_id: set(self._attempts.faults(attempt, {
            path: entry.verified_at for path, entry
            in listed.images.get(upload.image_id, {}).items()}))
            for upload, attempt in self._lost().items()}

    def lost(self) -> set[str]:
        """Return the images of which a repair found no good copy."""
        return {upload.image_id for upload in self._lost()}

    def given_up(self) -> set[str]:
        """Return those of them that need not be tried again for now.

        No device is there that was not asked, nobody asked for a repair
        since, and it is less than ``scrub_period`` ago.
        """
        lost = self._lost()
        if not lost:
            return set()
        attached, _ = self._fleet.attach()
        for each in attached.values():
            each.close()
        here = {each.identity.device_id for each in attached.values()}
        before = time.time() - self._settings.scrub_period * DAY
        return {upload.image_id for upload, attempt in lost.items()
                if here <= attempt.devices and attempt.ended_at > before}

    def _lost(self) -> dict[layout.Upload, attempts.Attempt]:
        return {upload: waiting.attempt for upload, waiting
                in self._attempts.waiting().items()
                if waiting.attempt is not None and waiting.attempt.lost
                and self._still(upload)}

    def _still(self, upload: layout.Upload) -> bool:
        """Tell whether an upload was neither deleted nor replaced."""
        with self._fleet.survey(upload.image_id) as survey:
            return (survey.current in (None, upload.generation)
                    and not survey.deleted(upload.generation)
                    and bool(survey.sound() or survey.damaged()))

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
                after = time.time() + attempts.AHEAD
                for upload in uploads:
                    if not before <= attempts.time_of(upload.name,
                                                      repair) <= after:
                        attempts.remove(upload, repair)

        if uploads:
            self._fleet.run(unmark)
