"""Removing images, and uploads that were not finished.

An RBD image that goes gets another name first, which is when it is no image
any more, and is removed bit by bit then.  A full pool takes no new name; then
the book of deletions tells what is to go.  What is cut short is done again by
a sweep.  All of this is done within a run.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import errno
import logging
import time
from typing import Any

from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import locks
from easystack_image.blockstore.ceph import rbdtrash
from easystack_image.blockstore.ceph import renames
from easystack_image.blockstore.ceph import usage

LOG = logging.getLogger(__name__)

#: What is said where there is no room.
FULL = {errno.ENOSPC, errno.EDQUOT}
#: Take it even if the pool is full (LIBRADOS_OPERATION_FULL_FORCE).
FORCE = 128
#: Seconds to wait for somebody who looks into an image that is removed; a
#: sweep, which finds more of them and comes again, waits less.
PATIENCE = 5.0
HASTE = 0.2


def prepare(cluster: connection.Cluster) -> None:
    """See that images can be removed when the pool is full.

    RBD enters what it removes in an object first, and so do we, and the lock
    is in another one.  A full pool takes no new object, but more entries;
    these few it must take.
    """
    rados = bindings.rados()
    for name in (rbdtrash.TRASH, layout.DELETIONS, layout.UPLOADS,
                 layout.INDEX):
        with rados.WriteOpCtx() as operation:
            operation.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
            cluster.ioctx.operate_write_op(operation, name, 0, FORCE)


def purge(cluster: connection.Cluster, name: str, upload: layout.Upload,
          patience: float = PATIENCE) -> None:
    """Remove an RBD image, its manifest and its entries; if they are there.

    The RBD image goes last but for the entries, so that whoever finds a rest
    of it can go on.  Nothing happens if the name is that of an upload, and it
    became the image.

    :param patience: seconds to wait for whoever looks into it
    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    :raises rbd.ImageBusy: if somebody watches it, or there are clones
    :raises rbd.ImageHasSnapshots: if it has other snapshots, or clones
    """
    with locks.exclusively(cluster, upload.image_id):
        goes = _strip(cluster, name, upload)
    if goes is None:
        return
    with contextlib.suppress(bindings.rados().ObjectNotFound):
        cluster.ioctx.remove_object(layout.manifest_name(upload))
    if goes:
        with contextlib.suppress(bindings.rbd().ImageNotFound):
            rbdtrash.remove(cluster, goes, patience)
    for book in (layout.REQUESTS, layout.DAMAGED, layout.DELETIONS,
                 layout.UPLOADS, layout.INDEX):
        ledger.take_out(cluster, book, upload)


def _strip(cluster: connection.Cluster, name: str,
           upload: layout.Upload) -> str | None:
    """Take the snapshot from an RBD image that goes.

    :returns: the RBD image that is left to remove, '' if there is none, or
        None if the upload is a stored image
    """
    stored = images.is_stored(cluster, upload)
    if name == layout.upload_name(upload) and stored:
        return None
    if name == upload.image_id and not stored:
        # Another one has the id, or what is left leads to nothing.
        renames.clear(cluster, name)
        _finish(cluster, upload)
        return ''
    try:
        with cluster.opened(name) as image:
            drop_snapshot(image)
    except bindings.rbd().ImageNotFound:
        # Removed in part; or it became the image just now.
        if images.is_stored(cluster, upload):
            return None
    return name


def discard(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Remove an upload that nobody writes.

    If it was being renamed to the image's id, that is finished instead: who
    asked for it may have been told that it is stored.

    :returns: whether it was removed
    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    :raises rbd.ImageNotFound: if there is none
    """
    name = layout.upload_name(upload)
    with locks.exclusively(cluster, upload.image_id) as lease:
        if renames.settle(cluster, upload):
            return False
        with cluster.opened(name, read_only=True) as image:
            if list(image.watchers_list()):
                # Its writer was away for a while, and is back.
                return False
        lease.check()
        name = _to_trash(cluster, name, upload)
        _strip(cluster, name, upload)
    purge(cluster, name, upload, HASTE)
    return True


def _finish(cluster: connection.Cluster, upload: layout.Upload) -> None:
    """Finish what RBD began to remove while it had the id of an image."""
    entry = rbdtrash.being_removed(cluster, upload.image_id)
    if entry is None:
        return
    with contextlib.suppress(bindings.rbd().ImageNotFound):
        image = cluster.open(None, read_only=True, internal=entry.internal)
        try:
            generation, _ = images.generation_of(cluster, image)
        finally:
            cluster.close_image(image)
        if generation != upload.generation:
            # It is not for us to say what becomes of it.
            return
    rbdtrash.remove(cluster, upload.image_id, HASTE)


def give_up(cluster: connection.Cluster, upload: layout.Upload) -> None:
    """Remove an upload by whom it is written.

    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    :raises rbd.ImageNotFound: if there is none, because others removed it
    """
    name = layout.upload_name(upload)
    with cluster.opened(name, read_only=True):
        pass
    purge(cluster, name, upload)


def withdraw(cluster: connection.Cluster, upload: layout.Upload) -> None:
    """Remove an upload of which nobody was told that it is stored.

    Whether it became the image or not.

    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    :raises rbd.ImageNotFound: if there is none
    """
    with locks.exclusively(cluster, upload.image_id) as lease:
        name = (upload.image_id if renames.settle(cluster, upload) else
                layout.upload_name(upload))
        lease.check()
        name = _to_trash(cluster, name, upload)
        _strip(cluster, name, upload)
    purge(cluster, name, upload)


def purge_deleted(cluster: connection.Cluster,
                  upload: layout.Upload) -> bool:
    """Remove what a deletion left.

    :returns: whether it was removed
    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    """
    name = layout.trash_name(upload)
    with locks.exclusively(cluster, upload.image_id) as lease:
        for old in upload.image_id, layout.upload_name(upload):
            counts = renames.common_name(cluster, old, name)
            if counts == old:
                # Somebody changed his mind.
                return False
            if counts == name:
                lease.check()
                # It leads there still, and would do so for ever.
                renames.rename(cluster, old, name)
    purge(cluster, name, upload, HASTE)
    return True


def resume(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Go on with a deletion for whose new name there was no room.

    While its snapshot is there it is an image still, and nobody was told
    otherwise: it stays one, as it was.

    :returns: whether it was removed
    :raises easystack_image.exceptions.ImageBusy: if others rename for long
    """
    image_id = upload.image_id
    with locks.exclusively(cluster, image_id), \
            contextlib.suppress(bindings.rbd().ImageNotFound), \
            cluster.opened(image_id, layout.SNAPSHOT, read_only=True):
        if images.is_stored(cluster, upload):
            with cluster.opened(image_id) as image:
                if not image.is_protected_snap(layout.SNAPSHOT):
                    image.protect_snap(layout.SNAPSHOT)
        ledger.take_out(cluster, layout.DELETIONS, upload)
        return False
    purge(cluster, image_id, upload, HASTE)
    return True


def _to_trash(cluster: connection.Cluster, name: str,
              upload: layout.Upload) -> str:
    """Give an RBD image the name of a deleted one, if there is room for it.

    Use it :func:`.locks.exclusively`.

    :returns: its name by now
    """
    trash = layout.trash_name(upload)
    try:
        renames.rename(cluster, name, trash)
    except bindings.rbd().Error as error:
        if getattr(error, 'errno', None) not in FULL:
            raise
        # There is no room even for another name.
        if name == upload.image_id:
            ledger.put(cluster, layout.DELETIONS, upload, time.time())
        return name
    return trash


def retire(cluster: connection.Cluster, image_id: str,
           generation: str | None,
           tell: Callable[[layout.Upload], object] = lambda upload: None,
           ) -> tuple[str, layout.Upload]:
    """Make a stored image no image any more.

    :param generation: the upload that is meant, or None for any
    :param tell: called as soon as it is no image any more
    :returns: what is left to purge: the name of the RBD image, and which
        upload it was
    :raises easystack_image.exceptions.ImageInUse: if it has clones
    :raises easystack_image.exceptions.ImageNotFound: if it is another one
    :raises rbd.ImageNotFound: if there is none
    """
    prepare(cluster)
    with locks.exclusively(cluster, image_id) as lease:
        with cluster.opened(image_id, read_only=True) as image:
            upload = layout.Upload(image_id,
                                   images.generation_of(cluster, image)[0])
            if generation not in (None, upload.generation):
                raise images.absence(image_id)
            usage.refuse(image, image_id)
        renames.settle(cluster, upload)
        lease.check()
        name = _to_trash(cluster, image_id, upload)
        if name != image_id:
            tell(upload)
        _strip_retired(cluster, name, upload)
    return name, upload


def _strip_retired(cluster: connection.Cluster, name: str,
                   upload: layout.Upload) -> None:
    """Take the snapshot from an image that was deleted just now."""
    rbd = bindings.rbd()
    image_id = upload.image_id
    try:
        with cluster.opened(name) as image:
            drop_snapshot(image)
    except rbd.ImageBusy as error:
        # A clone was made just now.
        if name == image_id:
            ledger.take_out(cluster, layout.DELETIONS, upload)
        else:
            renames.rename(cluster, name, image_id)
        raise usage.in_use(image_id) from error
    except (rbd.Error, bindings.rados().Error) as error:
        if name == image_id:
            raise
        # It is no image any more, whatever else goes wrong.
        LOG.warning('Image %(image)s is deleted, and its snapshot is not '
                    'removed yet: %(error)s',
                    {'image': image_id, 'error': error})


def drop_snapshot(image: Any) -> None:
    """Unprotect and remove our snapshot, if there is one."""
    rbd = bindings.rbd()
    with contextlib.suppress(rbd.ImageNotFound):
        if image.is_protected_snap(layout.SNAPSHOT):
            image.unprotect_snap(layout.SNAPSHOT)
        image.remove_snap(layout.SNAPSHOT)
