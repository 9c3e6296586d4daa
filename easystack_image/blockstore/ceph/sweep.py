"""Removing what crashes left in the pool."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
import logging

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger
from easystack_image.blockstore.ceph import locks
from easystack_image.blockstore.ceph import rbdtrash
from easystack_image.blockstore.ceph import removal
from easystack_image.blockstore.ceph import renames

LOG = logging.getLogger(__name__)

#: Of two sweeps in the time between them, which part belongs to the first.
TURN = 0.9
#: Seconds between two looks at every image; in between, the names tell.
LOOK = 86400
_Remove = Callable[[connection.Cluster, layout.Upload], bool]


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
        removed = {upload for remove, upload, what
                   in _leftovers(cluster, names)
                   if _purge(cluster, remove, upload, what)}
        with locks.turn(cluster, 'look', LOOK) as everything:
            for upload in known if everything else _doubtful(known, names):
                if upload not in removed and not _is_kept(cluster, upload):
                    _purge(cluster, _purge_rest, upload,
                           'what is left of an image')


class Turns:
    """Sweeps for all processes that serve images from a pool, by turns.

    :param connect: returns the connection
    :param interval: seconds between sweeps
    """

    def __init__(self, sweeper: Sweeper,
                 connect: Callable[[], connection.Cluster],
                 interval: float) -> None:
        self._sweeper = sweeper
        self._connect = connect
        self._interval = interval

    def sweep(self) -> None:
        """Sweep, unless somebody did so just now, or does; see Sweeper."""
        with locks.turn(self._connect(), 'sweep',
                        self._interval * TURN) as ours:
            if ours:
                self._sweeper.sweep()


def _leftovers(cluster: connection.Cluster, names: list[str],
               ) -> Iterator[tuple[_Remove, layout.Upload, str]]:
    """Yield what is to be removed, how, and what it is called."""
    for name in names:
        upload = layout.unfinished(name)
        if upload is not None and _abandoned(cluster, name):
            yield removal.discard, upload, 'an unfinished upload'
        upload = layout.trashed(name)
        if upload is not None:
            yield removal.purge_deleted, upload, 'a deleted image'
    for upload, begun in ledger.entries(cluster, layout.UPLOADS).items():
        if images.age(begun) > cluster.limit and (
                not _is_kept(cluster, upload)):
            yield _purge_rest, upload, 'an upload that hardly began'
    for upload in ledger.entries(cluster, layout.DELETIONS):
        yield removal.resume, upload, 'a deleted image'


def _abandoned(cluster: connection.Cluster, name: str) -> bool:
    """Tell whether nobody writes an upload any more.

    Between making an RBD image and opening it nobody watches it; so it must
    be older than that can take.
    """
    def look() -> bool:
        with cluster.opened(name, read_only=True) as image:
            return (images.age(images.born(image)) > cluster.limit
                    and not list(image.watchers_list()))

    try:
        return cluster.run(look)
    except bindings.rbd().ImageNotFound:
        return False


def _doubtful(known: dict[layout.Upload, float],
              names: list[str]) -> list[layout.Upload]:
    """Return the uploads of which the names do not tell that they are there.

    Whoever deletes an image by other means leaves a manifest and an entry.
    """
    there = set(names)
    uploads = collections.Counter(upload.image_id for upload in known)
    return [upload for upload in known
            if upload.image_id not in there or uploads[upload.image_id] > 1]


def _is_kept(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether there is an RBD image of an upload, whatever its name.

    Looks in the order in which it goes from one name to the next; RBD's own
    trash gives back what it has.
    """
    def stored() -> bool:
        return cluster.run(lambda: images.is_stored(cluster, upload))

    return (images.exists(cluster, layout.upload_name(upload)) or stored()
            or cluster.run(lambda: rbdtrash.holds(cluster, upload))
            or stored()
            or images.exists(cluster, layout.trash_name(upload)))


def _purge_rest(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Remove manifest and entries; there is no RBD image of that name."""
    name = layout.upload_name(upload)
    # Perhaps the name was made, and no RBD image for it.
    renames.clear(cluster, name)
    removal.purge(cluster, name, upload)
    return True


def _purge(cluster: connection.Cluster, remove: _Remove,
           upload: layout.Upload, what: str) -> bool:
    """Remove something; return whether that was done."""
    try:
        removed = cluster.run(lambda: remove(cluster, upload))
    except (exceptions.BlockStoreError, bindings.rbd().Error,
            bindings.rados().Error) as error:
        LOG.warning('%(what)s, %(upload)s, cannot be removed now: %(error)s',
                    {'what': what.capitalize(), 'upload': upload.name,
                     'error': error})
        return False
    if removed:
        LOG.info('Removed %(what)s: %(image)s',
                 {'what': what, 'image': upload.image_id})
    return removed
