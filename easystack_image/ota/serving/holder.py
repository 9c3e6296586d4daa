"""The holder: keeps the listening socket, and the instances on it.

Where systemd is at hand it does this (``etc/systemd``); the holder is for
hosts and containers that have none.  It is small on purpose: it has the
listening socket, and starts, watches and stops instances as it is told over a
Unix socket that only its own user can open.  An instance that ends though
nobody said so is started again; what it then does is said by its gate.

If it is killed, its instances serve on.  The next holder gets the listening
socket from one of them (:mod:`easystack_image.ota.serving.sharing`), and
takes them over (:mod:`easystack_image.ota.serving.records`).

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
import json
import logging
import os
from pathlib import Path
import re
import selectors
import socket
from typing import Any

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.serving import command
from easystack_image.ota.serving import keeper
from easystack_image.ota.serving import listening
from easystack_image.ota.serving import logs
from easystack_image.ota.serving import records

LOG = logging.getLogger(__name__)

CONTROL = 'holder'
_NAME = re.compile('[A-Za-z0-9][A-Za-z0-9._+-]{0,63}')
#: The most bytes of a request.
_LIMIT = 64 * 1024
#: Seconds between two looks at the children.
_PACE = 0.1


class Holder:
    """See the module.

    :param run: its directory, with a short path; made with mode 0700
    :param host: where to listen for users
    :param service: what the instances serve
    :raises AlreadyRunning: if another holder has the directory
    :raises ConfigurationError: if the address cannot be had
    :raises InstanceError: if what is left of an earlier holder makes no sense
    """

    def __init__(self, run: Path, host: str, port: int,
                 service: command.Service) -> None:
        self._run = run
        #: How often it was told to end.
        self._told = 0
        self._closing: listening.Closing | None = None
        with contextlib.ExitStack() as stack:
            self._lock(stack)
            for name in (keeper.INSTANCES, logs.LOGS, records.RECORDS):
                (run / name).mkdir(mode=0o700, exist_ok=True)
            self._listener = stack.enter_context(listening.obtain(
                host, port, run / keeper.INSTANCES))
            self._keeper = keeper.Keeper(run, self._listener, service)
            self._keeper.adopt()
            self._control = stack.enter_context(_listen(run / CONTROL))
            self._stack = stack.pop_all()

    def _lock(self, stack: contextlib.ExitStack) -> None:
        try:
            stack.enter_context(home.Home(self._run).locked())
        except exceptions.AlreadyRunning:
            raise exceptions.AlreadyRunning(
                f'another holder has {self._run}') from None

    @property
    def port(self) -> int:
        """The port on which it listens for users."""
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        """Give everything back, but leave the instances that there are."""
        (self._run / CONTROL).unlink(missing_ok=True)
        self._stack.close()

    def end(self, *_: object) -> None:
        """Have :meth:`run` end all; a second time, at once; for signals."""
        self._told += 1

    def run(self) -> bool:
        """Do as told until told to end.

        :returns: whether all requests were answered
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            while not self._over():
                if selector.select(_PACE):
                    self._accept()
                self._keeper.watch()
        return self._told <= 1

    def _over(self) -> bool:
        """Go on with the end, if there is to be one; tell if it is reached.

        As with systemd's units, nothing is cut, however long it takes.
        """
        if self._told > 1:
            LOG.warning('Killing %d instances', len(self._keeper))
            for each in self._keeper.describe():
                try:
                    self._keeper.stop(each['name'])
                except exceptions.InstanceError as error:
                    # The others are to be killed nevertheless.
                    LOG.error('%s', error)
            return True
        if self._told == 0:
            return False
        if self._closing is None:
            LOG.info('Ending: %d instances take no more requests, and answer '
                     'those that they have, however long it takes; another '
                     'signal kills them', len(self._keeper))
            self._keeper.ending = True
            self._closing = listening.Closing(self._listener)
        if len(self._keeper) and not self._closing.ready:
            return False
        self._keeper.leave()
        self._closing.finish()
        return not len(self._keeper)

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
                return {'instances': self._keeper.describe()}
            name = _checked(asked['name'])
            if asked['do'] == 'start':
                self.start(name, Path(asked['slot']))
            elif asked['do'] == 'stop':
                self._keeper.stop(name)
            elif asked['do'] == 'forget':
                self._keeper.forget(name)
            else:
                return {'error': f'cannot do {asked["do"]!r}'}
        except exceptions.EasystackImageError as error:
            return {'error': str(error)}
        except OSError as error:
            LOG.exception('It cannot be done')
            return {'error': str(error)}
        except (ValueError, LookupError, TypeError) as error:
            return {'error': f'not a request: {error!r}'}
        return {}

    def start(self, name: str, slot: Path) -> None:
        """Start an instance, unless it runs.

        :raises ConfigurationError: if the slot has no uWSGI
        :raises InstanceError: if an instance of another slot has the name, or
            the holder was told to end
        """
        if self._told:
            raise exceptions.InstanceError('the holder was told to end')
        self._keeper.start(name, slot)


def _checked(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f'{name!r} is no name for an instance')
    return name


def _listen(path: Path) -> socket.socket:
    """Return the control socket, mode 0600.

    It takes the place of one that is dead in one step: whoever asks meanwhile
    can tell that a holder was killed from that there is none.
    """
    temporary = path.with_name(f'.{path.name}')
    temporary.unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX)
    try:
        # bind(2) makes the file with the mode of the socket.
        os.fchmod(control.fileno(), 0o600)
        control.bind(str(temporary))
        control.listen()
        temporary.rename(path)
    except OSError:
        control.close()
        raise
    return control
