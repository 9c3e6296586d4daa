"""The index of a channel: which releases it has, and which are revoked.

It is a target itself, ``CHANNEL/index.json``, so it is signed, and can
neither be rolled back nor mixed with another time's.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.release import declaration as declarations

CHANNELS = ('stable', 'candidate')
NAME = 'index.json'
FORMAT = 1
#: The most bytes that an index may have.
LIMIT = 64 * 1024 * 1024
#: The end of the year 9999, in seconds since 1970.
_LATEST = 253402300799


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """What a channel offers.

    :raises easystack_image.exceptions.InvalidRelease: if it makes no sense
    """

    channel: str
    #: When it was made, in seconds since 1970.
    made: int = 0
    #: Releases below this number are not to be installed by anybody.
    floor: int = 0
    releases: tuple[declarations.Declaration, ...] = ()
    #: Why a release is revoked, by its number.
    revoked: Mapping[int, str] = dataclasses.field(default_factory=dict)
    #: How many releases there are besides, which only later updaters know.
    unknown: int = 0

    def __post_init__(self) -> None:
        numbers = [each.number for each in self.releases]
        if numbers != sorted(set(numbers)) or len(
                {each.version for each in self.releases}) != len(numbers):
            raise exceptions.InvalidRelease(
                f'the index of {self.channel} has a number or version twice, '
                'or is not sorted')
        # Later ones no calendar has.
        if not 0 <= self.made <= _LATEST or self.floor < 0:
            raise exceptions.InvalidRelease(
                f'the index of {self.channel} has an impossible time or '
                'floor')

    def all_revoked(self) -> dict[int, str]:
        """Return what is revoked here, or by one of the releases."""
        found = {number: f'revoked by release {release.version}'
                 for release in self.releases
                 for number in release.revokes}
        return {**found, **self.revoked}

    def installable(self) -> list[declarations.Declaration]:
        """Return the releases that somebody may still install."""
        revoked = self.all_revoked()
        return [each for each in self.releases if each.number >= self.floor
                and each.number not in revoked]

    def dump(self) -> bytes:
        """Return it as JSON; always the same bytes."""
        return json.dumps({
            'format': FORMAT, 'channel': self.channel, 'made': self.made,
            'floor': self.floor,
            'releases': [each.record() for each in self.releases],
            'revoked': {str(number): reason for number, reason
                        in self.revoked.items()},
        }, sort_keys=True, indent=1).encode() + b'\n'


def load(data: bytes, channel: str, *, lenient: bool = False) -> Index:
    """Read an index.

    :param channel: whose it must be
    :param lenient: whether releases of another format are left out; whoever
        writes it again must not lose them
    :raises easystack_image.exceptions.InvalidRelease: if it is malformed
    """
    try:
        record: dict[str, Any] = json.loads(data)
        if record['format'] != FORMAT:
            raise exceptions.InvalidRelease(
                f'the index of {channel} has format {record["format"]!r}, '
                f'this updater knows {FORMAT}: upgrade the updater first')
        known = [each for each in record['releases'] if not lenient
                 or each['format'] == declarations.FORMAT]
        index = Index(
            str(record['channel']), int(record['made']),
            int(record['floor']),
            tuple(map(declarations.from_record, known)),
            {int(number): str(reason) for number, reason
             in record['revoked'].items()},
            len(record['releases']) - len(known))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError,
            RecursionError) as error:
        raise exceptions.InvalidRelease(
            f'the index of {channel} is malformed ({error!r})') from None
    if index.channel != channel:
        raise exceptions.InvalidRelease(
            f'the index of {channel} says that it is that of '
            f'{index.channel!r}')
    return index


def location(path: str, sha256: str) -> str:
    """Return where a target lies in ``targets``.

    Consistent snapshots, TUF specification, section 6.2.

    :param path: the name of the target
    """
    directory, _, name = path.rpartition('/')
    return f'{directory}/{sha256}.{name}'
