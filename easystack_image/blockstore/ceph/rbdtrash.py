"""RBD's own trash, through which everything goes that RBD removes.

``rbd remove`` moves an RBD image there first, which takes its name away.  If
it turns out to be in use only then, it is moved back, in steps.  A process
that dies in the middle of these leaves an entry "being restored", which
librbd neither removes nor restores ever again.

``rbd trash move`` puts there what an operator may want back.

All of this is done within a run.
"""

from __future__ import annotations

import dataclasses
import errno
import struct
import time

from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import ledger

#: The list of what is in the trash.
TRASH = 'rbd_trash'
#: Seconds between two attempts to remove something.
PAUSE = 0.1
#: How the keys of the list begin, and how its entries do.
_KEY = 'id_'
_BEGIN = struct.Struct('<BBIBI')
_NUMBER = struct.Struct('<I')
#: Why something is there that RBD removes.
_REMOVING = 3
#: What the class "rbd" of the OSDs has for states of entries.
_NORMAL, _RESTORING = 0, 3


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An RBD image in RBD's trash."""

    #: The id that Ceph gave to it.
    internal: str
    #: What it was called.
    name: str
    #: Whether RBD removes it, so that it cannot be restored.
    removed: bool
    #: When it came there, in seconds since 1970.
    moved_at: float

    @classmethod
    def of(cls, key: str, value: bytes) -> Entry:
        """Return what an entry of the list tells.

        As Ceph's ``cls::rbd::TrashImageSpec`` encodes it: version, oldest
        version that can read it, length, source, length of the name, name,
        when it was moved, and more.
        """
        _, _, _, source, length = _BEGIN.unpack_from(value)
        end = _BEGIN.size + length
        seconds, = _NUMBER.unpack_from(value, end)
        return cls(key.removeprefix(_KEY), value[_BEGIN.size:end].decode(),
                   source == _REMOVING, seconds)


def holds(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether there is an RBD image that may be an upload.

    ``rbd trash restore`` gives it back, under its name.
    """
    names = {upload.image_id, layout.upload_name(upload),
             layout.trash_name(upload)}
    return any(entry.name in names and not entry.removed
               for entry in _entries(cluster))


def being_removed(cluster: connection.Cluster, name: str) -> Entry | None:
    """Return the entry of an RBD image that somebody began to remove.

    :param name: what it was called
    """
    for entry in _entries(cluster):
        if entry.name == name and entry.removed:
            return entry
    return None


def _entries(cluster: connection.Cluster) -> list[Entry]:
    # librbd's own function leaves out what is being removed.
    return [Entry.of(key, value) for key, value
            in ledger.pairs(cluster, TRASH, _KEY)]


def remove(cluster: connection.Cluster, name: str, patience: float) -> None:
    """Remove an RBD image that has a name of ours, or finish that.

    :param patience: seconds to wait for somebody who looks into it
    :raises rbd.ImageBusy: if somebody watches it
    :raises rbd.ImageHasSnapshots: if it has snapshots, or clones
    :raises rbd.ImageNotFound: if there is none
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            _check_unwatched(cluster, name)
            cluster.rbd.remove(cluster.ioctx, name)
            return
        except bindings.rbd().ImageBusy:
            _unblock(cluster, name)
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


def _check_unwatched(cluster: connection.Cluster, name: str) -> None:
    """See that nobody watches an RBD image, before librbd begins.

    :raises rbd.ImageBusy: if somebody does
    """
    rbd = bindings.rbd()
    entry = being_removed(cluster, name)
    try:
        image = (cluster.open(name, read_only=True) if entry is None else
                 cluster.open(None, read_only=True, internal=entry.internal))
    except rbd.ImageNotFound:
        # Nothing can be watched any more.
        return
    try:
        watchers = [each['addr'] for each in image.watchers_list()]
    finally:
        cluster.close_image(image)
    if watchers:
        raise rbd.ImageBusy(
            f'{name} is open, or whoever had it open died just now: '
            + ', '.join(watchers), errno=errno.EBUSY)


def _unblock(cluster: connection.Cluster, name: str) -> None:
    """End a restoration that somebody who died has begun.

    Only the state is changed, and only from that one; then the removal can
    begin anew.  Whoever restores just now needs a moment for it.
    """
    entry = being_removed(cluster, name)
    if entry is None:
        return
    if images.age(entry.moved_at) < cluster.limit:
        return
    internal = entry.internal.encode()
    try:
        cluster.ioctx.execute(
            TRASH, 'rbd', 'trash_state_set',
            _NUMBER.pack(len(internal)) + internal
            + bytes([_NORMAL, _RESTORING]))
    except bindings.rados().Error:
        # It has another state: that is not what keeps it.
        return
