"""Finding stored images in the pool."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import logging
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import zeromap
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import manifest as manifest_module

LOG = logging.getLogger(__name__)

#: How much of a manifest is read or written at once, in bytes.
PIECE = 4 * 1024 * 1024


@dataclasses.dataclass(slots=True)
class Found:
    """A stored image, open for reading at its snapshot.

    Whoever has it closes it.
    """

    cluster: connection.Cluster
    upload: layout.Upload
    image: Any
    size: int
    created_at: float
    #: What it must be, or None if another driver wrote it, or if there is a
    #: reason why not.
    manifest: manifest_module.Manifest | None
    #: What is wrong with the manifest.
    damage: str = ''
    zeros: zeromap.ZeroMap = dataclasses.field(
        default_factory=zeromap.ZeroMap)

    def info(self) -> engine.ImageInfo:
        """Return what is known of it.

        Of an image of another driver, no digests.

        :raises easystack_image.exceptions.DamagedImage: if the manifest is
            damaged
        """
        if self.damage:
            raise exceptions.DamagedImage(
                f'image {self.upload.image_id}: {self.damage}')
        if self.manifest is not None:
            return copying.info_of(self.manifest)
        return engine.ImageInfo(
            self.upload.image_id, self.upload.generation, self.size, '', '',
            '', self.created_at)

    def close(self) -> None:
        """Close the RBD image."""
        self.cluster.close_image(self.image)


def absence(image_id: str) -> exceptions.ImageNotFound:
    """Return the error that an image is not there."""
    return exceptions.ImageNotFound(
        f'image {image_id} is not in this store')


def find(cluster: connection.Cluster, image_id: str,
         generation: str | None = None) -> Found:
    """Open a stored image.

    :param generation: the upload that is meant, or None for any
    :raises easystack_image.exceptions.ImageNotFound: if there is none
    """
    try:
        found = cluster.run(lambda: _find(cluster, image_id),
                            discard=Found.close)
    except bindings.rbd().ImageNotFound as error:
        raise absence(image_id) from error
    if generation not in (None, found.upload.generation):
        close(found)
        raise absence(image_id)
    return found


def close(found: Found) -> None:
    """Close what :func:`find` found, within the time limit."""
    try:
        found.cluster.run(found.close)
    except exceptions.DeviceError as error:
        LOG.warning('Image %(image)s could not be closed: %(error)s',
                    {'image': found.upload.image_id, 'error': error})


@contextlib.contextmanager
def found(cluster: connection.Cluster, image_id: str,
          generation: str | None = None) -> Iterator[Found]:
    """Open a stored image for a while; as :func:`find`."""
    one = find(cluster, image_id, generation)
    try:
        yield one
    finally:
        close(one)


def _find(cluster: connection.Cluster, image_id: str) -> Found:
    image = cluster.open(image_id, layout.SNAPSHOT, read_only=True)
    try:
        generation, ours = generation_of(cluster, image)
        upload = layout.Upload(image_id, generation)
        one = Found(cluster, upload, image, image.size(),
                    born(image), None)
        if ours:
            _describe(one)
        return one
    except BaseException:
        cluster.close_image(image)
        raise


def generation_of(cluster: connection.Cluster,
                  image: Any) -> tuple[str, bool]:
    """Return the generation of an open RBD image, and whether it is ours."""
    try:
        generation: str = image.metadata_get(layout.GENERATION)
        return generation, True
    except KeyError:
        return _foreign(cluster, image), False


def _foreign(cluster: connection.Cluster, image: Any) -> str:
    return layout.foreign_generation(
        cluster.fsid, cluster.settings.pool, image.id())


def born(image: Any) -> float:
    """Return when an open RBD image was made, in seconds since 1970."""
    # It is in UTC, and does not say so.
    moment: datetime.datetime = image.create_timestamp()
    return moment.replace(tzinfo=datetime.UTC).timestamp()


def age(moment: float) -> float:
    """Return for how many seconds something is there.

    :param moment: since when, in seconds since 1970
    """
    return time.time() - moment


def _is_known(one: Found) -> bool:
    """Tell whether an upload was ever entered in the index.

    Clones inherit metadata: what Nova makes of a server whose volume is a
    clone of an image of ours has the generation of that one.
    """
    return ledger.entry(one.cluster, layout.INDEX,
                        one.upload.name) is not None


def _describe(one: Found) -> None:
    """Read the manifest of an image."""
    try:
        one.manifest, one.zeros = zeromap.unpack(read_object(
            one.cluster, layout.manifest_name(one.upload)))
    except bindings.rados().ObjectNotFound:
        # Deleted just now? Then the RBD image has another name by now.
        with one.cluster.opened(one.upload.image_id, layout.SNAPSHOT, True):
            if _is_known(one):
                one.damage = 'its manifest is missing'
            else:
                one.upload = layout.Upload(
                    one.upload.image_id, _foreign(one.cluster, one.image))
    except manifest_module.ManifestError as error:
        one.damage = str(error)
    else:
        if (one.manifest.image_id, one.manifest.generation) != (
                one.upload.image_id, one.upload.generation):
            one.damage = 'its manifest is that of another upload'
        elif one.manifest.size != one.size:
            one.damage = (f'it has {one.size} bytes, not '
                          f'{one.manifest.size}')
        if one.damage:
            one.manifest = None


def read_object(cluster: connection.Cluster, name: str) -> bytes:
    """Return the content of an object; call it within a run."""
    size, _ = cluster.ioctx.stat(name)
    pieces = []
    for offset in range(0, size, PIECE):
        pieces.append(cluster.ioctx.read(name, PIECE, offset))
    return b''.join(pieces)


def write_object(cluster: connection.Cluster, name: str,
                 data: bytes) -> None:
    """Write an object of our own; call it within a run."""
    cluster.ioctx.write_full(name, data[:PIECE])
    for offset in range(PIECE, len(data), PIECE):
        cluster.ioctx.write(name, data[offset:offset + PIECE], offset)


def exists(cluster: connection.Cluster, name: str) -> bool:
    """Tell whether there is an RBD image of that name."""
    def look() -> bool:
        with cluster.opened(name, read_only=True):
            return True

    try:
        return cluster.run(look)
    except bindings.rbd().ImageNotFound:
        return False


def names(cluster: connection.Cluster) -> list[str]:
    """Return the names of all RBD images in the pool."""
    listed: list[str] = cluster.run(lambda: cluster.rbd.list(cluster.ioctx))
    return listed


def is_stored(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether an upload is the stored image; call it within a run."""
    try:
        with cluster.opened(upload.image_id, read_only=True) as image:
            return generation_of(cluster, image)[0] == upload.generation
    except bindings.rbd().ImageNotFound:
        return False


