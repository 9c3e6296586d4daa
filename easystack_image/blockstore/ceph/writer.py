"""Writing an image.

The order in which it becomes durable, and why:

1. An RBD image ``easystack-upload.ID.GENERATION`` is made, and kept open for
   writing: its watch tells an upload under way from a leftover.
2. It gets an entry in the index, then the data, then the object with the
   manifest, the generation in its metadata, and the protected snapshot.
   Each write is acknowledged by all OSDs that keep it, which have it on
   their disks.
3. It is renamed to the image's id, which makes it the image at once and as a
   whole, if there is none yet.

A crash before 3 leaves an RBD image that nobody watches, which is swept.  So
is the upload of a writer whom the cluster did not hear of for long.  If he
comes back he gets an error at one of these steps, at the last one at the
latest, and removes what he wrote since.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import errno
import logging
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import queue
from easystack_image.blockstore.ceph import removal
from easystack_image.blockstore.ceph import renames
from easystack_image.blockstore.ceph import wiping
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)

#: How much an RBD image of unknown size grows at least, in bytes.
STEP = 256 * 1024 * 1024


class Upload:
    """One image on its way into the pool.

    :param upload: which upload of which image
    """

    def __init__(self, cluster: connection.Cluster,
                 upload: layout.Upload) -> None:
        self._cluster = cluster
        self._upload = upload
        self._name = layout.upload_name(upload)
        self._image: Any = None
        self._queue: queue.WriteQueue
        self._size = 0
        self._data: wiping.Data | None = None
        #: Whether the RBD image may be there under each name.
        self._made = False
        self._committing = False
        self._committed = False

    def begin(self, size: int | None) -> None:
        """Make the RBD image (step 1).

        :param size: in bytes, or None if it is not known
        """
        self._size = size or 0
        self._made = True
        with self._step():
            self._image = self._cluster.run(
                self._create, discard=self._cluster.close_image)
            self._data = self._cluster.run(
                lambda: wiping.Data.of(self._image))
        self._queue = queue.WriteQueue(
            self._cluster, self._image, self._cluster.settings.queue_depth)

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        """Tell whatever goes wrong as an error of ours."""
        rados, rbd = bindings.rados(), bindings.rbd()
        try:
            yield
        except (rbd.ImageNotFound, rados.ObjectNotFound) as error:
            raise self._gone() from error
        except exceptions.DeviceError as error:
            if error.errno != errno.ENOENT:
                raise
            raise self._gone() from error
        except (rbd.Error, rados.Error) as error:
            raise self._cluster.failure(error) from error

    def _gone(self) -> exceptions.DeviceError:
        return exceptions.DeviceError(
            self._cluster.name, 'the upload was removed by somebody else '
            'while it was written: the cluster had not heard of this process '
            'for long, or somebody removed it by hand; upload it again',
            errno.ENOENT)

    def _create(self) -> Any:
        rbd = bindings.rbd()
        removal.prepare(self._cluster)
        timed.check_wanted()
        # librbd makes names first, which nobody finds by their list.
        ledger.put(self._cluster, layout.UPLOADS, self._upload, time.time())
        # Layering is what clones need. What librbd offers besides serves
        # images that are written again and again, and by turns.
        self._cluster.rbd.create(
            self._cluster.ioctx, self._name, self._size,
            self._cluster.settings.order, old_format=False,
            features=rbd.RBD_FEATURE_LAYERING,
            # Or rbd_default_data_pool would choose one, of which the copies
            # promised are not known.
            data_pool=self._cluster.settings.pool)
        image = self._cluster.open(self._name)
        try:
            ledger.put(self._cluster, layout.INDEX, self._upload,
                       time.time())
            ledger.take_out(self._cluster, layout.UPLOADS, self._upload)
        except BaseException:
            self._cluster.close_image(image)
            raise
        return image

    def write(self, chunk: pipeline.Chunk,
              runs: list[tuple[int, int]]) -> None:
        """Write the parts of a chunk that are not all zeros.

        :param runs: (begin, end) of each part, in bytes within the chunk
        """
        end = chunk.offset + chunk.length
        if end > self._size:
            self._grow(end)
        for begin, stop in runs:
            # librbd wants bytes that nobody changes until it is done.
            with self._step():
                self._queue.write(bytes(chunk.view[begin:stop]),
                                  chunk.offset + begin)

    def _grow(self, least: int) -> None:
        self._resize(max(least, self._size + max(STEP, self._size // 4)))

    def _resize(self, size: int) -> None:
        # librbd would wait for them too, for longer.
        with self._step():
            self._queue.drain()
            self._cluster.run(lambda: self._image.resize(size))
        self._size = size

    def seal(self, size: int, manifest: bytes) -> None:
        """Make everything durable that the image consists of (step 2)."""
        with self._step():
            self._queue.drain()
        if size != self._size:
            self._resize(size)
        with self._step():
            self._cluster.run(lambda: self._seal(manifest))

    def _seal(self, manifest: bytes) -> None:
        self._image.flush()
        # Whoever gave this up removes all, and would not come again.
        timed.check_wanted()
        images.write_object(self._cluster,
                            layout.manifest_name(self._upload), manifest)
        self._image.metadata_set(layout.GENERATION, self._upload.generation)
        self._image.create_snap(layout.SNAPSHOT)
        self._image.protect_snap(layout.SNAPSHOT)

    def commit(self) -> None:
        """Make it the image (step 3).

        :raises easystack_image.exceptions.ImageExists: if there is one by
            now
        """
        self._committing = True
        try:
            with self._step():
                self._cluster.run(lambda: renames.claim(
                    self._cluster, self._upload))
        except (exceptions.ImageExists, exceptions.ImageBusy):
            self._committing = False
            raise
        except exceptions.DeviceError:
            # The answer may have been lost, and not the rename.
            if not self._arrived():
                raise
        self._committed = True

    def _arrived(self) -> bool:
        try:
            with self._step():
                return self._cluster.run(lambda: renames.arrived(
                    self._cluster, self._upload))
        except exceptions.BlockStoreError as error:
            LOG.warning('Image %(image)s: whether it is stored cannot be '
                        'told: %(error)s',
                        {'image': self._upload.image_id, 'error': error})
            return False

    def end(self) -> None:
        """Close the RBD image; remove it if it did not become the image."""
        try:
            with self._step():
                if self._image is not None:
                    image, self._image = self._image, None
                    self._cluster.run(
                        lambda: self._cluster.close_image(image))
                if self._made and not self._committed:
                    self._cluster.run(self._remove)
        except exceptions.BlockStoreError as error:
            LOG.warning('Image %(image)s: an unfinished upload could not be '
                        'removed (%(error)s); a sweep will do it.',
                        {'image': self._upload.image_id, 'error': error})

    def _remove(self) -> None:
        try:
            if self._committing:
                removal.withdraw(self._cluster, self._upload)
            else:
                removal.give_up(self._cluster, self._upload)
        except bindings.rbd().ImageNotFound:
            # Somebody removed it, while we wrote on perhaps.
            removal.purge(self._cluster, self._name, self._upload)
            if self._data is not None:
                wiping.wipe(self._cluster, self._upload, self._data,
                            self._size)
