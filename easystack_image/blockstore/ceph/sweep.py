"""Removing what crashes left in the pool."""

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

LOG = logging.getLogger(__name__)


class Sweeper:
    """Removes unfinished uploads that nobody writes, and deleted images.

    Never anything without our mark; see :mod:`.layout`.

    :param connect: returns the connection
    """

    def __init__(self, connect: Callable[[], connection.Cluster]) -> None:
        self._connect = connect

    def sweep(self) -> None:
        """Remove them, as far as that can be done now.

        :raises easystack_image.exceptions.DeviceError: if the cluster does
            not answer
        """
        cluster = self._connect()
        # The index first: what it names has an RBD image by then.
        known = ledger.entries(cluster, layout.INDEX)
        names = images.names(cluster)
        for name in names:
            upload = layout.unfinished(name)
            if upload is not None and self._abandoned(cluster, name):
                _purge(cluster, images.discard, upload,
                       'an unfinished upload')
            upload = layout.trashed(name)
            if upload is not None:
                _purge(cluster, images.purge_deleted, upload,
                       'a deleted image')
        self._forget(cluster, known, set(names))

    def _abandoned(self, cluster: connection.Cluster, name: str) -> bool:
        """Tell whether nobody writes an upload any more.

        Between making an RBD image and opening it nobody watches it; so it
        must be older than that can take.
        """
        def look() -> bool:
            with cluster.opened(name, read_only=True) as image:
                return (time.time() - images.born(image) > cluster.limit
                        and not list(image.watchers_list()))

        try:
            return cluster.run(look)
        except bindings.rbd().ImageNotFound:
            return False

    def _forget(self, cluster: connection.Cluster,
                known: Iterable[layout.Upload], names: set[str]) -> None:
        """Remove manifests and entries of images that are gone.

        Whoever deletes an image by other means leaves them.
        """
        for upload in known:
            if upload.image_id in names and _is_stored(cluster, upload):
                continue
            # In the order in which it goes from one name to the next.
            if (images.exists(cluster, layout.upload_name(upload))
                    or _is_stored(cluster, upload)
                    or images.exists(cluster, layout.trash_name(upload))):
                continue
            # There is no RBD image of that name: only the rest goes.
            _purge(cluster, _purge_rest, upload, 'what is left of an image')


def _is_stored(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    return cluster.run(lambda: images.is_stored(cluster, upload))


def _purge_rest(cluster: connection.Cluster, upload: layout.Upload) -> None:
    images.purge(cluster, layout.upload_name(upload), upload)


def _purge(cluster: connection.Cluster,
           remove: Callable[[connection.Cluster, layout.Upload], None],
           upload: layout.Upload, what: str) -> None:
    try:
        cluster.run(lambda: remove(cluster, upload))
    except (exceptions.BlockStoreError, bindings.rbd().Error) as error:
        LOG.warning('%(what)s, %(upload)s, cannot be removed now: %(error)s',
                    {'what': what.capitalize(), 'upload': upload.name,
                     'error': error})
    else:
        LOG.info('Removed %(what)s: %(image)s',
                 {'what': what, 'image': upload.image_id})
