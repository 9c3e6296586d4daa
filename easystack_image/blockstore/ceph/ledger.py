"""What the pool remembers of uploads: which there are, and what is to be done.

Five objects with an omap each; see :mod:`.layout`.  Keys are names of
uploads, ``ID.GENERATION``, values are times in seconds since 1970, in ASCII;
in the book of damaged images, JSON with what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib

from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import layout

#: How many keys are read at once.
PAGE = 1000


def put(cluster: connection.Cluster, book: str, upload: layout.Upload,
        moment: float) -> None:
    """Enter an upload, or change its time; call it within a run."""
    write(cluster, book, upload.name, f'{moment:.6f}'.encode())


def write(cluster: connection.Cluster, book: str, key: str,
          value: bytes) -> None:
    """Write an entry of whatever kind; call it within a run."""
    with bindings.rados().WriteOpCtx() as operation:
        cluster.ioctx.set_omap(operation, (key,), (value,))
        cluster.ioctx.operate_write_op(operation, book)


def take_out(cluster: connection.Cluster, book: str,
             upload: layout.Upload) -> None:
    """Remove an entry, if there is one; call it within a run."""
    erase(cluster, book, upload.name)


def erase(cluster: connection.Cluster, book: str, key: str) -> None:
    """Remove an entry of whatever kind; call it within a run."""
    with bindings.rados().WriteOpCtx() as operation, \
            contextlib.suppress(bindings.rados().ObjectNotFound):
        cluster.ioctx.remove_omap_keys(operation, (key,))
        cluster.ioctx.operate_write_op(operation, book)


def entries(cluster: connection.Cluster, book: str,
            image_id: str = '') -> dict[layout.Upload, float]:
    """Return all entries, or those of one image.

    Whatever is no entry of ours is left out.
    """
    found = {}
    for upload, value in values(cluster, book, image_id).items():
        with contextlib.suppress(ValueError):
            found[upload] = float(value)
    return found


def values(cluster: connection.Cluster, book: str,
           image_id: str = '') -> dict[layout.Upload, bytes]:
    """Return what is written of each upload; as :func:`entries`."""
    found = {}
    for name, value in pairs(cluster, book, image_id and f'{image_id}.'):
        upload = layout.upload_of_mark(name)
        if upload is not None:
            found[upload] = value
    return found


def entry(cluster: connection.Cluster, book: str, key: str) -> bytes | None:
    """Return an entry of whatever kind, or None."""
    return dict(pairs(cluster, book, key)).get(key)


def pairs(cluster: connection.Cluster, book: str,
          prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield the keys that begin so, and what they have."""
    after = ''
    while True:
        page = cluster.run(lambda after=after: _page(  # type: ignore[misc]
            cluster, book, after, prefix))
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1][0]


def _page(cluster: connection.Cluster, book: str, after: str,
          prefix: str) -> list[tuple[str, bytes]]:
    with bindings.rados().ReadOpCtx() as operation:
        pairs, _ = cluster.ioctx.get_omap_vals(operation, after, prefix, PAGE)
        try:
            cluster.ioctx.operate_read_op(operation, book)
        except bindings.rados().ObjectNotFound:
            return []
        return list(pairs)
