"""Control of one instance, whoever started it.

What an instance should do is said by its gate, a file: so that one that died
and is started again does what its predecessor should have done.  What it does
is asked of uWSGI, every time: whoever controls it may have died as well.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import errno
import os
from pathlib import Path
import stat
import time

from easystack_image import exceptions
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import stats

#: Seconds between two questions.
_PACE = 0.02
#: What it means to find a directory, a link or a pipe instead of a file.
_TAMPERED = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
#: Seconds that a master may take to answer: it is one thread that sleeps.
_ANSWER = 5.0


class Instance:
    """One instance of the service.

    :param place: its directory
    """

    def __init__(self, place: layout.Place) -> None:
        self.place = place

    @property
    def name(self) -> str:
        """Its name."""
        return self.place.name

    def workers(self) -> list[stats.Worker]:
        """Return the workers on the shared socket.

        They are as many as were configured when it was started.

        :raises InstanceError: if the instance does not answer
        """
        return self._all()[:-1]

    def _all(self) -> list[stats.Worker]:
        """Return all workers; the last one is that of the private socket."""
        found = stats.read(self.place.stats, _ANSWER)
        if len(found) <= 1:
            raise exceptions.InstanceError(
                f'{self.place.stats} tells of {len(found)} worker; an '
                'instance has one more than serve users')
        return found

    @property
    def running(self) -> bool:
        """Whether its master answers."""
        try:
            self._all()
        except exceptions.InstanceError:
            return False
        return True

    def in_flight(self) -> int:
        """Return how many requests of users it is at.

        :raises InstanceError: if it does not answer
        """
        return sum(worker.busy for worker in self.workers())

    @property
    def loaded(self) -> bool:
        """Whether the worker of the private socket has the application.

        The others then have it too, or are about to: they began at the same
        time; :func:`easystack_image.ota.serving.warmth.results` tells.
        """
        try:
            return self._all()[-1].accepting
        except exceptions.InstanceError:
            return False

    def serve(self, timeout: float) -> None:
        """Let it take requests; return when all its workers do.

        It may be called again.  There is no way back but :meth:`leave`.

        :param timeout: seconds
        :raises InstanceError: if it does not in that time
        """
        with _tampering(self.name):
            _mark(self.place.gate)
        deadline = time.monotonic() + timeout
        while not all(worker.accepting for worker in self.workers()):
            if time.monotonic() > deadline:
                raise exceptions.InstanceError(
                    f'instance {self.name} does not take requests within '
                    f'{timeout:g} s')
            time.sleep(_PACE)

    def leave(self) -> None:
        """Let it take no more requests, and end when all are answered.

        However long that takes: nothing is cut.  From now on uWSGI answers
        no questions, since its master waits for the workers.  It may be
        called again.  (uWSGI's "pause" is no alternative: threads that wait
        for a request take one more, and those that sleep notice for up to
        ten seconds neither that they should go on nor that they should end.)

        :raises InstanceError: if it does not run, or cannot be told because
            of what it did to its directory
        :raises OSError: if it cannot be told for another reason
        """
        with _tampering(self.name):
            try:
                # First, so that a new process of it would not begin.
                self.place.gate.unlink(missing_ok=True)
                # Workers that are not ready yet do not hear what their master
                # says.
                with contextlib.suppress(FileNotFoundError):
                    _mark(self.place.leaving)
            except OSError:
                # Workers that serve hear it, be the disk broken or not.
                with contextlib.suppress(OSError, exceptions.InstanceError):
                    self._tell('q')
                raise
            self._tell('q')

    def _tell(self, command: str) -> None:
        """Write a command for the master (uWSGI's master FIFO).

        :raises InstanceError: if no master reads it
        """
        try:
            # Would wait for ever for a reader that is dead.
            descriptor = os.open(self.place.fifo,
                                 os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            raise exceptions.InstanceError(
                f'instance {self.name} does not run') from error
        try:
            if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                raise exceptions.InstanceError(
                    f'{self.place.fifo} is no FIFO')
            os.write(descriptor, command.encode())
        finally:
            os.close(descriptor)


def _mark(path: Path) -> None:
    """Make an empty file, unless it is there.

    Root must not be led elsewhere by the user of the service, whose
    directory it is, nor kept waiting: no link is followed, and no pipe
    waited for.

    :raises OSError: if something else is in its place, or it cannot be made
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
                     | os.O_NONBLOCK | os.O_CLOEXEC, 0o600))


@contextlib.contextmanager
def _tampering(name: str) -> Iterator[None]:
    """Tell what an instance did to its directory from all else that fails.

    Only whoever controls the service puts a directory, a link or a pipe where
    a file should be: such an instance may be killed.  One that cannot be told
    something since there is no room, say, must not be.

    :raises InstanceError: for an OSError of that kind
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _TAMPERED:
            raise
        raise exceptions.InstanceError(
            f'instance {name}: something else is in the place of '
            f'{error.filename}: {error.strerror}') from error
