"""What uWSGI loads: the real application, behind the gate of the instance.

uWSGI takes requests once this module is imported, in each worker for itself
(``lazy-apps``).  So a worker that waits here is warm, and serves within
milliseconds when its gate is opened.  The worker of the private socket never
waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import importlib
import os
from pathlib import Path
import signal
import threading
import time
from typing import Any

from easystack_image.ota.serving import layout
from easystack_image.ota.serving import niceness
from easystack_image.ota.serving import sharing
from easystack_image.ota.serving import warming

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: Seconds between two looks at the gate.
_PACE = 0.01
#: By which uWSGI's master tells a worker to end when all is answered.
_LEAVE = signal.SIGHUP


def load(name: str) -> Application:
    """Return an application.

    :param name: ``module:attribute``
    :raises ImportError: and whatever else importing it raises
    """
    module, _, attribute = name.partition(':')
    application: Application = getattr(importlib.import_module(module),
                                       attribute or 'application')
    return application


def wait_at_gate(place: layout.Place, application: Application,
                 worker: int, threads: int, master: int) -> None:
    """Wait until the gate is open; warm up meanwhile, if asked to.

    :param worker: the number of this worker
    :param threads: how many requests it will serve at once
    :param master: its process, which may be dead by now
    :raises SystemExit: if the master dies: uWSGI would notice only later
    """
    warmed: bytes | None = None
    while not place.gate.exists():
        leave_if_told(place)
        if os.getppid() != master:
            raise SystemExit('The master of this worker is gone.')
        warmed = warming.answer(place, application, worker, warmed,
                                threads)
        time.sleep(_PACE)


def leave_if_told(place: layout.Place) -> None:
    """End this worker, which does not serve yet, if its instance leaves.

    uWSGI would take an exception for a release that cannot be loaded, and
    have workers that serve end at once.
    """
    if place.leaving.exists():
        os._exit(0)


def take_signals_elsewhere() -> None:
    """Have a thread of its own interrupted when this worker is told to end.

    It would be uWSGI's first thread, which serves requests as the others do;
    if it waits for a slow reader just then, poll(2) ends early, and uWSGI
    takes that for a failure and cuts the answer.  Whatever this thread
    starts from now on leaves the signal to that thread, too.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {_LEAVE})
    threading.Thread(target=_wait_for_signals, daemon=True,
                     name='easystack-image-signals').start()


def _wait_for_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {_LEAVE})
    while True:
        # uWSGI's handler, which is none of Python's, runs meanwhile.
        signal.pause()


def _start() -> Application:
    take_signals_elsewhere()
    # Exists only in a process of uWSGI.
    import uwsgi

    worker = uwsgi.worker_id()
    place = layout.Place(Path(os.environ[layout.DIRECTORY_VARIABLE]))
    # uWSGI closes the sockets that a worker does not answer on.
    shared = worker != int(os.environ[layout.PRIVATE_WORKER_VARIABLE])
    if shared and layout.LISTENER_VARIABLE in os.environ:
        sharing.share(place, worker,
                      int(os.environ[layout.LISTENER_VARIABLE]))
    with niceness.yielding():
        found = load(os.environ[layout.APPLICATION_VARIABLE])
        warming.settle()
    if shared:
        wait_at_gate(place, found, worker, int(uwsgi.opt['threads']),
                     uwsgi.masterpid())
    leave_if_told(place)
    return found


if layout.APPLICATION_VARIABLE in os.environ:
    application = _start()
