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
#: The driver whose lock belongs to a connection to a database.
_MYSQL = 'tooz.drivers.mysql'
#: Seconds between two tries, and between two looks whether it is still ours.
_PACE, _LOOK = 1.0, 5.0
#: Seconds after which a database gives up a connection that says nothing, and
#: after which we give up one that does not answer.  The second and _LOOK are
#: less than the first: whoever has lost the lock knows before another gets it.
_SILENCE, _ANSWER = 60, 10.0


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
        _limit(lock)
        _tell({'held': True})
        _hold(lock)
        lock.release()
    except Exception as error:
        # Whatever a driver raises: the updater has to know.
        _tell({'reason': 'the nodes cannot be coordinated: '
               + _without_password(error, url)})
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


def _limit(lock: Any) -> None:
    """See that the lock does not outlive us for long, nor we the lock.

    A database notices for hours neither that the machine of a client has lost
    its power, nor does a client the reverse.
    """
    connection = getattr(lock, '_conn', None)
    if type(lock).__module__ != _MYSQL or connection is None:
        return
    with connection.cursor() as cursor:
        cursor.execute('SET SESSION wait_timeout = %s', (_SILENCE,))
    if hasattr(connection, '_read_timeout'):
        connection._read_timeout = _ANSWER


def _hold(lock: Any) -> None:
    """Keep the lock until the updater has done with it.

    :raises Exception: if it was lost
    """
    while not _is_over(_LOOK):
        _look(lock)


def _look(lock: Any) -> None:
    """See that the lock is ours.

    :raises Exception: if it was lost
    """
    try:
        owned = lock.is_still_owner()
    except tooz.NotImplemented:
        owned = lock.acquired
        connection: Any = getattr(lock, '_conn', None)
        if hasattr(connection, 'ping'):
            # The lock of a database is that of a connection, which servers
            # close when nothing comes for long.
            connection.ping(reconnect=False)
    if not owned:
        raise tooz.ToozError('another one took the lock')


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + '\n')
    sys.stdout.flush()


def _without_password(error: Exception, url: str) -> str:
    """Return what went wrong, without the password in the URL.

    Of a password with characters that end it for whoever reads the URL, only
    pieces may be in the words of an error.
    """
    try:
        password = parse.urlsplit(url).password or ''
    except ValueError:
        password = ''
    user = url.partition('://')[2].rpartition('@')[0]
    if user.partition(':')[2] != password:
        return (f'{type(error).__name__}. The password in coordination_url '
                'must have its special characters quoted (/ is %2F)')
    text = str(error) or repr(error)
    for secret in filter(None, (password, parse.unquote(password))):
        text = text.replace(secret, '***')
    return text


if __name__ == '__main__':
    sys.exit(main())
