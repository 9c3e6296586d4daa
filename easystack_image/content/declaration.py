"""What a user says of an image before its bytes come."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from easystack_image import exceptions

#: The property that holds what the bytes' digest must be: ALGORITHM:HEX.
EXPECTED_HASH = 'easystack_expected_hash'
#: The property that tells why the last bytes of an image were refused.
ERROR = 'easystack_content_error'
#: The property that tells how far a download is, in percent.
PROGRESS = 'easystack_download_progress'

#: The digests that may be announced, and how many hexadecimal digits each
#: has.  Those that can be forged are not among them.
HASHES = {'sha256': 64, 'sha384': 96, 'sha512': 128}
GIB = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class Declaration:
    """What an image is said to be."""

    disk_format: str
    container_format: str = 'bare'
    #: In GiB, as Glance keeps it; 0 if nothing was said.
    min_disk: int = 0
    #: Whether it is for bare metal machines.
    bare_metal: bool = False
    #: Whether its data are in volumes, and none of them here: so Nova makes
    #: snapshots of servers that boot from volumes.
    volume_backed: bool = False
    #: Algorithm and hexadecimal digest, or None.
    expected_hash: tuple[str, str] | None = None


def of_image(image: Mapping[str, Any]) -> Declaration:
    """Return what an image is said to be.

    :param image: as ``GET /v2/images/{image_id}`` shows it
    :raises easystack_image.exceptions.ContentRefused: if it does not say
        what it is, or announces a digest that is none
    """
    for name in ('disk_format', 'container_format'):
        if not image.get(name):
            raise exceptions.ContentRefused(
                f'Set {name} of the image before you send its data')
    announced = image.get(EXPECTED_HASH)
    kind = str(image.get('hypervisor_type') or image.get('img_hv_type') or '')
    return Declaration(
        disk_format=str(image['disk_format']),
        container_format=str(image['container_format']),
        min_disk=int(image.get('min_disk') or 0),
        bare_metal=kind.lower().replace(' ', '') == 'baremetal',
        volume_backed=bool(image.get('block_device_mapping')),
        expected_hash=parse_hash(str(announced)) if announced else None)


def parse_hash(text: str) -> tuple[str, str]:
    """Return algorithm and digest of ``ALGORITHM:HEX``.

    :raises easystack_image.exceptions.ContentRefused: if it is malformed
    """
    algorithm, _, digest = text.strip().lower().partition(':')
    digits = HASHES.get(algorithm)
    if (digits is None or len(digest) != digits
            or not set(digest) <= set('0123456789abcdef')):
        raise exceptions.ContentRefused(
            f'{EXPECTED_HASH} must be an algorithm ({", ".join(HASHES)}), a '
            'colon, and as many hexadecimal digits as it has')
    return algorithm, digest
