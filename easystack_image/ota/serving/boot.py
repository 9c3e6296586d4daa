"""What serves after the machine was started: the current slot."""

from __future__ import annotations

from collections.abc import Callable
import logging
import time

from easystack_image import exceptions
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import launcher as launcher_module
from easystack_image.ota.slots import slots as slots_module

LOG = logging.getLogger(__name__)

#: Seconds between two looks.
_PACE = 0.1
#: Seconds before it is tried again, at first and at most.
_SOON, _LATE = 1.0, 30.0


def boot(launcher: launcher_module.Launcher, slot: slots_module.Slot,
         timeout: float) -> instance_module.Instance:
    """Have an instance of a slot serve; return when it does.

    One that serves already, or is about to, is left as it is: this may be
    called again, and beside an upgrade.  Its gate is opened before it has
    loaded, since there is nothing better: it then serves as soon as it can,
    whether anybody waits for it or not.

    :param slot: the current one
    :param timeout: seconds
    :raises InstanceError: if it does not serve in that time
    """
    deadline = time.monotonic() + timeout
    there = launcher.list()
    for started in there:
        instance = launcher.instance(started.name)
        if started.slot == slot.path and instance.place.gate.exists():
            if started.pid is None:
                # It waits to be started again; or it did, when the service
                # was stopped, and now nobody would.
                instance = launcher.start(started.name, slot.path)
            break
    else:
        # Those of upgrades are numbered from 1 on.
        name = launcher_module.free_name(launcher, there,
                                         f'{slot.release.version}.0')
        instance = launcher.start(name, slot.path)
    while True:
        try:
            instance.serve(max(0.0, deadline - time.monotonic()))
            return instance
        except exceptions.InstanceError as error:
            if time.monotonic() > deadline:
                raise exceptions.InstanceError(
                    f'instance {instance.name} does not serve within '
                    f'{timeout:g} s; what it says is in its log. It will '
                    f'serve if it loads later ({error})') from error
        time.sleep(_PACE)


def keep_trying(launcher: launcher_module.Launcher,
                current: Callable[[], slots_module.Slot | None],
                timeout: float, wait: Callable[[float], bool]) -> None:
    """Have the current slot serve; return when it does, or if there is none.

    What goes wrong is logged, and tried again: a machine that has only just
    been started is slow, and nobody else would do it.

    :param current: finds the current slot
    :param timeout: seconds of each try
    :param wait: sleeps for so many seconds; tells whether to give up
    """
    delay = _SOON
    while True:
        try:
            slot = current()
            if slot is not None:
                boot(launcher, slot, timeout)
            return
        except (exceptions.EasystackImageError, OSError) as error:
            LOG.error('The current release does not serve; in %(delay)g s it '
                      'is tried again: %(error)s',
                      {'delay': delay, 'error': error})
        if wait(delay):
            return
        delay = min(2 * delay, _LATE)
