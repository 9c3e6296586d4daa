"""Finding stored images in the pool, and removing them."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import errno
import logging
import math
import secrets
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
#: What is said where there is no room.
FULL = {errno.ENOSPC, errno.EDQUOT}
#: RBD's own list of what is being removed.
TRASH = 'rbd_trash'
#: How RBD's object begins by which a name is found.
NAME = 'rbd_id.'
#: Seconds to wait for somebody who looks into an image that is removed.
PATIENCE = 5.0


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
        return layout.foreign_generation(
            cluster.fsid, cluster.settings.pool, image.id()), False


def born(image: Any) -> float:
    """Return when an open RBD image was made, in seconds since 1970."""
    # It is in UTC, and does not say so.
    moment: datetime.datetime = image.create_timestamp()
    return moment.replace(tzinfo=datetime.UTC).timestamp()


def _describe(one: Found) -> None:
    """Read the manifest of an image."""
    try:
        one.manifest, one.zeros = zeromap.unpack(read_object(
            one.cluster, layout.manifest_name(one.upload)))
    except bindings.rados().ObjectNotFound:
        # Deleted just now? Then the RBD image has another name by now.
        with one.cluster.opened(one.upload.image_id, layout.SNAPSHOT, True):
            one.damage = 'its manifest is missing'
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


def prepare_removal(cluster: connection.Cluster) -> None:
    """See that RBD images can be removed when the pool is full.

    RBD enters what it removes in this object first, and makes it for the
    first one; a full pool takes no new object, but more entries.  Call it
    within a run.
    """
    rados = bindings.rados()
    with rados.WriteOpCtx() as operation:
        operation.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
        cluster.ioctx.operate_write_op(operation, TRASH)


def is_stored(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether an upload is the stored image; call it within a run."""
    try:
        with cluster.opened(upload.image_id, read_only=True) as image:
            return generation_of(cluster, image)[0] == upload.generation
    except bindings.rbd().ImageNotFound:
        return False


def purge(cluster: connection.Cluster, name: str,
          upload: layout.Upload) -> None:
    """Remove an RBD image, its manifest and its entry; if they are there.

    Call it within a run.  The RBD image goes last but for the entry, so that
    whoever finds a rest of it can go on.  Nothing happens if the name is that
    of an upload, and it became the image.

    :raises rbd.ImageBusy: if somebody watches it, or there are clones
    :raises rbd.ImageHasSnapshots: if it has other snapshots, or clones
    """
    rbd = bindings.rbd()
    if name == layout.upload_name(upload) and is_stored(cluster, upload):
        return
    try:
        with cluster.opened(name) as image:
            drop_snapshot(image)
    except rbd.ImageNotFound:
        # Removed in part; or it became the image just now.
        if is_stored(cluster, upload):
            return
    with contextlib.suppress(bindings.rados().ObjectNotFound):
        cluster.ioctx.remove_object(layout.manifest_name(upload))
    with contextlib.suppress(rbd.ImageNotFound):
        _remove(cluster, name)
    ledger.take_out(cluster, layout.REQUESTS, upload)
    ledger.take_out(cluster, layout.INDEX, upload)


def discard(cluster: connection.Cluster, upload: layout.Upload) -> None:
    """Remove an upload that nobody writes; call it within a run.

    If it was being renamed to the image's id, that is finished instead: who
    asked for it may have been told that it is stored.

    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    :raises rbd.ImageNotFound: if there is none
    """
    with exclusively(cluster, upload.image_id):
        if settle(cluster, upload):
            return
        name = _to_trash(cluster, layout.upload_name(upload), upload)
    purge(cluster, name, upload)


def withdraw(cluster: connection.Cluster, upload: layout.Upload) -> None:
    """Remove an upload of which nobody was told that it is stored.

    Whether it became the image or not; call it within a run.

    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    :raises rbd.ImageNotFound: if there is none
    """
    with exclusively(cluster, upload.image_id):
        name = _to_trash(
            cluster, upload.image_id if settle(cluster, upload) else
            layout.upload_name(upload), upload)
    purge(cluster, name, upload)


def purge_deleted(cluster: connection.Cluster,
                  upload: layout.Upload) -> None:
    """Remove what a deletion left; call it within a run.

    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    """
    name = layout.trash_name(upload)
    if is_stored(cluster, upload):
        with exclusively(cluster, upload.image_id):
            if _common_name(cluster, upload.image_id, name) != name:
                # Somebody changed his mind.
                return
            # The id still leads to it, and would be taken for ever.
            rename(cluster, upload.image_id, name)
    purge(cluster, name, upload)


def _to_trash(cluster: connection.Cluster, name: str,
              upload: layout.Upload) -> str:
    """Give an RBD image the name of a deleted one, if there is room for it.

    :returns: its name by now
    """
    trash = layout.trash_name(upload)
    try:
        rename(cluster, name, trash)
    except bindings.rbd().Error as error:
        if getattr(error, 'errno', None) not in FULL:
            raise
        # There is no room even for another name.
        return name
    return trash


def rename(cluster: connection.Cluster, name: str, new: str) -> None:
    """Rename an RBD image, or finish that if it was cut short.

    Call it within a run, and :func:`exclusively`.  librbd makes the object
    that leads from the new name to the RBD image, changes its list of names,
    and removes the object of the old name: after a time-out in between, both
    names lead to it, and the list tells which one counts.

    :raises rbd.ImageExists: if the new name is another RBD image's
    """
    rbd = bindings.rbd()
    try:
        cluster.rbd.rename(cluster.ioctx, name, new)
    except rbd.ImageExists:
        listed = _common_name(cluster, name, new)
        if listed == new:
            cluster.ioctx.remove_object(NAME + name)
        elif listed == name:
            cluster.ioctx.remove_object(NAME + new)
            cluster.rbd.rename(cluster.ioctx, name, new)
        else:
            raise


def _common_name(cluster: connection.Cluster, *names: str) -> str:
    """Return which name counts of those that lead to one RBD image.

    :returns: '' if they lead to several, or to none
    """
    try:
        first, *others = {_internal(cluster, name) for name in names}
    except bindings.rbd().ImageNotFound:
        return ''
    return '' if others else listed_name(cluster, first)


def _internal(cluster: connection.Cluster, name: str) -> str:
    """Return the id that Ceph gave to an RBD image."""
    with cluster.opened(name, read_only=True) as image:
        internal: str = image.id()
        return internal


def listed_name(cluster: connection.Cluster, internal: str) -> str:
    """Return the name that an RBD image has in RBD's list of names.

    Call it within a run.

    :param internal: the id that Ceph gave to it
    """
    image = cluster.open(None, read_only=True, internal=internal)
    try:
        name: str = image.get_name()
        return name
    finally:
        cluster.close_image(image)


def settle(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether an upload is the stored image; call it within a run.

    And :func:`exclusively`: a rename to the image's id that was cut short is
    finished.
    """
    if not is_stored(cluster, upload):
        return False
    name = listed_name(cluster, _internal(cluster, upload.image_id))
    if name == layout.upload_name(upload):
        rename(cluster, name, upload.image_id)
        return True
    return name == upload.image_id


def drop_snapshot(image: Any) -> None:
    """Unprotect and remove our snapshot, if there is one."""
    rbd = bindings.rbd()
    with contextlib.suppress(rbd.ImageNotFound):
        if image.is_protected_snap(layout.SNAPSHOT):
            image.unprotect_snap(layout.SNAPSHOT)
        image.remove_snap(layout.SNAPSHOT)


@contextlib.contextmanager
def exclusively(cluster: connection.Cluster,
                image_id: str) -> Iterator[None]:
    """Let nobody else of us rename to or from an id; use it within a run.

    librbd looks whether a name is taken before it renames, and not again:
    two who rename to one name at once both succeed.  The lock, one for the
    ids that begin alike, ends by itself if its owner dies.

    :raises easystack_image.exceptions.ImageBusy: if somebody keeps it
    """
    rados = bindings.rados()
    name, cookie = f'rename.{image_id[:2]}', secrets.token_hex(8)
    deadline = time.monotonic() + cluster.limit / 2
    while True:
        try:
            cluster.ioctx.lock_exclusive(
                layout.INDEX, name, cookie, 'easystack-image',
                math.ceil(cluster.limit))
            break
        except rados.ObjectBusy as error:
            if time.monotonic() > deadline:
                raise exceptions.ImageBusy(
                    f'image {image_id}: another process works on it, or '
                    'died just now; try again') from error
        time.sleep(0.02)
    try:
        yield
    finally:
        try:
            cluster.ioctx.unlock(layout.INDEX, name, cookie)
        except rados.Error as error:
            # What was done under it is done.
            LOG.info('The lock %(lock)s ends by itself: %(error)s',
                     {'lock': name, 'error': error})


def claim(cluster: connection.Cluster, upload: layout.Upload) -> None:
    """Make an upload the stored image; call it within a run.

    :raises easystack_image.exceptions.ImageExists: if there is another one
    """
    rbd = bindings.rbd()
    image_id = upload.image_id
    with exclusively(cluster, image_id):
        if settle(cluster, upload):
            return
        with contextlib.suppress(rbd.ImageNotFound), \
                cluster.opened(image_id, read_only=True):
            raise _exists(image_id)
        try:
            rename(cluster, layout.upload_name(upload), image_id)
        except rbd.ImageExists as error:
            raise _exists(image_id) from error
        if not is_stored(cluster, upload):
            raise _exists(image_id)


def arrived(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether an upload became the image; call it within a run.

    As :func:`settle`.
    """
    with exclusively(cluster, upload.image_id):
        return settle(cluster, upload)


def _exists(image_id: str) -> exceptions.ImageExists:
    return exceptions.ImageExists(
        f'image {image_id} is in this store already')


def retire(cluster: connection.Cluster, image_id: str,
           generation: str | None) -> tuple[str, layout.Upload]:
    """Make a stored image no image any more; call it within a run.

    :param generation: the upload that is meant, or None for any
    :returns: what is left to purge: the name of the RBD image, and which
        upload it was
    :raises easystack_image.exceptions.ImageInUse: if it has clones
    :raises easystack_image.exceptions.ImageNotFound: if it is another one
    :raises rbd.ImageNotFound: if there is none
    """
    with exclusively(cluster, image_id):
        return _retire(cluster, image_id, generation)


def _retire(cluster: connection.Cluster, image_id: str,
            generation: str | None) -> tuple[str, layout.Upload]:
    with cluster.opened(image_id, read_only=True) as image:
        upload = layout.Upload(image_id, generation_of(cluster, image)[0])
        if generation not in (None, upload.generation):
            raise absence(image_id)
        _refuse_use(image, image_id)
    settle(cluster, upload)
    rbd = bindings.rbd()
    name = _to_trash(cluster, image_id, upload)
    try:
        with cluster.opened(name) as image:
            drop_snapshot(image)
    except rbd.ImageBusy as error:
        # A clone was made just now.
        if name != image_id:
            rename(cluster, name, image_id)
        raise _in_use(image_id) from error
    except (rbd.Error, bindings.rados().Error) as error:
        if name == image_id:
            raise
        # It is no image any more, whatever else goes wrong.
        LOG.warning('Image %(image)s is deleted, and its snapshot is not '
                    'removed yet: %(error)s',
                    {'image': image_id, 'error': error})
    return name, upload


def _refuse_use(image: Any, image_id: str) -> None:
    """Refuse to delete an image that has clones, or others' snapshots."""
    rbd = bindings.rbd()
    others = [each['name'] for each in image.list_snaps()
              if each['name'] != layout.SNAPSHOT]
    if others:
        raise exceptions.ImageInUse(
            f'image {image_id} has snapshots besides "{layout.SNAPSHOT}", '
            'which somebody else made: ' + ', '.join(sorted(others))
            + '; remove them and their clones first')
    try:
        image.set_snap(layout.SNAPSHOT)
    except rbd.ImageNotFound:
        return
    try:
        cloned = bool(list(image.list_children2()))
    except (rbd.PermissionError, rbd.ImageNotFound) as error:
        # librbd looks for the names of clones: in pools, too, where we may
        # see nothing; and in vain if one gets another name just then.
        raise _in_use(image_id) from error
    if cloned:
        raise _in_use(image_id)


def _in_use(image_id: str) -> exceptions.ImageInUse:
    return exceptions.ImageInUse(
        f'image {image_id} has clones: volumes or servers use its data')


def _remove(cluster: connection.Cluster, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            cluster.rbd.remove(cluster.ioctx, name)
            return
        except bindings.rbd().ImageBusy:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
