"""Which parts of a file are in the page cache.

What is there can be read without waiting for the disk, so the thread that
wants it may read it itself.
"""

from __future__ import annotations

import ctypes
import mmap

_MINCORE = ctypes.CDLL(None, use_errno=True).mincore
_MINCORE.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_MINCORE.restype = ctypes.c_int


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
