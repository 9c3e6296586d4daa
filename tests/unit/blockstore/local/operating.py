"""What the tests of operating the copies share."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Any

from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import work
from tests.contract import local
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import watch


class OperatingTest(base.LabTest):
    """A test with four devices, and two directories for others."""

    def setUp(self) -> None:
        super().setUp()
        home = os.path.dirname(self.devices[0])
        #: Directories that are configured, and no devices yet.
        self.more = [f'{home}/disk{number}' for number in (4, 5)]
        for path in self.more:
            os.mkdir(path)
        self.addCleanup(self._remove_more)
        self.all = [*self.devices, *self.more]
        self.engine = self.restart()
        self.engine.membership.remember()
        self.watch = watch.Watch(self.lab, self.all)
        self.images: dict[str, bytes] = {}

    def _remove_more(self) -> None:
        for path in self.more:
            shutil.rmtree(path, ignore_errors=True)

    def restart(self, **options: Any) -> engine_module.LocalEngine:
        """Return the engine of a process that just started."""
        return self.lab.engine(**{'devices': self.all, 'self_repair': False,
                                  **options})

    @property
    def fleet(self) -> fleet_module.Fleet:
        """The devices as the engine sees them."""
        return self.engine.fleet

    def store_some(self, count: int = 12, size: int = 3000) -> None:
        """Store images, and look after them."""
        for _ in range(count):
            image_id = self.image_id()
            data = base.noise(size, len(self.images))
            self.engine.write(image_id, base.Source(data))
            self.images[image_id] = data
            self.watch.add(image_id, data)

    def wanted(self, image_id: str) -> set[str]:
        """Return where placement wants an image."""
        return set(self.fleet.targets(image_id, self.all)[:3])

    def holders(self, image_id: str) -> set[str]:
        """Return the devices where there is something of an image."""
        return {device for device in self.all if os.path.lexists(
            self.lab.place(device, image_id))}

    def rebalance(self, job: work.Job | None = None) -> list[Any]:
        """Have every image where it belongs."""
        return self.engine.membership.rebuild(job or work.Job())

    def check_settled(self) -> None:
        """See that all images are good where they belong and nowhere else."""
        for image_id in self.images:
            self.assertEqual(self.wanted(image_id), self.holders(image_id))
            self.assertEqual(self.wanted(image_id),
                             self.watch.good(image_id))
        self.assertEqual([], self.left())

    def left(self) -> list[str]:
        """Return what lies in the tmp directories."""
        found: list[str] = []
        for device in self.all:
            with contextlib.suppress(FileNotFoundError):
                found += self.names(device, layout.TMP)
        return found

    def identity(self, device: str) -> device_module.Identity:
        """Return who a device says it is."""
        with open(f'{self.lab.root(device)}/{device_module.IDENTITY}',
                  'rb') as file:
            return device_module.Identity.unpack(file.read())

    def kill_disk(self, device: str) -> None:
        """Have a disk lost, and an empty one in its place."""
        shutil.rmtree(device)
        os.mkdir(device)

    def flip(self, device: str, image_id: str) -> None:
        """Damage a copy."""
        local.flip(self.lab.place(device, image_id, layout.DATA), 100)
