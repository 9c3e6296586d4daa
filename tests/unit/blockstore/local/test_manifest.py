"""The manifest: format version 1 must never change."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from typing import Any
import uuid

import hypothesis
from hypothesis import strategies
import testtools

from easystack_image.blockstore.local import manifest
from tests.unit.blockstore import examples

MIB = 1024 * 1024
SAMPLE = manifest.Manifest(
    image_id='00112233-4455-6677-8899-aabbccddeeff',
    generation='0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0',
    store_id='fedcba98-7654-3210-0123-456789abcdef',
    size=2 * MIB + 3, created_at=1_700_000_000.123_457,
    md5=bytes(range(16)), algorithm='sha512',
    multihash=bytes(range(64, 128)),
    checksums=struct.pack('<III', 0x01020304, 0, 0xfffefdfc))

#: SAMPLE as it lies on a device.  A release that reads this differently, or
#: writes something else for it, cannot read the images that are out there.
GOLDEN = bytes.fromhex(
    '4553494d474d4600' '0100' '0000' '00010000'
    '00112233445566778899aabbccddeeff'
    '0f1e2d3c4b5a69788796a5b4c3d2e1f0'
    'fedcba98765432100123456789abcdef'
    '0300200000000000' '00001000' '03000000' '41222018240a0600'
    '000102030405060708090a0b0c0d0e0f'
    '736861353132' + 18 * '00' + '40000000'
    '404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f'
    '606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f'
    + 60 * '00' +
    '04030201' '00000000' 'fcfdfeff'
    '003a70ec72695545494f9c23b3602a94731eabb2df86c4b8255367af610e697d')


def sealed(body: bytes) -> bytes:
    """Return a body with the seal that belongs to it."""
    return body + hashlib.sha256(body).digest()


def patched(offset: int, value: bytes, body: bytes | None = None) -> bytes:
    """Return SAMPLE with other bytes somewhere, and a seal that matches."""
    body = manifest.pack(SAMPLE)[:-32] if body is None else body
    return sealed(body[:offset] + value + body[offset + len(value):])


uuids = strategies.uuids().map(str)


@strategies.composite
def manifests(draw: Any) -> manifest.Manifest:
    block_size = draw(strategies.sampled_from([1, 512, 4096, MIB, 1 << 31]))
    size = draw(strategies.one_of(
        strategies.integers(0, 40 * block_size),
        strategies.integers(0, 40).map(lambda count: count * block_size)))
    digest = draw(strategies.binary(min_size=1, max_size=64))
    blocks = -(-size // block_size)
    return manifest.Manifest(
        draw(uuids), draw(uuids), draw(uuids), size,
        # Until the year 2242, when a float tells no microseconds any more.
        draw(strategies.integers(0, 2 ** 33 * 1_000_000 - 1)) / 1_000_000,
        draw(strategies.binary(min_size=16, max_size=16)),
        draw(strategies.text(
            'abcdefghijklmnopqrstuvwxyz0123456789-_/', min_size=1,
            max_size=24)),
        digest,
        draw(strategies.binary(min_size=4 * blocks, max_size=4 * blocks)),
        block_size)


class FormatTest(testtools.TestCase):

    def test_golden_vector(self) -> None:
        self.assertEqual(GOLDEN.hex(), manifest.pack(SAMPLE).hex())
        self.assertEqual(SAMPLE, manifest.unpack(GOLDEN))

    def test_what_is_told_without_reading_all(self) -> None:
        data = manifest.pack(dataclasses.replace(
            SAMPLE, block_size=MIB, size=3 * MIB + 1, checksums=bytes(16)))
        self.assertEqual(3 * MIB + 1, manifest.peek(data))
        self.assertEqual(len(data), manifest.length(3 * MIB + 1))
        for other in (b'', data[:255], b'x' + data[1:],
                      data[:8] + b'\2' + data[9:]):
            self.assertEqual(-1, manifest.peek(other))

    def test_golden_vector_is_sealed(self) -> None:
        self.assertEqual(sealed(GOLDEN[:-32]), GOLDEN)

    def test_table_of_the_documentation(self) -> None:
        # Read without the module: what another program would do.
        for offset, length, expected in (
                (0, 8, b'ESIMGMF\0'), (8, 2, 1), (10, 2, 0), (12, 4, 256),
                (16, 16, uuid.UUID(SAMPLE.image_id).bytes),
                (32, 16, uuid.UUID(SAMPLE.generation).bytes),
                (48, 16, uuid.UUID(SAMPLE.store_id).bytes),
                (64, 8, 2 * MIB + 3), (72, 4, MIB), (76, 4, 3),
                (80, 8, 1_700_000_000_123_457), (88, 16, SAMPLE.md5),
                (104, 24, b'sha512' + bytes(18)), (128, 4, 64),
                (132, 64, SAMPLE.multihash), (196, 60, bytes(60)),
                (256, 4, 0x01020304), (260, 4, 0), (264, 4, 0xfffefdfc),
                (268, 32, hashlib.sha256(GOLDEN[:268]).digest())):
            field = GOLDEN[offset:offset + length]
            self.assertEqual(
                expected, field if isinstance(expected, bytes) else
                int.from_bytes(field, 'little'), offset)
        self.assertEqual(300, len(GOLDEN))

    @hypothesis.given(manifests())
    @examples(300)
    def test_round_trip(self, sample: manifest.Manifest) -> None:
        packed = manifest.pack(sample)
        unpacked = manifest.unpack(packed)
        self.assertEqual(sample, unpacked)
        # A repaired copy has the manifest of the others, bit for bit.
        self.assertEqual(packed, manifest.pack(unpacked))

    def test_empty_image(self) -> None:
        empty = dataclasses.replace(SAMPLE, size=0, checksums=b'')
        self.assertEqual(288, len(manifest.pack(empty)))
        self.assertEqual(empty, manifest.unpack(manifest.pack(empty)))

    def test_longest(self) -> None:
        # 64 TiB in blocks of 1 MiB.
        blocks = 64 * MIB
        self.assertEqual(256 + 4 * blocks + 32, manifest.MAX_LENGTH)
        self.assertEqual(64 << 40, blocks * manifest.BLOCK_SIZE)


class DamageTest(testtools.TestCase):

    def test_every_byte_with_every_other_value(self) -> None:
        for offset in range(len(GOLDEN)):
            damaged = bytearray(GOLDEN)
            for mask in range(1, 256):
                damaged[offset] = GOLDEN[offset] ^ mask
                try:
                    manifest.unpack(bytes(damaged))
                except manifest.ManifestError:
                    continue
                self.fail(f'byte {offset} with {mask:#x} was not noticed')

    def test_every_length(self) -> None:
        for length in range(len(GOLDEN)):
            self.assertRaises(manifest.ManifestError, manifest.unpack,
                              GOLDEN[:length])
            self.assertRaises(manifest.ManifestError, manifest.unpack,
                              GOLDEN[:length] + bytes(300 - length))
        for more in (b'\0', b'x' * 4, GOLDEN):
            self.assertRaises(manifest.ManifestError, manifest.unpack,
                              GOLDEN + more)

    def test_nothing_but_zeros(self) -> None:
        # What some file systems leave after a crash.
        for length in (0, 1, 287, 288, 300, 4096):
            self.assertRaises(manifest.ManifestError, manifest.unpack,
                              bytes(length))

    def test_says_what_is_wrong(self) -> None:
        for data, words in (
                (GOLDEN[:100], 'only 100 bytes'),
                (GOLDEN[:-1] + b'\0', 'seal'),
                (patched(0, b'ANOTHER\0'), 'not a manifest'),
                (patched(8, b'\2\0'), 'version 2'),
                (patched(72, bytes(4)), 'contradicts')):
            error = self.assertRaises(manifest.ManifestError,
                                      manifest.unpack, data)
            self.assertIn(words, str(error))


class SealedNonsenseTest(testtools.TestCase):
    """What another program might seal, and this one must not believe."""

    def test_later_version(self) -> None:
        for version in (0, 2, 255, 256, 65535):
            error = self.assertRaises(
                manifest.UnknownVersionError, manifest.unpack,
                patched(8, version.to_bytes(2, 'little')))
            self.assertIn(str(version), str(error))
            self.assertIn('reads version 1', str(error))

    def test_contradictions(self) -> None:
        body = GOLDEN[:-32]
        believed = []
        for name, data in (
                ('magic', patched(0, b'ESIMGMF\1')),
                ('block size 0', patched(72, bytes(4))),
                ('blocks too few', patched(76, b'\2')),
                ('blocks too many', patched(76, b'\4')),
                ('size of more blocks', patched(64, bytes(2) + b'\x31')),
                ('size of fewer blocks', patched(64, bytes(8))),
                ('a checksum less', sealed(body[:-4])),
                ('a checksum more', sealed(body + bytes(4))),
                ('a byte of a checksum less', sealed(body[:-1])),
                ('a byte more', sealed(body + b'\0')),
                ('header too long', patched(12, b'\x04\x01')),
                ('header too short', patched(12, b'\xfc\x00')),
                ('header of no length', patched(12, bytes(4))),
                ('header into the checksums', patched(
                    12, (252).to_bytes(4, 'little'), patched(
                        76, b'\4', patched(64, bytes(2) + b'\x31')[:-32])[
                            :-32])),
                ('digest longer than its field', patched(128, b'\x41')),
                ('algorithm not ASCII', patched(104, b'\xff'))):
            try:
                manifest.unpack(data)
            except manifest.ManifestError as error:
                self.assertNotIsInstance(
                    error, manifest.UnknownVersionError, name)
            except ValueError as error:
                believed.append(f'{name}: {error!r}')
            else:
                believed.append(name)
        self.assertEqual([], believed)

    @hypothesis.given(strategies.integers(8, 255),
                      strategies.binary(min_size=1, max_size=24))
    @examples(500)
    def test_any(self, offset: int, value: bytes) -> None:
        body = GOLDEN[:-32]
        body = (body[:offset] + value + body[offset + len(value):])[
            :len(body)]
        try:
            found = manifest.unpack(sealed(body))
        except manifest.ManifestError:
            return
        # Whatever is believed makes sense in itself.
        self.assertEqual(4 * found.blocks, len(found.checksums))
        self.assertLessEqual(len(found.multihash), 64)
        self.assertEqual(
            found, manifest.unpack(manifest.pack(found)))


class PackTest(testtools.TestCase):

    def test_what_does_not_fit(self) -> None:
        for fields in ({'algorithm': 'x' * 25}, {'multihash': bytes(65)},
                       {'checksums': b''}, {'checksums': bytes(13)},
                       {'size': MIB}, {'size': 3 * MIB + 1},
                       {'algorithm': 'š'}, {'image_id': 'x'}):
            self.assertRaises(
                ValueError, manifest.pack,
                dataclasses.replace(SAMPLE, **fields))

    def test_what_just_fits(self) -> None:
        for fields in ({'algorithm': 'x' * 24}, {'multihash': bytes(1)},
                       {'size': 3 * MIB}, {'size': 2 * MIB + 1}):
            sample = dataclasses.replace(SAMPLE, **fields)
            self.assertEqual(sample, manifest.unpack(manifest.pack(sample)))


class BlocksTest(testtools.TestCase):

    def test_checksum(self) -> None:
        self.assertEqual([0x01020304, 0, 0xfffefdfc],
                         [SAMPLE.checksum(block) for block in range(3)])

    def test_lengths(self) -> None:
        self.assertEqual(3, SAMPLE.blocks)
        self.assertEqual([MIB, MIB, 3], [SAMPLE.block_length(block)
                                         for block in range(3)])

    @hypothesis.given(manifests())
    @examples(100)
    def test_lengths_add_up(self, sample: manifest.Manifest) -> None:
        lengths = [sample.block_length(block)
                   for block in range(sample.blocks)]
        self.assertEqual(sample.size, sum(lengths))
        self.assertTrue(all(0 < length <= sample.block_size
                            for length in lengths))
