"""The healer: what looks after all images while nobody looks.

Ceph keeps as many copies as the pool is to have.  What is left to do is what
needs our checksums, and our marks: leftovers are swept, images that were found
damaged are repaired, and all are read back within
``easystack_block_scrub_period``, at a bounded rate.  One healer works at a
time on a pool; others wait until it is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import logging
import threading
import time

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import damage
from easystack_image.blockstore.ceph import locks
from easystack_image.blockstore.ceph import scrub
from easystack_image.blockstore.ceph import settings as settings_module
from easystack_image.blockstore.ceph import sweep
from easystack_image.blockstore.ceph import verify
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

DAY = 86400.0
MIB = 1024 * 1024
#: The lock of whoever works, and seconds after which a healer that died is
#: followed by another one.
LOCK = 'heal'
LEASE = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """How the images are after a round."""

    #: How many of them have a repair to come.
    waiting: int
    #: How many could not be repaired.
    failing: int

    @property
    def whole(self) -> bool:
        """Whether nothing is left to do."""
        return not self.waiting and not self.failing


class Healer:
    """Looks after the images in a pool."""

    def __init__(self, link: connection.Connection,
                 settings: settings_module.Settings,
                 verifier: verify.Verifier,
                 sweeper: sweep.Sweeper, scrubber: scrub.Scrubber) -> None:
        self._link = link
        self._settings = settings
        self._verifier = verifier
        self._sweeper = sweeper
        self._scrubber = scrubber

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set, whenever no other healer does."""
        waiting = False
        while not stop.is_set():
            try:
                with self._alone() as lease:
                    if lease is not None:
                        LOG.info('The healer is at work.')
                        waiting = False
                        self._work(lease, stop)
                    elif not waiting:
                        LOG.info('Another healer is at work; waiting.')
                        waiting = True
            except exceptions.Interrupted:
                return
            except exceptions.BlockStoreError as error:
                LOG.error('Healer: %s; it is tried again.', error)
            except Exception:
                LOG.exception('The healer failed; it tries again.')
            stop.wait(min(self._settings.heal_interval, 5.0))

    def once(self, stop: threading.Event) -> Status:
        """Do one round and scrub what is due; return how the images are.

        :raises easystack_image.exceptions.ImageBusy: if another healer works
        """
        with self._alone() as lease:
            if lease is None:
                raise exceptions.ImageBusy(
                    'another healer works on this pool')
            self._round(lease, stop)
            self._scrub_due(lease, stop)
            return self._status()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[locks.Lease | None]:
        """See that no other healer works; None if one does."""
        cluster = self._link.cluster()
        lease = locks.Lease(cluster, LOCK, LEASE)
        taken = cluster.run(lease.take)
        try:
            yield lease if taken else None
        finally:
            if taken:
                cluster.run(lease.release)

    def _work(self, lease: locks.Lease, stop: threading.Event) -> None:
        while not stop.is_set():
            self._round(lease, stop)
            self._scrub_due(lease, stop)
            stop.wait(self._settings.heal_interval)

    def _round(self, lease: locks.Lease, stop: threading.Event) -> None:
        """Sweep, and repair what is marked."""
        lease.check()
        self._sweeper.sweep()
        given_up = self._verifier.given_up()
        for upload in sorted(self._verifier.marked(),
                             key=lambda each: each.name):
            if upload.image_id in given_up:
                continue
            lease.check()
            try:
                self._verifier.scrub(upload.image_id, work.Job(stop=stop))
            except exceptions.ImageNotFound:
                self._verifier.unmark({upload})
            except (exceptions.BlockStoreError,
                    bindings.rbd().Error) as error:
                LOG.error('Healer: %s', error)

    def _scrub_due(self, lease: locks.Lease, stop: threading.Event) -> None:
        """Scrub what was not verified for as long as the period is.

        With a round in between, whenever it is time for one.
        """
        rate = self._settings.scrub_rate * MIB or None
        job = work.Job(rate, stop)
        next_round = time.monotonic() + self._settings.heal_interval
        lost = self._verifier.given_up()
        for image_id in self._scrubber.due(
                time.time() - self._settings.scrub_period * DAY):
            if image_id in lost:
                continue
            lease.check()
            self._scrubber.scrub_those([image_id], job)
            if time.monotonic() >= next_round:
                self._round(lease, stop)
                next_round = time.monotonic() + self._settings.heal_interval

    def _status(self) -> Status:
        failing = {upload.image_id for upload
                   in damage.entries(self._link.cluster())}
        marked = {upload.image_id for upload in self._verifier.marked()}
        return Status(len(marked - failing), len(failing))
