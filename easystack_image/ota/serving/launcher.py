"""Who starts instances, and which there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path
import socket
import time
from typing import Any, Protocol

from easystack_image import exceptions
from easystack_image.ota.serving import holder
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import keeper
from easystack_image.ota.serving import layout

#: Seconds that the holder may take to answer.
_ANSWER = 30.0
#: Seconds for which one that was killed may be missing, until whatever starts
#: it has done so, and between two looks.
_MISSING, _PACE = 10.0, 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """An instance that was started, and not stopped since.

    :param name: its name
    :param slot: the resolved path of its slot
    :param pid: of its master, None while it does not run
    """

    name: str
    slot: Path
    pid: int | None


class Launcher(Protocol):
    """Starts and stops instances on the shared socket.

    All may be called again with the same arguments, by another process too.
    """

    def start(self, name: str, slot: Path) -> instance_module.Instance:
        """Start an instance, its gate shut, unless it runs; do not wait.

        :raises InstanceError: if it cannot be started
        """

    def stop(self, name: str) -> None:
        """Kill an instance if it runs: what it is at is cut."""

    def forget(self, name: str) -> None:
        """Do not start an instance again when it ends."""

    def list(self) -> Sequence[Started]:
        """Return what has been started."""

    def instance(self, name: str) -> instance_module.Instance:
        """Return the control of an instance, whether it runs or not."""


def free_name(launcher: Launcher, there: Iterable[Started],
              name: str) -> str:
    """Return a name for an instance, or one like it.

    Who bears it may have been told to leave, and takes no more requests,
    however long it still is at something.

    :param there: the instances that there are
    """
    taken = {started.name for started in there}
    version, _, number = name.rpartition('.')
    while name in taken and launcher.instance(name).place.leaving.exists():
        # No upgrade has a number that begins so.
        number = f'0{number}'
        name = f'{version}.{number}'
    return name


class HolderLauncher:
    """Asks the holder of this package.

    :param run: the holder's directory
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    def start(self, name: str, slot: Path) -> instance_module.Instance:
        """See the protocol."""
        self._ask({'do': 'start', 'name': name, 'slot': str(slot)})
        return self.instance(name)

    def stop(self, name: str) -> None:
        """See the protocol."""
        self._ask({'do': 'stop', 'name': name})

    def forget(self, name: str) -> None:
        """See the protocol."""
        self._ask({'do': 'forget', 'name': name})

    def list(self) -> Sequence[Started]:
        """See the protocol."""
        return [Started(each['name'], Path(each['slot']), each['pid'])
                for each in self._ask({'do': 'list'})['instances']]

    def instance(self, name: str) -> instance_module.Instance:
        """See the protocol."""
        return instance_module.Instance(
            layout.Place((self._run / keeper.INSTANCES / name).absolute()))

    def _ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask; again, if the holder is killed meanwhile: it does no harm."""
        deadline = time.monotonic() + _MISSING
        while True:
            try:
                answer = self._answer(question)
                break
            except (OSError, ValueError) as error:
                # One that was told to end has removed the socket.
                if isinstance(error, FileNotFoundError | TimeoutError) or (
                        time.monotonic() > deadline):
                    raise exceptions.InstanceError(
                        f'the holder at {self._run} does not answer: {error}; '
                        'is "easystack-image-ota hold" running?') from error
            time.sleep(_PACE)
        if 'error' in answer:
            raise exceptions.InstanceError(str(answer['error']))
        return answer

    def _answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER)
            connection.connect(str(self._run / holder.CONTROL))
            with connection.makefile('rwb') as stream:
                stream.write(json.dumps(question).encode() + b'\n')
                stream.flush()
                answer: Mapping[str, Any] = json.loads(stream.readline())
        return answer
