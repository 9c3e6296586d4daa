"""Reading everything now and then, before damage is found by a user.

Copies go bad unread.  A scrub reads all of every copy, compares it with its
checksums, and has repaired what it finds.  It takes the copies that were not
verified for longest first, and notes on each when it was verified (see
verified.py); so it can be stopped at any time, and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import dataclasses
import json
import logging
import time

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import repair as repair_module
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import verified
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

#: On each device: when the scrub that is under way began.
STATE = 'scrub.json'


@dataclasses.dataclass(slots=True)
class Result:
    """What a scrub did and found."""

    #: How many images were looked at.
    images: int = 0
    #: How many copies were read and are good.
    good: int = 0
    #: How many copies were bad, missing or stale.
    bad: int = 0
    #: How many images were repaired.
    repaired: int = 0
    #: How many images have fewer good copies than they should, afterwards.
    lacking: int = 0
    #: What could not be read or repaired, by image id.
    failures: dict[str, str] = dataclasses.field(default_factory=dict)


class Scrubber:
    """Scrubs the images on the devices of a fleet.

    :param repairer: has what is found repaired, or None to leave it
    """

    def __init__(self, fleet: fleet_module.Fleet,
                 settings: settings_module.Settings,
                 repairer: repair_module.Repairer | None) -> None:
        self._fleet = fleet
        self._settings = settings
        self._repairer = repairer

    def scrub(self, image_id: str, job: work.Job,
              result: Result | None = None) -> Result:
        """Scrub one image.

        :param result: what to add to
        :raises easystack_image.exceptions.BlockStoreError: if it cannot be
            read, or repaired
        """
        result = Result() if result is None else result
        result.images += 1
        with self._fleet.survey(image_id) as survey:
            if not survey.sound() and not survey.damaged():
                # Deleted meanwhile; nothing else has neither.
                raise survey.absence()
            diagnosis = repair_module.diagnose(
                survey, self._settings.io_timeout, job)
            stale = len(survey.stale())
        good = len(diagnosis.good())
        verified.stamp(self._fleet, image_id, diagnosis.good())
        # A damaged copy is not missing as well.
        bad = len(diagnosis.copies) - good + stale + max(
            0, self._settings.copies - len(diagnosis.copies) - len(
                self._fleet.awaited({*survey.failures, *diagnosis.hung})))
        result.good += good
        result.bad += bad
        whole = good >= self._settings.copies
        if bad and self._repairer is not None:
            # If it cannot be repaired now, it must not be forgotten.
            self._repairer.mark(layout.Upload(
                image_id, diagnosis.manifest.generation))
            whole = bool(self._repairer.repair(image_id, patient=True,
                                               job=job))
            result.repaired += whole
        result.lacking += not whole
        return result

    def run(self, job: work.Job, restart: bool = False) -> Result:
        """Scrub all images, or go on with a scrub that was interrupted.

        :param restart: whether to begin anew
        :raises easystack_image.exceptions.Interrupted: when it is to end;
            call again to go on
        """
        began = None if restart else self._under_way()
        if began is None:
            began = time.time()
            self._note(began)
        listed = inventory.take(self._fleet)
        result = self.scrub_those(oldest_first(listed, began), listed, job)
        self._note(None)
        return result

    def scrub_those(self, image_ids: Iterable[str],
                    listed: inventory.Inventory, job: work.Job) -> Result:
        """Scrub several images, whatever becomes of each.

        :raises easystack_image.exceptions.Interrupted: when it is to end
        """
        todo = list(image_ids)
        job.progress.begin(len(todo), sum(
            entry.size for image_id in todo
            for entry in listed.images[image_id].values()))
        result = Result()
        for image_id in todo:
            job.check()
            try:
                self.scrub(image_id, job, result)
            except exceptions.ImageNotFound:
                # Deleted meanwhile.
                pass
            except exceptions.BlockStoreError as error:
                result.failures[image_id] = str(error)
                job.progress.note(f'{image_id}: {error}')
                LOG.error('Scrub: %s', error)
            job.progress.advance(1, 0)
        return result

    def _under_way(self) -> float | None:
        """Return when the scrub that was interrupted began, if one was."""
        def read(device: device_module.Device) -> float:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                data = json.loads(fsio.read_file(STATE, attached.fd, 4096))
                return float(data['began_at'])

        found, _ = self._fleet.run(read)
        # One that is to begin only has nothing to go on with.
        now = time.time()
        return max((began for began in found.values() if began <= now),
                   default=None)

    def _note(self, began: float | None) -> None:
        """Note that a scrub is under way, or that none is any more."""
        def write(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                if began is None:
                    with contextlib.suppress(FileNotFoundError):
                        fsio.unlink(STATE, attached.fd)
                else:
                    fsio.replace_file(STATE, json.dumps(
                        {'began_at': began}).encode(), attached.fd)

        self._fleet.run(write)


def oldest_first(listed: inventory.Inventory, before: float) -> list[str]:
    """Return the images with a copy that was not verified since ``before``.

    :param before: in seconds since the epoch
    :returns: ids, those that were not verified for longest first
    """
    now = time.time()
    # A time to come tells nothing: the clock was wrong, now or then.
    ages = {image_id: min(entry.verified_at if entry.verified_at <= now
                          else 0.0 for entry in copies.values())
            for image_id, copies in listed.images.items()}
    return sorted((image_id for image_id, age in ages.items()
                   if age < before), key=lambda image_id: ages[image_id])
