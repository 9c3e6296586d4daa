"""Reading everything of an image back, and having Ceph repair what is bad."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import logging
import time

from easystack_image import exceptions
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import pool
from easystack_image.blockstore.ceph import reader
from easystack_image.blockstore.ceph import zeromap

LOG = logging.getLogger(__name__)

#: How many objects of an image are looked at to tell where it lies.
SAMPLE = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of reading an image."""

    upload: layout.Upload
    #: '' if all of it was good.
    fault: str


class Verifier:
    """Reads images, and notes which are to be read.

    :param connect: returns the connection
    """

    def __init__(self, connect: Callable[[], connection.Cluster]) -> None:
        self._connect = connect

    def read(self, image_id: str) -> Verdict:
        """Read all of an image; enter it in the index if it is good.

        Of an image of another driver it is known that Ceph could read it.

        :raises easystack_image.exceptions.BlockStoreError: if it is not
            there, or cannot be read
        """
        cluster = self._connect()
        found = images.find(cluster, image_id)
        upload = found.upload
        ours = found.manifest is not None
        if found.damage:
            images.close(found)
            return Verdict(upload, found.damage)
        fault = ''
        # Zeros too, which a download need not ask for.
        found.zeros = zeromap.ZeroMap()
        with contextlib.closing(reader.CephReader(
                found, 0, None, lambda: None)) as body:
            try:
                for _ in body:
                    pass
            except exceptions.DamagedImage as error:
                fault = str(error)
        if ours and not fault:
            cluster.run(lambda: ledger.put(
                cluster, layout.INDEX, upload, time.time()))
        return Verdict(upload, fault)

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
        """Return no image: what came of a repair is not noted in the pool."""
        return set()

    def present(self) -> frozenset[str]:
        """Return the OSDs that are up; with others it may go better."""
        return frozenset(f'osd.{number}' for number in
                         pool.look(self._connect()).up)

    def repair(self, image_id: str, wait: bool = True,
               patient: bool = False) -> bool | None:
        """Read all of an image; have Ceph repair what it finds bad.

        Ceph repairs what it can when it is read: an OSD whose own checksums
        tell that its copy is bad gets it anew from another one.

        :raises easystack_image.exceptions.DamagedImage: if it stays bad
        """
        del wait, patient
        verdict = self.read(image_id)
        if verdict.fault:
            self._ask_for_repair(image_id)
            verdict = self.read(image_id)
        if verdict.fault:
            raise exceptions.DamagedImage(verdict.fault)
        self.unmark({verdict.upload})
        return True

    def _ask_for_repair(self, image_id: str) -> None:
        """Have Ceph compare the copies, if we are allowed to ask for it."""
        cluster = self._connect()
        with images.found(cluster, image_id) as found:
            groups = sorted({each.pgid for each in self.sample(found)})
        for group in groups:
            try:
                pool.ask(cluster, 'pg repair', pgid=group)
            except exceptions.DeviceError as error:
                LOG.error('Image %(image)s is damaged, and Ceph could not be '
                          'asked to compare its copies (%(error)s): run '
                          '"ceph pg repair" for the placement groups '
                          '%(groups)s',
                          {'image': image_id, 'error': error,
                           'groups': ', '.join(groups)})
                return
