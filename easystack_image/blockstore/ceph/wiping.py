"""Removing data of an RBD image that is gone.

A writer of whom the cluster did not hear for long may write on after his
upload was swept away.  RBD's objects with data come into being when they are
written, whether there is an RBD image or not, and nobody else would ever find
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import removal
from easystack_image.blockstore.ceph import renames


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    """Where the data of an RBD image lies."""

    #: The id that Ceph gave to the RBD image.
    internal: str
    #: How the names of its objects begin.
    prefix: str
    #: How much each of them has, in bytes.
    object_size: int

    @classmethod
    def of(cls, image: Any) -> Data:
        """Return that of an open RBD image; call it within a run."""
        return cls(image.id(), image.block_name_prefix(),
                   image.stat()['obj_size'])


def wipe(cluster: connection.Cluster, upload: layout.Upload, data: Data,
         size: int) -> None:
    """Remove what was written of an upload that somebody removes, or has.

    Call it within a run.  Nothing happens if the RBD image is there under
    another name than that of a deleted one.

    :param size: how far it may have been written, in bytes
    """
    if renames.has_header(cluster, data.internal):
        trash = layout.trash_name(upload)
        if renames.listed_name(cluster, data.internal) != trash:
            return
        removal.purge(cluster, trash, upload)
    for number in range(-(-size // data.object_size)):
        with contextlib.suppress(bindings.rados().ObjectNotFound):
            cluster.ioctx.remove_object(f'{data.prefix}.{number:016x}')
