"""Yielding the processors to whoever serves users.

To load a release takes seconds of them, and users of the release that serves
meanwhile should not wait for that.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import threading

#: The nice value (nice(2)) of those who yield: others get nine tenths.
_LAST = 10
#: Seconds after which a process that finds no time goes on as before.
_LONGEST = 10.0


@contextlib.contextmanager
def yielding(longest: float = _LONGEST) -> Iterator[None]:
    """Let everybody else go first, as long as this lasts.

    So do threads that are started meanwhile.  Nothing happens if there is no
    way back: that takes root, or a limit such as ``LimitNICE=+0`` of systemd
    (``RLIMIT_NICE``, setrlimit(2)).

    :param longest: seconds; on a machine that is busy with other things, an
        instance has to start, too
    """
    before = _value()
    if before >= _LAST or not _can_return():
        yield
        return
    # It must not yield itself, so it is started first.
    impatience = threading.Timer(longest, _restore, (before,))
    impatience.daemon = True
    impatience.start()
    # Of this thread; those that it starts inherit it (sched(7)).
    os.setpriority(os.PRIO_PROCESS, 0, _LAST)
    try:
        yield
    finally:
        impatience.cancel()
        _restore(before)


def _value(thread: int = 0) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


def _can_return() -> bool:
    """Whether this process may lower its nice value again.

    A thread tries: nobody minds if that one stays as it is.
    """
    allowed: list[bool] = []

    def attempt() -> None:
        before = _value()
        os.setpriority(os.PRIO_PROCESS, 0, before + 1)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, before)
        except PermissionError:
            return
        allowed.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(allowed)


def _restore(value: int) -> None:
    """Have all threads of this process go as before."""
    # Twice: one may be started while the first look is taken.
    for _ in range(2):
        for name in os.listdir('/proc/self/task'):
            # It may have ended.
            with contextlib.suppress(ProcessLookupError):
                if _value(int(name)) == _LAST:
                    os.setpriority(os.PRIO_PROCESS, int(name), value)
