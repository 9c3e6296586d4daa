"""What serves after the machine was started: the current slot."""

from __future__ import annotations

import time

from easystack_image import exceptions
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import launcher as launcher_module
from easystack_image.ota.slots import slots as slots_module

#: Seconds between two looks.
_PACE = 0.1


def boot(launcher: launcher_module.Launcher, slot: slots_module.Slot,
         timeout: float) -> instance_module.Instance:
    """Have an instance of a slot serve; return when it does.

    One that serves already, or is about to, is left as it is: this may be
    called again, and beside an upgrade.

    :param slot: the current one
    :param timeout: seconds
    :raises InstanceError: if it does not serve in that time
    """
    deadline = time.monotonic() + timeout
    there = {started.name: started.slot for started in launcher.list()}
    for name, path in there.items():
        instance = launcher.instance(name)
        if path == slot.path and instance.place.gate.exists():
            break
    else:
        # Those of upgrades are numbered from 1 on.
        name = f'{slot.release.version}.0'
        while name in there and launcher.instance(name).place.leaving.exists():
            # It was told to leave when the service was stopped.
            name += '0'
        instance = launcher.start(name, slot.path)
    while not instance.loaded:
        if time.monotonic() > deadline:
            raise exceptions.InstanceError(
                f'instance {instance.name} does not load the application '
                f'within {timeout:g} s; what it says is in its log')
        time.sleep(_PACE)
    instance.serve(max(0.0, deadline - time.monotonic()))
    return instance
