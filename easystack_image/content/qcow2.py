"""The header of a qcow2 image, which must promise nothing strange.

The format is in QEMU's ``docs/interop/qcow2.rst``; the limits are those that
``block/qcow2.c`` checks when it opens an image.  What is refused is what
would reach for other files, what QEMU would refuse later, and what would
have it allocate without need.
"""

from __future__ import annotations

import dataclasses
import struct

from easystack_image import exceptions

MAGIC = b'QFI\xfb'
#: The header of version 3, to the end of the compression type.
_LENGTH = 105
_V2_LENGTH = 72
_V3_LENGTH = 104

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION = 1, 2, 4, 8
_KNOWN_FEATURES = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION
_MAX_L1_BYTES = 32 << 20
_MAX_REFCOUNT_BYTES = 8 << 20
_MAX_SNAPSHOTS = 65536
_ENCRYPTIONS = {0: 'none', 2: 'LUKS'}
#: Extensions of the header that name other files.
_EXTENSIONS = {0xE2792ACA: 'a backing file', 0x44415441: 'a data file'}
_MAX_EXTENSIONS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """The fields that are looked at; numbers of bytes unless said."""

    version: int
    backing_file_offset: int
    cluster_bits: int
    virtual_size: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    features: int
    refcount_order: int
    length: int
    compression: int


def parse(head: bytes) -> Header:
    """Return the header of an image.

    :param head: its first bytes, at least 72 of them, or it is cut short
    :raises easystack_image.exceptions.ContentRefused: if it is cut short, or
        of an unknown version
    """
    if len(head) < _V2_LENGTH or not head.startswith(MAGIC):
        raise _refused('its header is cut short')
    (version, backing, _, cluster_bits, size, encryption, l1_entries,
     l1_offset, refcounts, refcount_clusters, snapshots, _) = struct.unpack(
        '>IQIIQIIQQIIQ', head[4:_V2_LENGTH])
    if version not in (2, 3):
        raise _refused(f'its version is {version}; known are 2 and 3')
    features, order, length, compression = 0, 4, _V2_LENGTH, 0
    if version == 3:
        if len(head) < _LENGTH:
            raise _refused('its header is cut short')
        features, _, _, order, length, compression = struct.unpack(
            '>QQQIIB', head[_V2_LENGTH:_LENGTH])
        # A header that ends before it has no compression type.
        compression = compression if length > _V3_LENGTH else 0
    return Header(version, backing, cluster_bits, size, encryption,
                  l1_entries, l1_offset, refcounts, refcount_clusters,
                  snapshots, features, order, length, compression)


def check(head: bytes, size: int | None = None) -> Header:
    """Check the header of an image, and return it.

    :param head: its first bytes
    :param size: of all of the image, if it is known
    :raises easystack_image.exceptions.ContentRefused: saying what is wrong
    """
    header = parse(head)
    _check_features(header)
    _check_other_files(header, head)
    _check_tables(header, size)
    return header


def _refused(reason: str) -> exceptions.ContentRefused:
    return exceptions.ContentRefused(f'The qcow2 image is refused: {reason}')


def _check_features(header: Header) -> None:
    if header.features & _CORRUPT:
        raise _refused('it is marked as corrupt; repair it with "qemu-img '
                       'check -r all"')
    unknown = header.features & ~_KNOWN_FEATURES
    if unknown:
        raise _refused(
            f'it needs features that are not known here (bits {unknown:#x}); '
            'convert it with "qemu-img convert -O qcow2"')
    if header.encryption not in _ENCRYPTIONS:
        raise _refused('it is encrypted in a way that QEMU no longer runs')
    if header.compression > 1 or bool(header.compression) != bool(
            header.features & _COMPRESSION):
        raise _refused('its type of compression is unknown')


def _check_other_files(header: Header, head: bytes) -> None:
    if header.backing_file_offset:
        raise _refused('it has a backing file; flatten it with "qemu-img '
                       'convert"')
    if header.features & _DATA_FILE:
        raise _refused('its data are in another file')
    position = header.length
    for _ in range(_MAX_EXTENSIONS):
        if position + 8 > min(len(head), 1 << header.cluster_bits % 64):
            return
        kind, length = struct.unpack_from('>II', head, position)
        if kind == 0:
            return
        if kind in _EXTENSIONS:
            raise _refused(f'it names the format or path of '
                           f'{_EXTENSIONS[kind]}')
        position += 8 + (length + 7 & ~7)
    raise _refused('its header has too many extensions')


def _check_tables(header: Header, size: int | None) -> None:
    if not 9 <= header.cluster_bits <= 21:
        raise _refused('its clusters are smaller than 512 bytes or larger '
                       'than 2 MiB')
    cluster = 1 << header.cluster_bits
    if header.refcount_order > 6:
        raise _refused('its reference counts are wider than 64 bits')
    if header.version == 3 and not (
            _V3_LENGTH <= header.length <= cluster
            and header.length % 8 == 0):
        raise _refused('the length of its header is wrong')
    # Each entry of the L1 table stands for a cluster full of L2 entries.
    reach = cluster * (cluster // 8)
    needed = -(-header.virtual_size // reach)
    if needed * 8 > _MAX_L1_BYTES or header.l1_entries * 8 > _MAX_L1_BYTES:
        raise _refused('its L1 table is larger than QEMU allows')
    if header.l1_entries < needed:
        raise _refused('its L1 table is too small for its virtual size')
    if not 0 < header.refcount_clusters * cluster <= _MAX_REFCOUNT_BYTES:
        raise _refused('the size of its table of reference counts is wrong')
    if header.snapshots > _MAX_SNAPSHOTS:
        raise _refused('it has more snapshots than QEMU allows')
    for what, offset, length in (
            ('L1 table', header.l1_offset, header.l1_entries * 8),
            # Its end may be a hole that a writer left out.
            ('table of reference counts', header.refcount_offset, 8)):
        if length and (offset % cluster or offset < cluster
                       or offset >= 1 << 63):
            raise _refused(f'its {what} is not where one can be')
        if length and size is not None and offset + length > size:
            raise _refused(f'its {what} lies beyond its end: the file is cut '
                           'short')
