"""Devices that do not answer, without root; tests/faults has real ones."""

from __future__ import annotations

import os
import threading
from typing import Any

import fixtures

from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module


class Hanging(fixtures.Fixture):
    """Makes whoever asks a device who it is wait, as on a disk that hangs.

    In this process; all go on when the fixture is cleaned up.
    """

    def _setUp(self) -> None:
        self.hung: dict[str, threading.Event] = {}
        real = fsio.read_file

        def read_file(name: str, dir_fd: int, limit: int) -> bytes:
            if name == device_module.IDENTITY:
                path = os.readlink(f'/proc/self/fd/{dir_fd}')
                if path in self.hung:
                    self.hung[path].wait()
            return real(name, dir_fd, limit)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.read_file', read_file))
        self.addCleanup(self._wake_all)

    def hang(self, device: Any) -> None:
        """Make a device hang, until :meth:`wake`."""
        self.hung[os.path.realpath(device)] = threading.Event()

    def wake(self, device: Any) -> None:
        """Undo :meth:`hang`; who waited goes on."""
        self.hung.pop(os.path.realpath(device)).set()

    def _wake_all(self) -> None:
        for device in list(self.hung):
            self.wake(device)
