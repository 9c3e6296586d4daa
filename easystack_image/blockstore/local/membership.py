"""Devices that come, leave, and take the place of others."""

from __future__ import annotations

import contextlib
import dataclasses
import logging

from easystack_image import exceptions
from easystack_image.blockstore.local import balance
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import fsio
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import members as members_module
from easystack_image.blockstore.local import work

LOG = logging.getLogger(__name__)

#: What the identity file of a device that left the set is called.
REMOVED = device_module.IDENTITY + '.removed'


class Membership:
    """Changes which devices a set has.

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
        self._prepare(path, device_module.new_identity(
            self._store_id(), zone, weight))

    def _store_id(self) -> str:
        if self._fleet.store_id is None:
            raise exceptions.BlockStoreError('the engine is not started')
        return self._fleet.store_id

    def _prepare(self, path: str, identity: device_module.Identity) -> None:
        self._configured(path)
        device_module.check_unused(path)
        self._check_disk(path)
        device_module.initialise(path, identity)
        self._members.refresh()

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

    def drain(self, path: str, force: bool = False) -> None:
        """Have no more copies placed on a device; see :meth:`empty`.

        :param force: whether to do so even if too few others remain
        :raises easystack_image.exceptions.Refused: if fewer devices would
            remain than an image has copies
        :raises easystack_image.exceptions.DeviceError: if the device cannot
            be written
        """
        self.check_drain(path, force)
        self._members.refresh()
        self._set_state(path, device_module.DRAINING)

    def check_drain(self, path: str, force: bool = False) -> None:
        """Raise what :meth:`drain` would; change nothing."""
        self._configured(path)
        self._members.known()
        rest = [other for other, device in self._fleet.devices.items()
                if other != path and device.known is not None
                and not self._fleet.leaving(other)]
        if len(rest) < self._fleet.copies and not force:
            raise exceptions.Refused(
                f'{path} cannot be drained: {len(rest)} other devices '
                f'would be left for {self._fleet.copies} copies: add a '
                f'device first (or drain it in spite of that with "--force '
                f'{path}")')

    def activate(self, path: str) -> None:
        """Have copies placed on a device again that was being drained.

        :raises easystack_image.exceptions.DeviceError: if the device cannot
            be written
        """
        self._configured(path)
        self._set_state(path, device_module.ACTIVE)

    def _set_state(self, path: str, state: str) -> None:
        def write(device: device_module.Device) -> None:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                changed = dataclasses.replace(attached.identity, state=state)
                if changed != attached.identity:
                    device_module.write_identity(attached.fd, changed)
            # Has this process know it, too.
            device.attach(self._fleet.store_id).close()

        self._on(path, write)
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

    def remove(self, path: str, force: str = '') -> None:
        """Have a device leave the set.

        Nothing on it is deleted; only its identity file is renamed, so that
        it can be brought back by hand.

        :param force: the path once more, to remove a device on which there
            are copies, or one that is away while images lack copies
        :raises easystack_image.exceptions.Refused: if images would have
            fewer copies than before
        """
        member = members_module.last_at(self._members.known(), path)
        if self.check_remove(path, force):
            def rename(device: device_module.Device) -> None:
                with contextlib.closing(device.attach(
                        self._fleet.store_id)) as attached:
                    fsio.rename(device_module.IDENTITY, REMOVED,
                                attached.fd, attached.fd)
                    fsio.fsync(attached.fd)

            self._on(path, rename)
            self._fleet.devices[path].forget()
        self._members.refresh(forget=member.identity.device_id)

    def check_remove(self, path: str, force: str = '') -> bool:
        """Raise what :meth:`remove` would; change nothing.

        :returns: whether the device is there
        """
        members_module.last_at(self._members.known(), path)
        there = self._attached(path) is not None
        if force != path:
            self._refuse_loss(path, there)
        return there

    def _attached(self, path: str) -> device_module.Identity | None:
        """Return the identity of a device, or None if it is not there."""
        def look(device: device_module.Device) -> device_module.Identity:
            with contextlib.closing(device.attach(
                    self._fleet.store_id)) as attached:
                return attached.identity

        found, _ = self._fleet.run(
            look, paths=[path] if path in self._fleet.devices else [])
        return found.get(path)

    def _refuse_loss(self, path: str, there: bool) -> None:
        if there:
            count = len(self.on_device(path).images)
            if count:
                raise exceptions.Refused(
                    f'{path} holds copies of {count} images: drain it first '
                    f'(or lose them with "--force {path}")')
            return
        listed = inventory.take(self._fleet)
        lacking = sum(len(copies) < self._fleet.copies
                      for copies in listed.images.values())
        if lacking:
            raise exceptions.Refused(
                f'{path} is away, and {lacking} images have fewer than '
                f'{self._fleet.copies} copies without it: bring it back, '
                'replace it, or repair them first (or give its copies up '
                f'with "--force {path}")')
        # An image may have its last copies on devices that are all away, and
        # is not seen then.
        others = sorted({member.path for member
                         in self._members.known().values()
                         if member.path != path
                         and member.path in listed.failures})
        if others:
            raise exceptions.Refused(
                f'{path} is away, as is {" and ".join(others)}: which '
                'images they have cannot be told. Bring one of them back (or '
                f'give the copies up with "--force {path}")')

    def replace(self, old: str, new: str, zone: str | None = None,
                weight: float | None = None) -> None:
        """Have a new device take the place of another.

        It takes over the images of the old one, wherever their other copies
        are, and no others; :meth:`rebuild` copies them.  The old device, if
        it is still there, is read from and drained.

        :param old: the path of the old device, even if it is gone
        :param new: the path of the new one, empty; may be the same
        :param zone: of the new device, by default that of the old one
        :param weight: of the new device, by default that of the old one
        :raises easystack_image.exceptions.ConfigurationError: if the new
            device cannot be prepared, or the old one is not known
        """
        identity = self._attached(new)
        if identity is None or not self.is_replacing(old, new):
            identity = self._successor(old, new, zone, weight)
            self._prepare(new, identity)
        if old == new:
            # Only now: until it is replaced, it is the one to be replaced.
            self._members.refresh(forget=identity.replaces)
        if old != new and old in self._fleet.devices:
            with contextlib.suppress(exceptions.DeviceError):
                # If it is away, it is known by its successor as replaced.
                self._set_state(old, device_module.DRAINING)

    def is_replacing(self, old: str, new: str) -> bool:
        """Tell whether a device is prepared already to replace another."""
        self._configured(new)
        identity = self._attached(new)
        if identity is None or not identity.replaces:
            return False
        member = self._members.known().get(identity.replaces)
        return old == new if member is None else member.path == old

    def check_replace(self, old: str, new: str, zone: str | None = None,
                      weight: float | None = None) -> device_module.Identity:
        """Raise what :meth:`replace` would; change nothing.

        :returns: who the new device would be
        """
        identity = self._successor(old, new, zone, weight)
        device_module.check_unused(new)
        self._check_disk(new)
        return identity

    def _successor(self, old: str, new: str, zone: str | None,
                   weight: float | None) -> device_module.Identity:
        """Return the identity of a device that replaces another."""
        self._configured(new)
        members = self._members.known()
        was = members_module.last_at(members, old).identity
        for member in members.values():
            if member.identity.replaces == was.device_id:
                raise exceptions.ConfigurationError(
                    f'{old} was replaced already, by {member.path}')
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
