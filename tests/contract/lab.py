"""What the suite needs to do to an engine, besides using it."""

from __future__ import annotations

import abc
from typing import Any

import fixtures

from easystack_image.blockstore import engine


class Lab(fixtures.Fixture, abc.ABC):
    """An engine's devices, and the means to do harm to them.

    There are four devices, each in a zone of its own; the engine keeps three
    copies and needs two.  Devices are named as the engine names them.
    """

    #: What the engine is called.
    name: str
    #: The unit in which the engine verifies, in bytes.
    block_size: int
    #: How much the engine asks of a source at most, in bytes; a multiple of
    #: the block size.
    chunk_size: int
    #: The names of all devices.
    devices: list[str]

    @abc.abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the options that make an engine on these devices."""

    @abc.abstractmethod
    def engine_class(self) -> type[engine.Engine]:
        """Return the class of the engine."""

    @abc.abstractmethod
    def failing_options(self) -> dict[str, Any]:
        """Return options that cannot work, whatever the devices."""

    def engine(self, **options: Any) -> engine.Engine:
        """Return one more engine on the same devices, started.

        It repairs and sweeps only when it is told to, unless ``options`` say
        otherwise; it is closed with the laboratory.
        """
        made = self.engine_class().from_options(
            {**self.options(), 'self_repair': False, **options})
        self.addCleanup(made.close)
        made.start()
        return made

    @abc.abstractmethod
    def housekeeping(self, made: engine.Engine) -> None:
        """Have an engine do now what it does now and then."""

    @abc.abstractmethod
    def content(self, device: str, image_id: str) -> bytes | None:
        """Return the bytes of a copy as they lie there, or None.

        Works for a device that is away as well.
        """

    def holders(self, image_id: str) -> list[str]:
        """Return the devices that have a copy, those that are away too."""
        return [device for device in self.devices
                if self.content(device, image_id) is not None]

    @abc.abstractmethod
    def damage(self, device: str, image_id: str, offset: int) -> None:
        """Change one byte of a copy, unnoticed."""

    @abc.abstractmethod
    def drop(self, device: str, image_id: str) -> None:
        """Make a copy vanish without a trace."""

    @abc.abstractmethod
    def take_away(self, device: str) -> None:
        """Make a device unreachable, at once, for every engine."""

    @abc.abstractmethod
    def bring_back(self, device: str) -> None:
        """Undo :meth:`take_away`."""

    @abc.abstractmethod
    def fill(self, device: str) -> None:
        """Leave no room on a device."""

    @abc.abstractmethod
    def make_room(self, device: str) -> None:
        """Undo :meth:`fill`."""

    @abc.abstractmethod
    def put_aside(self, image_id: str) -> int:
        """Return how many copies of an image were put aside so far."""

    @abc.abstractmethod
    def leftovers(self) -> list[str]:
        """Return whatever lies on the devices and belongs to no image."""
