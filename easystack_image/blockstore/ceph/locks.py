"""Locks in the pool, which end by themselves if their owners die.

They are Ceph's own, on the object that also has the index.  Whoever has one
renews it; Ceph lets go of it :func:`lifetime` seconds after the last time.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import math
import secrets
import threading
import time

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)

#: Which part of the time limit a lock lasts that nobody renews, and which
#: part others wait for it: they outlast an owner who died.
LIFETIME = 1 / 8
PATIENCE = 1 / 2
#: How many times a lock is renewed before it would end.
RENEWALS = 3
#: Seconds between two attempts to get a lock.
PAUSE = 0.02
#: What Ceph calls a renewal of what must be there still
#: (LIBRADOS_LOCK_FLAG_MUST_RENEW).
_MUST_RENEW = 2


def lifetime(cluster: connection.Cluster) -> int:
    """Return how long a lock lasts that nobody renews, in seconds."""
    return math.ceil(cluster.limit * LIFETIME)


class Lease:
    """A lock that is renewed as long as it is wanted; use it within a run.

    :param name: of the lock
    :param seconds: how long it lasts without being renewed
    """

    def __init__(self, cluster: connection.Cluster, name: str,
                 seconds: int) -> None:
        self._cluster = cluster
        self._name = name
        self._seconds = seconds
        self._cookie = secrets.token_hex(8)
        self._until = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._renew, name='ceph-lock', daemon=True)

    def take(self) -> bool:
        """Take the lock; return False if somebody else has it."""
        try:
            self._lock(0)
        except bindings.rados().ObjectBusy:
            return False
        self._thread.start()
        return True

    def _lock(self, flags: int) -> None:
        begin = time.monotonic()
        self._cluster.ioctx.lock_exclusive(
            layout.INDEX, self._name, self._cookie, 'easystack-image',
            self._seconds, flags)
        self._until = begin + self._seconds

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / RENEWALS):
            try:
                self._lock(_MUST_RENEW)
            except bindings.rados().Error as error:
                LOG.info('The lock %(lock)s could not be renewed: %(error)s',
                         {'lock': self._name, 'error': error})

    def check(self) -> None:
        """See that what the lock is for may be done still.

        :raises easystack_image.exceptions.DeviceTimeout: if the lock may be
            another's by now, or nobody waits any more for what is done
        """
        if time.monotonic() >= self._until:
            raise exceptions.DeviceTimeout(
                self._cluster.name, f'the lock {self._name} was lost: the '
                f'cluster did not answer for {self._seconds} s')
        timed.check_wanted()

    def leave(self) -> None:
        """Renew it no more, so that it ends by itself."""
        self._ended.set()
        self._thread.join(1.0)

    def release(self) -> None:
        """Let others have it, now."""
        self.leave()
        try:
            self._cluster.ioctx.unlock(layout.INDEX, self._name,
                                       self._cookie)
        except bindings.rados().Error as error:
            # What was done under it is done.
            LOG.info('The lock %(lock)s ends by itself: %(error)s',
                     {'lock': self._name, 'error': error})


@contextlib.contextmanager
def exclusively(cluster: connection.Cluster,
                image_id: str) -> Iterator[Lease]:
    """Let nobody else of us rename to or from an id; use it within a run.

    librbd looks whether a name is taken before it renames, and not again:
    two who rename to one name at once both succeed.  There is one lock for
    the ids that begin alike.

    :raises easystack_image.exceptions.ImageBusy: if somebody keeps it
    """
    lease = Lease(cluster, f'rename.{image_id[:2]}', lifetime(cluster))
    deadline = time.monotonic() + cluster.limit * PATIENCE
    while not lease.take():
        if time.monotonic() > deadline:
            raise exceptions.ImageBusy(
                f'image {image_id}: another process works on it; try again')
        time.sleep(PAUSE)
    try:
        yield lease
    finally:
        lease.release()


@contextlib.contextmanager
def turn(cluster: connection.Cluster, name: str,
         seconds: float) -> Iterator[bool]:
    """Tell whether it is our turn to do what one does for all.

    Whoever comes first has it: while this lasts, and for the seconds after
    that.  Nobody else is to do it meanwhile.

    :raises easystack_image.exceptions.DeviceError: if the cluster does not
        answer
    """
    lease = Lease(cluster, name, math.ceil(seconds))
    ours = cluster.run(lease.take)
    try:
        yield ours
    finally:
        if ours:
            lease.leave()
