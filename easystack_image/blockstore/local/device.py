"""A device: one directory, on a disk of its own, that holds copies.

What lies in it (``XX``: the first two digits of an image id)::

    easystack-block.json         who the device is (see :class:`Identity`)
    images/XX/ID/data            the plain bytes of the image
    images/XX/ID/manifest        what they must be (see manifest.py)
    tmp/                         uploads under way, and copies being removed
    deleted/XX/ID.GENERATION     this upload was deleted: never serve it
    repair/ID.GENERATION         this upload waits for repair
    quarantine/                  damaged copies, put aside
    locks/                       files that processes lock

A directory without the right identity is never written to: an unmounted disk
must not fill the root file system, and a foreign disk is not ours.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import threading
import time
from typing import TypeVar
import uuid
import weakref

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import placement
from easystack_image.blockstore.local import timed

IDENTITY = 'easystack-block.json'
#: What the identity file of a device that left the set is called.
REMOVED = IDENTITY + '.removed'
FORMAT = 1
SHARDS = tuple(f'{number:02x}' for number in range(256))
DIRECTORIES = ('images', 'tmp', 'deleted', 'repair', 'quarantine', 'locks')
#: States of a device.
ACTIVE = 'active'
DRAINING = 'draining'
#: How many calls may hang on a device before it is left alone altogether.
MOST_HUNG = 4
T = TypeVar('T')
SHARDED = ('images', 'deleted')


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is.

    In the identity file it is a JSON object with these fields, ``format``
    (1) and ``sha256``, the SHA-256 in hexadecimal of the object without that
    field, with sorted keys and without white space.
    """

    device_id: str
    store_id: str
    zone: str
    weight: float
    #: ``active``, or ``draining``: read from, but not placed on.
    state: str = ACTIVE
    #: What placement knows the device by: its own id, or what the device had
    #: that it replaced, so that it takes over that one's images.
    placement_key: str = ''
    #: The id of the device that it replaced, or ''.
    replaces: str = ''

    def __post_init__(self) -> None:
        if self.state not in (ACTIVE, DRAINING):
            raise ValueError(f'a device cannot be {self.state!r}')

    def pack(self) -> bytes:
        """Return the content of the identity file."""
        fields = {'format': FORMAT, **dataclasses.asdict(self)}
        fields['sha256'] = _digest(fields)
        return json.dumps(fields, indent=1, sort_keys=True).encode() + b'\n'

    @classmethod
    def unpack(cls, data: bytes) -> Identity:
        """Return the identity that an identity file holds.

        :raises ValueError: if it is damaged, or of another format
        """
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise ValueError('identity file holds no JSON object')
        if fields.get('format') != FORMAT:
            raise ValueError(f'identity has format {fields.get("format")!r};'
                             f' this release reads format {FORMAT}')
        if fields.pop('sha256', None) != _digest(fields):
            raise ValueError('identity file is damaged')
        del fields['format']
        return cls(**fields)

    def candidate(self) -> placement.Candidate:
        """Return the device as placement sees it."""
        return placement.Candidate(self.placement_key or self.device_id,
                                   self.zone, self.weight)


def _digest(fields: dict[str, object]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


class Attached:
    """A device while it is held open: its root directory and its identity.

    All file names are relative to the root, so what is done here is done on
    this very file system, or fails.
    """

    def __init__(self, path: str, fd: int, identity: Identity) -> None:
        self.path = path
        self.fd = fd
        self.identity = identity

    def close(self) -> None:
        """Let go of the device; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def directory(self, name: str) -> contextlib.AbstractContextManager[int]:
        """Open a directory of the device for a while."""
        return fsio.directory(name, self.fd)

    def check_mounted(self) -> None:
        """Raise DeviceUnavailable unless the path still leads here.

        A lazily unmounted file system goes on taking writes through open
        descriptors, and nobody finds them afterwards.
        """
        there, here = os.stat(self.path), os.fstat(self.fd)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise exceptions.DeviceUnavailable(
                self.path, 'was unmounted or replaced in the meantime')


class Device:
    """A configured device, attached or not.

    Remembers, in this process only, that the device failed to answer, so
    that not every call waits for it again.
    """

    def __init__(self, path: str, retry_after: float) -> None:
        """Describe a device.

        :param path: the absolute path of its directory
        :param retry_after: seconds to leave it alone after it hung
        """
        self.path = path
        self.retry_after = retry_after
        self._avoid_until = 0.0
        self._reset()
        # The child of a fork has none of its parent's threads.
        reset = weakref.WeakMethod(self._reset)
        os.register_at_fork(
            after_in_child=lambda: (method := reset()) and method())
        self._known: Identity | None = None
        #: The device that was here before that one.
        self._before: Identity | None = None

    def _reset(self) -> None:
        self._lock = threading.Lock()
        #: When calls on the device began that have not ended yet.
        self._running: dict[object, float] = {}

    def avoided(self) -> bool:
        """Tell whether the device hung not long ago.

        Or whether so many calls hang on it that no more should be added:
        each keeps a thread for as long as the disk likes.
        """
        now = time.monotonic()
        with self._lock:
            hung = sum(began + self.retry_after < now
                       for began in self._running.values())
        return now < self._avoid_until or hung >= MOST_HUNG

    def stuck(self, seconds: float) -> bool:
        """Tell whether a call on the device has taken that long already."""
        before = time.monotonic() - seconds
        with self._lock:
            return any(began < before for began in self._running.values())

    def watch(self, function: Callable[[Device], T]) -> T:
        """Call a function that should not take longer than an operation."""
        call = object()
        with self._lock:
            self._running[call] = time.monotonic()
        try:
            return function(self)
        finally:
            with self._lock:
                self._running.pop(call, None)

    def avoid(self) -> None:
        """Leave the device alone for a while: it did not answer in time."""
        self._avoid_until = time.monotonic() + self.retry_after

    def hang(self) -> Callable[[], object]:
        """Note that a call hangs on the device, and leave it alone.

        :returns: what to call when that call has ended after all
        """
        call = object()
        with self._lock:
            self._running[call] = float('-inf')
        self.avoid()

        def ended() -> None:
            with self._lock:
                self._running.pop(call, None)

        return ended

    def attach(self, store_id: str | None = None) -> Attached:
        """Open the device.

        Blocks as long as its disk does: call it where that is bounded.

        :param store_id: the set that it must belong to, if that is known
        :raises easystack_image.exceptions.DeviceUnavailable: if there is no
            directory, no sound identity, or not the one that it had before
        """
        try:
            fd = fsio.open_directory(self.path)
        except OSError as error:
            reason = str(error.strerror)
            if error.errno == errno.EACCES:
                reason += ': give it (chown) to the user that Glance runs as'
            raise exceptions.DeviceUnavailable(
                self.path, reason, error.errno) from error
        try:
            identity = self._identify(fd, store_id)
        except BaseException:
            os.close(fd)
            raise
        return Attached(self.path, fd, identity)

    def _identify(self, fd: int, store_id: str | None) -> Identity:
        identity = read_identity(self.path, fd)
        if store_id is not None and identity.store_id != store_id:
            raise exceptions.DeviceUnavailable(
                self.path, f'belongs to another set of devices '
                           f'({identity.store_id}, not {store_id})')
        known = self._known
        if known is not None and known.device_id != identity.device_id:
            self._before = known
        self._known = identity
        return identity

    def forget(self) -> None:
        """Forget the identity: the device left the set."""
        self._known = None

    @property
    def exchanged(self) -> bool:
        """Whether another device was at this path before."""
        return self._before is not None

    def mistake(self) -> None:
        """Take the device for the one before: this one is elsewhere."""
        self._known = self._before

    def pretend(self, identity: Identity) -> None:
        """Take the device for this one, until its identity is read again."""
        self._known = identity

    @property
    def known(self) -> Identity | None:
        """The identity that was read last, or None if none was yet."""
        return self._known


def read_identity(path: str, fd: int) -> Identity:
    """Return the identity of the directory that ``fd`` has open.

    :raises easystack_image.exceptions.DeviceUnavailable: if it has none, or
        a damaged one
    """
    try:
        return Identity.unpack(fsio.read_file(IDENTITY, fd, 65536))
    except FileNotFoundError:
        raise exceptions.DeviceUnavailable(path, (
            'was removed from the set: take it from easystack_block_devices'
            if fsio.exists(REMOVED, fd) else
            'is not a device of the block store, or its disk is not '
            'mounted')) from None
    except OSError as error:
        raise exceptions.DeviceUnavailable(
            path, str(error.strerror), error.errno) from error
    except (ValueError, TypeError) as error:
        raise exceptions.DeviceUnavailable(
            path, f'has no sound identity in {IDENTITY} ({error})') from error


def was_removed(path: str) -> bool:
    """Tell whether a directory is a device that left its set.

    Blocks as long as its disk does.
    """
    return os.path.lexists(f'{path}/{REMOVED}') and not os.path.lexists(
        f'{path}/{IDENTITY}')


def new_identity(store_id: str, zone: str | None = None,
                 weight: float = 1.0) -> Identity:
    """Return the identity of a new device.

    :param zone: what fails together, by default the device alone
    :param weight: the share of images it takes, relative to other devices
    :raises easystack_image.exceptions.ConfigurationError: if the weight
        cannot be used
    """
    if not 0 < weight <= 1e6:
        raise exceptions.ConfigurationError(
            f'weight must be more than 0 and at most 1000000, not {weight}')
    device_id = str(uuid.uuid4())
    return Identity(device_id, store_id, zone or device_id, float(weight))


def initialise(path: str, identity: Identity) -> None:
    """Make a device of an empty directory.

    The identity file comes last and by rename, so that a device is whole as
    soon as it is one; after a crash, call this again.

    :raises easystack_image.exceptions.ConfigurationError: if the directory
        does not exist, holds something already, or cannot be written
    """
    fd = _open_new(path)
    try:
        _check_empty(path, fd)
        _make_tree(fd)
        write_identity(fd, identity)
    except OSError as error:
        raise exceptions.ConfigurationError(
            f'device {path} cannot be prepared: {error.strerror}') from error
    finally:
        os.close(fd)


def _open_new(path: str) -> int:
    try:
        return fsio.open_directory(path)
    except OSError as error:
        raise exceptions.ConfigurationError(
            f'device {path}: {error.strerror}: create the directory, or '
            'mount its disk there') from error


def check_unused(path: str) -> None:
    """Refuse a directory that :func:`initialise` would refuse.

    :raises easystack_image.exceptions.ConfigurationError: saying why
    """
    fd = _open_new(path)
    try:
        _check_empty(path, fd)
    finally:
        os.close(fd)


def write_identity(fd: int, identity: Identity) -> None:
    """Give the directory that ``fd`` has open an identity, or a new one.

    In one step: a crash leaves the old one or the new one.
    """
    fsio.replace_file(IDENTITY, identity.pack(), fd)


def _check_empty(path: str, fd: int) -> None:
    if fsio.exists(IDENTITY, fd):
        raise exceptions.ConfigurationError(
            f'device {path} has been prepared already')
    if any(_names(f'images/{shard}', fd) for shard in SHARDS):
        raise exceptions.ConfigurationError(
            f'device {path} has images but no identity file: restore '
            f'{IDENTITY} from a backup, or empty it, and '
            'have it replace the device that it was')
    # What an interrupted initialise() leaves, and what mkfs puts there.
    harmless = {*DIRECTORIES, IDENTITY + '.new', 'lost+found'}
    foreign = sorted(set(os.listdir(fd)) - harmless)
    if foreign:
        raise exceptions.ConfigurationError(
            f'device {path} is not empty ({", ".join(foreign[:3])}): give '
            'each device a directory of its own')


def _names(directory: str, dir_fd: int) -> list[str]:
    timed.beat()
    try:
        with fsio.directory(directory, dir_fd) as fd:
            return os.listdir(fd)
    except FileNotFoundError:
        return []


def _make_tree(fd: int) -> None:
    os.fchmod(fd, fsio.DIRECTORY_MODE)
    for name in DIRECTORIES:
        with contextlib.suppress(FileExistsError):
            fsio.mkdir(name, fd)
        with fsio.directory(name, fd) as directory:
            for shard in SHARDS if name in SHARDED else ():
                timed.beat()
                with contextlib.suppress(FileExistsError):
                    fsio.mkdir(shard, directory)
            timed.beat()
            fsio.fsync(directory)


def disk_of(path: str) -> str:
    """Return a name of the disk that a path lies on.

    Partitions of one disk have one name.  What the kernel does not tell
    (network file systems, tmpfs) is named by its file system.
    """
    number = os.stat(path).st_dev
    name = f'{os.major(number)}:{os.minor(number)}'
    block = os.path.realpath(f'/sys/dev/block/{name}')
    if os.path.exists(os.path.join(block, 'partition')):
        block = os.path.dirname(block)
    return block if os.path.isdir(block) else name


def refuse_shared(disks: Mapping[str, str]) -> None:
    """Refuse devices that lie on one disk.

    :param disks: as :func:`disk_of` names them, by the path of the device
    :raises easystack_image.exceptions.ConfigurationError: if two are one
    """
    paths = collections.defaultdict(list)
    for path, disk in disks.items():
        paths[disk].append(path)
    for sharing in paths.values():
        if len(sharing) > 1:
            raise exceptions.ConfigurationError(
                f'devices {" and ".join(sharing)} lie on the same disk, so '
                'their copies would be lost together: give each a disk of '
                'its own (or set easystack_block_allow_shared_disk to try '
                'things out)')
