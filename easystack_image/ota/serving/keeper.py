"""Starts, watches and kills instances, its own and those of a dead holder.

What there is of them is in the records (:mod:`easystack_image.ota.serving.
records`), which are written first, so that another holder finds all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import logging
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import logs
from easystack_image.ota.serving import processes
from easystack_image.ota.serving import records

LOG = logging.getLogger(__name__)

INSTANCES = 'i'
#: Seconds before an instance that ended is started again, at first and at
#: most: a release that cannot be loaded must not keep the processors busy.
_SOON, _LATE = 0.1, 10.0
#: Seconds after which an instance counts as one that works.
_LONG = 30.0
#: Seconds that the kernel may take to kill a process, and between two looks.
_DEATH, _PACE = 10.0, 0.02


@dataclasses.dataclass
class _Child:
    """An instance as the keeper knows it.

    :param own: its master, if it is a child of this process
    :param again_at: when to start it again, while it does not run
    :param told: whether it was told to leave when everything ends
    :param problem: why that could not be done, as it was logged
    """

    record: records.Record
    own: subprocess.Popen[bytes] | None = None
    started_at: float = dataclasses.field(default_factory=time.monotonic)
    delay: float = _SOON
    again_at: float | None = None
    told: bool = False
    problem: str = ''

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def runs(self) -> bool:
        if self.own is not None:
            return self.own.poll() is None
        process = self.record.process
        return process is not None and process.lives

    @property
    def pid(self) -> int | None:
        """Of its master, as long as that runs."""
        process = self.record.process
        return process.pid if process and self.runs else None


class Keeper:
    """See the module.

    :param run: the holder's directory, which no other holder has
    :param listener: the shared socket
    :param service: what the instances serve
    """

    def __init__(self, run: Path, listener: socket.socket,
                 service: command.Service) -> None:
        self._run = run
        self._listener = listener
        self._service = service
        self._records = records.Records(run / records.RECORDS)
        self._logs = logs.Logs(run / logs.LOGS)
        self._children: dict[str, _Child] = {}
        #: Whether nothing is started again any more.
        self.ending = False

    def __len__(self) -> int:
        return len(self._children)

    def describe(self) -> Sequence[Mapping[str, Any]]:
        """Return what there is, as the holder tells it."""
        return [{'name': child.name, 'slot': str(child.record.slot),
                 'pid': child.pid, 'starts': child.record.starts}
                for child in self._children.values()]

    def adopt(self) -> None:
        """Take over what an earlier holder has left.

        What has died meanwhile is started again soon.

        :raises InstanceError: if a record makes no sense
        :raises OSError: if one cannot be written
        """
        for record in self._records.all():
            found = self._records.master(record)
            if found is None and self._records.held(record.name):
                # Workers that have lost their master: in its group.
                found = record.process
            child = _Child(dataclasses.replace(record, process=found))
            self._children[record.name] = child
            self._records.write(child.record)
            if found is not None and child.runs:
                LOG.info('Took instance %s over, process %d', record.name,
                         found.pid)
        for path in (self._run / INSTANCES).iterdir():
            # There are also files about the node.
            if path.is_dir() and path.name not in self._children:
                shutil.rmtree(path, ignore_errors=True)

    def start(self, name: str, slot: Path) -> None:
        """Start an instance, unless it runs.

        :raises ConfigurationError: if the slot has no uWSGI
        :raises InstanceError: if an instance of another slot has the name
        :raises OSError: if it cannot be started
        """
        known = self._children.get(name)
        if known:
            if known.record.slot != slot:
                raise exceptions.InstanceError(
                    f'instance {name} is of slot {known.record.slot}')
            if known.runs:
                self._set(known, wanted=True)
                return
        place = self._place(name)
        command.arguments(slot, place, self._service)
        # A gate that is left from an earlier life is no order for this one.
        shutil.rmtree(place.path, ignore_errors=True)
        child = _Child(records.Record(name, slot, starts=0))
        try:
            self._spawn(child)
        except OSError:
            self._children.pop(name, None)
            self._clear(name)
            raise
        self._children[name] = child

    def stop(self, name: str) -> None:
        """Kill an instance, if it runs, and forget it."""
        child = self._children.get(name)
        if child is None:
            return
        try:
            # First, so that no other holder starts it again.
            self._set(child, wanted=False)
        except OSError as error:
            LOG.error('Instance %s: %s', name, error)
        self._kill(child)
        del self._children[name]
        self._clear(name)
        LOG.info('Instance %s was stopped', name)

    def forget(self, name: str) -> None:
        """Do not start an instance again when it ends."""
        child = self._children.get(name)
        if child:
            self._set(child, wanted=False)

    def leave(self) -> None:
        """Tell all instances to leave, that were not told yet.

        One that has only just begun to start does not hear it: this is to be
        called again until there are none.
        """
        for child in self._children.values():
            if child.runs and not child.told:
                try:
                    instance_module.Instance(self._place(child.name)).leave()
                    child.told = True
                except exceptions.InstanceError:
                    pass
                except OSError as error:
                    # The others are to be told nevertheless.
                    if child.problem != str(error):
                        child.problem = str(error)
                        LOG.error('Instance %s cannot be told to leave: %s',
                                  child.name, error)

    def watch(self) -> None:
        """Start again what ended though nobody said so; bound the logs.

        :raises OSError: if that cannot be written down
        """
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.runs:
                self._logs.bound(child.name)
                continue
            if self.ending or not child.record.wanted or (
                    self._place(child.name).leaving.exists()):
                LOG.info('Instance %s has ended', child.name)
                del self._children[child.name]
                self._clear(child.name)
            elif child.again_at is None:
                self._bury(child, now)
            elif now >= child.again_at:
                self._revive(child, now)

    def _place(self, name: str) -> layout.Place:
        return layout.Place((self._run / INSTANCES / name).absolute())

    def _set(self, child: _Child, **values: Any) -> None:
        """Change what is known of an instance, in the record first."""
        record = dataclasses.replace(child.record, **values)
        if record != child.record:
            self._records.write(record)
        child.record = record

    def _spawn(self, child: _Child) -> None:
        """Start the master of an instance.

        :raises ConfigurationError: if the slot has no uWSGI
        :raises OSError: if it cannot be started
        """
        place, shared = self._place(child.name), self._listener.fileno()
        arguments = command.arguments(child.record.slot, place, self._service,
                                      shared)
        environment = command.environment(place, self._service, os.environ,
                                          shared)
        place.path.mkdir(mode=0o700, exist_ok=True)
        for path in (place.fifo, place.stats, place.private):
            # Of a process that was killed.
            path.unlink(missing_ok=True)
        self._set(child, process=None, starts=child.record.starts + 1)
        with (self._logs.open(child.name) as output,
              self._records.new_lock(child.name) as lock):
            LOG.info('Starting instance %s from %s', child.name,
                     child.record.slot)
            child.own = subprocess.Popen(  # noqa: S603 (our own command line)
                arguments, env=environment, cwd='/', stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
                pass_fds=[shared, lock])
        child.record = dataclasses.replace(
            child.record, process=processes.identify(child.own.pid))
        try:
            self._records.write(child.record)
        except OSError as error:
            # It runs, and can be found without that.
            LOG.error('Instance %s: %s', child.name, error)

    def _kill(self, child: _Child) -> None:
        """Kill all processes of an instance, and wait for its master."""
        process = child.record.process
        # While a process of it lives, or was not waited for, no other group
        # has its number.
        if process is not None and (child.own is not None and child.runs
                                    or self._records.held(child.name)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + _DEATH
        while child.runs:
            if time.monotonic() > deadline:
                raise exceptions.InstanceError(
                    f'process {child.pid} of instance {child.name} does not '
                    'die')
            time.sleep(_PACE)

    def _clear(self, name: str) -> None:
        """Remove what there is of an instance that is over."""
        shutil.rmtree(self._place(name).path, ignore_errors=True)
        # After that: it says that there may be something to remove.
        self._records.remove(name)
        self._logs.ended(name, self._children)

    def _bury(self, child: _Child, now: float) -> None:
        """Say what happened, and when it is started again."""
        how = (f'ended with {child.own.returncode}' if child.own
               else 'has ended')
        LOG.error('Instance %s %s; it is started again in %g s', child.name,
                  how, child.delay)
        # Workers end by themselves when their master is gone.
        if now - child.started_at > _LONG:
            child.delay = _SOON
        child.again_at = now + child.delay
        child.delay = min(child.delay * 2, _LATE)

    def _revive(self, child: _Child, now: float) -> None:
        child.again_at = None
        try:
            self._spawn(child)
        except (OSError, exceptions.EasystackImageError) as error:
            LOG.error('Instance %s cannot be started: %s', child.name, error)
            child.again_at = now + child.delay
            return
        child.started_at = now
