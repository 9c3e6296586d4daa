"""What the updater has seen, so that nobody can take it back: memory.json.

TUF keeps a client from going back to older metadata, but not to an older
release that is still listed; and what has expired is up to the clock.  So the
updater remembers a floor for release numbers, which releases were revoked,
and the latest time that it can be sure of.  None of them ever goes back.
Besides, it keeps a receipt of each release that was downloaded, and was what
the signed index says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import json
import time

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home as homes
from easystack_image.ota.release import declaration as declarations

NAME = 'memory.json'
#: Whose lock is held while it changes, and never for long: that of the whole
#: directory is while something is downloaded.
_LOCKED = 'memory'
FORMAT = 1
_LIMIT = 16 * 1024 * 1024
#: By how many seconds a clock may be corrected backwards.
TOLERANCE = 300
_DAY = 86400


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What was seen so far."""

    #: A time that is certainly over, in seconds since 1970.
    seen: int = 0
    #: Releases below this number are not installed any more.
    floor: int = 0
    #: Why a release is not installed any more, by its number.
    revoked: Mapping[int, str] = dataclasses.field(default_factory=dict)
    #: The numbers of releases that were downloaded and verified, by the
    #: SHA-256 of their declarations.
    receipts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def check_clock(self, now: float) -> None:
        """Raise if the clock shows a time that is over.

        What has expired could pass for valid then.

        :raises easystack_image.exceptions.ClockSetBack: if it does
        """
        if now < self.seen - TOLERANCE:
            raise exceptions.ClockSetBack(
                f'the clock shows {_shown(now)}, but it was '
                f'{_shown(self.seen)} already: set the clock right. If it '
                'was wrong then and is right now, run "check '
                '--accept-clock" once')

    def unheard(self, now: float, days: int) -> str:
        """Return how long the repository has not been heard, or ''.

        :param days: how long it may be; 0 for any time
        """
        if not days or not self.seen or now < self.seen + days * _DAY:
            return ''
        return (f'the repository has not answered for {days} days, since '
                f'{_shown(self.seen)}: whether there are newer releases, or '
                'some were revoked, is not known here. See why "check" fails')

    def learn(self, seen: float, floor: int,
              revoked: Mapping[int, str]) -> Memory:
        """Return it with what is new; nothing is unlearned."""
        return dataclasses.replace(
            self, seen=max(self.seen, int(seen)),
            floor=max(self.floor, floor),
            revoked={**revoked, **self.revoked})

    def receive(self, release: declarations.Declaration) -> Memory:
        """Return it with the receipt of a release.

        Those of releases that must not be installed any more are forgotten.
        """
        kept = {digest: number for digest, number in self.receipts.items()
                if number >= self.floor}
        return dataclasses.replace(
            self, receipts={**kept, release.digest: release.number})


def check_made(made: int, now: float) -> None:
    """Raise if an index was made at a time that is still to come.

    :raises easystack_image.exceptions.ClockSetBack: if it was: one of two
        clocks is wrong
    """
    if now < made - TOLERANCE:
        raise exceptions.ClockSetBack(
            f'the clock shows {_shown(now)}, but what the repository offers '
            f'was made at {_shown(made)}. If the clock here is wrong, set '
            'the clock right; if it is right, it was made by a machine whose '
            'clock is ahead: those who keep the repository have to make it '
            'anew ("release add --accept-clock")')


def _shown(seconds: float) -> str:
    return time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(seconds))


def load(home: homes.Home) -> Memory:
    """Return what was seen; nothing, if the updater never ran.

    :raises easystack_image.exceptions.JournalError: if it is damaged
    """
    with home.directory('') as fd:
        try:
            data = fsio.read_file(NAME, fd, _LIMIT)
        except FileNotFoundError:
            return Memory()
    try:
        record = json.loads(data)
        if record['format'] == FORMAT:
            return Memory(int(record['seen']), int(record['floor']), {
                int(number): str(reason) for number, reason
                in record['revoked'].items()}, {
                str(digest): int(number) for digest, number
                # An updater before wrote none.
                in record.get('receipts', {}).items()})
        reason = f'it has format {record["format"]!r}'
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = repr(error)
    raise exceptions.JournalError(
        f'{home.path / NAME} is damaged ({reason}): without it, this machine '
        'could be given old releases. Restore it, or remove it if you are '
        'sure that nobody tampered with it')


def update(home: homes.Home, change: Callable[[Memory], Memory]) -> Memory:
    """Remember, durably, in one step, what a change makes of what there is.

    :returns: what that is
    :raises easystack_image.exceptions.JournalError: if it is damaged
    """
    with home.locked(_LOCKED, wait=True):
        before = load(home)
        memory = change(before)
        if memory != before:
            _save(home, memory)
        return memory


def _save(home: homes.Home, memory: Memory) -> None:
    data = json.dumps({
        'format': FORMAT, 'seen': memory.seen, 'floor': memory.floor,
        'revoked': {str(number): reason for number, reason
                    in sorted(memory.revoked.items())},
        'receipts': dict(sorted(memory.receipts.items()))},
        indent=1).encode() + b'\n'
    with home.directory('') as fd:
        fsio.replace_file(NAME, data, fd)


def raise_floor(home: homes.Home, number: int) -> None:
    """Have no release below a number installed here, ever again."""
    update(home, lambda memory: memory.learn(0, number, {}))
