"""Small images of many formats, built field by field."""

from __future__ import annotations

import dataclasses
import struct

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SECTOR = 2048


@dataclasses.dataclass(frozen=True)
class Qcow2:
    """An empty qcow2 image; what is changed in it makes it a bad one."""

    version: int = 3
    backing_offset: int = 0
    cluster_bits: int = 16
    size: int = GIB
    encryption: int = 0
    l1_entries: int = 2
    l1_offset: int = 3 << 16
    refcount_offset: int = 1 << 16
    refcount_clusters: int = 1
    snapshots: int = 0
    features: int = 0
    refcount_order: int = 4
    length: int = 112
    compression: int = 0
    #: Extensions of the header: type and data of each.
    extensions: tuple[tuple[int, bytes], ...] = ()

    def header(self) -> bytes:
        """Return the header, without what pads it."""
        data = b'QFI\xfb' + struct.pack(
            '>IQIIQIIQQIIQ', self.version, self.backing_offset, 0,
            self.cluster_bits, self.size, self.encryption, self.l1_entries,
            self.l1_offset, self.refcount_offset, self.refcount_clusters,
            self.snapshots, 0)
        if self.version >= 3:
            data += struct.pack('>QQQIIB7x', self.features, 0, 0,
                                self.refcount_order, self.length,
                                self.compression)
        for kind, text in self.extensions:
            data += struct.pack('>II', kind, len(text)) + text + bytes(
                -len(text) % 8)
        return data

    def build(self) -> bytes:
        """Return the image: header, two tables of references, L1 table."""
        return self.header().ljust(4 << 16, b'\0')


def qcow2(**fields: object) -> bytes:
    """Return a qcow2 image; see :class:`Qcow2`."""
    return Qcow2(**fields).build()  # type: ignore[arg-type]


def iso(system_area: bytes = b'', blocks: int = 64, block: int = SECTOR,
        bootable: bool = False, identifier: bytes = b'CD001') -> bytes:
    """Return an ISO with nothing on it.

    :param system_area: the first 32 KiB, which belong to whoever boots
    :param blocks: how many it says it has
    """
    primary = bytearray(SECTOR)
    primary[:7] = b'\x01' + identifier + b'\x01'
    primary[80:88] = struct.pack('<I', blocks) + struct.pack('>I', blocks)
    primary[128:132] = struct.pack('<H', block) + struct.pack('>H', block)
    boot = b'\x00CD001\x01EL TORITO SPECIFICATION'.ljust(SECTOR, b'\0')
    end = b'\xffCD001\x01'.ljust(SECTOR, b'\0')
    parts = [system_area.ljust(32 * KIB, b'\0'), bytes(primary)]
    return b''.join([*parts, *([boot] if bootable else []), end]).ljust(
        64 * SECTOR, b'\0')


def partition(kind: int = 0x83, boot: int = 0, start: int = 2048,
              sectors: int = 2048, chs: bytes = b'\0\x02\0') -> bytes:
    """Return an entry of a partition table."""
    return bytes([boot]) + chs + bytes([kind]) + b'\xff\xff\xff' + (
        struct.pack('<II', start, sectors))


def mbr(*partitions: bytes, code: bytes = b'') -> bytes:
    """Return a boot sector with a partition table."""
    return (code.ljust(446, b'\0') + b''.join(partitions).ljust(64, b'\0')
            + b'\x55\xaa')


def disk(*partitions: bytes, code: bytes = b'') -> bytes:
    """Return a disk with a partition table, and nothing else."""
    return mbr(*partitions, code=code).ljust(MIB + 4 * KIB, b'\0')


PROTECTIVE = partition(0xEE, start=1, sectors=0xFFFFFFFF)


def vmdk_text(kind: str = 'monolithicFlat', first: str = '') -> bytes:
    """Return a VMDK whose data are in another file (CVE-2022-47951)."""
    return (f'{first}# Disk DescriptorFile\nversion=1\nCID=7b1c2d3e\n'
            f'parentCID=ffffffff\ncreateType="{kind}"\n\n'
            'RW 2048 FLAT "/etc/passwd" 0\n').encode()


def vmdk_sparse(kind: str = 'monolithicSparse') -> bytes:
    """Return the beginning of a VMDK with its data in it."""
    header = struct.pack('<4sIIQQQQIQQ', b'KDMV', 1, 3, 2048, 128, 1, 20,
                         512, 21, 26)
    text = (f'# Disk DescriptorFile\nversion=1\ncreateType="{kind}"\n'
            'RW 2048 SPARSE "x.vmdk"\n').encode()
    return (header.ljust(512, b'\0') + text.ljust(20 * 512, b'\0')).ljust(
        64 * KIB, b'\0')


def vdi() -> bytes:
    """Return the beginning of a VDI."""
    return (b'<<< Oracle VM VirtualBox Disk Image >>>\n'.ljust(64, b'\0')
            + struct.pack('<I', 0xBEDA107F)).ljust(4 * KIB, b'\0')


def vhdx() -> bytes:
    """Return the beginning of a VHDX, with an empty table of regions."""
    return (b'vhdxfile'.ljust(192 * KIB, b'\0')
            + struct.pack('<IIII', 0x69676572, 0, 0, 0)).ljust(
                320 * KIB, b'\0')


def starting(magic: bytes, size: int = 64 * KIB, at: int = 0) -> bytes:
    """Return zeros with something at the beginning of them."""
    return (bytes(at) + magic).ljust(size, b'\0')
