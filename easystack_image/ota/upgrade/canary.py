"""The canary."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from easystack_image.ota.serving import instance as instances


@dataclasses.dataclass(frozen=True, slots=True)
class CanarySettings:
    """What the canary has to know.

    :param credentials: a file of Keystone's credentials, see
        :mod:`easystack_image.ota.upgrade.keystone`; None where Glance asks
        nobody who he is
    :param release: what the instance should name in its answers; '' for
        whatever it is
    :param timeout: seconds for all of it
    """

    credentials: Path | None = None
    release: str = ''
    timeout: float = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What the canary found.

    :param release: what the instance names in its answers, '' if it does not
    :param size: bytes sent and compared
    :param seconds: that each part took, by its name
    :param swept: how many images of earlier canaries were deleted
    """

    release: str
    size: int
    seconds: dict[str, float]
    swept: int


def run(instance: instances.Instance, settings: CanarySettings,
        size: int) -> Report:
    """Use an instance as a user would, over its private socket.

    :param size: bytes of the image
    :raises easystack_image.exceptions.CanaryFailed: if it does not work
    """
    raise NotImplementedError
