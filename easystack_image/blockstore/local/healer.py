"""The healer: what keeps all images whole while nobody looks.

In rounds: leftovers are swept and missed deletions applied, images that lack
copies or have them in the wrong place are settled, what users and scrubs
found damaged is repaired, what was kept long enough is removed, and the
status is written down.  Beside it, everything is scrubbed at a bounded rate.

Everything it does is a step that survives kill -9: there is no state but
that on the devices.  One healer works at a time on a set of devices; others
wait until it is gone.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import logging
import os
import random
import socket
import threading
import time

from easystack_image import exceptions
from easystack_image.blockstore.local import balance
from easystack_image.blockstore.local import expiry
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import repair as repair_module
from easystack_image.blockstore.local import scrub
from easystack_image.blockstore.local import settings as settings_module
from easystack_image.blockstore.local import status as status_module
from easystack_image.blockstore.local import sweep
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

DAY = 86400.0
MIB = 1024 * 1024
#: Rounds for which an image is left alone after it could not be repaired:
#: trying again reads all that is left of it.
PATIENCE = 10
#: Seconds that what is under way has to end when the healer is stopped.
ENDING = 5.0


@dataclasses.dataclass(slots=True)
class _Totals:
    """What was done since the healer started."""

    scrubbed_bytes: int = 0
    found_bad: int = 0
    repaired: int = 0
    moved: int = 0


class Healer:
    """Keeps the images on the devices of a fleet whole.

    :param report: called with the status after each round
    """

    def __init__(self, fleet: fleet_module.Fleet,
                 settings: settings_module.Settings,
                 repairer: repair_module.Repairer, sweeper: sweep.Sweeper,
                 balancer: balance.Balancer,
                 report: Callable[[status_module.Status], object],
                 ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._repairer = repairer
        self._sweeper = sweeper
        self._balancer = balancer
        self._scrubber = scrub.Scrubber(fleet, settings, repairer)
        self._expiry = expiry.Expiry(fleet)
        self._members = members.Members(fleet)
        self._report = report
        self._totals = _Totals()
        #: When devices were found to be away, by path.
        self._away: dict[str, float] = {}
        #: Ids of the devices that were there.
        self._here: set[str] = set()
        #: Devices that are there, and cannot tell what they hold.
        self._unlisted: set[str] = set()
        #: Rounds to pass over images that could not be repaired, by id.
        self._failing: dict[str, int] = {}
        #: The same, for those that could not be moved.
        self._stuck: dict[str, int] = {}
        #: Images without a good copy.
        self._lost: set[str] = set()
        #: Until when images are not scrubbed again that could not be, by id.
        self._unscrubbed: dict[str, float] = {}
        #: When the status was written last.
        self._told = 0.0
        self._next_expiry = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set, whenever no other healer does."""
        waiting = False
        while not stop.is_set():
            with self._fleet.locked_everywhere('heal') as mine:
                if mine:
                    LOG.info('The healer is at work.')
                    waiting = False
                    self._work(stop)
                elif not waiting:
                    LOG.info('Another healer is at work; waiting.')
                    waiting = True
            # Two that wait for each other's locks must not stay in step.
            stop.wait(min(self._settings.heal_interval, 5.0)
                      * random.uniform(0.5, 1))  # noqa: S311

    def once(self, stop: threading.Event) -> status_module.Status:
        """Do one round and scrub what is due; return the status.

        :raises easystack_image.exceptions.ImageBusy: if another healer works
        """
        with self._fleet.locked_everywhere('heal') as mine:
            if not mine:
                raise exceptions.ImageBusy(
                    'another healer works on these devices')
            self.round(stop)
            self.scrub_due(stop)
            return self.round(stop)

    def _work(self, stop: threading.Event) -> None:
        """Work side by side at rounds and at scrubbing."""
        threads = [threading.Thread(target=self._keep, args=[function, stop],
                                    name=name, daemon=True)
                   for name, function in (('heal', self.round),
                                          ('scrub', self.scrub_due))]
        for thread in threads:
            thread.start()
        # With a limit: where the main thread waits without one, a signal that
        # another thread receives is never handled.
        while not stop.wait(1.0):
            pass
        deadline = time.monotonic() + ENDING
        for thread in threads:
            # Whatever it is at can be cut short, and a disk that hangs must
            # not keep the process.
            thread.join(max(0.0, deadline - time.monotonic()))

    def _keep(self, function: Callable[[threading.Event], object],
              stop: threading.Event) -> None:
        while not stop.is_set():
            self._guard(function, stop)
            stop.wait(self._settings.heal_interval)

    def _guard(self, function: Callable[[threading.Event], object],
               stop: threading.Event) -> None:
        """Do something that must not end the healer."""
        try:
            function(stop)
        except exceptions.Interrupted:
            pass
        except exceptions.BlockStoreError as error:
            LOG.error('Healer: %s; it is tried again.', error)
        except Exception:
            LOG.exception('The healer failed; it tries again.')

    def round(self, stop: threading.Event) -> status_module.Status:
        """Do one round; return how the store is afterwards.

        :raises easystack_image.exceptions.Interrupted: when ``stop`` is set
        :raises easystack_image.exceptions.ImageUnavailable: if no device can
            be asked
        """
        job = work.Job(stop=stop)
        self._sweeper.sweep()
        self._note_absence()
        self._members.refresh()
        self._repair_marked(job)
        listed = self._list()
        if listed.deleted.intersection(listed.images):
            # Somebody who could not reach a device while he deleted them,
            # though it was there, may be gone by now.
            self._sweeper.expect_return()
        if self._settle(listed, job):
            listed = self._list()
        self._expire()
        return self._publish(listed)

    def _list(self) -> inventory.Inventory:
        """Look at what lies on all devices."""
        listed = inventory.take(self._fleet)
        # One that is slow only tells another time.
        self._unlisted = {
            path for path, failure in listed.failures.items()
            if not isinstance(failure, exceptions.DeviceTimeout)}
        return listed

    def _publish(self, listed: inventory.Inventory) -> status_module.Status:
        status = self._status(listed)
        status_module.write(self._fleet, status)
        self._told = time.monotonic()
        self._report(status)
        return status

    def _expire(self) -> None:
        """Remove what was kept for long enough: not in every round."""
        if time.monotonic() < self._next_expiry:
            return
        quarantine = self._settings.quarantine_ttl * DAY
        deleted = self._settings.deleted_ttl * DAY
        self._expiry.remove_quarantined(quarantine)
        self._expiry.remove_marks(deleted)
        self._next_expiry = time.monotonic() + min(
            3600.0, quarantine / 2, deleted / 2)

    def _note_absence(self) -> None:
        """Give up the devices that have been away for long enough.

        Or of which a directory cannot be read: on a disk that fails in
        parts, the identity file may be the last to go.
        """
        attached, failures = self._fleet.attach()
        for each in attached.values():
            each.close()
        here = {each.identity.device_id for each in attached.values()}
        if not here <= self._here:
            # It may have what was missing.
            self._failing, self._stuck, self._unscrubbed = {}, {}, {}
        self._here = here
        now = time.monotonic()
        self._away = {path: self._away.get(path, now)
                      for path in {*failures, *self._unlisted}}
        out = frozenset(path for path, since in self._away.items()
                        if now - since >= self._settings.absent_grace)
        for path in out - self._fleet.out:
            LOG.warning('Device %(device)s has been away for %(grace)g s: '
                        'its copies are made up for on the others.',
                        {'device': path,
                         'grace': self._settings.absent_grace})
        self._fleet.out = out

    def _repair_marked(self, job: work.Job) -> None:
        marked = self._repairer.marked()
        given_up = self._repairer.given_up()
        names = {upload.image_id for upload in marked}
        self._failing = {image_id: rounds - 1 for image_id, rounds
                         in self._failing.items()
                         if image_id in names and rounds > 1}
        for upload in sorted(marked, key=lambda each: each.name):
            if upload.image_id in {*self._failing, *given_up}:
                continue
            job.check()
            try:
                done = self._repairer.repair(upload.image_id, wait=False,
                                             patient=True, job=job)
            except exceptions.ImageNotFound:
                self._repairer.unmark({upload})
            except exceptions.BlockStoreError as error:
                LOG.error('Healer: %s', error)
                self._failing[upload.image_id] = PATIENCE
            else:
                self._totals.repaired += bool(done)
                if done is False:
                    self._failing[upload.image_id] = PATIENCE
            self._tell_in_time()

    def _tell_in_time(self) -> None:
        """Write the status, if that was a while ago: rounds can take hours."""
        if time.monotonic() - self._told > self._settings.heal_interval:
            self._publish(inventory.take(self._fleet))

    def _settle(self, listed: inventory.Inventory, job: work.Job) -> bool:
        """Make up for missing copies first, then move the others.

        :returns: whether anything was to be done
        """
        misplaced = set(self._balancer.misplaced(listed))
        self._stuck = {image_id: rounds - 1
                       for image_id, rounds in self._stuck.items()
                       if image_id in misplaced and rounds > 1}
        # Nothing can be made of what is lost; it is tried again as a repair.
        lost = self._repairer.given_up() if misplaced else set()
        todo = sorted(misplaced.difference(self._stuck, lost),
                      key=lambda image_id: (len(listed.images[image_id]),
                                            image_id))
        for image_id in todo:
            job.check()
            try:
                plan = self._balancer.settle(image_id, job)
            except exceptions.ImageNotFound:
                # Copies of a deleted upload, on a device that came back.
                self._sweeper.expect_return()
            except exceptions.BlockStoreError as error:
                LOG.error('Healer: image %(image)s cannot be moved: '
                          '%(error)s', {'image': image_id, 'error': error})
                self._stuck[image_id] = PATIENCE
            else:
                self._totals.moved += len(plan.make)
            self._tell_in_time()
        return bool(todo)

    def scrub_due(self, stop: threading.Event) -> scrub.Result:
        """Scrub what was not verified for so long that it is time to.

        Begins early enough to be through within the period at the rate that
        is allowed.
        """
        listed = inventory.take(self._fleet)
        period = self._settings.scrub_period * DAY
        rate = self._settings.scrub_rate * MIB or None
        needed = listed.size() / rate if rate else 0.0
        if needed > period:
            LOG.warning('A scrub of %(size)d MiB takes %(needed).1f days at '
                        '%(rate)g MiB/s, more than the period of '
                        '%(period)g days: raise easystack_block_scrub_rate '
                        'or easystack_block_scrub_period.',
                        {'size': listed.size() // MIB,
                         'needed': needed / DAY,
                         'rate': self._settings.scrub_rate,
                         'period': self._settings.scrub_period})
        before = time.time() - max(0.0, period - needed)
        lost = self._repairer.lost()
        due = [image_id for image_id in scrub.oldest_first(listed, before)
               if self._unscrubbed.get(image_id, 0.0) < time.monotonic()
               # Those are tried again as repairs.
               and image_id not in lost]
        result = self._scrubber.scrub_those(
            due, listed, work.Job(rate, stop, _Counter(self._totals)))
        self._totals.found_bad += result.bad
        self._totals.repaired += result.repaired
        # What cannot be read, or is on a device that hangs, stays due; not
        # to read it over and over, it waits.
        now = time.monotonic()
        later = now + PATIENCE * self._settings.heal_interval
        self._unscrubbed = {image_id: until for image_id, until
                            in self._unscrubbed.items() if until > now}
        self._unscrubbed |= dict.fromkeys(due, later)
        return result

    def _status(self, listed: inventory.Inventory) -> status_module.Status:
        lost = self._find_lost(listed)
        counts = [0 if image_id in lost else len(listed.whole(image_id))
                  for image_id in listed.images]
        entries = [entry for copies in listed.images.values()
                   for entry in copies.values()]
        settings = self._settings
        return status_module.Status(
            written_at=time.time(), interval=settings.heal_interval,
            healer=f'{socket.gethostname()}:{os.getpid()}',
            images=len(counts), size=sum(entry.size for entry in entries),
            allocated=sum(entry.allocated for entry in entries),
            below_copies=sum(count < settings.copies for count in counts),
            below_min_copies=sum(count < settings.min_copies
                                 for count in counts),
            waiting=len({upload.image_id for upload
                         in self._repairer.marked()}),
            failing=len({*self._failing, *self._stuck, *lost}),
            quarantined=self._expiry.count_quarantined(),
            misplaced=len(set(self._balancer.misplaced(listed)) - lost),
            oldest_verified_at=min(
                (entry.verified_at for image_id, copies
                 in listed.images.items() if image_id not in lost
                 for entry in copies.values()), default=0.0),
            lost=len(lost), copies=settings.copies,
            **dataclasses.asdict(self._totals))

    def _find_lost(self, listed: inventory.Inventory) -> set[str]:
        """Return the images without a good copy on devices that are there.

        Those that a repair found so; and those of which names and sizes
        tell.
        """
        lost = self._repairer.lost().intersection(listed.images)
        for image_id in listed.images:
            if not listed.whole(image_id) and image_id not in listed.deleted:
                with self._fleet.survey(image_id) as survey:
                    # A copy that only a later release can read is not lost.
                    unread = set(survey.failures) - set(listed.failures)
                    if survey.damaged() and not (survey.sound() or unread):
                        lost.add(image_id)
        for image_id in sorted(lost - self._lost):
            LOG.error('Image %s has no good copy on the devices that are '
                      'there: bring back devices that are away, or look '
                      'into quarantine.', image_id)
        self._lost = lost
        return lost


class _Counter(work.Silent):
    """Counts what a scrub reads."""

    def __init__(self, totals: _Totals) -> None:
        self._totals = totals
        self._lock = threading.Lock()

    def advance(self, images: int, size: int) -> None:
        with self._lock:
            self._totals.scrubbed_bytes += size
