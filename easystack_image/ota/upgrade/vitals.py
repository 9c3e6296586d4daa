"""Whether an instance lives: the processes of which it consists."""

from __future__ import annotations

from collections.abc import Callable
import time

from easystack_image import exceptions
from easystack_image.ota.upgrade import fleet as fleets

#: How often, and for how many seconds, nobody answers before that counts: a
#: master is busy now and then, and systemd executes itself anew.
_TRIES, _PATIENCE = 3, 20.0
#: Seconds between two questions, at the end.
_PACE = 0.2


class Vitals:
    """Looks whether anything of an instance has died.

    :param fleet: the instances
    :param name: its name
    """

    def __init__(self, fleet: fleets.Fleet, name: str) -> None:
        self._fleet = fleet
        self._name = name
        self._master: int | None = None
        self._workers: list[int] = []
        #: How often nobody has answered, and since when.
        self._unanswered, self._since = 0, 0.0

    def check(self) -> None:
        """Look.

        :raises Regression: if a process has died, or nobody has answered for
            too long
        """
        try:
            master = self._fleet.pid(self._name)
            if master is None or self._master not in (None, master):
                raise self._died()
            self._master = master
            workers = [worker.pid for worker in
                       self._fleet.launcher.instance(self._name).workers()]
        except exceptions.InstanceError as error:
            self._endure(error)
            return
        self._unanswered = 0
        if self._workers and workers != self._workers:
            raise self._died()
        self._workers = workers

    def confirm(self, pause: Callable[[float], None]) -> None:
        """Look until somebody answers.

        :param pause: sleeps
        :raises Regression: see :meth:`check`
        """
        self.check()
        while self._unanswered:
            pause(_PACE)
            self.check()

    def _endure(self, error: exceptions.InstanceError) -> None:
        if not self._unanswered:
            self._since = time.monotonic()
        self._unanswered += 1
        if (self._unanswered >= _TRIES
                and time.monotonic() - self._since > _PATIENCE):
            raise exceptions.Regression(
                f'instance {self._name} has not answered for {_PATIENCE:g} s '
                f'while it was watched: {error}') from None

    def _died(self) -> exceptions.Regression:
        return exceptions.Regression(
            f'a process of instance {self._name} died while it was watched; '
            'its log may say why')
