"""One connection per process to a cluster, shared by all threads.

librados' connection has threads of its own, so it does not survive a fork: a
child forgets what it inherited, without a word to the cluster, and makes a
new one when it needs it.

Every call that goes to the cluster runs in a thread that can be left behind,
besides the time limits that librados keeps itself: not all of librbd's waits
have one.

While the cluster cannot be reached, one thread of a process tries to connect,
and the others wait for what comes of it.  A failure counts for all who ask
within the next seconds; so any number of calls ends within one time limit.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import ctypes
import dataclasses
import errno
import logging
import os
import threading
import time
from typing import Any, TypeVar
import weakref

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import settings as settings_module
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)
T = TypeVar('T')

#: What the cluster answers to one that it has shut out (blocklisted).
_SHUT_OUT = {errno.ESHUTDOWN, errno.ENOTCONN}
#: Seconds for which a failure to connect answers for all who ask: short, for
#: the cluster may be back; long enough that calls do not queue up behind one
#: attempt after the other.
HOLD_OFF = 2.0
#: How many times the time limit of one operation a call may take that is
#: made of several.
STEPS = 3


class Cluster:
    """A connection, and the pool.

    :raises easystack_image.exceptions.DeviceUnavailable: if there is no
        connection to be had
    """

    def __init__(self, settings: settings_module.Settings) -> None:
        self.settings = settings
        #: How errors name it.
        self.name = f'pool {settings.pool}'
        self.limit = settings.timeout * STEPS
        self.rbd = bindings.rbd().RBD()
        #: Whether another connection must take its place.
        self.stale = False
        self._pid = os.getpid()
        self._users = 1
        self._lock = threading.Lock()
        self._images: dict[int, Any] = {}
        self.rados: Any
        self.ioctx: Any
        self.rados, self.ioctx = self._connect()
        self.fsid: str = self.rados.get_fsid()
        _clusters.add(self)

    def _connect(self) -> tuple[Any, Any]:
        try:
            return timed.call(self._open, self.limit, 'ceph-connect',
                              _disconnect)
        except TimeoutError as error:
            raise exceptions.DeviceTimeout(
                self.name, f'the cluster of {self.settings.conf} did not '
                f'answer within {self.limit:g} s') from error
        except Exception as error:
            if not isinstance(error, bindings.rados().Error):
                raise
            raise exceptions.DeviceUnavailable(
                self.name, f'no connection as client.{self.settings.user} '
                f'with {self.settings.conf} ({error})',
                getattr(error, 'errno', None)) from error

    def _open(self) -> tuple[Any, Any]:
        seconds = f'{self.settings.timeout:g}'
        whole = f'{max(1, round(self.settings.timeout))}'
        rados = bindings.rados().Rados(
            conffile=self.settings.conf, rados_id=self.settings.user, conf={
                'rados_osd_op_timeout': seconds,
                'rados_mon_op_timeout': seconds,
                'client_mount_timeout': whole,
                # A queue of ours bounds what is under way, and its memory.
                'rbd_cache': 'false'})
        try:
            rados.connect()
            ioctx = rados.open_ioctx(self.settings.pool)
            # Or a full pool would let us wait instead of saying so.
            ioctx.set_osdmap_full_try()
        except BaseException:
            rados.shutdown()
            raise
        return rados, ioctx

    @property
    def usable(self) -> bool:
        """Whether it belongs to this process, and was not shut out."""
        return self._pid == os.getpid() and not self.stale

    def run(self, function: Callable[[], T], limit: float | None = None,
            discard: Callable[[T], object] | None = None) -> T:
        """Call something that goes to the cluster, within a time limit.

        :param limit: in seconds; that of an operation of several steps by
            default
        :param discard: called with the result if it comes too late
        :raises easystack_image.exceptions.DeviceError: for whatever goes
            wrong, except what :func:`expected` tells
        """
        limit = self.limit if limit is None else limit
        try:
            return timed.call(function, limit, 'ceph', discard)
        except TimeoutError as error:
            raise exceptions.DeviceTimeout(
                self.name, f'did not answer within {limit:g} s') from error
        except Exception as error:
            if expected(error) or not isinstance(
                    error, (bindings.rados().Error, bindings.rbd().Error)):
                raise
            raise self.failure(error) from error

    def failure(self, error: BaseException | int) -> exceptions.DeviceError:
        """Return an error of Ceph's modules as one of ours.

        :param error: or the number that an operation returned
        """
        number = abs(error if isinstance(error, int) else
                     getattr(error, 'errno', None) or 0)
        if number in _SHUT_OUT:
            self.stale = True
        if number == errno.ETIMEDOUT:
            return exceptions.DeviceTimeout(
                self.name, 'did not answer within '
                f'{self.settings.timeout:g} s', number)
        reason = os.strerror(number) if isinstance(error, int) else str(error)
        return exceptions.DeviceError(self.name, reason, number or None)

    def open(self, name: str | None, snapshot: str | None = None,
             read_only: bool = False, internal: str | None = None) -> Any:
        """Open an RBD image; call it within :meth:`run`.

        Who opens it for writing watches it until it is closed.

        :param internal: the id that Ceph gave to it, instead of a name
        """
        image = bindings.rbd().Image(self.ioctx, name, snapshot=snapshot,
                                     read_only=read_only, image_id=internal)
        with self._lock:
            self._images[id(image)] = image
            self._users += 1
        return image

    def close_image(self, image: Any) -> None:
        """Close an RBD image, once what is under way there has ended."""
        with self._lock:
            if self._pid != os.getpid() or (
                    self._images.pop(id(image), None) is None):
                return
        try:
            image.close()
        finally:
            self.release()

    @contextlib.contextmanager
    def opened(self, name: str, snapshot: str | None = None,
               read_only: bool = False) -> Any:
        """Open an RBD image for a while; use it within :meth:`run`."""
        image = self.open(name, snapshot, read_only)
        try:
            yield image
        finally:
            self.close_image(image)

    def release(self) -> None:
        """Count one user less; after the last the connection is closed."""
        with self._lock:
            self._users -= 1
            last = not self._users and self._pid == os.getpid()
        if last:
            _clusters.discard(self)
            _disconnect((self.rados, self.ioctx))

    def forget(self) -> None:
        """Let go of a connection that the parent process has.

        What it is made of must never be destroyed here: that would wait for
        threads which are not in this process.
        """
        for each in (self.rados, self.ioctx, self.rbd,
                     *self._images.values()):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


def expected(error: BaseException) -> bool:
    """Tell whether an error of Ceph's modules is about the image named.

    Not found, exists already, has watchers, has snapshots or children.
    """
    rbd = bindings.rbd()
    return isinstance(error, (
        rbd.ImageNotFound, rbd.ImageExists, rbd.ImageBusy,
        rbd.ImageHasSnapshots, bindings.rados().ObjectNotFound))


def _disconnect(both: tuple[Any, Any]) -> None:
    rados, ioctx = both
    ioctx.close()
    rados.shutdown()


class _Attempt:
    """One attempt to connect, and what came of it, for all who wait for it.

    Made by the thread that makes the attempt.
    """

    def __init__(self) -> None:
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._unwanted = False
        self._ended_at = 0.0
        self._cluster: Cluster | None = None
        self._error: BaseException | None = None

    def make(self, settings: settings_module.Settings) -> None:
        """Connect; :meth:`result` tells how it went."""
        try:
            cluster = Cluster(settings)
        except BaseException as error:
            self._error = error
        else:
            with self._lock:
                unwanted = self._unwanted
                if not unwanted:
                    self._cluster = cluster
            if unwanted:
                cluster.release()
        self._ended_at = time.monotonic()
        self._done.set()

    def over(self) -> bool:
        """Tell whether it is time for another attempt."""
        if not self._done.is_set():
            return False
        cluster = self._cluster
        if cluster is not None:
            return not cluster.usable
        return (not isinstance(self._error, exceptions.DeviceError)
                or time.monotonic() - self._ended_at >= HOLD_OFF)

    def result(self, limit: float) -> Cluster:
        """Wait for the connection.

        :param limit: seconds
        :raises easystack_image.exceptions.DeviceError: if there is none
        """
        if not timed.Patience(limit).wait(self._done.wait):
            raise exceptions.DeviceTimeout(
                'the cluster', f'no connection within {limit:g} s')
        cluster, error = self._cluster, self._error
        if cluster is not None:
            return cluster
        if isinstance(error, exceptions.DeviceError):
            # Each thread raises an error of its own.
            raise type(error)(error.device, error.reason,
                              error.errno) from error
        raise error or exceptions.DeviceUnavailable(
            'the cluster', 'the connection was closed meanwhile')

    def drop(self) -> None:
        """Let go of the connection, or of what it will be."""
        with self._lock:
            self._unwanted = True
            cluster, self._cluster = self._cluster, None
        if cluster is not None:
            # Its readers, if there are any, keep it.
            cluster.release()


class _Shared:
    """The connection that the engines of this process share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.attempt: _Attempt | None = None
        self.users = 0


class Connection:
    """What an engine has to get at the cluster.

    Those with the same settings share one connection.
    """

    def __init__(self, settings: settings_module.Settings) -> None:
        self._settings = settings
        # What has no part in how images are read and written.
        self._key = dataclasses.replace(
            settings, self_repair=True, sweep_interval=1.0,
            heal_interval=1.0, scrub_period=1.0, scrub_rate=0.0)
        self._joined: _Shared | None = None

    def cluster(self) -> Cluster:
        """Return the connection; it is made if there is none.

        :raises easystack_image.exceptions.DeviceError: if it cannot be had
        """
        shared = self._join()
        with shared.lock:
            before = shared.attempt
            if before is None or before.over():
                attempt = shared.attempt = _Attempt()
            else:
                attempt = before
        if attempt is not before:
            if before is not None:
                before.drop()
            attempt.make(self._settings)
        # Whoever makes the attempt ends it within the limit.
        return attempt.result(self._settings.timeout * (STEPS + 1))

    def _join(self) -> _Shared:
        with _registry.lock:
            shared = _registry.shared.setdefault(self._key, _Shared())
            if self._joined is not shared:
                self._joined = shared
                shared.users += 1
            return shared

    def close(self) -> None:
        """Close the connection, if no other engine has it; may be repeated."""
        with _registry.lock:
            shared, self._joined = self._joined, None
            if shared is None or (
                    _registry.shared.get(self._key) is not shared):
                return
            shared.users -= 1
            if shared.users:
                return
            del _registry.shared[self._key]
        with shared.lock:
            if shared.attempt is not None:
                shared.attempt.drop()


class _Registry:
    """All connections of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shared: dict[settings_module.Settings, _Shared] = {}


_registry = _Registry()
_clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()


def _after_fork() -> None:
    global _registry
    for cluster in list(_clusters):
        cluster.forget()
    _clusters.clear()
    _registry = _Registry()


os.register_at_fork(after_in_child=_after_fork)
