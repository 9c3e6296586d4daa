"""Many hand-overs from release to release and back, under load."""

from __future__ import annotations

from pathlib import Path
import time

from easystack_image.ota.serving import instance as instance_module
from tests.ota import results
from tests.ota import site as site_module

METHOD = 'hand-over on a held socket'
#: Seconds to look at before each exchange, and from its begin.
BEFORE, DURING = 1.5, 1.5


class Handovers:
    """Exchanges instances under load; each is warm before its turn.

    :param holding: starts them
    """

    def __init__(self, holding: site_module.Holding) -> None:
        self._holding = holding
        self._count = 0
        self.before: list[results.Window] = []
        #: While instances start and warm up.
        self.starting: list[results.Window] = []
        self.during: list[results.Window] = []
        #: Of each exchange: seconds until the new one has all requests.
        self.seconds: list[float] = []

    def begin(self, slot: Path) -> instance_module.Instance:
        """Start the first instance, and have it serve."""
        instance = self._start(slot)
        self._holding.wait(instance)
        instance.serve(site_module.PATIENCE)
        return instance

    def _start(self, slot: Path) -> instance_module.Instance:
        self._count += 1
        return self._holding.start(f'{slot.name}.{self._count}', slot)

    def upgrade_and_back(self, serving: instance_module.Instance, old: Path,
                         new: Path) -> instance_module.Instance:
        """Upgrade, then roll back at once, as the updater does.

        :param serving: an instance of the old release
        :returns: the one of the old release that serves in the end
        """
        for instance in self._bring_up(new, old):
            self._exchange(serving, instance)
            serving = instance
        return serving

    def upgrade(self, serving: instance_module.Instance,
                new: Path) -> instance_module.Instance:
        """Upgrade for good."""
        instance, = self._bring_up(new)
        self._exchange(serving, instance)
        return instance

    def _bring_up(self, *slots: Path) -> list[instance_module.Instance]:
        """Start instances, one after the other; return when all are warm."""
        begin = time.monotonic()
        instances = []
        for slot in slots:
            instances.append(self._start(slot))
            self._holding.wait(instances[-1])
        self.starting.append(results.Window(begin, time.monotonic()))
        return instances

    def _exchange(self, old: instance_module.Instance,
                  new: instance_module.Instance) -> None:
        time.sleep(BEFORE)
        begin = time.monotonic()
        new.serve(site_module.PATIENCE)
        self._holding.leave(old)
        self.seconds.append(time.monotonic() - begin)
        time.sleep(max(0.0, begin + DURING - time.monotonic()))
        self.before.append(results.Window(begin - BEFORE, begin))
        self.during.append(results.Window(begin, begin + DURING))

    def run(self, loading: site_module.Loading) -> results.Run:
        """Return what was measured; the load must have ended."""
        return results.Run(METHOD, len(self.seconds), loading.answers(),
                           self.before, self.during, self.seconds,
                           self.starting)
