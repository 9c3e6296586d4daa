"""Which blocks of an image are all zeros, and so need not be read.

They are not written either.  The map stands behind the manifest, in the same
object: a bit for each block, the first one in the lowest bit of the first
byte, and then the SHA-256 of the manifest and the bits.
"""

from __future__ import annotations

import hashlib

from easystack_image.blockstore.local import checksums
from easystack_image.blockstore.local import manifest as manifest_module

BLOCK_SIZE = manifest_module.BLOCK_SIZE
_SEAL_LENGTH = hashlib.sha256().digest_size


class ZeroMap:
    """A map that is being made, or was read."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._blocks = 0

    def add(self, length: int, runs: list[tuple[int, int]]) -> None:
        """Add the next piece of the image.

        :param length: in bytes; whole blocks, but for the image's last one
        :param runs: (begin, end) in bytes of each part that is not all
            zeros; they begin and end at the bounds of blocks
        """
        for begin in range(0, length, BLOCK_SIZE):
            byte, bit = divmod(self._blocks, 8)
            if not bit:
                self._bits.append(0)
            if not any(start <= begin < end for start, end in runs):
                self._bits[byte] |= 1 << bit
            self._blocks += 1

    def zero(self, block: int) -> bool:
        """Tell whether a block is known to be all zeros."""
        byte, bit = divmod(block, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def pack(self, manifest: bytes) -> bytes:
        """Return what stands behind a manifest, as it lies in the pool."""
        bits = bytes(self._bits)
        return bits + _seal(manifest, bits)


def _seal(manifest: bytes, bits: bytes) -> bytes:
    return hashlib.sha256(manifest + bits).digest()


def unpack(data: bytes) -> tuple[manifest_module.Manifest, ZeroMap]:
    """Return the manifest and the map that an object holds.

    A map that is damaged, or contradicts the manifest, is as good as none:
    then all blocks are read.

    :raises easystack_image.blockstore.local.manifest.ManifestError: if the
        manifest is damaged
    """
    size = manifest_module.peek(data)
    if size < 0:
        raise manifest_module.ManifestError('not a manifest of this package')
    length = manifest_module.length(size)
    manifest = manifest_module.unpack(data[:length])
    bits, seal = data[length:-_SEAL_LENGTH], data[-_SEAL_LENGTH:]
    made = ZeroMap()
    if (len(bits) == -(-manifest.blocks // 8)
            and seal == _seal(data[:length], bits)):
        made._bits, made._blocks = bytearray(bits), manifest.blocks
        if not _agree(manifest, made):
            return manifest, ZeroMap()
    return manifest, made


def _agree(manifest: manifest_module.Manifest, made: ZeroMap) -> bool:
    return all(
        manifest.checksum(block) == checksums.checksum_of_zeros(
            manifest.block_length(block))
        for block in range(manifest.blocks) if made.zero(block))
