"""What moving copies would do; nothing is changed.

By the same plans that the work itself follows, with the devices taken to be
in the state that they would be in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import contextlib

from easystack_image import exceptions
from easystack_image.blockstore.local import balance
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import inventory
from easystack_image.blockstore.local import membership
from easystack_image.blockstore.local import work

Plans = list[balance.Plan]


class Forecast:
    """Tells what would be done to the images of a fleet."""

    def __init__(self, fleet: fleet_module.Fleet, balancer: balance.Balancer,
                 members: membership.Membership) -> None:
        self._fleet = fleet
        self._balancer = balancer
        self._membership = members

    def rebalance(self, job: work.Job) -> Plans:
        """Return what having every image where it belongs would do."""
        return self._plans(self._balancer.misplaced(
            inventory.take(self._fleet)), job)

    def drain(self, name: str, job: work.Job, force: bool = False) -> Plans:
        """Return what draining a device would do.

        :raises easystack_image.exceptions.Refused: as draining it would
        """
        path = self._membership.check_drain(name, force)
        listed = self._membership.on_device(path)
        with self._leaving(path):
            return self._plans(sorted(listed.images), job)

    def remove(self, name: str, force: str = '') -> Plans:
        """Return which copies would be given up with a device.

        :raises easystack_image.exceptions.Refused: as removing it would
        """
        target = self._membership.check_remove(name, force)
        if not target.there:
            return []
        path = target.path
        listed = self._membership.on_device(path)
        return [balance.Plan(image_id, copies[path].size, remove=(path,))
                for image_id, copies in sorted(listed.images.items())]

    def replace(self, old: str, new: str, zone: str | None,
                weight: float | None, job: work.Job) -> Plans:
        """Return which images a new device would get a copy of.

        :raises easystack_image.exceptions.ConfigurationError: as replacing
            it would
        """
        if self._membership.is_replacing(old, new):
            return self.rebalance(job)
        identity = self._membership.check_replace(old, new, zone, weight)
        target = self._membership.find(old)
        # Another device that is at its path now stays.
        leaving = '' if target.instead else target.path
        with self._leaving(leaving), self._pretending(new, identity):
            return list(self._gains(new, leaving, job))

    def _gains(self, new: str, old: str,
               job: work.Job) -> Iterator[balance.Plan]:
        listed = inventory.take(self._fleet)
        for image_id, copies in sorted(listed.images.items()):
            job.check()
            best = self._fleet.targets(image_id, self._fleet.devices)
            if new in best[:self._fleet.copies]:
                yield balance.Plan(
                    image_id, max(each.size for each in copies.values()),
                    (new,), (old,) if old in copies and old != new else ())

    def _plans(self, image_ids: Sequence[str], job: work.Job) -> Plans:
        job.progress.begin(len(image_ids), 0)
        return [plan for plan in self._each(image_ids, job) if plan]

    def _each(self, image_ids: Iterable[str],
              job: work.Job) -> Iterator[balance.Plan]:
        for image_id in image_ids:
            job.check()
            with contextlib.suppress(exceptions.ImageNotFound):
                yield self._balancer.plan(image_id)
            job.progress.advance(1, 0)

    @contextlib.contextmanager
    def _leaving(self, path: str) -> Iterator[None]:
        """Have a device taken for one that is leaving."""
        before = self._fleet.out
        self._fleet.out = before | {path}
        try:
            yield
        finally:
            self._fleet.out = before

    @contextlib.contextmanager
    def _pretending(self, path: str,
                    identity: device_module.Identity) -> Iterator[None]:
        """Have a directory taken for a device."""
        device = self._fleet.devices[path]
        self._fleet.out -= {path}
        device.pretend(identity)
        try:
            yield
        finally:
            device.forget()
