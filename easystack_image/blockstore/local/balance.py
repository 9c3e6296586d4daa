"""Having every copy where placement wants it.

After a device was added, drained or replaced, and after one was away, copies
are missing from where they belong, or lie where they need not.  The order is
always: the new copy first, from verified blocks, durable and in its place;
then the surplus one goes.  So there are never fewer good copies than before,
nor in fewer zones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import contextlib
import dataclasses
import errno
import logging
import os
import time

from easystack_image import exceptions
from easystack_image.blockstore.local import claims
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import repair as repair_module
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import verified
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

#: Bytes that stay free on a device that a copy is moved to.
MARGIN = 16 * 1024 * 1024
#: Seconds after which it is looked again how many copies others want.
BELIEVED = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about one image; devices by path."""

    image_id: str
    #: Of the image, in bytes.
    size: int
    #: Devices that are to get a copy.
    make: tuple[str, ...] = ()
    #: Devices whose copy is not needed, once the others are made.
    remove: tuple[str, ...] = ()
    #: Why not all that was to be done could be, or ''.
    left: str = ''

    def __bool__(self) -> bool:
        return bool(self.make or self.remove)


class Balancer:
    """Moves copies between the devices of a fleet.

    :param repairer: told of what has to be repaired
    """

    def __init__(self, fleet: fleet_module.Fleet,
                 settings: settings_module.Settings,
                 repairer: repair_module.Repairer) -> None:
        self._fleet = fleet
        self._settings = settings
        self._repairer = repairer
        self._copier = copying.Copier(fleet, settings, repairer.mark)
        #: How many copies others want, and until when that is believed.
        self._claimed = 0, 0.0

    def _copies(self) -> int:
        """Return how many copies to keep: as many as anybody wants.

        Or what one store makes, another one with the same devices removes.
        """
        claimed, until = self._claimed
        if time.monotonic() >= until:
            claimed = max((each.copies for each in claims.read(self._fleet)),
                          default=0)
            self._claimed = claimed, time.monotonic() + BELIEVED
        return max(self._settings.copies, claimed)

    def misplaced(self, listed: inventory.Inventory) -> list[str]:
        """Return the images whose copies are not where they belong.

        Or not whole.  Told by names and sizes alone, so that those where all
        is well cost nothing.
        Copies on devices that are away are taken to be there.
        """
        away = self._fleet.awaited(listed.failures)
        todo = []
        for image_id, copies in listed.images.items():
            wanted = self._wanted(image_id)
            if (set(wanted) - away != set(copies)
                    or listed.whole(image_id) != set(copies)):
                todo.append(image_id)
        return sorted(todo)

    def _wanted(self, image_id: str) -> list[str]:
        """Return the devices where placement wants an image, best first."""
        return self._fleet.targets(
            image_id, self._fleet.devices)[:self._copies()]

    def plan(self, image_id: str) -> Plan:
        """Return what is to be done about an image.

        :raises easystack_image.exceptions.BlockStoreError: if it has no
            sound copy
        """
        with self._fleet.survey(image_id) as survey:
            return self._plan(survey)

    def _plan(self, survey: fleet_module.Survey) -> Plan:
        if not survey.sound():
            raise survey.absence()
        image_id = survey.image_id
        holders = [finding.path for finding in survey.sound()]
        wanted = self._wanted(image_id)
        make = [path for path in wanted if path not in holders
                and path in survey.findings]
        if any(map(self._fleet.leaving, holders)):
            # What is to leave does not wait for devices that are away.
            make += self._others(survey, make)[
                :max(0, self._lacking(survey) - len(make))]
        keep = self._keep(survey, [*holders, *make], wanted)
        surplus = [path for path in holders if path not in keep]
        return Plan(image_id, survey.sound()[0].described().size,
                    tuple(make), tuple(surplus))

    def _others(self, survey: fleet_module.Survey,
                without: Sequence[str]) -> list[str]:
        """Return where else a copy may be placed, best first."""
        holders = [finding.path for finding in survey.sound()]
        staying = [path for path in holders if not self._fleet.leaving(path)]
        return self._fleet.targets(
            survey.image_id, {*survey.findings} - {*holders, *without},
            [survey.findings[path].zone for path in [*staying, *without]])

    def _keep(self, survey: fleet_module.Survey, paths: Sequence[str],
              wanted: Sequence[str]) -> set[str]:
        """Return which of the copies to keep: ``copies``, if there are."""
        order = sorted(self._fleet.order(survey.image_id, paths),
                       key=lambda path: path not in wanted)
        keep: list[str] = []
        while order and len(keep) < self._copies():
            zones = {survey.findings[path].zone for path in keep}
            # The best in a new zone, if there is one; never one that is
            # leaving while there is another.
            best = min(order, key=lambda path: (
                self._fleet.leaving(path),
                survey.findings[path].zone in zones))
            order.remove(best)
            keep.append(best)
        return set(keep)

    def settle(self, image_id: str, job: work.Job | None = None) -> Plan:
        """Do what is to be done about an image; return what was done.

        :raises easystack_image.exceptions.NotEnoughCopies: if no device can
            take the new copies
        :raises easystack_image.exceptions.ImageNotFound: if there is no such
            image
        :raises easystack_image.exceptions.BlockStoreError: if it cannot be
            read
        """
        job = job or work.Job()
        with self._fleet.locked(image_id, 'repair'):
            with self._fleet.survey(image_id) as survey:
                plan = self._plan(survey)
                upload = layout.Upload(
                    image_id, survey.sound()[0].described().generation)
                if survey.damaged() or survey.stale():
                    # To be put aside, once all of the others was read.
                    self._repairer.mark(upload)
                if not plan:
                    return plan
                made, causes = self._make(survey, plan, job)
                surplus = self._surplus(survey, made)
                good = self._good(survey, surplus, made, job)
            removed = self._trim(upload, surplus, good)
        left = [str(cause) for cause in causes if len(made) < len(plan.make)]
        stay = [path for path in surplus if path not in removed]
        if stay:
            count = len(good) - len(removed)
            left.append(
                f'what it has on {", ".join(stay)} stays, as '
                f'{count} of its copies {"is" if count == 1 else "are"} known '
                'to be good; "repair" makes up for the others')
        return dataclasses.replace(plan, make=tuple(made),
                                   remove=tuple(removed),
                                   left='; '.join(left))

    def _make(self, survey: fleet_module.Survey, plan: Plan, job: work.Job,
              ) -> tuple[list[str], list[exceptions.DeviceError]]:
        """Make copies where they belong, or else anywhere if need be.

        :returns: where they were made, and why not where they were not
        """
        holders = [finding.path for finding in survey.sound()]
        keep = [path for path in holders if path not in plan.remove]
        faults = {finding.path: finding.damage
                  for finding in survey.damaged()}
        causes: list[exceptions.DeviceError] = []

        def make(paths: Sequence[str], count: int,
                 used: Sequence[str]) -> list[str]:
            try:
                return self._copier.make(
                    survey, faults, paths, count,
                    [survey.findings[path].zone for path in used], job)
            except exceptions.NotEnoughCopies as error:
                causes.extend(error.causes)
                return []

        fits, full = self._fitting(survey, plan.make)
        made = make(fits, len(fits), keep) if fits else []
        lacking = self._lacking(survey) - len(made)
        others = self._others(survey, plan.make)
        if lacking > 0 and others:
            staying = [path for path in holders
                       if not self._fleet.leaving(path)]
            made += make(others, lacking, [*staying, *made])
        if plan.make and not made:
            raise exceptions.NotEnoughCopies(
                f'image {survey.image_id}: no new copy can be made',
                [*causes, *full])
        return made, [*causes, *full]

    def _lacking(self, survey: fleet_module.Survey) -> int:
        """Return how many copies have to be made, wherever that is."""
        holders = {finding.path for finding in survey.sound()}
        staying = [path for path in holders if not self._fleet.leaving(path)]
        lacking = self._copies() - len(staying)
        if len(staying) == len(holders):
            # Devices that are away for a short time have theirs; but what is
            # to leave does not wait for them.
            lacking -= len(self._fleet.awaited(survey.failures))
        return max(0, lacking)

    def _fitting(self, survey: fleet_module.Survey, paths: Iterable[str],
                 ) -> tuple[list[str], list[exceptions.DeviceError]]:
        """Return devices with room for a copy, and why others have none.

        Or each round would read the image once more, only to find its disk
        full.
        """
        needed = survey.sound()[0].allocated + MARGIN

        def room(device: device_module.Device) -> bool:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                usage = os.fstatvfs(attached.fd)
                return usage.f_bavail * usage.f_frsize >= needed

        found, failures = self._fleet.run(room, paths=paths)
        return ([path for path in paths if found.get(path)],
                [*failures.values(), *(
                    exceptions.DeviceError(path, 'has no room for it',
                                           errno.ENOSPC)
                    for path, fits in found.items() if not fits)])

    def _surplus(self, survey: fleet_module.Survey,
                 made: Sequence[str]) -> list[str]:
        """Return the copies that are not needed, now that others were made.

        Not those of the plan: if some could not be made, others have to stay
        for the zones they are in.
        """
        holders = [finding.path for finding in survey.sound()]
        keep = self._keep(survey, [*holders, *made],
                          self._wanted(survey.image_id))
        return [path for path in holders if path not in keep]

    def _good(self, survey: fleet_module.Survey, surplus: Sequence[str],
              made: Sequence[str], job: work.Job) -> set[str]:
        """Return devices whose copies are known to be good.

        A new copy makes up for one that goes.  Where more go than were made,
        those that stay are read first.
        """
        sound = {finding.path for finding in survey.sound()}
        if len(surplus) <= len(made):
            return sound | set(made)
        diagnosis = repair_module.diagnose(
            survey, self._settings.io_timeout, job)
        verified.stamp(self._fleet, survey.image_id, diagnosis.good())
        if any(diagnosis.copies.values()):
            self._repairer.mark(layout.Upload(
                survey.image_id, diagnosis.manifest.generation))
        return set(diagnosis.good()) | set(made)

    def _trim(self, upload: layout.Upload, surplus: Iterable[str],
              good: set[str]) -> list[str]:
        """Remove copies, as long as ``copies`` good ones stay."""
        removed: list[str] = []
        for path in surplus:
            rest = good - {path}
            if len(rest) < self._copies():
                break
            with self._fleet.locked(upload.image_id, 'commit'):
                if not self._still_there(upload, rest):
                    break
                self._remove(upload, path)
            good = rest
            removed.append(path)
            LOG.info('Image %(image)s: removed the surplus copy on '
                     '%(device)s.', {'image': upload.image_id,
                                     'device': path})
        return removed

    def _still_there(self, upload: layout.Upload, paths: set[str]) -> bool:
        with self._fleet.survey(upload.image_id,
                                upload.generation) as survey:
            there = {finding.path for finding in survey.sound()}
            return len(there & paths) >= self._copies()

    def _remove(self, upload: layout.Upload, path: str) -> None:
        def remove(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                if removal.holds(attached, upload):
                    removal.remove_copy(attached, upload.image_id)

        _, failures = self._fleet.run(remove, paths=[path])
        for failure in failures.values():
            raise failure

    def run(self, image_ids: Iterable[str], job: work.Job) -> list[Plan]:
        """Settle several images; return what was done.

        What cannot be done for one image is noted, and the others follow.

        :raises easystack_image.exceptions.Interrupted: between two steps
            that leave nothing half done
        """
        done = []
        for image_id in image_ids:
            job.check()
            try:
                plan = self.settle(image_id, job)
            except exceptions.ImageNotFound:
                pass
            except exceptions.BlockStoreError as error:
                job.progress.note(f'{image_id}: {error}')
                LOG.error('Image %(image)s cannot be moved: %(error)s',
                          {'image': image_id, 'error': error})
            else:
                if plan:
                    done.append(plan)
                if plan.left:
                    job.progress.note(f'{image_id}: {plan.left}')
                    LOG.warning('Image %(image)s is not all where it '
                                'belongs: %(reason)s',
                                {'image': image_id, 'reason': plan.left})
            job.progress.advance(1, 0)
        return done
