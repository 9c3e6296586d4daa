"""Canary: the new release does what users need, before they meet it."""

from __future__ import annotations

import dataclasses
from typing import Any

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.upgrade import canary as canaries
from easystack_image.ota.upgrade import work as works

#: What --force calls it, for a rollback.
FORCED = 'canary'


def canary(work: works.Work) -> dict[str, Any]:
    """Upload, download, compare and delete through the private socket.

    Whoever goes back does not wait for Keystone: that release has served
    here before.

    :raises CanaryFailed: if that does not work; in a rollback, unless the
        operator forced it
    :raises easystack_image.exceptions.NotNow: if Keystone does not work
    :raises easystack_image.exceptions.ConfigurationError: if it refuses the
        credentials
    """
    # It may have died since, or the machine was started again.
    instance = work.fleet.bring_up(work.new_name, work.target.path)
    try:
        report = canaries.run(
            instance, canaries.configured(work.settings, work.upgrade.target),
            work.settings.canary_size * settings.MIB)
    except exceptions.CanaryFailed as error:
        # Who goes back may know better: perhaps both releases fail at it.
        if work.upgrade.kind is not Kind.ROLLBACK or (
                FORCED not in work.forced):
            raise
        work.say(f'canary: {error} (ignored: the operator forced it)')
        return {'ignored': str(error)}
    except (exceptions.NotNow, exceptions.ConfigurationError) as error:
        if work.upgrade.kind is not Kind.ROLLBACK:
            raise
        work.say(f'the canary is left out: {error}')
        return {'left_out': str(error)}
    return {'report': dataclasses.asdict(report)}
