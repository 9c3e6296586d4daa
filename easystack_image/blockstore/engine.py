"""What every engine of the block store promises.

An engine keeps images in several copies.  It knows nothing of Glance, of
configuration files or of HTTP.  All methods may be called from several
threads and several processes at once; every call ends within a time that the
engine's settings bound, however its devices behave.

Units: sizes and offsets are bytes, times are seconds since the epoch (UTC).

Every method may raise, besides what it names:

* :class:`~easystack_image.exceptions.InvalidRequest` for an image id that is
  not a UUID in its canonical form, and for other malformed arguments;
* another :class:`~easystack_image.exceptions.BlockStoreError` when the
  engine as a whole cannot be reached.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
import dataclasses
import enum
from typing import Any, Protocol

from easystack_image.blockstore import address


class Source(Protocol):
    """Where the bytes of a new image come from."""

    def read(self, size: int, /) -> bytes:
        """Return 1 to ``size`` bytes, or ``b''`` at the end."""


#: Called with each piece of the image, in order, while it is written.  The
#: buffer belongs to the engine and is valid only during the call.
Sink = Callable[[memoryview], object]


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the engine knows of one stored image."""

    image_id: str
    #: Names this very upload, so that a copy left over from an earlier
    #: upload under the same id is never taken for it.
    generation: str
    size: int
    #: Hexadecimal, as Glance's ``checksum``.
    md5: str
    #: A name that hashlib knows, as Glance's ``os_hash_algo``.
    algorithm: str
    #: Hexadecimal, as Glance's ``os_hash_value``.
    multihash: str
    created_at: float


class CopyState(enum.Enum):
    """What was found where a copy lies, or should lie."""

    #: Present, and its manifest is sound (and all of it, if it was verified).
    GOOD = 'good'
    #: Present, and not what its manifest says.
    DAMAGED = 'damaged'
    #: Should be on the device, and is not.
    MISSING = 'missing'
    #: Of a deleted or replaced upload; never served, to be removed.
    STALE = 'stale'
    #: The device cannot be asked.
    UNREACHABLE = 'unreachable'


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """One copy of an image on one device."""

    device: str
    zone: str
    state: CopyState
    #: Why the state is what it is, when it is not GOOD.
    reason: str = ''
    #: Where an operator finds the plain bytes, if they lie in a file.
    path: str = ''
    #: When all of it was verified last, or written; 0 if that is unknown.
    verified_at: float = 0.0
    #: How many bytes of the image it has.
    size: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class RepairAttempt:
    """A repair that was tried, and did not make the image whole."""

    began_at: float
    ended_at: float
    #: Whether no good copy was found, nor could be made of what was found.
    lost: bool
    #: Why, in words; it may name devices.
    reason: str


class Severity(enum.Enum):
    """How much a problem matters."""

    #: Images are lost or nearly so, or the store does not work.
    CRITICAL = 'critical'
    #: Something should be done; all images can be had.
    WARNING = 'warning'


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator should know of."""

    severity: Severity
    #: What kind of problem it is, in a few fixed words: ``missing-device``.
    what: str
    #: The device that it is about, or None.
    device: str | None
    #: What is the matter, and what to do.
    message: str
    #: Whether uploads or downloads fail because of it, now.
    outage: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device and the room on it."""

    device: str
    zone: str
    weight: float
    available: bool
    total: int
    free: int
    reason: str = ''


class Reader(Iterator[bytes], abc.ABC):
    """The verified bytes of an image, or of a range of it, in order.

    Each item is non-empty and was verified before it is handed out.  A bad
    or late copy is replaced by another one without the caller noticing.
    Memory is bounded, whatever the size of the image.

    :raises easystack_image.exceptions.DamagedImage: by ``next``, when no
        copy can supply the bytes that come next; never after wrong bytes
    """

    #: The image that is being read.
    info: ImageInfo
    #: How many bytes this reader will hand out.
    length: int

    @abc.abstractmethod
    def close(self) -> None:
        """Release threads and files; may be called again."""


class Engine(abc.ABC):
    """A store that keeps every image in several copies."""

    #: How many copies an image should have.
    copies: int
    #: How many must be durable before an image is acknowledged.
    min_copies: int

    @classmethod
    @abc.abstractmethod
    def from_options(cls, options: Mapping[str, Any]) -> Engine:
        """Make an engine from the options of a store.

        :param options: by name, without the prefix ``easystack_block_``;
            those of other engines are ignored
        :raises easystack_image.exceptions.ConfigurationError: if they
            cannot work, whatever the devices
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Check that the engine can work, and make it ready.

        Starts no thread, so that the process may fork afterwards.

        :raises easystack_image.exceptions.ConfigurationError: with one
            message that says what to do
        """

    def announce(self) -> None:  # noqa: B027
        """Tell who else uses the store how many copies are wanted here.

        For whoever stores images, once started; an engine that has nobody to
        tell does nothing.
        """

    @property
    @abc.abstractmethod
    def store_id(self) -> str:
        """A UUID that names the set of devices, or the cluster."""

    @property
    def url_prefix(self) -> str:
        """How the URI of every image of this store begins."""
        return f'{address.SCHEME}://{self.store_id}/'

    def address_of(self, info: ImageInfo) -> address.Place:
        """Return where an image is, as others are to know it."""
        return address.Address(self.store_id, info.image_id, info.generation)

    def has(self, place: address.Place) -> bool:
        """Tell whether an address is one of this store's."""
        return (isinstance(place, address.Address)
                and place.store_id == self.store_id)

    def is_foreign(self, place: address.Place) -> bool:
        """Tell whether there is an image that another service put there.

        Which then gives it to an image of Glance by its address.
        """
        del place
        return False

    @abc.abstractmethod
    def write(self, image_id: str, source: Source, size: int | None = None,
              algorithm: str = 'sha512',
              sink: Sink | None = None) -> ImageInfo:
        """Store an image; return once ``min_copies`` copies are durable.

        Whatever is raised, by the engine or by ``source`` or ``sink``
        (BaseException too), leaves nothing of the image behind.

        :param source: read from the calling thread only
        :param size: what ``source`` will deliver, or None if it is unknown
        :param algorithm: of the second digest; the first is always md5
        :raises easystack_image.exceptions.ImageExists: before ``source`` is
            read, or at the end if another writer was faster
        :raises easystack_image.exceptions.SizeMismatch: when ``source``
            delivers another size than declared
        :raises easystack_image.exceptions.NotEnoughCopies: when too many
            devices fail
        """

    @abc.abstractmethod
    def info(self, image_id: str, generation: str | None = None) -> ImageInfo:
        """Return what is known of an image.

        :param generation: the very upload that is meant; None for whichever
            is stored
        :raises easystack_image.exceptions.ImageNotFound: if there is none
        :raises easystack_image.exceptions.DamagedImage: if every copy's
            description is damaged
        """

    @abc.abstractmethod
    def open(self, image_id: str, offset: int = 0, length: int | None = None,
             generation: str | None = None) -> Reader:
        """Begin to read an image, or a range of it.

        The first bytes have been read and verified when this returns.  A
        range that reaches past the end is cut there; one that begins at or
        past the end is empty.

        :raises easystack_image.exceptions.ImageNotFound: as :meth:`info`
        :raises easystack_image.exceptions.DamagedImage: as :meth:`info`, and
            when no copy can supply the first bytes
        """

    @abc.abstractmethod
    def delete(self, image_id: str, generation: str | None = None) -> None:
        """Remove all copies, those on absent devices when they return.

        :raises easystack_image.exceptions.ImageNotFound: if there is none
        :raises easystack_image.exceptions.ImageInUse: if something depends
            on it
        """

    @abc.abstractmethod
    def list_images(self) -> Iterator[str]:
        """Yield the id of every stored image once, in no special order."""

    @abc.abstractmethod
    def list_copies(self, image_id: str, verify: bool = False) -> list[Copy]:
        """Tell where the copies of an image are, and how they are.

        Lists at least ``copies`` entries, MISSING ones included.

        :param verify: read all of every copy and compare checksums
        :raises easystack_image.exceptions.ImageNotFound: if there is none
        """

    @abc.abstractmethod
    def repair(self, image_id: str) -> list[Copy]:
        """Verify all copies, and replace those that are not good.

        A damaged copy is put aside, not deleted.  Returns the copies as they
        are afterwards.

        :raises easystack_image.exceptions.ImageNotFound: if there is none
        :raises easystack_image.exceptions.DamagedImage: if no good copy is
            left to repair from; no copy was changed then
        """

    @abc.abstractmethod
    def request_repair(self, image_id: str) -> None:
        """Have all copies of an image verified soon, and repaired.

        Returns at once; :meth:`repair_requested_at` tells, in any process,
        whether it is still to come, and :meth:`repair_attempt` whether it
        was tried in vain.

        :raises easystack_image.exceptions.ImageNotFound: if there is none
        :raises easystack_image.exceptions.DamagedImage: if nothing is left
            that tells of which upload it is
        """

    @abc.abstractmethod
    def repair_requested_at(self, image_id: str) -> float | None:
        """Return when a repair was requested that is still to be done.

        Or found necessary; None if no repair of the image is to come.
        """

    def repair_attempt(self, image_id: str) -> RepairAttempt | None:
        """Return how that repair ended, if it was tried in vain since.

        None if it was not tried yet, if there is none to come, or from an
        engine whose repairs are never in vain.
        """
        del image_id
        return None

    def problems(self) -> list[Problem]:
        """Return what an operator should know of, the worst first.

        Cheap: looks at no image, and answers within seconds.  May be called
        on an engine that is not started.
        """
        return []

    @abc.abstractmethod
    def devices(self) -> list[DeviceInfo]:
        """Return the devices and the room on them."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop background work; may be called again."""
