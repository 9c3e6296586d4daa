"""Reading all images back now and then, before damage is found by a user.

Ceph compares its copies with each other; only we know what the bytes must be.
Images that were not verified for longest come first, and when that was is
noted in the index; so it can be stopped at any time, and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import logging
import time

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import verify
from easystack_image.blockstore.local import scrub
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

#: In the index: when the scrub that is under way began.
STATE = 'scrub'
Result = scrub.Result


class Scrubber:
    """Scrubs the images in a pool.

    Of each image one copy is read: that which Ceph reads.

    :param connect: returns the connection
    """

    def __init__(self, connect: Callable[[], connection.Cluster],
                 verifier: verify.Verifier) -> None:
        self._connect = connect
        self._verifier = verifier

    def scrub(self, image_id: str, job: work.Job,
              result: Result | None = None) -> Result:
        """Scrub one image.

        :param result: what to add to
        :raises easystack_image.exceptions.DamagedImage: if it stays bad
        :raises easystack_image.exceptions.BlockStoreError: if it cannot be
            read
        """
        result = Result() if result is None else result
        verdict = self._verifier.scrub(image_id, job)
        result.images += 1
        bad = bool(verdict.fault or verdict.mended)
        result.bad += bad
        result.good += not bad
        result.repaired += bad and not verdict.fault
        result.lacking += bool(verdict.fault)
        if verdict.fault:
            raise exceptions.DamagedImage(verdict.fault)
        return result

    def run(self, job: work.Job, restart: bool = False) -> Result:
        """Scrub all images, or go on with a scrub that was interrupted.

        :param restart: whether to begin anew
        :raises easystack_image.exceptions.Interrupted: when it is to end;
            call again to go on
        """
        cluster = self._connect()
        began = None if restart else self._under_way()
        if began is None:
            began = time.time()
            moment = f'{began:.6f}'.encode()
            cluster.run(lambda: ledger.write(
                cluster, layout.INDEX, STATE, moment))
        result = self.scrub_those(self.due(began), job)
        cluster = self._connect()
        cluster.run(lambda: ledger.erase(cluster, layout.INDEX, STATE))
        return result

    def _under_way(self) -> float | None:
        """Return when the scrub that was interrupted began, if one was."""
        found = ledger.entry(self._connect(), layout.INDEX, STATE)
        try:
            began = float(found or b'')
        except ValueError:
            return None
        # One that is to begin only has nothing to go on with.
        return began if began <= time.time() else None

    def due(self, before: float) -> list[str]:
        """Return the images that were not verified since ``before``.

        :param before: in seconds since the epoch
        :returns: ids, those that were not verified for longest first
        """
        cluster = self._connect()
        now = time.time()
        verified: dict[str, float] = {}
        for upload, moment in ledger.entries(cluster, layout.INDEX).items():
            # A time to come tells nothing: the clock was wrong, now or then.
            if moment <= now:
                verified[upload.image_id] = max(
                    moment, verified.get(upload.image_id, 0.0))
        ages = {name: verified.get(name, 0.0)
                for name in images.names(cluster)
                if layout.is_image_id(name)}
        return sorted((name for name, age in ages.items() if age < before),
                      key=lambda name: ages[name])

    def scrub_those(self, image_ids: Iterable[str], job: work.Job,
                    ) -> Result:
        """Scrub several images, whatever becomes of each.

        :raises easystack_image.exceptions.Interrupted: when it is to end
        """
        todo = list(image_ids)
        job.progress.begin(len(todo), 0)
        result = Result()
        for image_id in todo:
            job.check()
            try:
                self.scrub(image_id, job, result)
            except exceptions.ImageNotFound:
                # Deleted meanwhile, or not finished by another driver.
                pass
            except (exceptions.BlockStoreError,
                    bindings.rbd().Error) as error:
                result.failures[image_id] = str(error)
                job.progress.note(f'{image_id}: {error}')
                LOG.error('Scrub: %s', error)
            job.progress.advance(1, 0)
        return result
