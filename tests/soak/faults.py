"""What is wrong at which time: what an error of a client may be due to."""

from __future__ import annotations

import dataclasses
import threading
import time

#: Kinds of fault under which a device may not answer.
REACH = frozenset({'away', 'slow', 'replace'})
#: Kinds under which an upload or a deletion may fail.
CHANGE = REACH | {'fill', 'kill-worker', 'stop-worker'}


@dataclasses.dataclass(slots=True, eq=False)
class Fault:
    """Something that is wrong for a while; times are monotonic."""

    kind: str
    #: The number of the device, or -1.
    device: int
    begin: float
    end: float = float('inf')
    #: Of the process that was killed, or 0.
    pid: int = 0


class Faults:
    """All faults so far; used by several threads.

    :param slack: seconds for which a fault may still be felt after its end
    """

    def __init__(self, slack: float) -> None:
        self._slack = slack
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def begin(self, kind: str, device: int = -1, pid: int = 0) -> Fault:
        """Note that something goes wrong from now on.

        Call it before it does.
        """
        fault = Fault(kind, device, time.monotonic(), pid=pid)
        with self._lock:
            self._faults.append(fault)
        return fault

    def end(self, fault: Fault) -> None:
        """Note that all is well again; call it when it is."""
        with self._lock:
            fault.end = time.monotonic()

    def since(self, begin: float) -> list[Fault]:
        """Return what was wrong, or still felt, from ``begin`` to now."""
        with self._lock:
            return [fault for fault in self._faults
                    if fault.end + self._slack >= begin]

    def unreachable(self, begin: float | None = None) -> set[int]:
        """Return the devices that may not have answered since ``begin``.

        :param begin: by default now, and without the slack
        """
        with self._lock:
            return {fault.device for fault in self._faults
                    if fault.kind in REACH and (
                        fault.end == float('inf') if begin is None
                        else fault.end + self._slack >= begin)}
