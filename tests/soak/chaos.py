"""Doing to the store what the schedule says, and no more than it must bear.

Copies of an image are spoilt only when it has ``copies`` good ones, and one
of them always stays.  A device is taken away, slowed or replaced only when
every acknowledged image has a good copy elsewhere that can be reached (two,
if it is lost for good); two at most are out of reach at a time.  If need be
it is waited for the healer; an act for which that takes too long is passed
over, and said so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
from pathlib import Path
import signal
import threading

from easystack_image.blockstore.local import layout
from tests.functional import processes
from tests.soak import catalogue
from tests.soak import disks as disks_module
from tests.soak import faults as faults_module
from tests.soak import report as report_module
from tests.soak import schedule
from tests.soak import world as world_module

#: Seconds to wait for an act to become possible.
PATIENCE = 20
#: How many devices may be out of reach at a time.
MOST_AWAY = 2


@dataclasses.dataclass(slots=True)
class _State:
    """Something that is wrong until it is undone."""

    kind: str
    until: int
    undo: Callable[[], object]
    fault: faults_module.Fault
    what: str


class Chaos:
    """Does it; :meth:`run` is for a thread of its own.

    :param acts: from ``schedule``
    """

    def __init__(self, world: world_module.World,
                 images: catalogue.Catalogue, faults: faults_module.Faults,
                 report: report_module.Report,
                 acts: Iterator[schedule.Act], stop: threading.Event,
                 ) -> None:
        self._world = world
        self._images = images
        self._faults = faults
        self._report = report
        self._acts = acts
        self._stop = stop
        self._states: list[_State] = []
        self._do = {
            'flip': self._strike, 'manifest': self._strike,
            'remove': self._strike, 'away': self._away, 'slow': self._slow,
            'fill': self._fill, 'drain': self._drain, 'add': self._add,
            'replace': self._replace, 'kill-worker': self._kill_worker,
            'stop-worker': self._stop_worker,
            'kill-healer': self._kill_healer}

    def run(self) -> None:
        """Do one thing after the other; in the end, undo what lasts."""
        try:
            for act in self._acts:
                if self._stop.wait(act.pause):
                    break
                self._undo(act.number)
                self._do[act.kind](act)
        except Exception as error:
            self._report.fail(f'chaos: {type(error).__name__}: {error}')
        finally:
            self._undo(None)

    def _undo(self, number: int | None) -> None:
        """End what is due, or all."""
        for state in list(self._states):
            if number is None or state.until <= number:
                self._states.remove(state)
                self._end(state)

    def _end(self, state: _State) -> None:
        try:
            state.undo()
        except Exception as error:
            self._report.fail(f'{state.what} does not end: '
                              f'{type(error).__name__}: {error}')
        self._faults.end(state.fault)
        self._report.say(f'  end of: {state.what}')

    def _begin(self, act: schedule.Act, what: str,
               disk: disks_module.Disk | None = None,
               pid: int = 0) -> faults_module.Fault:
        self._report.say(f'{act.number}. {what}')
        self._report.fault(act.kind)
        return self._faults.begin(act.kind, disk.number if disk else -1, pid)

    def _keep(self, act: schedule.Act, what: str,
              fault: faults_module.Fault,
              undo: Callable[[], object]) -> None:
        self._states.append(_State(act.kind, act.number + act.lasts, undo,
                                   fault, f'{act.number}. {what}'))

    def _await(self, act: schedule.Act,
               choose: Callable[[], object]) -> bool:
        """Wait until something can be chosen; tell whether it could."""
        try:
            processes.poll(
                lambda: choose() or self._stop.is_set(), act.kind,
                PATIENCE, 0.5)
        except TimeoutError:
            self._report.say(f'{act.number}. {act.kind}: passed over')
            self._report.fault(f'{act.kind} (passed over)')
            return False
        return not self._stop.is_set()

    def _held(self, *kinds: str) -> int:
        return sum(state.kind in kinds for state in self._states)

    # What happens to copies.

    def _strike(self, act: schedule.Act) -> None:
        found: list[tuple[catalogue.Image, list[disks_module.Disk]]] = []

        def choose() -> bool:
            found[:] = self._whole()
            return bool(found)

        if not self._await(act, choose):
            return
        image, holders = found[int(act.image * len(found))]
        holders.sort(key=lambda disk: act.order.index(disk.number))
        image.struck = True
        for disk in holders[:act.copies]:
            self._faults.end(self._begin(
                act, f'{act.kind}: image {image.image_id} on {disk}'))
            with contextlib.suppress(FileNotFoundError):
                # It may have been deleted, or moved, just now.
                self._spoil(act, disk.place(image.image_id))

    def _spoil(self, act: schedule.Act, place: Path) -> None:
        if act.kind == 'flip':
            disks_module.flip(place / layout.DATA, act.place)
        elif act.kind == 'manifest':
            disks_module.flip(place / layout.MANIFEST, act.place)
        else:
            disks_module.remove(place)

    def _whole(self) -> list[tuple[catalogue.Image,
                                   list[disks_module.Disk]]]:
        """Return the images with enough good copies, and where these are."""
        away = self._faults.unreachable()
        whole = []
        for image in self._images.all(catalogue.STORED):
            holders = self._world.holders(image, away, image.struck)
            if len(holders) >= world_module.COPIES:
                image.struck = False
                whole.append((image, holders))
        return whole

    # What happens to devices.

    def _choose(self, act: schedule.Act,
                least: int) -> disks_module.Disk | None:
        """Return the device to hit, or None if there is none now.

        :param least: how many good copies each image must have elsewhere
        """
        away = self._faults.unreachable()
        busy = {state.fault.device for state in self._states}
        spared = away | self._too_few(away, least)
        for number in act.order:
            disk = self._world.disks[number]
            if (disk.member and act.kind in disk.bears
                    and number not in busy | spared):
                return disk
        return None

    def _too_few(self, away: set[int], least: int) -> set[int]:
        """Return devices whose loss would leave an image too few copies."""
        needed: set[int] = set()
        for image in self._images.all(catalogue.STORED):
            holders = {disk.number for disk in self._world.holders(
                image, away, image.struck)}
            if image.state != catalogue.STORED:
                continue
            if len(holders) < least:
                return set(range(len(self._world.disks)))
            if len(holders) == least:
                needed |= holders
        return needed

    def _hit(self, act: schedule.Act, least: int,
             ready: Callable[[], bool] = lambda: True,
             ) -> disks_module.Disk | None:
        """Wait until there is a device to hit; return it."""
        found: list[disks_module.Disk] = []

        def choose() -> bool:
            disk = self._choose(act, least) if ready() else None
            found[:] = [disk] if disk else []
            return bool(found)

        return found[0] if self._await(act, choose) else None

    def _room(self) -> bool:
        return self._held('away', 'slow') < MOST_AWAY

    def _away(self, act: schedule.Act) -> None:
        if not self._room():
            self._end_first('away', 'slow')
        disk = self._hit(act, 1)
        if disk is not None:
            fault = self._begin(act, f'away: {disk}', disk)
            disk.away()
            self._keep(act, f'away: {disk}', fault, disk.back)

    def _slow(self, act: schedule.Act) -> None:
        # There are few that can be slow: whatever they are, it ends.
        for state in list(self._states):
            if state.fault.device >= 0 and 'slow' in self._world.disks[
                    state.fault.device].bears:
                self._states.remove(state)
                self._end(state)
        if not self._room():
            self._end_first('away', 'slow')
        disk = self._hit(act, 1)
        if disk is not None:
            what = f'slow: {disk}, {act.delay:g} s for each call'
            fault = self._begin(act, what, disk)
            disk.slow(act.delay)
            self._keep(act, what, fault, disk.fast)

    def _fill(self, act: schedule.Act) -> None:
        self._end_first('fill')
        disk = self._hit(act, 0)
        if disk is not None:
            fault = self._begin(act, f'full: {disk}', disk)
            disk.fill()
            self._keep(act, f'full: {disk}', fault, disk.make_room)

    def _drain(self, act: schedule.Act) -> None:
        self._end_first('drain')
        disk = self._hit(act, 0)
        if disk is not None:
            fault = self._begin(act, f'drain: {disk}', disk)
            self._world.drain(disk)
            self._keep(act, f'drain: {disk}', fault,
                       lambda: self._world.activate(disk))

    def _end_first(self, *kinds: str) -> None:
        """End the oldest state of some kinds, to make place for another."""
        for state in self._states:
            if state.kind in kinds:
                self._states.remove(state)
                self._end(state)
                return

    def _add(self, act: schedule.Act) -> None:
        for disk in self._world.disks:
            if not disk.member:
                fault = self._begin(act, f'add: {disk}', disk)
                disk.back()
                self._world.add(disk)
                self._faults.end(fault)

    def _replace(self, act: schedule.Act) -> None:
        # Nothing else may be wrong with a device then.
        self._undo(None)
        disk = self._hit(act, 2)
        if disk is None:
            return
        fault = self._begin(act, f'replace: {disk} is lost', disk)
        disk.renew()
        self._stop.wait(act.place * 10)
        self._world.replace(disk)
        self._faults.end(fault)
        self._report.say(f'  {disk} is replaced')

    # What happens to processes.

    def _worker(self, act: schedule.Act) -> int | None:
        workers = self._world.workers()
        return workers[int(act.image * len(workers))] if workers else None

    def _kill_worker(self, act: schedule.Act) -> None:
        pid = self._worker(act)
        if pid is None:
            self._report.fail('there is no worker')
            return
        fault = self._begin(act, f'kill -9 of worker {pid}', pid=pid)
        self._world.signal(pid, signal.SIGKILL)
        self._faults.end(fault)

    def _stop_worker(self, act: schedule.Act) -> None:
        pid = self._worker(act)
        if pid is None:
            self._report.fail('there is no worker')
            return
        what = f'worker {pid} stands still'
        fault = self._begin(act, what, pid=pid)
        self._world.signal(pid, signal.SIGSTOP)
        self._keep(act, what, fault, lambda: self._cont(pid))

    def _cont(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._world.signal(pid, signal.SIGCONT)

    def _kill_healer(self, act: schedule.Act) -> None:
        fault = self._begin(act, 'kill -9 of the healer')
        if not self._world.healer.running:
            self._report.fail('the healer ended:\n'
                              + self._world.healer.tail(20))
        self._world.restart_healer()
        self._faults.end(fault)
