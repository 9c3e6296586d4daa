"""CRC32C of blocks, and finding the blocks that are all zeros."""

from __future__ import annotations

import array
import functools
import sys

import crc32c

from easystack_image.blockstore.local import manifest


@functools.lru_cache(maxsize=8)
def zeros(length: int) -> bytes:
    """Return ``length`` zero bytes."""
    return bytes(length)


@functools.lru_cache(maxsize=8)
def checksum_of_zeros(length: int) -> int:
    """Return the CRC32C of ``length`` zero bytes."""
    return crc32c.crc32c(zeros(length))


def is_zero(block: memoryview, checksum: int) -> bool:
    """Tell whether a block is all zeros, given its CRC32C.

    The checksum is there already and rules out nearly all other blocks, so
    that only zeros are looked at byte by byte.
    """
    length = len(block)
    return (checksum == checksum_of_zeros(length)
            and bytes(block) == zeros(length))


class Checksums:
    """The checksums of an image, block after block.

    :param block_size: bytes that one checksum covers
    """

    def __init__(self, block_size: int = manifest.BLOCK_SIZE) -> None:
        self._block_size = block_size
        self._table = array.array('I')

    def add(self, data: memoryview) -> list[tuple[int, int]]:
        """Add the next piece of the image.

        :param data: whole blocks; only the last one of the image is shorter
        :returns: (begin, end) in bytes of each part of ``data`` that is not
            all zeros; parts that touch are one
        """
        runs: list[tuple[int, int]] = []
        for begin in range(0, len(data), self._block_size):
            block = data[begin:begin + self._block_size]
            checksum = crc32c.crc32c(block)
            self._table.append(checksum)
            if is_zero(block, checksum):
                continue
            end = begin + len(block)
            if runs and runs[-1][1] == begin:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((begin, end))
        return runs

    def pack(self) -> bytes:
        """Return the table as a manifest has it: little-endian."""
        table = array.array('I', self._table)
        if sys.byteorder == 'big':
            table.byteswap()
        return table.tobytes()
