"""Formats that are told by their first bytes, beside those of oslo.utils.

An image that is said to be raw must be nothing that QEMU would take for
something else if it were asked to guess (the ``*_probe`` functions in QEMU's
``block/``), because some day somebody will ask it.  Nor may it be an archive
or a compressed file, in which a small file hides a large one, or another
format.
"""

from __future__ import annotations

import re

#: Offset in bytes, bytes, name of the format.
_MAGIC = (
    # What QEMU knows.  oslo.utils sees some of it only in whole headers, so
    # a header that is cut short would pass as raw.
    (0, b'QFI\xfb', 'qcow'),
    (0, b'QED\x00', 'qed'),
    (0, b'KDMV', 'vmdk'),
    (0, b'COWD', 'vmdk'),
    (0, b'conectix', 'vhd'),
    (0, b'vhdxfile', 'vhdx'),
    (0, b'LUKS\xba\xbe', 'luks'),
    (0x40, b'\x7f\x10\xda\xbe', 'vdi'),
    (0, b'WithoutFreeSpace', 'parallels'),
    (0, b'WithouFreSpacExt', 'parallels'),
    (0, b'Bochs Virtual HD Image', 'bochs'),
    (0, b'#!/bin/sh\n#V2.0 Format\nmodprobe cloop', 'cloop'),
    # Archives and compressed files.
    (0, b'\x1f\x8b', 'gzip'),
    (0, b'\x1f\x9d', 'compress'),
    (0, b'BZh', 'bzip2'),
    (0, b'\xfd7zXZ\x00', 'xz'),
    (0, b'\x28\xb5\x2f\xfd', 'zstd'),
    (0, b'\x04\x22\x4d\x18', 'lz4'),
    (0, b'LZIP', 'lzip'),
    (0, b'\x89LZO\x00', 'lzop'),
    (0, b'PK\x03\x04', 'zip'),
    (0, b'PK\x05\x06', 'zip'),
    (0, b'7z\xbc\xaf\x27\x1c', '7z'),
    (0, b'Rar!\x1a\x07', 'rar'),
    (0, b'MSCF\x00\x00\x00\x00', 'cab'),
    (0, b'MSWIM\x00\x00\x00', 'wim'),
    (0, b'xar!', 'xar'),
    (0, b'070701', 'cpio'),
    (0, b'070702', 'cpio'),
    (0, b'070707', 'cpio'),
    (0, b'!<arch>\n', 'ar'),
    (257, b'ustar', 'tar'),
)
#: Names that oslo.utils has for the same.
_SAME = {'qcow': 'qcow2'}
#: A VMDK whose data are in other files is a text, of which so much is looked
#: at, in bytes.  QEMU skips comments and empty lines before the version.
_TEXT = 65536
_VMDK_KEYS = (b'version', b'createtype', b'cid', b'parentcid')
#: An LZMA file without a magic: properties, a dictionary of a usual size,
#: and either no known size or a reasonable one.
_LZMA = re.compile(rb'\x5d\x00\x00[\x00-\xff]{2}(?:\xff{8}|[\x00-\xff]{5}'
                   rb'\x00{3})', re.DOTALL)


def recognise(head: bytes) -> set[str]:
    """Return the formats that the beginning of an image shows.

    :param head: the first bytes; 64 KiB suffice
    """
    found = {_SAME.get(name, name) for offset, magic, name in _MAGIC
             if head.startswith(magic, offset)}
    if _is_text_vmdk(head[:_TEXT]):
        found.add('vmdk')
    if _LZMA.match(head):
        found.add('lzma')
    return found


def _is_text_vmdk(head: bytes) -> bool:
    """Tell whether lines of text come first, and one is of a VMDK."""
    for line in head.split(b'\n'):
        line = line.strip().lower()
        if line.startswith(b'#'):
            if line[1:].split() == [b'disk', b'descriptorfile']:
                return True
        elif line:
            key = line.partition(b'=')[0].strip()
            return b'=' in line and key in _VMDK_KEYS
    return False
