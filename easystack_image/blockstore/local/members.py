"""Who belongs to the set, also while a device is away.

Every device keeps the identities of all that were ever seen, in
``members.json``: the zone and the weight of a disk that died are still known
when it is replaced, and a missing disk can be named.  It is a memory, not the
truth, which lies on the devices themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
import contextlib
import dataclasses
import hashlib
import json
import logging
import time
from typing import Any

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module

LOG = logging.getLogger(__name__)

MEMBERS = 'members.json'
FORMAT = 1
LIMIT = 4 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A device, as it was seen last."""

    path: str
    identity: device_module.Identity


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """What one device remembers."""

    #: When it was written, in seconds since the epoch.
    written_at: float = 0.0
    #: By device id.
    members: Mapping[str, Member] = dataclasses.field(default_factory=dict)
    #: Ids of devices that left the set: others that were away then do not
    #: bring them back.
    gone: frozenset[str] = frozenset()

    def same(self, other: Memory) -> bool:
        """Tell whether both remember the same."""
        return (self.members, self.gone) == (other.members, other.gone)


class Members:
    """What the devices of a fleet remember of each other."""

    def __init__(self, fleet: fleet_module.Fleet) -> None:
        self._fleet = fleet

    def known(self) -> dict[str, Member]:
        """Return all members by device id, those there as they are now.

        This process knows those that are away as well from now on, so that
        placement leaves them their images.
        """
        return self.call()[0]

    def call(self) -> tuple[dict[str, Member], dict[str, Member]]:
        """Return all members, as :meth:`known`, and those that are there.

        Both by device id.
        """
        merged, here = self._merge('')
        return dict(merged.members), here

    def _merge(self, forget: str) -> tuple[Memory, dict[str, Member]]:
        found, failures = self._fleet.run(
            lambda device: _look(device, self._fleet.store_id))
        self._fleet.without_clones(found, failures, lambda answer: answer[1])
        here = {identity.device_id: Member(path, identity)
                for path, (_memory, identity) in found.items()}
        merged = merge([memory for memory, _identity in found.values()],
                       here, forget)
        self._recall(merged.members, here)
        if any(memory.members for memory, _present in found.values()):
            self._fleet.remembered = True
        return merged, here

    def _recall(self, members: Mapping[str, Member],
                here: Mapping[str, Member]) -> None:
        """Have this process know the devices that are away."""
        self._fleet.replaced = frozenset(
            member.identity.replaces for member in members.values()) - {''}
        present = {member.path for member in here.values()}
        for path, device in self._fleet.devices.items():
            if path in present:
                continue
            if device.known is not None and device.known.device_id in here:
                # Its disk is mounted elsewhere now.
                device.forget()
            if device.known is None:
                with contextlib.suppress(exceptions.ConfigurationError):
                    member = last_at(members, path)
                    device.pretend(member.identity)

    def refresh(self, forget: str = '') -> dict[str, Member]:
        """Have every device that is there remember all of them.

        :param forget: the id of a device that is no member any more
        :returns: the members by device id
        """
        memory, _here = self._merge(forget)

        def write(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                if not _recollect(attached).same(memory):
                    fsio.replace_file(MEMBERS, write_down(memory),
                                      attached.fd)

        written, failures = self._fleet.run(write)
        for failure in failures.values():
            LOG.debug('The members are not noted: %s', failure)
        self._fleet.remembered |= bool(written)
        return dict(memory.members)


def merge(memories: Iterable[Memory], here: Mapping[str, Member],
          forget: str = '') -> Memory:
    """Return what several devices remember together.

    :param here: the devices that are there, by their ids
    :param forget: the id of a device that is no member any more
    """
    merged: dict[str, Member] = {}
    gone: set[str] = set()
    # What was written last counts.
    for memory in sorted(memories, key=lambda each: each.written_at):
        merged |= memory.members
        gone |= memory.gone
    gone -= set(here)
    gone |= {forget} - {''}
    merged = {device_id: member
              for device_id, member in {**merged, **here}.items()
              if device_id not in gone}
    return Memory(time.time(), merged, frozenset(gone))


def _look(device: device_module.Device, store_id: str | None,
          ) -> tuple[Memory, device_module.Identity]:
    with contextlib.closing(device.attach(store_id)) as attached:
        return _recollect(attached), attached.identity


def recall(path: str) -> Memory:
    """Return what the device at a path remembers.

    :raises easystack_image.exceptions.DeviceUnavailable: if it is no device
    """
    with contextlib.closing(device_module.Device(path, 0.0).attach()
                            ) as attached:
        return _recollect(attached)


def _recollect(attached: device_module.Attached) -> Memory:
    """Return what a device remembers; nothing, if that is damaged."""
    try:
        return read_back(fsio.read_file(MEMBERS, attached.fd, LIMIT))
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, TypeError, KeyError) as error:
        # The others remember as well, and it is written anew.
        LOG.warning('%(device)s/%(file)s is not used: %(error)s',
                    {'device': attached.path, 'file': MEMBERS,
                     'error': error})
        return Memory()


def write_down(memory: Memory) -> bytes:
    """Return the content of the file.

    A JSON object: ``format`` (1), ``written_at``, ``members`` (with the
    fields of their identities, and ``path``), ``gone`` (a list of ids), and
    ``sha256``, the SHA-256 in hexadecimal of the object without that field,
    with sorted keys and without white space.
    """
    fields: dict[str, Any] = {
        'format': FORMAT, 'written_at': memory.written_at,
        'gone': sorted(memory.gone),
        'members': [{'path': member.path,
                     **dataclasses.asdict(member.identity)}
                    for _, member in sorted(memory.members.items())]}
    fields['sha256'] = _digest(fields)
    return json.dumps(fields, indent=1, sort_keys=True).encode() + b'\n'


def _digest(fields: Mapping[str, object]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def read_back(data: bytes) -> Memory:
    """Return what a file remembers.

    :raises ValueError: (or KeyError, TypeError) if it is damaged, or of
        another format
    """
    fields = json.loads(data)
    if fields['format'] != FORMAT:
        raise ValueError(f'it has format {fields["format"]!r}')
    if fields.pop('sha256') != _digest(fields):
        raise ValueError('it is damaged')
    members = [Member(entry.pop('path'), device_module.Identity(**entry))
               for entry in fields['members']]
    return Memory(fields['written_at'],
                  {member.identity.device_id: member for member in members},
                  frozenset(fields['gone']))


def all_at(members: Mapping[str, Member], path: str,
           here: Collection[str] = ()) -> list[Member]:
    """Return the members that were seen at a path last.

    More than one, if another device was prepared where one had died, or if
    one that was replaced came back.

    :param here: ids of the devices that are there
    """
    there = [member for member in members.values() if member.path == path]
    # Not the one that the other took the place of, if that was cut short.
    replaced = {member.identity.replaces for member in there} - {*here}
    return [member for member in there
            if member.identity.device_id not in replaced]


def last_at(members: Mapping[str, Member], path: str,
            here: Collection[str] = ()) -> Member:
    """Return the member that was seen at a path.

    :param here: ids of the devices that are there
    :raises easystack_image.exceptions.ConfigurationError: if there is none,
        or more than one
    """
    there = all_at(members, path, here)
    if not there:
        known = ', '.join(sorted(member.path for member in members.values()))
        raise exceptions.ConfigurationError(
            f'no device of the set has the path or the id {path}; name one '
            f'of: {known}')
    if len(there) > 1:
        ids = sorted((member.identity.device_id for member in there),
                     key=lambda each: each not in here)
        raise exceptions.ConfigurationError(
            f'{len(there)} devices of the set are remembered at {path}; '
            'name one by its id: ' + ', '.join(
                f'{each} ({"is there" if each in here else "is away"})'
                for each in ids))
    return there[0]
