"""Whether the beginning of an image is what the image is said to be.

Recognition is that of oslo.utils, with which Glance, Nova and Cinder judge
images too, and of :mod:`signatures`.  It is at least as strict as Glance's
own check (``glance/location.py``, ``set_data``), which comes after the data
were stored and leaves them behind: what passes here passes there.
"""

from __future__ import annotations

import dataclasses
import logging

from oslo_utils.imageutils import format_inspector

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import qcow2
from easystack_image.content import rules as rules_module
from easystack_image.content import signatures

LOG = logging.getLogger(__name__)

#: How many bytes are looked at.  A VMDK descriptor may have so many; all
#: else is told by the first 320 KiB.
HEAD_SIZE = 1 << 20

#: A partition table, which is no format of its own.
_PARTITIONS = 'gpt'
#: Formats whose header tells no size, so that it is the number of bytes.
_PLAIN = ('raw', 'luks', _PARTITIONS)
#: Boot code of kernels and initial RAM disks may look like a partition table.
_BOOT_FORMATS = ('aki', 'ari')
_SECTOR = 2048
_DESCRIPTORS = 32768
_EL_TORITO = b'\x00CD001\x01EL TORITO SPECIFICATION'
_MAX_DESCRIPTORS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """What an image turned out to be."""

    #: As Glance names it; ``raw`` also for a disk with partitions.
    disk_format: str
    #: Of the disk in it, in bytes; None if that is the number of its bytes,
    #: which is not known yet.
    virtual_size: int | None


def inspect(head: bytes, declared: declaration.Declaration,
            rules: rules_module.Rules, size: int | None = None) -> Findings:
    """Judge an image by its first bytes.

    :param head: the first :data:`HEAD_SIZE` bytes, or all there are
    :param size: of all of the image in bytes, if it is known
    :raises easystack_image.exceptions.ContentRefused: if it is not what was
        declared, or not safe
    :raises easystack_image.exceptions.ContentTooLarge: if the disk in it is
        larger than allowed
    :raises easystack_image.exceptions.NoContent: if there is nothing of it
    """
    rules.check_declared(declared)
    if not head:
        return _inspect_nothing(declared)
    if len(head) < HEAD_SIZE:
        size = len(head)
    inspectors = _recognise(head)
    found = set(inspectors) | signatures.recognise(head)
    _check_format(found, declared.disk_format)
    main = _PARTITIONS if _has_no_header(declared.disk_format) else (
        declared.disk_format)
    if main in inspectors:
        _check_safety(inspectors[main], declared, rules)
    elif main != _PARTITIONS:
        raise exceptions.ContentRefused(
            f'The header of the {main} image is broken or cut short')
    if declared.disk_format == 'qcow2':
        qcow2.check(head, size)
    if declared.disk_format == 'iso':
        _check_iso(head, declared, rules)
    virtual_size = _virtual_size(inspectors.get(declared.disk_format),
                                 declared, size)
    if virtual_size is not None:
        rules.check_size(virtual_size, declared)
    return Findings(declared.disk_format, virtual_size)


def _inspect_nothing(declared: declaration.Declaration) -> Findings:
    """Judge an image without data, which Glance makes active as well.

    Nova uploads nothing to images of servers that boot from volumes, which
    is how it makes them active (``nova/image/glance.py``, ``_create_v2``).
    A raw image of no bytes is nothing else than was declared, and the public
    test suites rely on it.
    """
    if not declared.volume_backed and not _has_no_header(
            declared.disk_format):
        raise exceptions.NoContent(
            'No data came for the image. Only raw images, and those whose '
            'data are in volumes (block_device_mapping), may be without')
    return Findings(declared.disk_format, 0)


def limit(declared: declaration.Declaration,
          rules: rules_module.Rules) -> int | None:
    """Return how many bytes an image may have, None for any number."""
    return (rules.largest(declared)
            if declared.disk_format == 'iso' or _is_plain(
                declared.disk_format) else None)


def _is_plain(disk_format: str) -> bool:
    return disk_format in _PLAIN or _has_no_header(disk_format)


def _recognise(head: bytes) -> dict[str, format_inspector.FileInspector]:
    """Return the formats that oslo.utils sees, none for one it does not know.

    All of the beginning is given to each inspector at once: that of VMDK
    looks for the type in the first piece only.  One that fails has not found
    its format.  (Glance asks all of them through ``InspectWrapper``, and lets
    an image in unseen if that raises AttributeError, as it does on text that
    goes on as something else.)
    """
    found = {}
    for name, kind in format_inspector.ALL_FORMATS.items():
        inspector = kind()
        try:
            inspector.eat_chunk(head)
            inspector.finish()
            matches = name != 'raw' and inspector.format_match
        except Exception as error:
            LOG.debug('It is no %(name)s: %(error)r',
                      {'name': name, 'error': error})
            continue
        if matches:
            found[name] = inspector
    return found


def _has_no_header(disk_format: str) -> bool:
    """Tell whether a format is recognised by not being another one."""
    return (disk_format not in format_inspector.ALL_FORMATS
            or disk_format == 'raw')


def _check_format(found: set[str], declared: str) -> None:
    if not _has_no_header(declared):
        expected = {declared}
        # Hybrid ISOs boot from a USB stick as well.
        if found == expected or (declared == 'iso' and found - {
                _PARTITIONS} == expected):
            return
        if not found or found == {_PARTITIONS}:
            raise exceptions.ContentRefused(
                f'The image is said to be {declared}, but has not got its '
                f'header; if it is a plain disk, declare disk_format raw')
        if declared not in found and len(found - {_PARTITIONS}) == 1:
            raise exceptions.ContentRefused(_mismatch(found, declared))
        raise exceptions.ContentRefused(
            f'The image is several things at once ({_names(found)}); it must '
            f'be {declared} and nothing else')
    if found - {_PARTITIONS}:
        raise exceptions.ContentRefused(_mismatch(found, declared))


def _mismatch(found: set[str], declared: str) -> str:
    return (f'The image is said to be {declared}, but is '
            f'{_names(found - {_PARTITIONS})}; declare disk_format as what '
            'it is, and unpack what is compressed')


def _names(found: set[str]) -> str:
    return ', '.join(sorted(found))


def _check_safety(inspector: format_inspector.FileInspector,
                  declared: declaration.Declaration,
                  rules: rules_module.Rules) -> None:
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        failed = set(error.failures)
        if str(inspector) == _PARTITIONS:
            failed -= rules.nonfatal_checks
            if declared.disk_format in _BOOT_FORMATS:
                failed -= {'mbr'}
        if failed:
            raise exceptions.ContentRefused(
                f'The {inspector} image is not safe: ' + '; '.join(
                    f'{name}: {error.failures[name]}'
                    for name in sorted(failed))) from error
    except format_inspector.ImageFormatError as error:
        raise exceptions.ContentRefused(
            f'The {inspector} image cannot be judged: {error}') from error


def _check_iso(head: bytes, declared: declaration.Declaration,
               rules: rules_module.Rules) -> None:
    if declared.bare_metal and rules.bare_metal_iso_boots and not (
            _boots(head)):
        raise exceptions.ContentRefused(
            'The image is said to be for bare metal, but is an ISO that does '
            'not boot: it has no El Torito boot record')


def _boots(head: bytes) -> bool:
    """Tell whether an ISO has a boot record (El Torito, section 2)."""
    for number in range(_MAX_DESCRIPTORS):
        start = _DESCRIPTORS + number * _SECTOR
        descriptor = head[start:start + _SECTOR]
        if descriptor.startswith(_EL_TORITO):
            return True
        if len(descriptor) < _SECTOR or descriptor[0] == 255:
            return False
    return False


def _virtual_size(inspector: format_inspector.FileInspector | None,
                  declared: declaration.Declaration,
                  size: int | None) -> int | None:
    if inspector is None or _is_plain(declared.disk_format):
        return size
    try:
        told = inspector.virtual_size
    except Exception as error:
        # It counts on what a good image has.
        raise exceptions.ContentRefused(
            f'The size of the disk in the {inspector} image cannot be told: '
            'its header is broken') from error
    # An ISO may say more than it has, and have more than it says.
    return max(told, size or 0) if declared.disk_format == 'iso' else told
