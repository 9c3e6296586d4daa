"""Devices that come, leave, and take the place of others."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import balance
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import members as members_module
from easystack_image.blockstore.local import provision
from easystack_image.blockstore.local import roster
from easystack_image.blockstore.local import wording
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A device that something is to be done to."""

    #: How it was named: by its path, or by its id.
    name: str
    #: Where it is, or where it was seen last.
    path: str
    identity: device_module.Identity
    #: Whether it is there.
    there: bool
    #: The id of another device that is at its path instead, or ''.
    instead: str


class Membership:
    """Changes which devices a set has.

    Devices are named by their paths, or by their ids: of two that were seen
    at one path (a disk died, and another device was prepared in its place),
    the path tells only which one is there now.

    :param allow_shared_disk: whether devices may share a disk
    """

    def __init__(self, fleet: fleet_module.Fleet,
                 balancer: balance.Balancer,
                 allow_shared_disk: bool) -> None:
        self._fleet = fleet
        self._balancer = balancer
        self._members = members_module.Members(fleet)
        self._allow_shared_disk = allow_shared_disk

    def add(self, path: str, zone: str | None = None,
            weight: float = 1.0) -> None:
        """Prepare a device and have it join the set.

        It takes new images from now on, and its share of the others when
        they are rebalanced.

        :param path: one of the devices of the configuration, empty
        :param zone: what fails together, by default the device alone
        :raises easystack_image.exceptions.ConfigurationError: if it cannot
            be prepared
        """
        known, here = self._members.call()
        provision.refuse_remembered(known, here, [path],
                                    self._fleet.timeout)
        self._prepare(path, device_module.new_identity(
            self._store_id(), zone, weight))

    def find(self, name: str) -> Target:
        """Return the device that has a name: a path or an id.

        :raises easystack_image.exceptions.ConfigurationError: if there is
            none, or the path does not tell which one
        """
        known, here = self._members.call()
        member = known.get(name) or members_module.last_at(known, name, here)
        device_id = member.identity.device_id
        instead = [each for each, other in here.items()
                   if other.path == member.path and each != device_id]
        return Target(name, member.path, member.identity, device_id in here,
                      ''.join(instead))

    def path_of(self, name: str) -> str:
        """Return the path of a device that is named by its path or its id.

        Of one that was replaced and is forgotten: that of its successor.
        """
        for device_id, member in self._members.known().items():
            if name in (device_id, member.identity.replaces):
                return member.path
        return name

    def _place(self, name: str) -> str:
        """Return the path at which a device is to be changed.

        :raises easystack_image.exceptions.ConfigurationError: if it cannot
            be at a path of the configuration, or the path does not tell
            which one is meant
        :raises easystack_image.exceptions.DeviceUnavailable: if it is named
            by its id, and is not there
        """
        known, here = self._members.call()
        member = known.get(name)
        if member is None:
            self._configured(name)
            if len(members_module.all_at(known, name, here)) > 1:
                members_module.last_at(known, name, here)
            return name
        if name not in here:
            raise exceptions.DeviceUnavailable(
                member.path, f'the device {name} is not there')
        return member.path

    def _store_id(self) -> str:
        if self._fleet.store_id is None:
            raise exceptions.BlockStoreError('the engine is not started')
        return self._fleet.store_id

    def _prepare(self, path: str, identity: device_module.Identity) -> None:
        self._configured(path)
        self._check_directory(path)
        provision.prepare(path, identity, self._fleet.timeout)
        self._members.refresh()

    def _check_directory(self, path: str) -> None:
        """Refuse a directory that cannot become a device."""
        provision.check_unused(path, self._fleet.timeout)
        provision.ask([path], provision.refuse_nested, self._fleet.timeout)
        self._check_disk(path)

    def _check_disk(self, path: str) -> None:
        """Refuse a device on a disk that another one is on."""
        if not self._allow_shared_disk:
            attached, _ = self._fleet.attach()
            for each in attached.values():
                each.close()
            disks, failures = self._fleet.run(
                lambda device: device_module.disk_of(device.path),
                paths={*attached, path})
            if path in failures:
                raise failures[path]
            device_module.refuse_shared(disks)

    def _configured(self, path: str) -> None:
        if path not in self._fleet.devices:
            raise exceptions.ConfigurationError(
                f'{path!r} is not among the devices of the store '
                f'({", ".join(self._fleet.devices)}): add it to '
                'easystack_block_devices first')

    def remember(self) -> None:
        """Have every device that is there remember all of them."""
        self._members.refresh()

    def drain(self, name: str, force: bool = False) -> str:
        """Have no more copies placed on a device; see :meth:`empty`.

        :param name: its path or its id
        :param force: whether to do so even if too few others remain
        :returns: its path
        :raises easystack_image.exceptions.Refused: if fewer devices would
            remain than an image has copies
        :raises easystack_image.exceptions.DeviceError: if the device cannot
            be written
        """
        path = self.check_drain(name, force)
        self._members.refresh()
        self._set_state(path, device_module.DRAINING)
        return path

    def check_drain(self, name: str, force: bool = False) -> str:
        """Raise what :meth:`drain` would; change nothing."""
        path = self._place(name)
        rest = [other for other, device in self._fleet.devices.items()
                if other != path and device.known is not None
                and not self._fleet.leaving(other)]
        if len(rest) < self._fleet.copies and not force:
            raise exceptions.Refused(
                f'{name} cannot be drained: {len(rest)} other devices '
                f'would be left for {self._fleet.copies} copies: add a '
                f'device first (or drain it in spite of that with "--force '
                f'{name}")')
        return path

    def activate(self, name: str) -> str:
        """Have copies placed on a device again that was being drained.

        :param name: its path or its id
        :returns: its path
        :raises easystack_image.exceptions.Refused: if another device took
            its place
        :raises easystack_image.exceptions.DeviceError: if the device cannot
            be written
        """
        path = self.check_activate(name)
        self._set_state(path, device_module.ACTIVE)
        return path

    def check_activate(self, name: str) -> str:
        """Raise what :meth:`activate` would; change nothing."""
        path = self._place(name)
        known, here = self._members.call()
        for device_id, member in here.items():
            # One at the same path is told by its id.
            successors = [other.identity.device_id if other.path == path
                          else other.path for other in known.values()
                          if other.identity.replaces == device_id]
            if member.path == path and successors:
                raise exceptions.Refused(
                    f'{successors[0]} took the place of {name}, which takes '
                    f'no more copies: "device remove {name}" takes it from '
                    'the set; emptied, it may be added anew')
        return path

    def _set_state(self, path: str, state: str) -> None:
        def write(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                changed = dataclasses.replace(attached.identity, state=state)
                if changed != attached.identity:
                    device_module.write_identity(attached.fd, changed)
            # Has this process know it, too.
            device.attach(self._fleet.store_id).close()

        try:
            self._on(path, write)
        except exceptions.DeviceError as error:
            if error.errno != errno.EROFS:
                raise
            raise exceptions.DeviceError(
                path, f'{roster.READ_ONLY}, and mount it for writing; or '
                'unmount it, and replace it ("device replace"): its images '
                'are copied from the other devices', errno.EROFS) from error
        self._members.refresh()

    def _on(self, path: str, function: fleet_module.DeviceFunction) -> None:
        _, failures = self._fleet.run(function, paths=[path])
        for failure in failures.values():
            raise failure

    def on_device(self, path: str) -> inventory.Inventory:
        """Return what lies on one device.

        :raises easystack_image.exceptions.ImageUnavailable: if it cannot be
            asked
        """
        return inventory.take(self._fleet, [path])

    def empty(self, path: str, job: work.Job) -> int:
        """Move all copies from a device that is being drained.

        :returns: how many copies stay on it, because they could not be moved
        :raises easystack_image.exceptions.Interrupted: when it is to end;
            call again to go on
        """
        self._members.known()
        self.move_away(path, job)
        # What was uploaded before all processes knew.
        return len(self.on_device(path).images)

    def move_away(self, path: str, job: work.Job) -> list[balance.Plan]:
        """Settle the images on a device; return what was done.

        :raises easystack_image.exceptions.Interrupted: as :meth:`empty`
        """
        listed = self.on_device(path)
        job.progress.begin(len(listed.images), listed.size())
        return self._balancer.run(sorted(listed.images), job)

    def remove(self, name: str, force: str = '') -> Target:
        """Have a device leave the set.

        Nothing on it is deleted; only its identity file is renamed, so that
        it can be brought back by hand.

        :param name: its path or its id
        :param force: the same once more, to remove a device on which there
            are copies, or one that is away while images lack copies
        :returns: the device
        :raises easystack_image.exceptions.Refused: if images would have
            fewer copies than before
        """
        target = self.check_remove(name, force)
        if target.there:
            def rename(device: device_module.Device) -> None:
                with contextlib.closing(device.attach(
                        self._fleet.store_id)) as attached:
                    fsio.rename(device_module.IDENTITY,
                                device_module.REMOVED,
                                attached.fd, attached.fd)
                    fsio.fsync(attached.fd)

            self._on(target.path, rename)
            self._fleet.devices[target.path].forget()
        self._members.refresh(forget=target.identity.device_id)
        return target

    def check_remove(self, name: str, force: str = '') -> Target:
        """Raise what :meth:`remove` would; change nothing.

        :returns: the device
        """
        target = self.find(name)
        if force != name:
            self._refuse_loss(target)
        return target

    def _attached(self, path: str) -> device_module.Identity | None:
        """Return the identity of a device, or None if it is not there."""
        def look(device: device_module.Device) -> device_module.Identity:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return attached.identity

        found, _ = self._fleet.run(
            look, paths=[path] if path in self._fleet.devices else [])
        return found.get(path)

    def _refuse_loss(self, target: Target) -> None:
        name = target.name
        if target.there:
            count = len(self.on_device(target.path).images)
            if count:
                raise exceptions.Refused(
                    f'{name} holds copies of {wording.count(count, "image")}: '
                    f'drain it first (or lose them with "--force {name}")')
            return
        listed = inventory.take(self._fleet)
        lacking = sum(len(copies) < self._fleet.copies
                      for copies in listed.images.values())
        if lacking:
            raise exceptions.Refused(
                f'{name} is away, and without it there are fewer than '
                f'{self._fleet.copies} copies of '
                f'{wording.count(lacking, "image")}: bring it back, '
                'replace it, or repair them first (or give its copies up '
                f'with "--force {name}")')
        # An image may have its last copies on devices that are all away, and
        # is not seen then.
        others = self._others_away(target)
        if others:
            raise exceptions.Refused(
                f'{name} is away, as is {" and ".join(others)}: which '
                'images they have cannot be told. Bring one of them back (or '
                f'give the copies up with "--force {name}")')

    def _others_away(self, target: Target) -> list[str]:
        """Return which devices at paths of the configuration are away, too.

        Of one at whose path another device is now, the id.
        """
        known, here = self._members.call()
        taken = {member.path for member in here.values()}
        return sorted(
            member.identity.device_id if path in taken else path
            for path in self._fleet.devices
            for member in members_module.all_at(known, path, here)
            if member.identity.device_id not in
            {*here, target.identity.device_id})

    def replace(self, old: str, new: str, zone: str | None = None,
                weight: float | None = None) -> bool:
        """Have a new device take the place of another.

        It takes over the images of the old one, wherever their other copies
        are, and no others; :meth:`rebuild` copies them.  The old device, if
        it is still there, is read from and drained.

        :param old: the path or the id of the old device, even if it is gone
        :param new: the path of the new one, empty; may be the same
        :param zone: of the new device, by default that of the old one
        :param weight: of the new device, by default that of the old one
        :returns: whether the old one stays a member, to be removed
        :raises easystack_image.exceptions.ConfigurationError: if the new
            device cannot be prepared, or the old one is not known
        """
        identity = self._attached(new)
        if identity is None or not self.is_replacing(old, new):
            identity = self._successor(old, new, zone, weight)
            self._prepare(new, identity)
        before = self._members.known().get(identity.replaces)
        if before is None or before.path == new:
            # Only now: until it is replaced, it is the one to be replaced.
            self._members.refresh(forget=identity.replaces)
            return False
        with contextlib.suppress(exceptions.DeviceError):
            # If it is away, it is known by its successor as replaced.
            self._set_state(self._place(identity.replaces),
                            device_module.DRAINING)
        return True

    def is_replacing(self, old: str, new: str) -> bool:
        """Tell whether a device is prepared already to replace another."""
        self._configured(new)
        identity = self._attached(new)
        if identity is None or not identity.replaces:
            return False
        member = self._members.known().get(identity.replaces)
        return old == identity.replaces or (
            old == new if member is None else member.path == old)

    def check_replace(self, old: str, new: str, zone: str | None = None,
                      weight: float | None = None) -> device_module.Identity:
        """Raise what :meth:`replace` would; change nothing.

        :returns: who the new device would be
        """
        identity = self._successor(old, new, zone, weight)
        self._check_directory(new)
        return identity

    def _successor(self, old: str, new: str, zone: str | None,
                   weight: float | None) -> device_module.Identity:
        """Return the identity of a device that replaces another."""
        self._configured(new)
        target = self.find(old)
        was = target.identity
        known, here = self._members.call()
        for member in known.values():
            if member.identity.replaces == was.device_id:
                raise exceptions.ConfigurationError(
                    f'{old} was replaced already, by {member.path}')
        if target.instead and new == target.path:
            raise exceptions.ConfigurationError(
                f'another device of the set, {target.instead}, is at {new}: '
                'name an empty directory for the new one; or have the old '
                f'one forgotten, with "device remove {was.device_id}", and '
                '"rebalance"')
        provision.refuse_remembered(known, {*here, was.device_id}, [new],
                                    self._fleet.timeout)
        identity = device_module.new_identity(
            self._store_id(), zone or was.zone,
            was.weight if weight is None else weight)
        return dataclasses.replace(
            identity, placement_key=was.placement_key or was.device_id,
            replaces=was.device_id)

    def rebuild(self, job: work.Job) -> list[balance.Plan]:
        """Have every image where it belongs; return what was done.

        :raises easystack_image.exceptions.Interrupted: when it is to end;
            call again to go on
        """
        # So that devices that are away are known, and keep their images.
        self._members.known()
        listed = inventory.take(self._fleet)
        todo = self._balancer.misplaced(listed)
        job.progress.begin(len(todo), sum(
            max((entry.size for entry in listed.images[image_id].values()),
                default=0) for image_id in todo))
        return self._balancer.run(todo, job)
