"""A disk image made from nothing, the same bytes each time.

It looks as a disk looks: a GUID partition table with its spare copy at the
end, an EFI system partition, and a root partition that is half written.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from pathlib import Path
import random
import struct
import uuid
import zlib

_SECTOR = 512
_MIB = 1 << 20
_ENTRIES = 128
_TABLE_SECTORS = _ENTRIES * 128 // _SECTOR

_NAMESPACE = uuid.UUID('8f9a0b6e-3a55-4d5c-9d6e-1f0f3a6c2b11')
_EFI = uuid.UUID('c12a7328-f81f-11d2-ba4b-00a0c93ec93b')
_LINUX = uuid.UUID('0fc63daf-8483-4772-8e79-3d69d8477de4')


@dataclasses.dataclass(frozen=True)
class _Partition:
    name: str
    kind: uuid.UUID
    first: int
    last: int

    def entry(self) -> bytes:
        """Return the partition's 128 bytes in the table."""
        return struct.pack(
            '<16s16sQQQ72s', self.kind.bytes_le,
            uuid.uuid5(_NAMESPACE, self.name).bytes_le, self.first, self.last,
            0, self.name.encode('utf-16-le'))


def _header(sectors: int, table: bytes, backup: bool) -> bytes:
    """Return the 512 bytes of a header; addresses are in sectors."""
    here, there = (sectors - 1, 1) if backup else (1, sectors - 1)
    entries = sectors - 1 - _TABLE_SECTORS if backup else 2

    def pack(checksum: int) -> bytes:
        return struct.pack(
            '<8sIIIIQQQQ16sQIII', b'EFI PART', 0x10000, 92, checksum, 0, here,
            there, 2 + _TABLE_SECTORS, sectors - 2 - _TABLE_SECTORS,
            uuid.uuid5(_NAMESPACE, 'disk').bytes_le, entries, _ENTRIES, 128,
            zlib.crc32(table))

    return pack(zlib.crc32(pack(0))).ljust(_SECTOR, b'\0')


def _protective_mbr(sectors: int) -> bytes:
    """Return the sector that keeps old tools away from the table."""
    entry = struct.pack('<B3sB3sII', 0, b'\x00\x02\x00', 0xee,
                        b'\xff\xff\xff', 1, sectors - 1)
    return bytes(446) + entry + bytes(48) + b'\x55\xaa'


def _content(size: int) -> Iterator[bytes]:
    """Yield the root partition: a MiB of data, a MiB of nothing, and so on."""
    numbers = random.Random(size)
    for position in range(0, size, _MIB):
        length = min(_MIB, size - position)
        yield (bytes(length) if position // _MIB % 2
               else numbers.randbytes(length))


def write(path: Path, size: int) -> None:
    """Write an image of ``size`` bytes, a whole number of MiB, at least 40."""
    sectors = size // _SECTOR
    per_mib = _MIB // _SECTOR
    partitions = [
        _Partition('EFI system', _EFI, per_mib, 33 * per_mib - 1),
        _Partition('root', _LINUX, 33 * per_mib, sectors - per_mib - 1)]
    table = b''.join(partition.entry() for partition in partitions)
    table = table.ljust(_ENTRIES * 128, b'\0')
    with path.open('wb') as file:
        file.write(_protective_mbr(sectors))
        file.write(_header(sectors, table, backup=False) + table)
        for partition in partitions:
            file.seek(partition.first * _SECTOR)
            length = (partition.last - partition.first + 1) * _SECTOR
            file.writelines(_content(length))
        file.seek((sectors - 1 - _TABLE_SECTORS) * _SECTOR)
        file.write(table + _header(sectors, table, backup=True))
