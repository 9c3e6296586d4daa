"""Instances as units of systemd, which holds the listening socket as well.

``etc/systemd`` has the units:

``easystack-image.socket``
    The listening socket.  It is closed when this unit is stopped only.
``easystack-image@NAME.service``
    An instance.  It inherits the socket, and runs the script of its name;
    systemd makes its directory, and removes it when the instance has ended.
    Unless the script is there nothing is started, so to forget an instance
    is to take its script away.
``easystack-image.service``
    What is started at boot: it has the instance of the current slot started.

The scripts are root's (or whoever runs the updater); instances run as the
user that their unit names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import os
from pathlib import Path
import re
import shutil
import subprocess

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.serving import command
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import launcher
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import script

UNIT = 'easystack-image'
INSTANCES = 'i'
#: Scripts of instances that systemd starts, again too; and of those that end.
START, FORGOTTEN = 'start', 'forgotten'
#: What a unit is named by without escapes (systemd.unit(5)).
_NAME = re.compile('[A-Za-z0-9][A-Za-z0-9._-]{0,63}')
#: Seconds that systemd may take to answer.
_ANSWER = 60.0
_MODE = 0o755


class SystemdLauncher:
    """Asks systemd.

    :param run: what ``RuntimeDirectory`` of the units leads to
    :param service: what the instances serve
    :param systemctl: how it is called
    """

    def __init__(self, run: Path, service: command.Service,
                 systemctl: Sequence[str] = ('systemctl',)) -> None:
        self._run = run.absolute()
        self._service = service
        self._systemctl = tuple(systemctl)

    def start(self, name: str, slot: Path) -> instance_module.Instance:
        """See the protocol."""
        path = self._path(START, name)
        known = self._slot(name)
        if known not in (None, slot):
            raise exceptions.InstanceError(
                f'instance {name} is of slot {known}')
        text = script.text(slot, self._place(name), self._service)
        self._write(path, text)
        if _unit(name) not in self._pids():
            # A gate that is left from an earlier life is no order for this
            # one; systemd makes the directory anew.
            shutil.rmtree(self._place(name).path, ignore_errors=True)
        self._path(FORGOTTEN, name).unlink(missing_ok=True)
        # Returns when the script runs, and has its directory (Type=exec).
        self._ask('start', _unit(name))
        return self.instance(name)

    def stop(self, name: str) -> None:
        """See the protocol."""
        self.forget(name)
        unit = _unit(name)
        if self._pids().get(unit) is not None:
            self._ask('kill', '--signal=SIGKILL', unit)
        self._ask('stop', unit)
        self._path(FORGOTTEN, name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """See the protocol."""
        path = self._path(START, name)
        if path.exists():
            forgotten = self._path(FORGOTTEN, name)
            forgotten.parent.mkdir(mode=_MODE, exist_ok=True)
            path.rename(forgotten)

    def list(self) -> Sequence[launcher.Started]:
        """See the protocol."""
        # The scripts first: one that begins meanwhile is then not missed.
        starting = list(self._names(START))
        names = [*starting, *self._names(FORGOTTEN)]
        pids = self._pids()
        found = []
        for name in dict.fromkeys(names):
            slot = self._slot(name)
            if slot is None:
                # Somebody else has stopped it meanwhile.
                continue
            if name in starting or _unit(name) in pids:
                found.append(launcher.Started(name, slot,
                                              pids.get(_unit(name))))
            else:
                # It has ended, as it should. Where it failed at last, systemd
                # has kept its directory for another start.
                shutil.rmtree(self._place(name).path, ignore_errors=True)
                self._path(FORGOTTEN, name).unlink(missing_ok=True)
        return found

    def instance(self, name: str) -> instance_module.Instance:
        """See the protocol."""
        return instance_module.Instance(self._place(name))

    def _place(self, name: str) -> layout.Place:
        return layout.Place(self._run / INSTANCES / name)

    def _path(self, directory: str, name: str) -> Path:
        _unit(name)
        return self._run / directory / name

    def _names(self, directory: str) -> Iterator[str]:
        path = self._run / directory
        if path.is_dir():
            yield from sorted(name for name in os.listdir(path)
                              if _NAME.fullmatch(name))

    def _slot(self, name: str) -> Path | None:
        for directory in (START, FORGOTTEN):
            try:
                return script.slot_of(self._path(directory, name))
            except FileNotFoundError:
                continue
        return None

    def _write(self, path: Path, text: str) -> None:
        """Write a script, in one step; all may read it."""
        # Whatever root's umask is: the service's user has to read it.
        home.make(path.parent, _MODE)
        layout.write(path, text, 0o644)

    def _pids(self) -> dict[str, int | None]:
        """Return the units of instances that are not inactive.

        :returns: their main processes, None where there is none
        """
        told = self._ask('show', '--property=Id,ActiveState,MainPID',
                         f'{UNIT}@*.service')
        found: dict[str, int | None] = {}
        for block in told.split('\n\n'):
            values = dict(line.partition('=')[::2]
                          for line in block.splitlines())
            if values.get('ActiveState', 'inactive') not in (
                    'inactive', 'failed'):
                found[values['Id']] = int(values['MainPID']) or None
        return found

    def _ask(self, *words: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 (our own words)
                [*self._systemctl, '--no-pager', *words], text=True,
                capture_output=True, stdin=subprocess.DEVNULL,
                timeout=_ANSWER)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise exceptions.InstanceError(
                f'systemd does not answer: {error}') from error
        if done.returncode:
            raise exceptions.InstanceError(
                f'systemctl {" ".join(words)}: {done.stderr.strip()}; are '
                f'the units of {UNIT} installed (etc/systemd)?')
        return done.stdout


def _unit(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise exceptions.InstanceError(f'{name!r} is no name for an instance')
    return f'{UNIT}@{name}.service'
