"""The instances of the service, as an upgrade sees and moves them.

Nothing is remembered here: which there are is asked of the launcher, and
whether one takes requests is said by its gate.  All may be done again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import time

from easystack_image import exceptions
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import launcher as launcher_module
from easystack_image.ota.serving import warmth
from easystack_image.ota.upgrade import warmup

#: Seconds between two looks.
_PACE = 0.05
#: How often an instance may end while it starts.  Once may be bad luck; a
#: release that cannot be loaded ends each time.
_ENDS = 3


class Fleet:
    """The instances.

    :param launcher: who starts them
    :param warm: has an instance warm up before it serves
    :param start_timeout: seconds that one may take to start
    :param pause: sleeps, or raises what has to interrupt any waiting
    """

    def __init__(self, launcher: launcher_module.Launcher,
                 warm: warmup.WarmUp, start_timeout: float,
                 pause: Callable[[float], None] = time.sleep) -> None:
        self.launcher = launcher
        self._warm = warm
        self._timeout = start_timeout
        self._pause = pause

    def of(self, slot: Path) -> list[str]:
        """Return the names of the instances of a slot.

        :raises InstanceError: if the launcher does not answer
        """
        return [each.name for each in self.launcher.list()
                if each.slot == slot]

    def of_others(self, slot: Path) -> list[str]:
        """Return the names of the instances of all other slots."""
        return [each.name for each in self.launcher.list()
                if each.slot != slot]

    def serving(self, slot: Path) -> list[str]:
        """Return the names of those of a slot that take requests."""
        return [name for name in self.of(slot) if self.is_open(name)]

    def alive(self, slot: Path) -> list[str]:
        """Return the names of those of a slot that take requests now.

        One that died takes some time until it does so again.
        """
        return [each.name for each in self.launcher.list()
                if each.slot == slot and each.pid is not None
                and self.is_open(each.name)]

    def is_open(self, name: str) -> bool:
        """Whether an instance takes requests, or will when it has loaded."""
        return self.launcher.instance(name).place.gate.exists()

    def bring_up(self, name: str, slot: Path) -> instance_module.Instance:
        """Start an instance; return when all its workers are warm.

        Its gate stays as it is: it takes no requests of users yet.  One that
        is warm already does not warm up again.

        :raises UpgradeFailed: if it cannot be loaded, or not in time
        :raises InstanceError: if it cannot be started
        """
        instance = self.launcher.start(name, slot)
        try:
            if self.is_open(name):
                return instance
            if not _is_warm(instance):
                self._warm.ask(instance.place)
                self._wait(instance)
        finally:
            # There may be a token in it, of somebody who was killed perhaps.
            warmth.forget(instance.place)
        self._warm.check(instance.place)
        return instance

    def _wait(self, instance: instance_module.Instance) -> None:
        """Return when all workers of an instance are warm."""
        name = instance.name
        deadline = time.monotonic() + self._timeout
        pids: list[int | None] = []
        while not _is_warm(instance):
            pid = self.pid(name)
            if not pids or pids[-1] != pid:
                pids.append(pid)
            if pids.count(None) >= _ENDS:
                raise exceptions.UpgradeFailed(
                    f'instance {name} ends each time that it is started; '
                    'its log says why')
            if time.monotonic() > deadline:
                raise exceptions.UpgradeFailed(
                    f'instance {name} has not started within '
                    f'{self._timeout:g} s; its log may say why')
            self._pause(_PACE)

    def pid(self, name: str) -> int | None:
        """Return the master of an instance, None if it does not run.

        :raises InstanceError: if the launcher does not answer
        """
        return next((each.pid for each in self.launcher.list()
                     if each.name == name), None)

    def open(self, name: str) -> None:
        """Let an instance take requests; return when all its workers do.

        It may be one that has died, and is started again just now.

        :raises InstanceError: if it does not in time
        """
        instance = self.launcher.instance(name)
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                instance.serve(max(0.0, deadline - time.monotonic()))
                return
            except exceptions.InstanceError:
                if time.monotonic() > deadline:
                    raise
            self._pause(_PACE)

    def claim(self, name: str, slot: Path) -> None:
        """Have an instance serve, whatever it is at; return when it does.

        It perhaps was about to be let go, or is not warm, or not even there:
        each of its workers serves as soon as it can.

        :raises InstanceError: if it does not
        """
        self.launcher.start(name, slot)
        self.open(name)

    def let_go(self, name: str) -> None:
        """Have an instance take no more requests, and end.

        Nothing that it is at is cut: it is killed only if it never took a
        request.  It may have ended already.

        :raises InstanceError: if the launcher does not answer
        """
        if not any(each.name == name for each in self.launcher.list()):
            return
        # First, or it would be started again when it has ended.
        self.launcher.forget(name)
        instance = self.launcher.instance(name)
        # One that leaves does not answer, and is not waited for.
        if not (self.is_open(name) or instance.place.leaving.exists()) and (
                _never_served(instance)):
            self.launcher.stop(name)
            return
        try:
            instance.leave()
        except exceptions.InstanceError:
            # Nobody reads what its master should do.  It is dead, and its
            # workers may be at something yet; or it has only just begun to
            # start, with its gate shut.
            if self.pid(name) is not None:
                self.launcher.stop(name)


def _is_warm(instance: instance_module.Instance) -> bool:
    """Whether the processes that there are now have warmed up."""
    if not instance.loaded:
        return False
    found = warmth.results(instance.place)
    return all(worker.number in found
               and found[worker.number].process == worker.pid
               for worker in instance.workers())


def _never_served(instance: instance_module.Instance) -> bool:
    """Whether no worker can have a request.

    One that was told to leave does not answer, and may have some.
    """
    try:
        return not any(worker.accepting or worker.busy
                       for worker in instance.workers())
    except exceptions.InstanceError:
        return False
