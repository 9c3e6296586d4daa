"""How many copies those want who use the devices.

Each Glance leaves a note on every device when it configures the store, and
every hour that it works (``claims.json``).  So whoever wants fewer copies, by
another store or another configuration, does not remove what others made.  A
store that is configured anew replaces its note; one of a store that is no
more counts for a week.
"""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import dataclasses
import json
import logging
import socket
import time

from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module

LOG = logging.getLogger(__name__)

CLAIMS = 'claims.json'
FORMAT = 1
LIMIT = 1024 * 1024
#: Seconds for which a claim counts, and after which it is made again.
LIFE = 7 * 86400.0
AGAIN = 3600.0
#: Seconds that the clock of another host may be ahead of ours.
AHEAD = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """How many copies a store of a host wants."""

    host: str
    store: str
    copies: int
    #: When it was said last, in seconds since 1970.
    at: float

    @property
    def who(self) -> tuple[str, str]:
        """Whose claim it is."""
        return self.host, self.store

    def within(self, seconds: float) -> bool:
        """Tell whether it was made so many seconds ago, or less."""
        return -AHEAD <= time.time() - self.at <= seconds


def make(fleet: fleet_module.Fleet, store: str, copies: int) -> None:
    """Leave a claim on every device that is there.

    :param store: its name in the configuration of this host
    """
    ours = Claim(socket.gethostname(), store, copies, time.time())

    def put(device: device_module.Device) -> None:
        with contextlib.closing(device.attach(fleet.store_id)) as attached, \
                fsio.locked(attached.fd):
            there = load(attached.fd)
            # Several workers say the same.
            if not any(each.who == ours.who and each.copies == copies
                       and each.within(AGAIN / 2) for each in there):
                fsio.replace_file(CLAIMS, pack(newest([there, [ours]])),
                                  attached.fd)

    _, failures = fleet.run(put)
    for failure in failures.values():
        LOG.debug('How many copies are wanted is not noted: %s', failure)


def read(fleet: fleet_module.Fleet) -> list[Claim]:
    """Return the claims that count."""
    def get(device: device_module.Device) -> list[Claim]:
        with contextlib.closing(device.attach(fleet.store_id)) as attached:
            return load(attached.fd)

    found, _ = fleet.run(get)
    return newest(found.values())


def newest(found: Iterable[Iterable[Claim]]) -> list[Claim]:
    """Return the newest claim of each, of those that count.

    :param found: what several devices have
    """
    last: dict[tuple[str, str], Claim] = {}
    for each in sorted((each for claims in found for each in claims
                        if each.within(LIFE)), key=lambda each: each.at):
        last[each.who] = each
    return [last[who] for who in sorted(last)]


def load(fd: int) -> list[Claim]:
    """Return what a device has; one that cannot be read is as good as none.

    :param fd: its directory
    """
    try:
        return unpack(fsio.read_file(CLAIMS, fd, LIMIT))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        LOG.debug('%s is passed over: %s', CLAIMS, error)
        return []


def pack(claims: Iterable[Claim]) -> bytes:
    """Return the content of the file."""
    return json.dumps(
        {'format': FORMAT, 'claims': list(map(dataclasses.asdict, claims))},
        indent=1, sort_keys=True).encode() + b'\n'


def unpack(data: bytes) -> list[Claim]:
    """Return what a file holds.

    :raises ValueError: (or TypeError, KeyError) if it is damaged, or of
        another format
    """
    fields = json.loads(data)
    if fields['format'] != FORMAT:
        raise ValueError(f'it has format {fields["format"]!r}')
    found = [Claim(str(each['host']), str(each['store']), int(each['copies']),
                   float(each['at'])) for each in fields['claims']]
    for each in found:
        if not 1 <= each.copies <= 16:
            raise ValueError(f'copies cannot be {each.copies}')
    return found
