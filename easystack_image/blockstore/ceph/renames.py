"""Giving RBD images other names, in steps that may be cut short.

librbd makes the object ``rbd_id.NEW`` that leads from the new name to the RBD
image, changes its list of names (``rbd_directory``), and removes
``rbd_id.OLD``.  After a time-out or a crash in between both names lead to it,
and the list tells which one counts.

All of this is done within a run, and :func:`.locks.exclusively`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import struct
import time

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import locks

LOG = logging.getLogger(__name__)

#: How RBD's object begins by which a name is found, and the one without
#: which there is no RBD image.
NAME = 'rbd_id.'
HEADER = 'rbd_header.'
#: RBD's list of names, and how its keys begin that have the name.
DIRECTORY = 'rbd_directory'
_LISTED = 'name_'
#: The length of a string, before it, as Ceph writes them.
_LENGTH = struct.Struct('<I')


def rename(cluster: connection.Cluster, name: str, new: str) -> None:
    """Rename an RBD image, or finish that if it was cut short.

    :raises rbd.ImageExists: if the new name is another RBD image's
    :raises easystack_image.exceptions.ImageBusy: if somebody seems to be
        making an RBD image of that name
    """
    rbd = bindings.rbd()
    try:
        # librbd would not notice that its list has the new name already.
        if _listed(cluster, new) and not clear(cluster, new):
            raise rbd.ImageExists(f'{new} is listed', errno=errno.EEXIST)
        cluster.rbd.rename(cluster.ioctx, name, new)
        return
    except rbd.ImageExists:
        listed = common_name(cluster, name, new)
        if listed == new:
            cluster.ioctx.remove_object(NAME + name)
            return
        if listed == name:
            cluster.ioctx.remove_object(NAME + new)
            clear(cluster, new)
        elif not clear(cluster, new):
            raise
    try:
        cluster.rbd.rename(cluster.ioctx, name, new)
    except rbd.ImageExists:
        if common_name(cluster, name, new) == name:
            # The list has it for another one: it must not lead to ours.
            cluster.ioctx.remove_object(NAME + new)
        raise


def common_name(cluster: connection.Cluster, *names: str) -> str:
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

    :param internal: the id that Ceph gave to it
    """
    image = cluster.open(None, read_only=True, internal=internal)
    try:
        name: str = image.get_name()
        return name
    finally:
        cluster.close_image(image)


def clear(cluster: connection.Cluster, name: str) -> bool:
    """Make a name free that leads to nothing.

    Of a rename, or a removal, that was cut short, and whose RBD image was
    removed by other means, the name may be left: it can neither be opened
    nor given again.  librbd makes an RBD image in that order, too: the name
    first.  So it must be older than that can take.

    :returns: whether the name led to nothing, and is free now
    :raises easystack_image.exceptions.ImageBusy: if it is too young
    """
    rados, rbd = bindings.rados(), bindings.rbd()
    try:
        _, written = cluster.ioctx.stat(NAME + name)
        pointer = cluster.ioctx.read(NAME + name)
    except rados.ObjectNotFound:
        written, pointer = None, b''
    listed = _listed(cluster, name)
    led_to = {_text(each) for each in (pointer, listed) if each}
    if not led_to or any(has_header(cluster, each) for each in led_to):
        return False
    if written is not None and (
            images.age(time.mktime(written)) < cluster.limit):
        raise exceptions.ImageBusy(
            f'{name}: somebody seems to be making it just now; try again in '
            f'{cluster.limit:g} s')
    if listed:
        with contextlib.suppress(rbd.ImageNotFound):
            cluster.rbd.remove(cluster.ioctx, name)
    if pointer:
        _remove_if(cluster, NAME + name, pointer)
    LOG.warning('The name %(name)s led to no RBD image, and is free now.',
                {'name': name})
    return True


def _listed(cluster: connection.Cluster, name: str) -> bytes:
    """Return what RBD's list has for a name; b'' if it does not have it."""
    with bindings.rados().ReadOpCtx() as operation:
        pairs, _ = cluster.ioctx.get_omap_vals_by_keys(
            operation, (_LISTED + name,))
        cluster.ioctx.operate_read_op(operation, DIRECTORY)
        return b''.join(value for _, value in pairs)


def _text(encoded: bytes) -> str:
    """Return a string that Ceph wrote."""
    if len(encoded) < _LENGTH.size:
        return ''
    length, = _LENGTH.unpack_from(encoded)
    return encoded[_LENGTH.size:_LENGTH.size + length].decode()


def has_header(cluster: connection.Cluster, internal: str) -> bool:
    """Tell whether there is an RBD image of an id that Ceph gave."""
    try:
        cluster.ioctx.stat(HEADER + internal)
    except bindings.rados().ObjectNotFound:
        return False
    return True


def _remove_if(cluster: connection.Cluster, name: str,
               content: bytes) -> None:
    """Remove an object if it has just this content."""
    rados = bindings.rados()
    try:
        with rados.WriteOpCtx() as operation:
            operation.cmpext(content, 0)
            operation.remove()
            cluster.ioctx.operate_write_op(operation, name)
    except rados.Error:
        # What is not there is different, too.
        with contextlib.suppress(rados.ObjectNotFound):
            cluster.ioctx.stat(name)
            raise


def settle(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether an upload is the stored image.

    A rename to the image's id that was cut short is finished.
    """
    if not images.is_stored(cluster, upload):
        return False
    name = listed_name(cluster, _internal(cluster, upload.image_id))
    if name == layout.upload_name(upload):
        rename(cluster, name, upload.image_id)
        return True
    return name == upload.image_id


def claim(cluster: connection.Cluster, upload: layout.Upload) -> None:
    """Make an upload the stored image; takes the lock itself.

    :raises easystack_image.exceptions.ImageExists: if there is another one
    :raises rbd.ImageNotFound: if the upload is not there, or not whole any
        more, because somebody removes it
    """
    rbd = bindings.rbd()
    image_id, name = upload.image_id, layout.upload_name(upload)
    with locks.exclusively(cluster, image_id) as lease:
        if settle(cluster, upload):
            return
        with contextlib.suppress(rbd.ImageNotFound), \
                cluster.opened(image_id, read_only=True):
            raise _exists(image_id)
        with cluster.opened(name, layout.SNAPSHOT, read_only=True):
            lease.check()
        try:
            rename(cluster, name, image_id)
        except rbd.ImageExists as error:
            raise _exists(image_id) from error
        if not images.is_stored(cluster, upload):
            raise _exists(image_id)


def arrived(cluster: connection.Cluster, upload: layout.Upload) -> bool:
    """Tell whether an upload became the image; takes the lock itself.

    As :func:`settle`.
    """
    with locks.exclusively(cluster, upload.image_id):
        return settle(cluster, upload)


def _exists(image_id: str) -> exceptions.ImageExists:
    return exceptions.ImageExists(
        f'image {image_id} is in this store already')
