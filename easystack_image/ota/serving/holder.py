"""The holder: keeps the listening socket, and the instances on it.

Where systemd is at hand it does this (``etc/systemd``); the holder is for
hosts and containers that have none.  It is small on purpose, and never
upgraded with the service: it binds the socket once, and starts, watches and
stops instances as it is told over a Unix socket that only its own user can
open.  An instance that ends though nobody said so is started again; what it
then does is said by its gate.

One request a connection, one line of JSON each way:

``{"do": "start", "name": NAME, "slot": PATH}``
    Start an instance, unless it runs.
``{"do": "stop", "name": NAME}``
    Kill an instance, if it runs, and forget it.
``{"do": "forget", "name": NAME}``
    Do not start it again when it ends.
``{"do": "list"}``
    ``{"instances": [{"name": …, "slot": …, "pid": …, "starts": …}]}``

An error is ``{"error": TEXT}``.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import dataclasses
import json
import logging
import os
from pathlib import Path
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import layout

LOG = logging.getLogger(__name__)

CONTROL = 'holder'
INSTANCES = 'i'
LOGS = 'logs'
_NAME = re.compile('[A-Za-z0-9][A-Za-z0-9._+-]{0,63}')
#: The most bytes of a request.
_LIMIT = 64 * 1024
#: Seconds between two looks at the children.
_PACE = 0.1
#: Seconds before an instance that ended is started again, at first and at
#: most: a release that cannot be loaded must not keep the processors busy.
_SOON, _LATE = 0.1, 10.0
#: Seconds after which an instance counts as one that works.
_LONG = 30.0


@dataclasses.dataclass
class _Child:
    """An instance as the holder knows it."""

    name: str
    slot: Path
    process: subprocess.Popen[bytes]
    started_at: float
    starts: int = 1
    wanted: bool = True
    delay: float = _SOON
    #: When to start it again, while it does not run.
    again_at: float | None = None


def bind(host: str, port: int) -> socket.socket:
    """Return the listening socket.

    :raises ConfigurationError: if the address cannot be had
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(command.backlog())
    except OSError as error:
        listener.close()
        raise exceptions.ConfigurationError(
            f'cannot listen at {host}:{port}: {error}') from error
    return listener


class Holder:
    """See the module.

    :param run: its directory, with a short path; made with mode 0700
    :param listener: the shared socket
    :param service: what the instances serve
    """

    def __init__(self, run: Path, listener: socket.socket,
                 service: command.Service) -> None:
        self._run = run
        self._listener = listener
        self._service = service
        self._children: dict[str, _Child] = {}
        self._ended = False
        for path in (run, run / INSTANCES, run / LOGS):
            path.mkdir(mode=0o700, exist_ok=True)
        self._control = _listen(run / CONTROL)

    def close(self) -> None:
        """Kill what runs, and give everything back."""
        for name in list(self._children):
            self._stop(name)
        self._control.close()
        self._listener.close()
        (self._run / CONTROL).unlink(missing_ok=True)

    def end(self, *_: object) -> None:
        """Have :meth:`run` return; for signals."""
        self._ended = True

    def run(self) -> None:
        """Do as told until told to end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            while not self._ended:
                if selector.select(_PACE):
                    self._accept()
                self._watch()

    def _accept(self) -> None:
        connection, _ = self._control.accept()
        with connection:
            connection.settimeout(5)
            try:
                with connection.makefile('rwb') as stream:
                    answer = self._answer(stream.readline(_LIMIT))
                    stream.write(json.dumps(answer).encode() + b'\n')
            except OSError as error:
                LOG.warning('A request was cut short: %s', error)

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            asked = json.loads(line)
            if asked['do'] == 'list':
                return {'instances': [self._describe(child) for child
                                      in self._children.values()]}
            name = _checked(asked['name'])
            if asked['do'] == 'start':
                self.start(name, Path(asked['slot']))
            elif asked['do'] == 'stop':
                self._stop(name)
            elif asked['do'] == 'forget':
                self._forget(name)
            else:
                return {'error': f'cannot do {asked["do"]!r}'}
        except exceptions.EasystackImageError as error:
            return {'error': str(error)}
        except OSError as error:
            LOG.exception('An instance cannot be started')
            return {'error': str(error)}
        except (ValueError, LookupError, TypeError) as error:
            return {'error': f'not a request: {error!r}'}
        return {}

    def _describe(self, child: _Child) -> Mapping[str, Any]:
        running = child.process.poll() is None
        return {'name': child.name, 'slot': str(child.slot),
                'pid': child.process.pid if running else None,
                'starts': child.starts}

    def start(self, name: str, slot: Path) -> None:
        """Start an instance, unless it runs.

        :raises ConfigurationError: if the slot has no uWSGI
        :raises InstanceError: if an instance of another slot has the name
        """
        known = self._children.get(name)
        if known:
            if known.slot != slot:
                raise exceptions.InstanceError(
                    f'instance {name} is of slot {known.slot}')
            known.wanted = True
            if known.process.poll() is None:
                return
        # A gate that is left from an earlier life is no order for this one.
        place = self._place(name)
        shutil.rmtree(place.path, ignore_errors=True)
        place.path.mkdir(mode=0o700)
        self._children[name] = _Child(name, slot, self._spawn(place, slot),
                                      time.monotonic())

    def _place(self, name: str) -> layout.Place:
        return layout.Place((self._run / INSTANCES / name).absolute())

    def _spawn(self, place: layout.Place,
               slot: Path) -> subprocess.Popen[bytes]:
        arguments = command.arguments(slot, place, self._service,
                                      self._listener.fileno())
        environment = command.environment(place, self._service, os.environ)
        for path in (place.fifo, place.stats, place.private):
            # Of a process that was killed.
            path.unlink(missing_ok=True)
        log = self._run / LOGS / f'{place.name}.log'
        with open(log, 'ab', opener=_privately) as output:
            LOG.info('Starting instance %s from %s', place.name, slot)
            return subprocess.Popen(  # noqa: S603 (our own command line)
                arguments, env=environment, cwd='/', stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
                pass_fds=[self._listener.fileno()])

    def _stop(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        self._clear(name)
        LOG.info('Instance %s was stopped', name)

    def _clear(self, name: str) -> None:
        """Remove the directory of an instance that is over."""
        shutil.rmtree(self._place(name).path, ignore_errors=True)

    def _forget(self, name: str) -> None:
        child = self._children.get(name)
        if child:
            child.wanted = False

    def _watch(self) -> None:
        """Start again what ended though nobody said so."""
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.process.poll() is None:
                continue
            if not child.wanted:
                LOG.info('Instance %s has ended', child.name)
                del self._children[child.name]
                self._clear(child.name)
            elif child.again_at is None:
                self._bury(child, now)
            elif now >= child.again_at:
                self._revive(child, now)

    def _bury(self, child: _Child, now: float) -> None:
        """Say what happened, and when it is started again."""
        LOG.error('Instance %s ended with %d; it is started again in %g s',
                  child.name, child.process.returncode, child.delay)
        # Workers end by themselves when their master is gone.
        if now - child.started_at > _LONG:
            child.delay = _SOON
        child.again_at = now + child.delay
        child.delay = min(child.delay * 2, _LATE)

    def _revive(self, child: _Child, now: float) -> None:
        child.again_at = None
        try:
            child.process = self._spawn(self._place(child.name), child.slot)
        except (OSError, exceptions.EasystackImageError) as error:
            LOG.error('Instance %s cannot be started: %s', child.name, error)
            child.again_at = now + child.delay
            return
        child.started_at = now
        child.starts += 1


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _checked(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f'{name!r} is no name for an instance')
    return name


def _listen(path: Path) -> socket.socket:
    """Return the control socket, mode 0600.

    :raises AlreadyRunning: if another holder listens there
    """
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise exceptions.AlreadyRunning(
                f'another holder listens at {path}')
    path.unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        control.bind(str(path))
    finally:
        os.umask(mask)
    control.listen()
    return control
