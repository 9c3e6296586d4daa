"""Which blocks are all zeros."""

from __future__ import annotations

import uuid

import crc32c
from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image.blockstore.ceph import zeromap
from easystack_image.blockstore.local import manifest as manifest_module

BLOCK = zeromap.BLOCK_SIZE
CHUNK = 4 * BLOCK
ZERO = crc32c.crc32c(bytes(BLOCK))


def made(zero: list[bool]) -> tuple[bytes, zeromap.ZeroMap]:
    """Return the manifest and the map of an image with such blocks."""
    manifest = manifest_module.Manifest(
        *(str(uuid.UUID(int=number)) for number in (1, 2, 3)),
        size=len(zero) * BLOCK, created_at=0.0, md5=bytes(16),
        algorithm='sha512', multihash=bytes(64), checksums=b''.join(
            (ZERO if each else 12345).to_bytes(4, 'little')
            for each in zero))
    zeros = zeromap.ZeroMap()
    for begin in range(0, len(zero), 4):
        part = zero[begin:begin + 4]
        zeros.add(len(part) * BLOCK, [
            (number * BLOCK, (number + 1) * BLOCK)
            for number, each in enumerate(part) if not each])
    return manifest_module.pack(manifest), zeros


def shown(zeros: zeromap.ZeroMap, count: int) -> list[bool]:
    return [zeros.zero(block) for block in range(count)]


BLOCKS = strategies.lists(strategies.booleans(), max_size=40)


class ZeroMapTest(testtools.TestCase):

    @given(BLOCKS)
    def test_round_trip(self, zero: list[bool]) -> None:
        packed, zeros = made(zero)
        manifest, read = zeromap.unpack(packed + zeros.pack(packed))
        self.assertEqual(manifest_module.unpack(packed), manifest)
        self.assertEqual(zero, shown(read, len(zero)))
        self.assertFalse(read.zero(len(zero) + 8))

    @given(BLOCKS, strategies.data())
    def test_damaged(self, zero: list[bool],
                     data: strategies.DataObject) -> None:
        """A block is never taken for zeros by mistake."""
        packed, zeros = made(zero)
        tail = bytearray(zeros.pack(packed))
        at = data.draw(strategies.integers(0, len(tail) - 1))
        tail[at] ^= 1 << data.draw(strategies.integers(0, 7))
        self.assertFalse(any(shown(zeromap.unpack(
            packed + bytes(tail))[1], len(zero))))
        cut = data.draw(strategies.integers(0, len(tail) - 1))
        self.assertFalse(any(shown(zeromap.unpack(
            packed + zeros.pack(packed)[:cut])[1], len(zero))))

    def test_map_of_another_image(self) -> None:
        packed, _ = made([False] * 9)
        _, other = made([True] * 9)
        # Though somebody sealed it.
        self.assertFalse(any(shown(zeromap.unpack(
            packed + other.pack(packed))[1], 9)))

    def test_damaged_manifest(self) -> None:
        packed, zeros = made([True, False])
        tail = zeros.pack(packed)
        for bad in (b'', packed[:100], b'?' + packed[1:] + tail,
                    packed[:80] + b'?' + packed[81:] + tail,
                    packed[:-1] + b'?' + tail):
            self.assertRaises(manifest_module.ManifestError, zeromap.unpack,
                              bad)

    def test_short_last_block(self) -> None:
        zeros = zeromap.ZeroMap()
        zeros.add(CHUNK, [(0, BLOCK), (2 * BLOCK, CHUNK)])
        zeros.add(BLOCK + 5, [(0, BLOCK)])
        self.assertEqual([False, True, False, False, False, True],
                         shown(zeros, 6))
