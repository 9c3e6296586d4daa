"""Images that must be refused.

Each says what it declares, and what the refusal must say.
"""

from __future__ import annotations

import bz2
import dataclasses
import functools
import gzip
import io
import lzma
import tarfile
from typing import Any
import zipfile

from tests.corpus import formats
from tests.corpus.formats import GIB
from tests.corpus.formats import KIB
from tests.corpus.formats import qcow2


@dataclasses.dataclass(frozen=True)
class Bad:
    """An image that must be refused."""

    name: str
    disk_format: str
    data: bytes
    #: A regular expression for what is told.
    why: str
    #: More of what the image declares.
    properties: dict[str, Any] = dataclasses.field(default_factory=dict)


def _qcow2() -> list[Bad]:
    """Return qcow2 images that promise something strange."""
    huge = 2048 * GIB
    other = [
        # CVE-2015-1850 and its kin: bytes of the host become the guest's.
        ('backing file', {'backing_offset': 200}, 'backing.?file'),
        ('backing file, version 2', {'version': 2, 'backing_offset': 200},
         'backing.?file'),
        ('backing format', {'extensions': ((0xE2792ACA, b'raw'),)},
         'a backing file'),
        # CVE-2024-32498.
        ('data file', {'features': 4}, 'data_file|another file'),
        ('name of a data file', {'extensions': (
            (0x44415441, b'json:{"driver":"file"}'),)}, 'a data file'),
        ('data file among extensions', {'extensions': (
            (0x6803F857, bytes(48)), (0x12345678, b'x' * 13),
            (0x44415441, b'/etc/passwd'))}, 'a data file'),
        ('many extensions', {'extensions': ((1, b''),) * 100},
         'too many extensions'),
        ('extended L2', {'features': 16}, 'unknown_features'),
        ('unknown feature', {'features': 1 << 40}, 'unknown_features'),
        ('highest feature', {'features': 1 << 63}, 'unknown_features'),
        ('corrupt', {'features': 2}, 'marked as corrupt'),
        ('version 1', {'version': 1}, 'version'),
        ('version 4', {'version': 4}, 'version'),
        ('version 0', {'version': 0}, 'version'),
        ('AES', {'encryption': 1}, 'encrypted'),
        ('unknown encryption', {'encryption': 77}, 'encrypted'),
        ('unknown compression', {'features': 8, 'compression': 9},
         'compression'),
        ('compression without its feature', {'compression': 1},
         'compression'),
        ('clusters of 256 bytes', {'cluster_bits': 8}, 'clusters'),
        ('clusters of 4 MiB', {'cluster_bits': 22}, 'clusters'),
        ('clusters of 2^4294967295', {'cluster_bits': 0xFFFFFFFF},
         'clusters'),
        ('virtual size 2^63', {'size': 1 << 63}, 'L1 table'),
        ('virtual size 2^64 - 1', {'size': (1 << 64) - 1}, 'L1 table'),
        ('virtual size above the cap', {
            'size': huge + 512, 'l1_entries': 4097}, 'allowed are at most'),
        ('L1 table too small', {'size': 100 * GIB}, 'L1 table is too small'),
        ('L1 table of 32 GiB', {'l1_entries': 0xFFFFFFFF}, 'L1 table'),
        ('L1 table behind the end', {'l1_offset': 1 << 40},
         'cut short'),
        ('L1 table in the header', {'l1_offset': 0}, 'where one can be'),
        ('L1 table askew', {'l1_offset': (3 << 16) + 8},
         'where one can be'),
        ('L1 table at 2^63', {'l1_offset': 1 << 63}, 'where one can be'),
        ('no reference counts', {'refcount_clusters': 0},
         'reference counts'),
        ('reference counts of 256 TiB', {'refcount_clusters': 0xFFFFFFFF},
         'reference counts'),
        ('reference counts behind the end', {'refcount_offset': 1 << 50},
         'cut short'),
        ('reference counts of 2^7 bits', {'refcount_order': 7},
         'reference counts'),
        ('header of 8 bytes', {'length': 8}, 'length of its header'),
        ('header of 4 GiB', {'length': 0xFFFFFFF8}, 'length of its header'),
        ('header of odd length', {'length': 109}, 'length of its header'),
        ('snapshots', {'snapshots': 0xFFFFFFFF}, 'snapshots')]
    found = [Bad(f'qcow2: {name}', 'qcow2', qcow2(**fields), why)
             for name, fields, why in other]
    found.append(Bad('qcow2: larger than min_disk', 'qcow2',
                     qcow2(size=2 * GIB, l1_entries=4), 'min_disk to 2',
                     {'min_disk': 1}))
    # Those that end within their first sector look like nothing to
    # oslo.utils.
    return found + [
        Bad(f'qcow2: {length} bytes', 'qcow2', qcow2()[:length],
            'not got its header|cut short')
        for length in (3, 4, 20, 71, 72, 100, 511)]


def _raw() -> list[Bad]:
    """Return images of other formats, said to be raw."""
    clothes = [
        ('qcow2', qcow2(), 'qcow2'),
        ('qcow2 with a backing file', qcow2(backing_offset=200), 'qcow2'),
        ('qcow2, 8 bytes', qcow2()[:8], 'qcow2'),
        ('qed', formats.starting(b'QED\0'), 'qed'),
        ('vmdk', formats.vmdk_sparse(), 'vmdk'),
        ('vmdk, ESX', formats.starting(b'COWD'), 'vmdk'),
        # CVE-2022-47951.
        ('vmdk, text', formats.vmdk_text(), 'vmdk'),
        ('vmdk, text behind comments', formats.vmdk_text(
            first='\n#!/bin/sh\n\n# hello\n'), 'vmdk'),
        ('vmdk, text behind 60 KiB of comments', formats.vmdk_text(
            first='# nothing\n' * 6000), 'vmdk'),
        ('vmdk, only a version', b'version=1\n', 'vmdk'),
        ('vhd', formats.starting(b'conectix'), 'vhd'),
        ('vhdx', formats.vhdx(), 'vhdx'),
        ('vdi', formats.vdi(), 'vdi'),
        ('luks', formats.starting(b'LUKS\xba\xbe\0\x01'), 'luks'),
        ('luks 2', formats.starting(b'LUKS\xba\xbe\0\x02'), 'luks'),
        ('parallels', formats.starting(b'WithoutFreeSpace'), 'parallels'),
        ('parallels, extended', formats.starting(b'WithouFreSpacExt'),
         'parallels'),
        ('bochs', formats.starting(b'Bochs Virtual HD Image\0'), 'bochs'),
        ('cloop', formats.starting(
            b'#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0'), 'cloop'),
        ('iso', formats.iso(), 'iso'),
        ('udf', formats.iso(identifier=b'NSR02'), 'iso'),
        ('hybrid iso', formats.iso(formats.mbr(formats.partition())),
         'iso')]
    return [Bad(f'raw: {name}', 'raw', data, f'is {what}')
            for name, data, what in clothes]


def _archives() -> list[Bad]:
    """Return compressed files and archives, some of them bombs."""
    zeros = bytes(16 << 20)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('disk.raw', zeros)
    ova = io.BytesIO()
    with tarfile.open(fileobj=ova, mode='w') as tar:
        member = tarfile.TarInfo('disk.vmdk')
        member.size = 4 * KIB
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    files = [
        ('gzip', gzip.compress(zeros)), ('bzip2', bz2.compress(zeros)),
        ('xz', lzma.compress(zeros)),
        ('lzma', lzma.compress(zeros, format=lzma.FORMAT_ALONE)),
        ('zip', packed.getvalue()), ('tar', ova.getvalue()),
        ('zstd', formats.starting(b'\x28\xb5\x2f\xfd')),
        ('lz4', formats.starting(b'\x04\x22\x4d\x18')),
        ('7z', formats.starting(b'7z\xbc\xaf\x27\x1c')),
        ('cpio', formats.starting(b'070701')),
        ('wim', formats.starting(b'MSWIM\0\0\0'))]
    return [Bad(f'{name} said to be {declared}', declared, data,
                f'is {name}' if declared == 'raw' else 'header|is ')
            for name, data in files for declared in ('raw', 'qcow2')]


def _isos() -> list[Bad]:
    """Return ISOs that are none, or something else as well."""
    return [
        Bad('iso: empty', 'iso', b'', 'No data'),
        Bad('iso: zeros', 'iso', bytes(KIB * 64), 'header'),
        Bad('iso: cut short', 'iso', formats.iso()[:32 * KIB + 100],
            'header'),
        Bad('iso: qcow2', 'iso', qcow2(), 'is qcow2'),
        Bad('iso: a disk', 'iso', formats.disk(formats.partition()),
            'header'),
        Bad('iso: also qcow2', 'iso', formats.iso(
            formats.Qcow2().header()), 'several things'),
        Bad('iso: also vmdk', 'iso', formats.iso(formats.vmdk_text()),
            'several things'),
        Bad('iso: also vdi', 'iso', formats.iso(formats.vdi()[:512]),
            'several things'),
        Bad('iso: also gzip', 'iso', formats.iso(b'\x1f\x8b\x08'),
            'several things'),
        Bad('iso: 256 TiB', 'iso', formats.iso(
            blocks=0xFFFFFFFF, block=0xFFFF), 'allowed are at most'),
        Bad('iso: larger than min_disk', 'iso', formats.iso(
            blocks=1 << 20), 'min_disk to 2', {'min_disk': 1}),
        Bad('iso: does not boot bare metal', 'iso', formats.iso(),
            'does not boot', {'hypervisor_type': 'baremetal'})]


def _several() -> list[Bad]:
    """Return what is several things at once, and broken partition tables."""
    qcow2_mbr = bytearray(qcow2())
    qcow2_mbr[510:512] = b'\x55\xaa'
    qcow2_iso = bytearray(qcow2())
    qcow2_iso[32 * KIB:34 * KIB] = formats.iso()[32 * KIB:34 * KIB]
    tables = [
        ('boot flag', [formats.partition(boot=0x42)]),
        ('no partitions', []),
        ('GPT and more', [formats.PROTECTIVE, formats.partition()]),
        ('GPT that starts elsewhere', [
            formats.partition(0xEE, start=2)]),
        ('GPT with wrong CHS', [
            formats.partition(0xEE, start=1, chs=b'\x01\x01\0')])]
    return [
        Bad('qcow2 and a disk', 'qcow2', bytes(qcow2_mbr),
            'several things'),
        Bad('qcow2 and a disk, said to be raw', 'raw', bytes(qcow2_mbr),
            'is qcow2'),
        Bad('qcow2 and an iso', 'qcow2', bytes(qcow2_iso),
            'several things'),
        Bad('qcow2 and an iso, said to be iso', 'iso', bytes(qcow2_iso),
            'several things'),
        Bad('nothing', 'qcow2', b'', 'No data'),
        *(Bad(f'partition table: {name}', 'raw', formats.disk(*entries),
              'gpt image is not safe') for name, entries in tables),
        Bad('vmdk, which is not allowed', 'vmdk', formats.vmdk_sparse(),
            'not allowed here'),
        Bad('raw in a container', 'raw', b'data', 'not allowed here',
            {'container_format': 'ova'})]


@functools.cache
def corpus() -> list[Bad]:
    """Return all of them."""
    return [*_qcow2(), *_raw(), *_archives(), *_isos(), *_several()]
