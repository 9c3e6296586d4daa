"""All devices of a set, and the state that each is in.

Those of the configuration, and those that the set remembers and the
configuration does not list.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
import contextlib
import dataclasses
import os

from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import members as members_module
from easystack_image.blockstore.local import probe

#: States of a device, besides those in its identity.
REPLACED = 'replaced'
UNAVAILABLE = 'unavailable'
UNLISTED = 'unlisted'
REMOVED = 'removed'

#: Of a device that can be read, and not be written to.
READ_ONLY = ('is mounted read-only, so no copy can be placed on it or removed '
             'from it: look for errors of its disk')


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A device of a set; sizes in bytes."""

    path: str
    #: '' if it was never seen.
    device_id: str
    zone: str
    weight: float
    #: ``active``; ``draining``; ``replaced``: another device took its place;
    #: ``unavailable``: listed in the configuration, and cannot be used;
    #: ``unlisted``: remembered, and not (or no more) at a listed path;
    #: ``removed``: it left the set, and is listed all the same.
    state: str
    #: 0 for a device that cannot be asked, as are the others.
    total: int = 0
    used: int = 0
    free: int = 0
    copies: int = 0
    #: Why it cannot be used, or not be written to.
    reason: str = ''

    @property
    def there(self) -> bool:
        """Whether it could be asked."""
        return self.total > 0

    @property
    def used_percent(self) -> float:
        """How much of what Glance may use is in use, as ``df`` tells it."""
        room = self.used + self.free
        return 100 * self.used / room if room else 0.0


def take(fleet: fleet_module.Fleet) -> list[Entry]:
    """Return all devices, first those of the configuration, in its order."""
    known = members_module.Members(fleet).known()
    read_only = probe.read_only_disks()
    found, failures = fleet.run(
        lambda device: _measure(device, fleet.store_id, read_only),
        patience=inventory.LONG)
    left, _ = fleet.run(lambda device: device_module.was_removed(device.path),
                        paths=failures)
    replaced = {member.identity.replaces for member in known.values()}
    entries = []
    for path in fleet.devices:
        if path in found:
            entry = found[path]
            entries.append(dataclasses.replace(entry, state=REPLACED)
                           if entry.device_id in replaced else entry)
        elif left.get(path):
            entries.append(Entry(path, '', '', 0.0, REMOVED,
                                 reason=failures[path].reason))
        else:
            entries.append(_absent(path, known, replaced,
                                   failures[path].reason))
    seen = {entry.device_id for entry in entries}
    for device_id, member in sorted(known.items(),
                                    key=lambda item: item[1].path):
        if device_id not in seen:
            entries.append(_remembered(
                member, REPLACED if device_id in replaced else UNLISTED,
                'not in the configuration' if member.path not in fleet.devices
                else 'another device is at its path now'
                if member.path in found else 'another device was at its path '
                'last'))
    return entries


def _absent(path: str, known: Mapping[str, members_module.Member],
            replaced: set[str], reason: str) -> Entry:
    there = [member for member in known.values() if member.path == path]
    # A predecessor at the same path may be remembered as well.
    there.sort(key=lambda member: member.identity.device_id in replaced)
    if not there:
        return Entry(path, '', '', 0.0, UNAVAILABLE, reason=reason)
    state = (REPLACED if there[0].identity.device_id in replaced
             else UNAVAILABLE)
    return _remembered(there[0], state, reason)


def _remembered(member: members_module.Member, state: str,
                reason: str) -> Entry:
    identity = member.identity
    return Entry(member.path, identity.device_id, identity.zone,
                 identity.weight, state, reason=reason)


def _measure(device: device_module.Device, store_id: str | None,
             read_only: Collection[str]) -> Entry:
    with contextlib.closing(device.attach(store_id)) as attached:
        usage = os.fstatvfs(attached.fd)
        identity = attached.identity
        return Entry(device.path, identity.device_id, identity.zone,
                     identity.weight, identity.state,
                     usage.f_blocks * usage.f_frsize,
                     (usage.f_blocks - usage.f_bfree) * usage.f_frsize,
                     usage.f_bavail * usage.f_frsize,
                     inventory.count(attached),
                     READ_ONLY if probe.is_read_only(
                         attached.fd, usage, read_only) else '')
