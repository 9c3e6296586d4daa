"""Calls that end in time, whatever the device behind them does.

A system call on a dying disk can hang for ever, and no signal ends it.  So
whatever touches a device runs in a thread that can be left behind.  The
threads are daemons: ``concurrent.futures`` would wait for a hung one when
the interpreter exits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
import threading
import time
from typing import Any, Generic, TypeVar

T = TypeVar('T')
K = TypeVar('K', bound=Hashable)
#: Which call runs in a thread.
_running = threading.local()
#: Seconds that are waited at a time, at most.
SLICE = 0.5


class Patience:
    """Time that is left to wait for something else.

    Time for which this whole process stood still (it was stopped, or its
    machine was paused, or moved to another host) hardly counts: the disks
    are not to blame for it, and whoever answers for them stood still too.

    :param seconds: of waiting
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._left = seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._left)

    def part(self, seconds: float) -> Patience:
        """Return a part of what is left, at most so many seconds."""
        return Patience(min(seconds, self.left))

    def spend(self, part: Patience) -> None:
        """Have less left, by what a part was used up."""
        self._left -= part.seconds - part._left

    def wait(self, arrived: Callable[[float], bool]) -> bool:
        """Wait for something; return whether it came in time.

        :param arrived: waits for so many seconds; returns whether it came
        """
        while True:
            begin = time.monotonic()
            came = arrived(max(0.0, min(self._left, SLICE)))
            took = time.monotonic() - begin
            if took < 2 * SLICE:
                self._left -= took
            else:
                # It stood still. Whoever is waited for needs a moment.
                self._left = max(self._left - SLICE, SLICE)
            if came or self._left <= 0:
                return came


def beat() -> None:
    """Tell that the call which runs in this thread gets on.

    Long calls do so between their steps: see ``quiet`` of :func:`gather`.
    """
    call = getattr(_running, 'call', None)
    if call is not None:
        call.beats += 1


def check_wanted() -> None:
    """See that somebody waits still for the call which runs in this thread.

    Calls do so before what must not be done once they were given up.

    :raises TimeoutError: if nobody does
    """
    call = getattr(_running, 'call', None)
    if call is not None and call.abandoned:
        raise TimeoutError('nobody waits for this any more')


class TimedCall(Generic[T]):
    """One function, running in a thread of its own.

    :param discard: called with the result if it comes after :meth:`result`
        gave up, for instance to close a file
    """

    def __init__(self, function: Callable[[], T], name: str,
                 discard: Callable[[T], Any] | None = None) -> None:
        self._function = function
        self._discard = discard
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._abandoned = False
        #: How often it was heard of; see :func:`beat`.
        self.beats = 0
        self._value: T
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def abandoned(self) -> bool:
        """Whether :meth:`result` gave up."""
        return self._abandoned

    def _run(self) -> None:
        _running.call = self
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        with self._lock:
            abandoned = self._abandoned
            self._done.set()
        if abandoned and self._error is None and self._discard:
            self._discard(self._value)

    def result(self, patience: Patience, quiet: float = float('inf')) -> T:
        """Wait for the function and return what it returned.

        :param patience: what is left of it is less afterwards
        :param quiet: seconds that it may take without a :func:`beat`; it
            can be twice that before it is noticed
        :raises TimeoutError: if it did not return in time
        :raises BaseException: what the function raised
        """
        while True:
            beats = self.beats
            part = patience.part(quiet)
            came = part.wait(self._done.wait)
            patience.spend(part)
            if came or self.beats == beats or not patience.left:
                break
        if not came:
            with self._lock:
                self._abandoned = not self._done.is_set()
            if self._abandoned:
                raise TimeoutError('no answer within '
                                   f'{min(patience.seconds, quiet):g} s')
        if self._error is not None:
            try:
                raise self._error
            finally:
                # Break the cycle from the traceback's frames to this object.
                self._error = None
        return self._value


def call(function: Callable[[], T], timeout: float, name: str,
         discard: Callable[[T], Any] | None = None) -> T:
    """Run one function, within ``timeout`` seconds.

    :raises TimeoutError: if it did not return in time
    """
    return TimedCall(function, name, discard).result(Patience(timeout))


def gather(functions: Mapping[K, Callable[[], T]], timeout: float, name: str,
           discard: Callable[[T], Any] | None = None,
           quiet: float = float('inf')) -> dict[K, T | Exception]:
    """Run functions side by side; return results and errors by key.

    :param timeout: for all of them together, in seconds
    :param quiet: seconds that each may take without a :func:`beat`
    """
    patience = Patience(timeout)
    calls = {key: TimedCall(function, name, discard)
             for key, function in functions.items()}
    results: dict[K, T | Exception] = {}
    for key, pending in calls.items():
        try:
            results[key] = pending.result(patience, quiet)
        except Exception as error:
            results[key] = error
    return results
