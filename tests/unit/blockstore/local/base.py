"""What the tests of the local engine share."""

from __future__ import annotations

import contextlib
import os
from typing import Any
import uuid

import fixtures
import testtools

from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import engine as local_engine
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import settings as settings_module
from tests.contract import base as contract_base
from tests.contract import local
from tests.contract import sources

_IDS = uuid.UUID('d37bdb62-5f2c-49d5-b6da-1e5b8b3f6a77')
MIB = 1024 * 1024
#: Seconds after which a hung device is left alone, where a test waits for
#: that; the other devices, however busy the machine, must take less.
SHORT = 3.0

nothing_left_behind = contract_base.nothing_left_behind
eventually = contract_base.eventually
noise = sources.noise
Source = sources.Source


class LabTest(testtools.TestCase):
    """A test with four devices, and no engine yet."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.lab = self.useFixture(local.LocalLab())
        self.devices = self.lab.devices
        self._ids = 0

    def image_id(self) -> str:
        """Return a new image id, the same in every run."""
        self._ids += 1
        return str(uuid.uuid5(_IDS, f'{self.id()} {self._ids}'))

    def settings(self, **changes: Any) -> settings_module.Settings:
        """Return settings for the devices."""
        return settings_module.Settings(**{
            **self.lab.options(), 'self_repair': False, **changes})

    def fleet(self, timeout: float = 60.0) -> fleet_module.Fleet:
        """Return the devices as a fleet."""
        made = fleet_module.Fleet(self.devices, timeout)
        made.store_id = local.STORE_ID
        return made

    def names(self, device: str, directory: str) -> list[str]:
        """Return what lies in a directory of a device."""
        return sorted(os.listdir(f'{self.lab.root(device)}/{directory}'))

    def marks(self, directory: str, image_id: str = '') -> set[str]:
        """Return the marks that lie on any device."""
        if directory == 'deleted':
            directory = layout.deleted_directory(image_id)
        return {name for device in self.devices
                for name in self.names(device, directory)}


class EngineTest(LabTest):
    """A test with an engine on four devices."""

    def setUp(self) -> None:
        super().setUp()
        self.engine = self.lab.engine()

    def store(self, data: bytes, image_id: str = '',
              engine: Any = None) -> engine_module.ImageInfo:
        """Store an image."""
        made = engine or self.engine
        info: engine_module.ImageInfo = made.write(
            image_id or self.image_id(), Source(data))
        return info

    def read(self, image_id: str, *args: Any, engine: Any = None) -> bytes:
        """Return what a reader hands out."""
        reader = (engine or self.engine).open(image_id, *args)
        with contextlib.closing(reader):
            return b''.join(reader)

    def states(self, image_id: str, verify: bool = True) -> dict[str, str]:
        """Return the states of an image's copies, by device."""
        return {copy.device: copy.state.value for copy in
                self.engine.list_copies(image_id, verify=verify)}

    def reasons(self, image_id: str, verify: bool = True) -> dict[str, str]:
        """Return why copies are as they are, by device."""
        return {copy.device: copy.reason for copy in
                self.engine.list_copies(image_id, verify=verify)}

    def good(self, image_id: str) -> list[str]:
        """Return the devices whose copies of an image are good."""
        return sorted(device for device, state in
                      self.states(image_id).items() if state == 'good')

    def upload(self, info: engine_module.ImageInfo) -> layout.Upload:
        """Return which upload an image is of."""
        return layout.Upload(info.image_id, info.generation)


def engine_on(devices: list[str], **changes: Any) -> local_engine.LocalEngine:
    """Return an engine on any devices; it is not started."""
    return local_engine.LocalEngine(settings_module.Settings(**{
        'devices': devices, 'copies': min(3, len(devices)),
        'min_copies': min(2, len(devices)), 'io_timeout': 60,
        'allow_shared_disk': True, 'self_repair': False, **changes}))
