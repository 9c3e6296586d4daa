"""Reading the other copies of an object, and restoring a bad one from them.

An ordinary read goes to the first OSD of a placement group.  If what that one
has is bad, and its own checksums are not (the bytes went bad before they came
to its disk), Ceph notices nothing until it compares the copies; and then, of
an object of which it keeps no digest, it takes the first one's for the right
one.  So whoever knows better, as we do by our checksums, looks at the other
copies before Ceph is asked to make all of them alike.

librados can read any copy; its Python module cannot.  Hence ctypes, on a
connection that lasts as long as a repair, which is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import ctypes
import functools
import os
import time

from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection

#: How often a block is read at a time, from a copy that librados draws each
#: time: of three, one is missed once in some 650 blocks.
TRIES = 16
#: The object that is written to have the copies of a placement group take
#: reads, and seconds until they do: after an OSD came back, some 2, and
#: more on a busy machine.
NUDGE = 'easystack-nudge'
SETTLING = 10.0
#: LIBRADOS_OPERATION_BALANCE_READS of librados.h: from any copy.
_ANY_COPY = 1
#: Ceph's options that bound how long one operation takes.
_LIMITS = (b'client_mount_timeout', b'rados_mon_op_timeout',
           b'rados_osd_op_timeout')


@functools.cache
def _librados() -> ctypes.CDLL:
    """Return the library, with the types that are not the default."""
    library = ctypes.CDLL('librados.so.2')
    library.rados_create_read_op.restype = ctypes.c_void_p
    return library


class Replicas:
    """A pool, read from any copy; call all methods within a run."""

    def __init__(self, cluster: connection.Cluster) -> None:
        self._cluster = cluster
        self._library = _librados()
        self._handle = ctypes.c_void_p()
        self._ioctx = ctypes.c_void_p()
        #: When, by the names of objects.
        self._nudged: dict[str, float] = {}

    def open(self) -> Replicas:
        """Connect, and return this object.

        :raises easystack_image.exceptions.DeviceError: if that fails
        """
        settings, library = self._cluster.settings, self._library
        self._check(library.rados_create(
            ctypes.byref(self._handle), settings.user.encode()))
        try:
            self._check(library.rados_conf_read_file(
                self._handle, os.fsencode(settings.conf)))
            for name in _LIMITS:
                self._check(library.rados_conf_set(
                    self._handle, name,
                    b'%d' % max(1, round(settings.timeout))))
            self._check(library.rados_connect(self._handle))
            self._check(library.rados_ioctx_create(
                self._handle, settings.pool.encode(),
                ctypes.byref(self._ioctx)))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Disconnect."""
        if self._ioctx:
            self._library.rados_ioctx_destroy(self._ioctx)
        self._library.rados_shutdown(self._handle)

    def _check(self, result: int) -> None:
        if result < 0:
            raise self._cluster.failure(result)

    def find(self, name: str, offset: int, length: int,
             good: Callable[[bytes], bool]) -> bytes | None:
        """Return a part of an object from a copy in which it is good.

        :param offset: where the part begins in the object, in bytes
        :param good: tells whether bytes are right
        :returns: None if no copy that answered has it
        """
        self.nudge([name])
        while True:
            late = time.monotonic() > self._nudged[name] + SETTLING
            for _ in range(TRIES):
                data = self._read(name, offset, length)
                if good(data):
                    return data
            if late:
                return None
            time.sleep(SETTLING / 10)

    def _read(self, name: str, offset: int, length: int) -> bytes:
        """Read from one of the copies; what is not there is ``b''``."""
        library = self._library
        operation = ctypes.c_void_p(library.rados_create_read_op())
        try:
            buffer = ctypes.create_string_buffer(length)
            count, result = ctypes.c_size_t(), ctypes.c_int()
            library.rados_read_op_read(
                operation, ctypes.c_uint64(offset), ctypes.c_size_t(length),
                buffer, ctypes.byref(count), ctypes.byref(result))
            failed = library.rados_read_op_operate(
                operation, self._ioctx, name.encode(), _ANY_COPY)
            return b'' if failed < 0 else buffer.raw[:count.value]
        finally:
            library.rados_release_read_op(operation)

    def nudge(self, names: Iterable[str]) -> None:
        """Have other copies of objects take reads, but the first one.

        They do so a while after something was written to the placement group,
        which is undone.  A full pool takes no writes; then only those count
        that take reads already.
        """
        library, nudge = self._library, NUDGE.encode()
        for name in names:
            if name in self._nudged:
                continue
            library.rados_ioctx_locator_set_key(self._ioctx, name.encode())
            for _ in range(2):
                library.rados_write_full(self._ioctx, nudge, b'', 0)
                library.rados_remove(self._ioctx, nudge)
            library.rados_ioctx_locator_set_key(self._ioctx, None)
            self._nudged[name] = time.monotonic()


def restore(cluster: connection.Cluster, image_id: str, name: str,
            offset: int, data: bytes) -> None:
    """Write a part of an image's object anew, for all copies.

    Call it within a run.  It changes the object in place: clones and the
    snapshot read what they should have read all the time.

    :param data: what the part must be
    :raises rbd.ImageNotFound: if the image is not there any more
    """
    # Whoever removes the image waits while it is watched, and no object of
    # it comes back after that.
    with cluster.opened(image_id) as image:
        if not name.startswith(f'{image.block_name_prefix()}.'):
            raise bindings.rbd().ImageNotFound('another one has its name')
        cluster.ioctx.write(name, data, offset)
