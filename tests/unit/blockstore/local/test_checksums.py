"""Checksums, and finding zeros, against a model that is plain to see."""

from __future__ import annotations

import crc32c
import fixtures
import hypothesis
from hypothesis import strategies
import testtools

from easystack_image.blockstore.local import checksums
from tests.unit.blockstore import examples
from tests.unit.blockstore.local import base

BLOCK = 16


def model(data: bytes) -> list[tuple[int, int]]:
    """Return the parts that are not all zeros, block by block."""
    kept = [bool(data[begin:begin + BLOCK].strip(b'\0'))
            for begin in range(0, len(data), BLOCK)]
    runs = []
    for number, keep in enumerate(kept):
        if keep and (number == 0 or not kept[number - 1]):
            runs.append([number * BLOCK, 0])
        if keep:
            runs[-1][1] = min((number + 1) * BLOCK, len(data))
    return [(begin, end) for begin, end in runs]


#: Blocks that are often zeros, whole or but for one byte.
blocks = strategies.one_of(
    strategies.just(bytes(BLOCK)),
    strategies.binary(min_size=BLOCK, max_size=BLOCK),
    strategies.integers(0, BLOCK - 1).map(
        lambda place: bytes(place) + b'\1' + bytes(BLOCK - 1 - place)))
pieces = strategies.lists(blocks, max_size=8).map(b''.join)
tails = strategies.one_of(
    strategies.integers(0, BLOCK - 1).map(bytes),
    strategies.binary(max_size=BLOCK - 1))


class ChecksumsTest(testtools.TestCase):

    @hypothesis.given(strategies.lists(pieces, max_size=4), tails)
    @examples(300)
    def test_against_the_model(self, images: list[bytes],
                               tail: bytes) -> None:
        *others, last = images or [b'']
        table = checksums.Checksums(BLOCK)
        expected = []
        for piece in [*others, last + tail]:
            self.assertEqual(model(piece), table.add(memoryview(piece)))
            expected += [crc32c.crc32c(piece[begin:begin + BLOCK])
                         for begin in range(0, len(piece), BLOCK)]
        packed = table.pack()
        self.assertEqual(expected, [
            int.from_bytes(packed[begin:begin + 4], 'little')
            for begin in range(0, len(packed), 4)])

    def test_known_values(self) -> None:
        # RFC 3720, B.4, as this machine's words would not show it.
        table = checksums.Checksums(32)
        for data in (bytes(32), b'\xff' * 32, bytes(range(32)),
                     bytes(range(31, -1, -1))):
            table.add(memoryview(data))
        self.assertEqual('aa36918a' '43aba862' '4e79dd46' '5cdb3f11',
                         table.pack().hex())

    def test_machines_of_the_other_byte_order(self) -> None:
        table = checksums.Checksums(BLOCK)
        table.add(memoryview(base.noise(2 * BLOCK)))
        packed = table.pack()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.checksums.sys.byteorder',
            'big'))
        # Their words would be turned round, so that what lies on a device
        # is the same; the words of this machine get wrong by it.
        self.assertEqual(packed[3::-1] + packed[7:3:-1], table.pack())

    def test_runs_that_touch_are_one(self) -> None:
        table = checksums.Checksums(BLOCK)
        data = b'x' * 3 * BLOCK + bytes(2 * BLOCK) + b'x' * BLOCK + b'tail'
        self.assertEqual([(0, 3 * BLOCK), (5 * BLOCK, len(data))],
                         table.add(memoryview(data)))

    def test_runs_do_not_reach_across_calls(self) -> None:
        table = checksums.Checksums(BLOCK)
        for _ in range(2):
            self.assertEqual([(0, BLOCK)],
                             table.add(memoryview(b'x' * BLOCK)))

    def test_nothing(self) -> None:
        table = checksums.Checksums(BLOCK)
        self.assertEqual([], table.add(memoryview(b'')))
        self.assertEqual(b'', table.pack())

    def test_packing_changes_nothing(self) -> None:
        table = checksums.Checksums(BLOCK)
        table.add(memoryview(b'x' * 40))
        self.assertEqual(table.pack(), table.pack())


class ZeroTest(testtools.TestCase):

    @hypothesis.given(blocks)
    @examples(100)
    def test_is_zero(self, block: bytes) -> None:
        self.assertEqual(
            block == bytes(BLOCK),
            checksums.is_zero(memoryview(block), crc32c.crc32c(block)))

    def test_a_checksum_alone_proves_nothing(self) -> None:
        # Bytes with the checksum of zeros that are none: its linearity
        # makes them easy to find.
        length = 16
        target = crc32c.crc32c(bytes(length))
        forged = forge(b'not zeros at', target)
        self.assertEqual(length, len(forged))
        self.assertEqual(target, crc32c.crc32c(forged))
        self.assertFalse(checksums.is_zero(memoryview(forged), target))
        table = checksums.Checksums(length)
        self.assertEqual([(0, length)], table.add(memoryview(forged)))

    def test_lengths(self) -> None:
        for length in (0, 1, 15, 4096, 1 << 20):
            self.assertEqual(bytes(length), checksums.zeros(length))
            self.assertEqual(crc32c.crc32c(bytes(length)),
                             checksums.checksum_of_zeros(length))


def forge(prefix: bytes, target: int) -> bytes:
    """Return ``prefix`` and four bytes that give it a certain checksum."""
    # crc(prefix + x) is affine in the 32 bits of x: eliminate.
    base = crc32c.crc32c(prefix + bytes(4))
    rows = [(crc32c.crc32c(prefix + (1 << bit).to_bytes(4, 'little')) ^ base,
             1 << bit) for bit in range(32)]
    wanted, solution = target ^ base, 0
    for bit in reversed(range(32)):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [(row[0] ^ pivot[0], row[1] ^ pivot[1])
                if row[0] >> bit & 1 else row
                for row in rows if row is not pivot]
        if wanted >> bit & 1:
            wanted ^= pivot[0]
            solution ^= pivot[1]
    return prefix + solution.to_bytes(4, 'little')
