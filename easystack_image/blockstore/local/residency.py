"""Which parts of a file are in the page cache, and reading those.

What is there can be read without waiting for the disk, so the thread that
wants it may read it itself.  That takes both questions: whether it is there
(mincore(2)), and to be given it only if it still is (``RWF_NOWAIT``, see
preadv2(2)).  The second alone would do but for Linux 5.10 and later, which
begin to read what is not there: with so much waiting for a disk that hangs
that its queue is full, that waits as well (seen with Linux 6.18).
"""

from __future__ import annotations

import ctypes
import mmap
import os

_MINCORE = ctypes.CDLL(None, use_errno=True).mincore
_MINCORE.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_MINCORE.restype = ctypes.c_int
# To have what is read where it stays: another copy costs a fifth of the
# speed.  Bytes may be filled in like this before anybody else has them, says
# the documentation of the C API.
_NEW_BYTES = ctypes.pythonapi.PyBytes_FromStringAndSize
_NEW_BYTES.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t]
_NEW_BYTES.restype = ctypes.py_object
_ADDRESS = ctypes.pythonapi.PyBytes_AsString
_ADDRESS.argtypes = [ctypes.py_object]
_ADDRESS.restype = ctypes.c_void_p


def cached(fd: int, offset: int, length: int) -> bool:
    """Tell whether all of a part of a file is in the page cache.

    See mincore(2).  Only this part is mapped, however large the file, and
    its pages are never touched through the mapping: on a bad disk that would
    end the process (SIGBUS).

    :param fd: of the file, open for reading
    :param offset: in bytes, a multiple of the page size
    :param length: in bytes
    """
    try:
        # A private, writable mapping: ctypes takes no other.
        part = mmap.mmap(fd, length, access=mmap.ACCESS_COPY, offset=offset)
    except (OSError, ValueError):
        # Shorter than it was, no memory, no mappings: "no" is always safe.
        return False
    with part:
        pages = -(-length // mmap.PAGESIZE)
        vector = ctypes.create_string_buffer(pages)
        address = ctypes.addressof(ctypes.c_char.from_buffer(part))
        if _MINCORE(address, length, vector):
            return False
        # Should a later kernel set further bits, "no" is always safe.
        return vector.raw.count(b'\1') == pages


def read(fd: int, offset: int, length: int) -> bytes | None:
    """Return a part of a file, or None if all of it is not to be had at once.

    :param fd: of the file, open for reading
    :param offset: in bytes
    :param length: in bytes, at least 1
    :raises OSError: with EOPNOTSUPP if this file system can only wait
    """
    data: bytes = _NEW_BYTES(None, length)
    room = (ctypes.c_char * length).from_address(_ADDRESS(data))
    try:
        count = os.preadv(fd, [room], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return None
    # Fewer: the rest is not there any more, or the file is cut off.
    return data if count == length else None
