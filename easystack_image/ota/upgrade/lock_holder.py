"""Holds the lock of the nodes, for the updater; run by the slot's Python.

``python -m easystack_image.ota.upgrade.lock_holder``: on standard input a
line of JSON, ``{"url": …, "seconds": …}``: where the nodes coordinate
themselves, and for how long to try.  On standard output, once:

``{"held": true}``
    It is ours; until standard input ends, or a line ``{"reason": …}`` says
    that it was lost.
``{"busy": true, "reason": …}``
    Another node has it.
``{"reason": …}``
    Nothing can be coordinated there.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import Any
from urllib import parse

import tooz
from tooz import coordination

NAME = b'easystack-image-ota'
#: Seconds between two tries, and between two looks whether it is still ours.
_PACE, _LOOK = 1.0, 5.0


def main() -> int:
    """Hold the lock; return 0 if that went well to the end."""
    asked = json.loads(sys.stdin.readline())
    url: str = asked['url']
    try:
        coordinator = coordination.get_coordinator(
            url, f'{socket.gethostname()}.{os.getpid()}'.encode())
        coordinator.start(start_heart=True)
        lock = _acquire(coordinator, float(asked['seconds']))
        if lock is None:
            _tell({'busy': True, 'reason': 'another node is being upgraded'})
            return 1
        _tell({'held': True})
        _hold(lock)
        lock.release()
    except Exception as error:
        # Whatever a driver raises: the updater has to know.
        _tell({'reason': _without_password(
            f'the nodes cannot be coordinated: {error or repr(error)}',
            url)})
        return 1
    return 0


def _acquire(coordinator: Any, seconds: float) -> Any:
    """Try to get the lock for a while; not every driver can wait itself.

    :returns: the lock, or None
    """
    deadline = time.monotonic() + seconds
    while True:
        # A new one each time: that of files miscounts vain tries.
        lock = coordinator.get_lock(NAME)
        if lock.acquire(blocking=False):
            return lock
        if time.monotonic() + _PACE > deadline or _is_over(_PACE):
            return None


def _is_over(seconds: float) -> bool:
    """Wait for a while; tell whether the updater wants no lock any more."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _hold(lock: Any) -> None:
    """Keep the lock until the updater has done with it.

    :raises Exception: if it was lost
    """
    while not _is_over(_LOOK):
        try:
            owned = lock.is_still_owner()
        except tooz.NotImplemented:
            owned = lock.acquired
            connection: Any = getattr(lock, '_conn', None)
            if hasattr(connection, 'ping'):
                # The lock of a database is that of a connection, which
                # servers close when nothing comes for long.
                connection.ping(reconnect=False)
        if not owned:
            raise tooz.ToozError('another one took the lock')


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + '\n')
    sys.stdout.flush()


def _without_password(text: str, url: str) -> str:
    password = parse.urlsplit(url).password
    for secret in filter(None, (password, parse.unquote(password or ''))):
        text = text.replace(secret, '***')
    return text


if __name__ == '__main__':
    sys.exit(main())
