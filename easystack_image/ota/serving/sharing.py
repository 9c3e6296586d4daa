"""The listening socket, handed from a worker to a new holder.

The holder may be killed; its instances serve on, and have the socket.  Each
worker that has it keeps a thread that hands it to whoever connects to a Unix
socket in the directory of the instance, which nobody but the user of the
service can enter (``SCM_RIGHTS``, unix(7)).

pidfd_getfd(2) would take the socket with nobody's help.  But it needs the
right to trace the process: an ordinary user has none as Yama comes on Debian
and Ubuntu (``ptrace_scope`` 1: only of its descendants, which instances of a
dead holder are not), and root has none in a container as Docker and Kubernetes
make it (no ``CAP_SYS_PTRACE``, and seccomp refuses the call).  Containers are
what the holder is for.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import socket
import threading
import time

from easystack_image.ota.serving import layout

#: A message must have a byte at least.
_BYTE = b'L'
#: Seconds that a worker may take to answer, and to recover from an error.
_ANSWER, _PAUSE = 1.0, 1.0


def share(place: layout.Place, worker: int, descriptor: int) -> None:
    """Have a thread hand the socket over, as long as this process lives.

    :param worker: the number of this worker
    :param descriptor: the listening socket
    :raises OSError: if the Unix socket cannot be made
    """
    path = place.shared(worker)
    # Of a worker that was killed.
    path.unlink(missing_ok=True)
    giver = socket.socket(socket.AF_UNIX)
    # bind(2) makes the file with the mode of the socket.
    os.fchmod(giver.fileno(), 0o600)
    giver.bind(str(path))
    giver.listen()
    threading.Thread(target=_give, args=(giver, descriptor), daemon=True,
                     name='easystack-image-sharing').start()


def _give(giver: socket.socket, descriptor: int) -> None:
    while True:
        try:
            connection, _ = giver.accept()
            with connection:
                socket.send_fds(connection, [_BYTE], [descriptor])
        except OSError:
            # Whoever asked is gone, or there are no descriptors: who asks
            # again, asks all.
            time.sleep(_PAUSE)


def take(path: Path) -> socket.socket | None:
    """Ask one worker for the socket.

    :returns: None if it does not answer
    """
    descriptors: list[int] = []
    with contextlib.suppress(OSError), socket.socket(
            socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER)
        connection.connect(str(path))
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if not descriptors:
        return None
    # Only instances inherit it.  (Not every recv_fds() passes flags on.)
    os.set_inheritable(descriptors[0], False)
    return socket.socket(fileno=descriptors[0])
