"""How the store is, as the healer saw it last.

Written to every device (``status.json``) after each of the healer's rounds,
so that whoever asks for the health of the store need not look at all images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging

from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module

LOG = logging.getLogger(__name__)

STATUS = 'status.json'
FORMAT = 1
LIMIT = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What one round of the healer found; times in seconds since 1970."""

    #: When the round ended.
    written_at: float
    #: Seconds from one round to the next.
    interval: float
    #: ``HOST:PID`` of the healer.
    healer: str
    images: int
    #: Bytes of all copies together, and what they take on the disks.
    size: int
    allocated: int
    #: Images with fewer than ``copies`` copies on devices that are there.
    below_copies: int
    #: Those of them with fewer than ``min_copies``.
    below_min_copies: int
    #: Images that are to be repaired, and those where it failed.
    waiting: int
    failing: int
    #: Copies in quarantine.
    quarantined: int
    #: Images whose copies are not where placement wants them.
    misplaced: int
    #: When the copy was verified that was not verified for longest; 0 if
    #: there is none.
    oldest_verified_at: float
    #: Since the healer started: bytes scrubbed, copies found bad, images
    #: repaired, copies moved.
    scrubbed_bytes: int
    found_bad: int
    repaired: int
    moved: int
    #: Images without a good copy on devices that are there.  Releases before
    #: it did not write it.
    lost: int = 0
    #: How many copies of each image the healer keeps; 0 if it did not say.
    copies: int = 0

    @property
    def whole(self) -> bool:
        """Whether all images have all their copies."""
        return not (self.below_copies or self.waiting or self.failing)

    def disagreement(self, copies: int) -> str:
        """Tell if the healer keeps another number of copies, or return ''.

        :param copies: how many are configured here
        """
        if self.copies in (0, copies):
            return ''
        return (f'easystack_block_copies is {copies} here, and the healer of '
                f'these devices ({self.healer}) keeps {self.copies}. '
                'Configure the same number wherever the devices are used, '
                'and restart Glance and the healer; two stores that are to '
                'differ need devices of their own')


def write(fleet: fleet_module.Fleet, status: Status) -> None:
    """Leave the status on every device that is there."""
    data = json.dumps({'format': FORMAT, **dataclasses.asdict(status)},
                      indent=1, sort_keys=True).encode() + b'\n'

    def put(device: device_module.Device) -> None:
        with contextlib.closing(device.attach(fleet.store_id)) as attached:
            fsio.replace_file(STATUS, data, attached.fd)

    _, failures = fleet.run(put)
    for failure in failures.values():
        LOG.debug('The status is not noted: %s', failure)


def read(fleet: fleet_module.Fleet) -> Status | None:
    """Return the newest status on any device, or None if there is none."""
    def get(device: device_module.Device) -> Status | None:
        with contextlib.closing(device.attach(fleet.store_id)) as attached:
            try:
                return unpack(fsio.read_file(STATUS, attached.fd, LIMIT))
            except (OSError, ValueError, TypeError) as error:
                LOG.debug('%(device)s has no status: %(error)s',
                          {'device': device.path, 'error': error})
                return None

    found, _ = fleet.run(get)
    return max((status for status in found.values() if status is not None),
               key=lambda status: status.written_at, default=None)


def unpack(data: bytes) -> Status:
    """Return the status that a file holds.

    Fields of later releases are passed over.

    :raises ValueError: (or TypeError) if it is damaged, or of another format
    """
    fields = json.loads(data)
    if not isinstance(fields, dict) or fields.pop('format', 0) != FORMAT:
        raise ValueError('not a status of this release')
    ours = {field.name for field in dataclasses.fields(Status)}
    status = Status(**{name: value for name, value in fields.items()
                       if name in ours})
    for name, value in dataclasses.asdict(status).items():
        if not isinstance(value, str if name == 'healer' else (int, float)):
            raise ValueError(f'{name} cannot be {value!r}')
    return status
