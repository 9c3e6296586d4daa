"""Canary: the new release does what users need, before they meet it."""

from __future__ import annotations

import dataclasses
from typing import Any

from easystack_image.ota import settings
from easystack_image.ota.upgrade import canary as canaries
from easystack_image.ota.upgrade import work as works


def canary(work: works.Work) -> dict[str, Any]:
    """Upload, download, compare and delete through the private socket.

    :raises CanaryFailed: if that does not work
    """
    # It may have died since, or the machine was started again.
    instance = work.fleet.bring_up(work.new_name, work.target.path)
    report = canaries.run(
        instance, canaries.configured(work.settings, work.upgrade.target),
        work.settings.canary_size * settings.MIB)
    return {'report': dataclasses.asdict(report)}
