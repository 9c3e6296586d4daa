"""Instances that take no time, and an updater that dies anywhere.

The world is what outlives the updater: instances, which behave as those of
uWSGI do towards it, and the files.  Slots have next to nothing in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
from pathlib import Path
import shutil
from typing import Any

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import settings as settings_module
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Step
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.serving import instance
from easystack_image.ota.serving import launcher
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import stats
from easystack_image.ota.serving import warmth
from easystack_image.ota.slots import seal
from easystack_image.ota.upgrade import fleet as fleets
from easystack_image.ota.upgrade import machine
from easystack_image.ota.upgrade import tools
from easystack_image.ota.upgrade import warmup
from easystack_image.ota.upgrade import work as works
from tests.crash import steps

#: What a slot without hooks answers: see ``hooks.calls``.
PYTHON = '#!/bin/sh\nexit 69\n'


def unprotect(root: Path) -> None:
    """Let who is not root remove the slots."""
    for path in (root / 'opt/slots').glob('*'):
        seal.unprotect(path)


class Killed(BaseException):
    """The updater is dead."""


@dataclasses.dataclass
class Running:
    """An instance, as the world knows it."""

    slot: Path
    pid: int
    wanted: bool = True
    #: Whether it has taken requests, or may have.
    served: bool = False
    leaving: bool = False


class World:
    """See the module.

    :param root: an empty directory
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.running: dict[str, Running] = {}
        #: Versions that cannot be loaded, and that are at something for ever.
        self.broken: set[str] = set()
        self.busy: set[str] = set()
        #: What the workers of each instance were asked to warm up with.
        self.warmed: dict[str, set[bytes]] = {}
        self._pids = 100
        #: After how many points the updater dies; None for never.
        self.left: int | None = None
        self.dead = False
        self.passed = 0
        #: When users would have waited: after which point, by its number.
        self.unserved: list[int] = []
        self.watched = False

    def tools(self, **others: Any) -> tools.Tools:
        """Return what a new process of the updater works with."""
        found = settings_module.Settings(**{
            'state_directory': str(self.root / 'state'),
            'slots_directory': str(self.root / 'opt'),
            'run_directory': str(self.root / 'run'),
            'hooks_directory': str(self.root / 'hooks'),
            'processes': 1, 'warm_paths': '/', 'start_timeout': 1,
            'retry_limit': 0, **others})
        self.said: list[str] = []
        return tools.Tools(found, Launcher(self), self.said.append)

    def make_slot(self, version: str, number: int,
                  database: Sequence[str] = (), **programs: str) -> None:
        """Make a slot that is whole.

        :param programs: that are in it, besides a Python
        """
        path = self.root / 'opt/slots' / version
        (path / 'bin').mkdir(parents=True)
        for name, text in {'python': PYTHON, **programs}.items():
            (path / 'bin' / name).write_text(text)
            (path / 'bin' / name).chmod(0o755)
        seal.write(path, declarations.Declaration(
            version, number, database=tuple(map(
                declarations.Phase, database)), python=('3.11',)), '3.11')

    def start(self, name: str, slot: Path) -> None:
        """Start an instance, as the holder does."""
        known = self.running.get(name)
        if known:
            known.wanted = True
            return
        place = self.place(name)
        shutil.rmtree(place.path, ignore_errors=True)
        place.path.mkdir(parents=True)
        self._pids += 1
        self.running[name] = Running(slot, self._pids)

    def place(self, name: str) -> layout.Place:
        return layout.Place(self.root / 'run/i' / name)

    def serving(self) -> set[str]:
        """Return the versions of those that take requests."""
        return {each.slot.name for name, each in self.running.items()
                if not each.leaving and self.place(name).gate.exists()}

    @contextlib.contextmanager
    def mortal(self, points: int | None) -> Iterator[None]:
        """Have the updater die after so many points, while this lasts."""
        real = {name: getattr(fsio, name) for name in steps.CHANGES}
        self.left, self.dead, self.passed = points, False, 0
        try:
            for name, function in real.items():
                setattr(fsio, name, functools.partial(
                    self._change, name, function))
            yield
        finally:
            for name, function in real.items():
                setattr(fsio, name, function)
            self.left, self.dead = None, False

    def _change(self, name: str, real: Callable[..., Any], *args: Any,
                **kwargs: Any) -> Any:
        self.point()
        if name == 'write_at':
            fd, data, offset = args
            real(fd, memoryview(data)[:len(data) // 2], offset)
            self.point()
        # Nothing here outlives the machine.
        return None if 'sync' in name else real(*args, **kwargs)

    def point(self) -> None:
        """Pass a point, or die."""
        if self.watched and not self.serving():
            self.unserved.append(self.passed)
        if self.dead:
            raise Killed
        self.passed += 1
        if self.left is not None and self.passed > self.left:
            self.dead = True
            raise Killed


class Instance(instance.Instance):
    """An instance that answers at once."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world.place(name))
        self._world = world

    def _all(self) -> list[stats.Worker]:
        running = self._world.running.get(self.name)
        if running is None or running.leaving:
            raise exceptions.InstanceError(f'{self.name} does not answer')
        if running.slot.name in self._world.broken:
            raise exceptions.InstanceError(f'{self.name} does not load')
        if self.place.gate.exists():
            running.served = True
        if self.place.warm.exists():
            self._world.warmed.setdefault(self.name, set()).add(
                self.place.warm.read_bytes())
            warmth.write_results(self.place, 1, warmth.Results(
                running.pid + 1000, [('GET /', '200 OK')]))
        return [stats.Worker(1, running.pid + 1000, running.served, 0, 0),
                stats.Worker(2, running.pid + 2000, True, 0, 0)]

    def serve(self, timeout: float) -> None:
        self._world.point()
        super().serve(timeout)
        self._world.point()

    def leave(self) -> None:
        self._world.point()
        super().leave()

    def _tell(self, command: str) -> None:
        self._world.point()
        running = self._world.running.get(self.name)
        if running is None:
            raise exceptions.InstanceError(f'{self.name} does not run')
        running.leaving = True
        if self.name not in self._world.busy:
            assert not running.wanted, f'{self.name} would be started again'
            del self._world.running[self.name]
        self._world.point()


class Launcher:
    """Starts such instances: see the protocol."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, name: str, slot: Path) -> instance.Instance:
        self._world.point()
        self._world.start(name, slot)
        self._world.point()
        return self.instance(name)

    def stop(self, name: str) -> None:
        self._world.point()
        found = self._world.running.pop(name, None)
        if found:
            assert not found.served, f'{name} was killed with what it was at'
        self._world.point()

    def forget(self, name: str) -> None:
        self._world.point()
        if name in self._world.running:
            self._world.running[name].wanted = False

    def list(self) -> Sequence[launcher.Started]:
        return [launcher.Started(
            name, each.slot,
            None if each.slot.name in self._world.broken else each.pid)
            for name, each in self._world.running.items()]

    def instance(self, name: str) -> instance.Instance:
        return Instance(self._world, name)


def fleet(used: tools.Tools) -> fleets.Fleet:
    """Return the instances, for who needs nothing else."""
    return fleets.Fleet(used.launcher, warmup.WarmUp(used.settings, used.say),
                        used.settings.start_timeout)


def begin(used: tools.Tools, target: str, kind: Kind, until: Step | None,
          **options: Any) -> machine.Result:
    """Begin an upgrade whose slot is there, and do it."""
    current = used.slots.current()
    with used.writer() as writer:
        upgrade = writer.open(
            kind, current and current.release.version, target,
            **{'digest': used.slots.get(target).release.digest,
               'soak': 0, 'drain_timeout': 0.01, **options})
        return machine.Machine(works.Work(used, writer, upgrade),
                               until).run()
