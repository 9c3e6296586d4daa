"""What a deployer allows images to be."""

from __future__ import annotations

import dataclasses

from easystack_image import exceptions
from easystack_image.content import declaration


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """Which images are let in."""

    disk_formats: frozenset[str] = frozenset({'iso', 'qcow2', 'raw'})
    container_formats: frozenset[str] = frozenset({'bare'})
    #: How large the disk in an image may be, in bytes.
    max_virtual_size: int = 2048 * declaration.GIB
    #: Whether the disk must fit on one of the size that min_disk says.
    check_min_disk: bool = True
    #: Whether an ISO for bare metal machines must be bootable.
    bare_metal_iso_boots: bool = True
    #: Checks of partition tables that may fail, as Glance's option
    #: [image_format] gpt_safety_checks_nonfatal has them.
    nonfatal_checks: frozenset[str] = frozenset()

    def check_declared(self, declared: declaration.Declaration) -> None:
        """Check what can be judged before any byte was seen.

        :raises easystack_image.exceptions.ContentRefused: naming what is
            allowed
        """
        for what, name, allowed in (
                ('container_format', declared.container_format,
                 self.container_formats),
                ('disk_format', declared.disk_format, self.disk_formats)):
            if name not in allowed:
                raise exceptions.ContentRefused(
                    f'Images of {what} {name} are not allowed here; allowed '
                    f'are: {", ".join(sorted(allowed))}')

    def largest(self, declared: declaration.Declaration) -> int:
        """Return how large the disk in an image may be, in bytes."""
        if self.check_min_disk and declared.min_disk:
            return min(self.max_virtual_size,
                       declared.min_disk * declaration.GIB)
        return self.max_virtual_size

    def check_size(self, size: int,
                   declared: declaration.Declaration) -> None:
        """Check how large the disk in an image is.

        :param size: in bytes
        :raises easystack_image.exceptions.ContentTooLarge: naming the limit
        """
        if size <= self.largest(declared):
            return
        if size > self.max_virtual_size:
            raise exceptions.ContentTooLarge(
                f'The disk in the image has {size} bytes; allowed are at '
                f'most {self.max_virtual_size}')
        raise exceptions.ContentTooLarge(
            f'The disk in the image has {size} bytes, which do not fit on '
            f'the {declared.min_disk} GiB that min_disk says; set min_disk '
            f'to {-(-size // declaration.GIB)} or more')
