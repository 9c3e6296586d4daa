"""Reading everything of an image back, and having Ceph repair what is bad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import logging
import time

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import damage
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import mending
from easystack_image.blockstore.ceph import pool
from easystack_image.blockstore.ceph import reader
from easystack_image.blockstore.ceph import zeromap
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

#: How many objects of an image are looked at to tell where it lies.
SAMPLE = 16
#: How many bad blocks are looked for before those are repaired, and how often
#: that is done.
MOST = 256
ROUNDS = 8
#: How many bad blocks a message names.
NAMED = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of reading an image."""

    upload: layout.Upload
    #: '' if all of it was good.
    fault: str = ''
    #: The blocks that are bad.
    blocks: tuple[int, ...] = ()
    #: How many were bad, and have been repaired.
    mended: int = 0
    #: Whether no copy has what is bad, as far as Ceph can tell.
    lost: bool = False


class Verifier:
    """Reads images, and notes which are to be read.

    :param connect: returns the connection
    """

    def __init__(self, connect: Callable[[], connection.Cluster]) -> None:
        self._connect = connect

    def read(self, image_id: str, job: work.Job | None = None) -> Verdict:
        """Read all of an image; enter it in the index if it is good.

        Of an image of another driver it is known that Ceph could read it.

        :raises easystack_image.exceptions.BlockStoreError: if it is not
            there, or cannot be read
        :raises easystack_image.exceptions.Interrupted: when it is to end
        """
        job = job or work.Job()
        found = images.find(self._connect(), image_id)
        upload, size = found.upload, found.size
        if found.damage:
            images.close(found)
            return Verdict(upload, found.damage)
        bad: list[int] = []
        while (block := _first_bad(found, (bad[-1] + 1) * mending.BLOCK_SIZE
                                   if bad else 0, job)) is not None:
            bad.append(block)
            if len(bad) == MOST or (block + 1) * mending.BLOCK_SIZE >= size:
                break
            found = images.find(self._connect(), image_id, upload.generation)
        if not bad:
            self._note_good(upload)
        return Verdict(upload, _describe(image_id, bad), tuple(bad))

    def _note_good(self, upload: layout.Upload) -> None:
        cluster = self._connect()
        cluster.run(lambda: ledger.put(
            cluster, layout.INDEX, upload, time.time()))
        cluster.run(lambda: ledger.take_out(
            cluster, layout.DAMAGED, upload))

    def sample(self, found: images.Found) -> list[pool.Placement]:
        """Return where some objects of an image lie."""
        cluster = found.cluster

        def describe() -> tuple[str, int, str]:
            stat = found.image.stat()
            return (found.image.block_name_prefix(), stat['num_objs'],
                    found.image.id())

        prefix, count, internal = cluster.run(describe)
        step = max(1, -(-count // SAMPLE))
        return pool.places(cluster, [
            f'rbd_header.{internal}',
            *(f'{prefix}.{number:016x}' for number in range(0, count, step))])

    def mark(self, upload: layout.Upload, anew: bool = False) -> None:
        """Note that an image is to be verified.

        :param anew: whether that counts as asked for now, though it was
            asked for before
        """
        if not anew and self.marked_at(upload.image_id) is not None:
            return
        cluster = self._connect()
        cluster.run(lambda: ledger.put(
            cluster, layout.REQUESTS, upload, time.time()))

    def unmark(self, uploads: set[layout.Upload]) -> None:
        """Note that images need not be verified any more."""
        cluster = self._connect()
        for upload in uploads:
            cluster.run(lambda upload=upload: ledger.take_out(  # type: ignore[misc]
                cluster, layout.REQUESTS, upload))

    def marked(self) -> set[layout.Upload]:
        """Return the images that are to be verified."""
        return set(ledger.entries(self._connect(), layout.REQUESTS))

    def marked_at(self, image_id: str) -> float | None:
        """Return when it was noted that an image is to be verified."""
        return max(ledger.entries(self._connect(), layout.REQUESTS,
                                  image_id).values(), default=None)

    def verified_at(self, upload: layout.Upload) -> float:
        """Return when an image was verified last, or written; 0: unknown."""
        return ledger.entries(self._connect(), layout.INDEX,
                              upload.image_id).get(upload, 0.0)

    def given_up(self) -> set[str]:
        """Return the images of which no copy has what is bad.

        Not those of which a repair was asked for since, nor if other OSDs
        are up than were then.
        """
        cluster = self._connect()
        listed = damage.entries(cluster)
        if not listed:
            return set()
        asked = ledger.entries(cluster, layout.REQUESTS)
        present = self.present()
        return {upload.image_id for upload, entry in listed.items()
                if entry.attempt.lost and entry.osds == present
                and asked.get(upload, 0.0) <= entry.attempt.ended_at}

    def attempt(self, image_id: str) -> engine.RepairAttempt | None:
        """Return how the last repair of an image ended, if in vain."""
        cluster = self._connect()
        return next((entry.attempt for entry in damage.entries(
            cluster, image_id).values()), None)

    def present(self) -> frozenset[str]:
        """Return the OSDs that are up; with others it may go better."""
        return frozenset(f'osd.{number}' for number in
                         pool.look(self._connect()).up)

    def repair(self, image_id: str, wait: bool = True,
               patient: bool = False) -> bool | None:
        """Read all of an image, and have repaired what is bad.

        :raises easystack_image.exceptions.DamagedImage: if it stays bad
        """
        del wait, patient
        verdict = self.scrub(image_id)
        if verdict.fault:
            raise exceptions.DamagedImage(verdict.fault)
        return True

    def scrub(self, image_id: str, job: work.Job | None = None) -> Verdict:
        """Read all of an image, and have repaired what is bad.

        An OSD whose own checksums tell that its copy is bad gets it anew from
        another one as soon as it is read; what is left for us is what only
        our checksums tell.

        :raises easystack_image.exceptions.BlockStoreError: if it is not
            there, or cannot be read
        :raises easystack_image.exceptions.Interrupted: when it is to end
        """
        job = job or work.Job()
        began = time.time()
        verdict, mended = self.read(image_id, job), 0
        for _ in range(ROUNDS):
            if not verdict.blocks:
                break
            # If it cannot be repaired now, it must not be forgotten.
            self.mark(verdict.upload)
            after = self._mend(verdict, job)
            mended += after.mended
            if after.fault:
                verdict = after
                break
            verdict = self.read(image_id, job)
        verdict = dataclasses.replace(verdict, mended=mended)
        if verdict.fault:
            self._note_bad(verdict, began)
        else:
            self.unmark({verdict.upload})
        return verdict

    def _mend(self, verdict: Verdict, job: work.Job) -> Verdict:
        """Have blocks repaired; tell of those that stay bad."""
        upload, lost, why = verdict.upload, False, ''
        cluster = self._connect()
        with images.found(cluster, upload.image_id,
                          upload.generation) as found:
            bad = mending.parts(found, verdict.blocks)
            left = mending.restore(found, bad, job)
            if left:
                groups = {part.place.pgid for part in left}
                why = mending.ask_ceph(cluster, groups, job)
                left = mending.still_bad(found, left)
                lost = not why
        mended = [part for part in bad if part not in left]
        if mended:
            LOG.warning('Image %(image)s: %(blocks)s did not match their '
                        'checksums, and were restored from other copies',
                        {'image': upload.image_id,
                         'blocks': _enumerate(mended)})
        fault = '' if not left else (
            f'image {upload.image_id}: {_enumerate(left)} do not match '
            'their checksums in any copy that could be read: restore the '
            'image from a backup' + (f'. {why}' if why else ''))
        return Verdict(upload, fault, tuple(part.block for part in left),
                       len(mended), lost)

    def _note_bad(self, verdict: Verdict, began: float) -> None:
        """Enter an image in the book of damaged ones."""
        cluster = self._connect()
        entry = damage.Entry(engine.RepairAttempt(
            began, time.time(), verdict.lost, verdict.fault), self.present())
        try:
            cluster.run(lambda: damage.put(cluster, verdict.upload, entry))
        except exceptions.DeviceError as error:
            LOG.error('Image %(image)s is damaged, and that could not be '
                      'noted: %(error)s',
                      {'image': verdict.upload.image_id, 'error': error})


def _first_bad(found: images.Found, offset: int,
               job: work.Job) -> int | None:
    """Read an image from a block on, up to the first bad one; close it."""
    # Zeros too, which a download need not ask for.
    found.zeros = zeromap.ZeroMap()
    with contextlib.closing(reader.CephReader(found, offset, None)) as body:
        try:
            for piece in body:
                job.take(len(piece))
        except exceptions.DamagedImage:
            return body.bad_block
    return None


def _enumerate(bad: Sequence[mending.Part]) -> str:
    """Name blocks; if there are many, the first ones."""
    named = '; '.join(map(str, bad[:NAMED]))
    more = f' and {len(bad) - NAMED} more' if len(bad) > NAMED else ''
    return f'blocks of {mending.BLOCK_SIZE} bytes: {named}{more}'


def _describe(image_id: str, bad: Sequence[int]) -> str:
    if not bad:
        return ''
    return (f'image {image_id}: {len(bad)} blocks of {mending.BLOCK_SIZE} '
            'bytes do not match their checksums where Ceph reads them: '
            + ', '.join(map(str, bad[:NAMED]))
            + (', ...' if len(bad) > NAMED else ''))
