"""Looking at all images after every single change to a device."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import threading
from typing import Any

from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from tests.contract import local
from tests.crash import steps


class Watch:
    """Knows what images must be, and how many good copies they had.

    It looks at the files by itself; the engine is not asked.

    :param lab: where the devices are
    :param devices: of the store
    :param copies: more good copies than these need not stay
    """

    def __init__(self, lab: local.LocalLab, devices: list[str],
                 copies: int = 3) -> None:
        self._lab = lab
        self._devices = devices
        self._copies = copies
        self._data: dict[str, bytes] = {}
        self._manifests: dict[str, bytes] = {}
        self._zones: dict[str, str] = {}
        self._lock = threading.Lock()
        self.steps = 0
        #: What was wrong after some step.
        self.faults: list[str] = []

    def add(self, image_id: str, data: bytes) -> None:
        """Look after an image; some copy of it must be whole."""
        self._data[image_id] = data
        for device in self._devices:
            if self._lab.content(device, image_id) == data:
                with open(self._lab.place(device, image_id,
                                          layout.MANIFEST), 'rb') as file:
                    self._manifests[image_id] = file.read()
                return
        raise AssertionError(f'{image_id} has no whole copy')

    def forget(self, image_id: str) -> None:
        """Look after an image no more."""
        del self._data[image_id]

    def zone(self, device: str) -> str:
        """Return the zone of a device, as its identity says."""
        if device not in self._zones:
            with open(f'{self._lab.root(device)}/'
                      f'{device_module.IDENTITY}') as file:
                self._zones[device] = json.load(file)['zone']
        return self._zones[device]

    def good(self, image_id: str) -> set[str]:
        """Return the devices with a good copy of an image."""
        return {device for device in self._devices
                if self._is_good(device, image_id)}

    def _is_good(self, device: str, image_id: str) -> bool:
        if self._lab.content(device, image_id) != self._data[image_id]:
            return False
        with contextlib.suppress(OSError), open(self._lab.place(
                device, image_id, layout.MANIFEST), 'rb') as file:
            return file.read() == self._manifests[image_id]
        return False

    def zones(self, image_id: str) -> set[str]:
        """Return the zones of the good copies of an image."""
        return set(map(self.zone, self.good(image_id)))

    @contextlib.contextmanager
    def every_step(self, zones: bool = True) -> Iterator[None]:
        """See that no image has fewer good copies than when this began.

        After each change to a device; nor, if ``zones``, in fewer zones.
        """
        least = {image_id: (min(len(self.good(image_id)), self._copies),
                            min(len(self.zones(image_id)), self._copies))
                 for image_id in self._data}

        def observe(name: str, given: dict[str, Any], result: Any) -> None:
            with self._lock:
                self.steps += 1
                for image_id, (copies, areas) in least.items():
                    good = self.good(image_id)
                    if len(good) < copies or zones and len(
                            set(map(self.zone, good))) < areas:
                        self.faults.append(
                            f'after {name} {given.get("target", "")}'
                            f'{given.get("name", "")}: {image_id} is good '
                            f'on {sorted(good)} only')

        before = self.steps
        with steps.observed(observe):
            yield
        if self.faults:
            raise AssertionError('\n'.join(self.faults[:5]))
        if self.steps == before:
            raise AssertionError('nothing was changed')
