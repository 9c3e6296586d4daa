"""Which devices are there, and whether they are who they should be."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterator, Mapping
import contextlib
import dataclasses
import errno
import functools
import os

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import probe
from easystack_image.blockstore.local import problems

Kind = problems.Kind
Problem = problems.Problem


@dataclasses.dataclass(frozen=True, slots=True)
class _Present:
    """A device that answered."""

    identity: device_module.Identity
    disk: str
    read_only: bool
    #: What is wrong with its list of members, or ''.
    members: str


@dataclasses.dataclass(frozen=True, slots=True)
class Roll:
    """What came of calling all devices."""

    found: list[Problem]
    #: The devices that belong to the set and can be asked, by path.
    usable: list[str]


def call(fleet: fleet_module.Fleet, allow_shared_disk: bool) -> Roll:
    """Ask every device who it is.

    The set is the one that most devices belong to; the fleet is told.

    :param allow_shared_disk: whether devices may share a disk
    """
    present, failures = fleet.run(functools.partial(
        _who, probe.read_only_disks()))
    found = [*_absent(fleet, failures)]
    ours = {path: each for path, each in present.items()
            if each.identity.store_id == _set(fleet, present)}
    for path, each in present.items():
        if path not in ours:
            fleet.devices[path].forget()
            found.append(Problem(
                Kind.FOREIGN_DEVICE, 'it belongs to another set of devices, '
                f'{each.identity.store_id}', path))
    for first, path in _clones(ours):
        fleet.devices[path].forget()
        del ours[path]
        found.append(Problem(Kind.CLONED_DEVICE,
                             f'it is the same device as {first}', path))
    if ours:
        fleet.store_id = next(iter(ours.values())).identity.store_id
        found += _conditions(fleet, ours, allow_shared_disk)
        found += _remembered(fleet, ours)
    return Roll(found, list(ours))


def _who(read_only: Collection[str],
         device: device_module.Device) -> _Present:
    with contextlib.closing(device.attach()) as attached:
        usage = os.fstatvfs(attached.fd)
        wrong = ''
        try:
            members.read_back(fsio.read_file(members.MEMBERS, attached.fd,
                                             members.LIMIT))
        except FileNotFoundError:
            # None was written yet.
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            wrong = str(error)
        return _Present(attached.identity, device_module.disk_of(device.path),
                        probe.is_read_only(attached.fd, usage, read_only),
                        wrong)


def _absent(fleet: fleet_module.Fleet,
            failures: Mapping[str, exceptions.DeviceError],
            ) -> Iterator[Problem]:
    kinds, _ = fleet.run(
        lambda device: _absence(device.path),
        paths=[path for path, failure in failures.items()
               if kind_of(failure) is Kind.FAILED_DEVICE
               and not isinstance(failure, exceptions.DeviceTimeout)])
    for path, failure in failures.items():
        yield Problem(kinds.get(path, kind_of(failure)), failure.reason, path)


def _absence(path: str) -> Kind:
    # Where there is an identity file, it is that which is wrong.
    if os.path.lexists(f'{path}/{device_module.IDENTITY}'):
        return Kind.DAMAGED_IDENTITY
    return (Kind.REMOVED_DEVICE if device_module.was_removed(path)
            else Kind.MISSING_DEVICE)


def kind_of(failure: exceptions.DeviceError) -> Kind:
    """Return what kind of problem it is that a device does not answer."""
    return (Kind.DENIED_DEVICE if failure.errno in (errno.EACCES, errno.EPERM)
            else Kind.FAILED_DEVICE)


def _set(fleet: fleet_module.Fleet,
         present: Mapping[str, _Present]) -> str | None:
    """Return the set that the devices should belong to."""
    counts = collections.Counter(
        present[path].identity.store_id for path in fleet.devices
        if path in present)
    # The first one of the most common, as the configuration has them.
    return fleet.store_id or max(counts, key=counts.__getitem__,
                                 default=None)


def _clones(present: Mapping[str, _Present]) -> list[tuple[str, str]]:
    """Return pairs of paths that have one device's identity."""
    first: dict[str, str] = {}
    found = []
    for path, each in present.items():
        owner = first.setdefault(each.identity.device_id, path)
        if owner != path:
            found.append((owner, path))
    return found


def _conditions(fleet: fleet_module.Fleet, present: Mapping[str, _Present],
                allow_shared_disk: bool) -> Iterator[Problem]:
    disks: dict[str, str] = {}
    for path, each in present.items():
        if each.read_only:
            yield Problem(Kind.READ_ONLY_DEVICE, 'it is mounted read-only',
                          path)
        if each.members:
            yield Problem(Kind.DAMAGED_MEMBERS,
                          f'{members.MEMBERS}: {each.members}', path)
        other = disks.setdefault(each.disk, path)
        if other != path and not allow_shared_disk:
            yield Problem(Kind.SHARED_DISK,
                          f'it lies on the same disk as {other}', path)
        successors = [path for path, other in present.items()
                      if other.identity.replaces == each.identity.device_id]
        for successor in successors:
            yield Problem(Kind.REPLACED_DEVICE,
                          f'{successor} takes its place', path)


def _remembered(fleet: fleet_module.Fleet,
                present: Mapping[str, _Present]) -> Iterator[Problem]:
    """Compare with what the devices remember of each other."""
    ids = {each.identity.device_id for each in present.values()}
    for device_id, member in members.Members(fleet).known().items():
        if device_id in ids:
            continue
        now = present.get(member.path)
        if now is None and member.path not in fleet.devices:
            yield Problem(
                Kind.UNKNOWN_DEVICE,
                f'the set has a device {device_id}, last at {member.path}, '
                'that is not in the configuration')
        elif now is not None and now.identity.replaces != device_id:
            yield Problem(
                Kind.EXCHANGED_DEVICE,
                f'it is {now.identity.device_id}; the device that was here, '
                f'{device_id}, is not there', member.path)
