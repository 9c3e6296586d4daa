"""The manifest: what a copy must be, sealed.

Version 1, byte by byte.  Integers are unsigned and little-endian.

======  ======  ======================================================
offset  length  content
======  ======  ======================================================
0       8       magic, ``ESIMGMF`` and a zero byte
8       2       format version, 1
10      2       reserved, zero
12      4       length of the header, 256
16      16      image id (UUID, in the order it is written)
32      16      generation: the UUID of this very upload
48      16      set: the UUID of the set of devices
64      8       size of the image, bytes
72      4       block size, bytes
76      4       number of blocks: size / block size, rounded up
80      8       when the upload began, microseconds since 1970, UTC
88      16      md5 of the image
104     24      name of the second digest's algorithm, ASCII, zero-padded
128     4       length of the second digest, bytes (at most 64)
132     64      the second digest, zero-padded
196     60      reserved, zero
256     4 × n   CRC32C (RFC 3720, B.4) of each block, in order
...     32      seal: SHA-256 of everything before it
======  ======  ======================================================

All copies of an upload have the same manifest, bit for bit.  The last block
is short when the size is no multiple of the block size; blocks of zeros are
covered like all others, though the file may have holes there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import uuid

MAGIC = b'ESIMGMF\0'
VERSION = 1
HEADER = struct.Struct('<8sHHI16s16s16sQIIQ16s24sI64s60s')
SEAL_LENGTH = hashlib.sha256().digest_size
#: How many bytes one checksum covers.
BLOCK_SIZE = 1024 * 1024
#: The longest manifest that is read: it covers an image of 64 TiB.
MAX_LENGTH = HEADER.size + 4 * 64 * 1024 * 1024 + SEAL_LENGTH


class ManifestError(ValueError):
    """The bytes are not a sound manifest; the message says why."""


class UnknownVersionError(ManifestError):
    """The manifest is sound, and of a format that a later release wrote."""


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a manifest."""

    image_id: str
    generation: str
    store_id: str
    size: int
    created_at: float
    md5: bytes
    algorithm: str
    multihash: bytes
    #: CRC32C of each block, four bytes each.
    checksums: bytes
    block_size: int = BLOCK_SIZE

    @property
    def blocks(self) -> int:
        """How many blocks the image has."""
        return -(-self.size // self.block_size)

    def checksum(self, block: int) -> int:
        """Return the CRC32C that block number ``block`` must have."""
        return int.from_bytes(self.checksums[4 * block:4 * block + 4],
                              'little')

    def block_length(self, block: int) -> int:
        """Return the length of block number ``block``, in bytes."""
        return min(self.block_size, self.size - block * self.block_size)


def length(size: int) -> int:
    """Return how long the manifest of an image is, in bytes.

    :param size: of the image, in bytes
    """
    return HEADER.size + 4 * -(-size // BLOCK_SIZE) + SEAL_LENGTH


def peek(header: bytes) -> int:
    """Return the size of the image, without a look at the seal.

    :param header: the first bytes of a manifest
    :returns: bytes; -1 if it is no manifest of this version
    """
    if len(header) < HEADER.size or not header.startswith(
            MAGIC + VERSION.to_bytes(2, 'little')):
        return -1
    return int.from_bytes(header[64:72], 'little')


def pack(manifest: Manifest) -> bytes:
    """Return the manifest as it lies on a device."""
    algorithm = manifest.algorithm.encode('ascii')
    if len(algorithm) > 24 or len(manifest.multihash) > 64:
        raise ValueError(f'digest {manifest.algorithm} does not fit')
    if len(manifest.checksums) != 4 * manifest.blocks:
        raise ValueError('there must be one checksum per block')
    header = HEADER.pack(
        MAGIC, VERSION, 0, HEADER.size,
        uuid.UUID(manifest.image_id).bytes,
        uuid.UUID(manifest.generation).bytes,
        uuid.UUID(manifest.store_id).bytes,
        manifest.size, manifest.block_size, manifest.blocks,
        round(manifest.created_at * 1_000_000), manifest.md5, algorithm,
        len(manifest.multihash), manifest.multihash, b'')
    body = header + manifest.checksums
    return body + hashlib.sha256(body).digest()


def unpack(data: bytes) -> Manifest:
    """Return the manifest that ``data`` holds.

    :raises ManifestError: if any byte of it is not as it was sealed, or the
        format is not one that this version reads
    """
    if len(data) < HEADER.size + SEAL_LENGTH:
        raise ManifestError(f'manifest has only {len(data)} bytes')
    body, seal = data[:-SEAL_LENGTH], data[-SEAL_LENGTH:]
    if hashlib.sha256(body).digest() != seal:
        raise ManifestError('manifest does not match its seal')
    (magic, version, _, header_length, image_id, generation, store_id, size,
     block_size, blocks, created, md5, algorithm, multihash_length,
     multihash, _) = HEADER.unpack_from(body)
    if magic != MAGIC:
        raise ManifestError('not a manifest of this package')
    if version != VERSION:
        raise UnknownVersionError(
            f'manifest has format version {version}; this release reads '
            f'version {VERSION}')
    if (header_length != HEADER.size or multihash_length > len(multihash)
            or created >= 1 << 53):
        raise ManifestError('manifest contradicts itself')
    manifest = Manifest(
        image_id=str(uuid.UUID(bytes=image_id)),
        generation=str(uuid.UUID(bytes=generation)),
        store_id=str(uuid.UUID(bytes=store_id)),
        size=size, created_at=created / 1_000_000, md5=md5,
        algorithm=algorithm.rstrip(b'\0').decode('ascii', 'replace'),
        multihash=multihash[:multihash_length],
        checksums=body[header_length:], block_size=block_size)
    if not (block_size and manifest.blocks == blocks
            and len(manifest.checksums) == 4 * blocks
            and manifest.algorithm.isascii()):
        raise ManifestError('manifest contradicts itself')
    return manifest
