"""The glance_store driver ``easystack_block``.

It speaks glance_store's language on one side and the engine's on the other,
and decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
import contextlib
import errno
import functools
import logging
import threading
from typing import Any, TypeVar
import weakref

from glance_store import capabilities
from glance_store import driver
from glance_store import exceptions as store_exceptions
from glance_store import location as store_location
from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.blockstore import address
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore import loading
from easystack_image.conf import store as store_conf

LOG = logging.getLogger(__name__)
T = TypeVar('T')

SCHEME = address.SCHEME
#: glance_store's multi-store code looks a store up by the name of its driver
#: as if it were a scheme (multi_backend.get_store_from_store_identifier).
SCHEMES = (SCHEME, 'easystack_block')

#: The role that Keystone gives to services, which tokens of users lack.
SERVICE_ROLE = 'service'
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StoreLocation(store_location.StoreLocation):  # type: ignore[misc]
    """Where an image is; :mod:`easystack_image.blockstore.address` says how.

    ``specs`` has an address as its ``place``.
    """

    place: address.Place

    def process_specs(self) -> None:
        """Take the address from ``specs``."""
        self.place = self.specs['place']

    @property
    def image_id(self) -> str:
        """The id under which the image was stored."""
        return self.place.image_id

    def get_uri(self) -> str:
        """Return the location as a URI."""
        return self.place.uri

    def parse_uri(self, uri: str) -> None:
        """Take the parts from a URI.

        :raises glance_store.exceptions.BadStoreUri: if it has another form
        """
        try:
            self.place = address.parse(uri)
        except ValueError as error:
            raise store_exceptions.BadStoreUri(
                message=f'Location: {error}') from error


def _when_configured(method: Callable[..., T]) -> Callable[..., T]:
    """Say that the store is not configured before anything else is said.

    ``capabilities.check`` would say "not supported" of a deletion then, on
    which Glance forgets the image.
    """
    @functools.wraps(method)
    def checked(store: Store, *args: Any, **kwargs: Any) -> T:
        with _retriable():
            _ = store.engine
        return method(store, *args, **kwargs)

    return checked


@contextlib.contextmanager
def _retriable() -> Iterator[None]:
    """Turn what makes a deletion impossible now into a TimeoutError."""
    try:
        yield
    except (store_exceptions.RemoteServiceUnavailable,
            store_exceptions.StorageFull,
            store_exceptions.StorageWriteDenied) as error:
        raise store_exceptions.TimeoutError(message=error.msg) from error


class Store(driver.Store):  # type: ignore[misc]
    """Keeps every image in several verified copies.

    One object serves all threads of a process; what belongs to one transfer
    lives in the transfer.
    """

    _CAPABILITIES = (capabilities.BitMasks.READ_RANDOM
                     | capabilities.BitMasks.WRITE_ACCESS
                     | capabilities.BitMasks.DRIVER_REUSABLE)
    OPTIONS = store_conf.OPTS

    def __init__(self, conf: Any, backend: str | None = None) -> None:
        """Describe the store; :meth:`configure_add` makes it ready."""
        super().__init__(conf, backend=backend)
        if self.backend_group:
            self._options = driver.BackendGroupConfiguration(
                self.OPTIONS, self.backend_group, conf=self.conf)
        else:
            self._options = self.conf.glance_store
        self._engine: engine_module.Engine | None = None
        self._admissions = _Admissions()

    def get_schemes(self) -> tuple[str, ...]:
        """Return the schemes of this store's locations."""
        if self._options.easystack_block_engine == 'ceph':
            return (*SCHEMES, address.RBD_SCHEME)
        return SCHEMES

    def configure_add(self) -> None:
        """Load and start the engine.

        :raises glance_store.exceptions.BadStoreConfiguration: with one
            message that says what to do
        """
        name = self.backend_group or 'easystack_block'
        try:
            engine = loading.load(store_conf.options_of(self._options)
                                  | {'store_name': self.backend_group or ''})
            engine.start()
            engine.announce()
        except (exceptions.EasystackImageError, cfg.Error) as error:
            # Without this one store, Glance still serves the others.
            LOG.error('Store %(store)s cannot be used: %(error)s',
                      {'store': name, 'error': error})
            raise store_exceptions.BadStoreConfiguration(
                store_name=name, reason=str(error)) from error
        if self._engine is not None:
            self._engine.close()
        self._engine = engine
        if self.backend_group:
            self._url_prefix = engine.url_prefix

    @property
    def engine(self) -> engine_module.Engine:
        """The engine.

        :raises glance_store.exceptions.RemoteServiceUnavailable: if the
            store could not be configured
        """
        if self._engine is None:
            raise store_exceptions.RemoteServiceUnavailable(
                message='The store is not configured; see the log')
        return self._engine

    def _own(self, location: Any) -> address.Place:
        """Return what a location of this store says.

        :raises glance_store.exceptions.NotFound: if it is in another set of
            devices, another cluster or another pool
        """
        place: address.Place = location.store_location.place
        if not self.engine.has(place):
            raise store_exceptions.NotFound(image=place.image_id)
        return place

    @driver.back_compat_add  # type: ignore[untyped-decorator]
    @capabilities.check  # type: ignore[untyped-decorator]
    def add(self, image_id: str, image_file: Any, image_size: int,
            hashing_algo: str, context: Any = None,
            verifier: Any = None) -> tuple[str, int, str, str, dict[str, str]]:
        """Store an image; see :meth:`glance_store.driver.Store.add`.

        :param image_file: has ``read(size)``, or is an iterable of bytes
        :param image_size: in bytes; 0 if it is not known
        :raises glance_store.exceptions.Duplicate: if it is stored already
        :raises glance_store.exceptions.Invalid: if ``image_size`` was wrong,
            or the image id is no UUID
        :raises glance_store.exceptions.StorageFull: if too few devices have
            room
        :raises glance_store.exceptions.StorageWriteDenied: if too few
            devices can be written
        :raises glance_store.exceptions.TimeoutError: if too few devices
            answer in time
        """
        source = (image_file if hasattr(image_file, 'read')
                  else _Chunks(iter(image_file)))
        with _translated():
            info = self.engine.write(
                image_id, source, image_size or None, hashing_algo,
                verifier.update if verifier else None)
        uri: str = StoreLocation({'place': self.engine.address_of(info)},
                                 self.conf).get_uri()
        self._admissions.admit(context, uri)
        metadata = {'store': self.backend_group} if self.backend_group else {}
        return uri, info.size, info.md5, info.multihash, metadata

    @capabilities.check  # type: ignore[untyped-decorator]
    def get(self, location: Any, offset: int = 0,
            chunk_size: int | None = None,
            context: Any = None) -> tuple[Iterator[bytes], int]:
        """Read an image; see :meth:`glance_store.driver.Store.get`.

        :param offset: where to begin, in bytes
        :param chunk_size: how many bytes to read, None for all
        :returns: an iterator over the bytes, and how many there will be
        :raises glance_store.exceptions.NotFound: if it is not stored
        :raises glance_store.exceptions.RemoteServiceUnavailable: if no
            device that can be reached has a good copy
        """
        try:
            place = self._own(location)
        except store_exceptions.NotFound as error:
            # On "not found", Glance answers 204: no content, all is well.
            raise store_exceptions.RemoteServiceUnavailable(
                message='The image is not on the devices of this store'
                ) from error
        with _translated():
            reader = self.engine.open(place.image_id, offset, chunk_size,
                                      place.generation)
        return _Body(reader), reader.length

    def get_size(self, location: Any, context: Any = None) -> int:
        """Return the size of an image in bytes.

        Glance asks this, with the context of the request, whenever a
        location is given to an image.  A user must not give one image the
        data of another, which he could then read, or delete: so with a
        context the answer is given only for what the same request stored,
        and to a service that put the image there itself, as Nova does.

        :raises glance_store.exceptions.NotFound: if it is not stored
        :raises glance_store.exceptions.BadStoreUri: if the location was
            supplied by a user
        """
        place = self._own(location)
        if not (self._admissions.admitted(context, place.uri)
                or self._admit_service(context, place)):
            LOG.warning('Refused a location that a user supplied: locations '
                        'of %(prefix)s are given by uploads only, or by a '
                        'service for what it put there itself (its requests '
                        'need a service token; for Nova: "[service_user] '
                        'send_service_user_token = true").',
                        {'prefix': self.engine.url_prefix})
            raise store_exceptions.BadStoreUri(
                message='Locations of this store are given by uploads only')
        with _translated():
            return self.engine.info(place.image_id, place.generation).size

    def _admit_service(self, context: Any, place: address.Place) -> bool:
        """Tell whether a service gives what another program put there."""
        roles = {*(getattr(context, 'roles', None) or ()),
                 *(getattr(context, 'service_roles', None) or ())}
        if SERVICE_ROLE not in roles:
            return False
        with _translated():
            return self.engine.is_foreign(place)

    @_when_configured
    @capabilities.check  # type: ignore[untyped-decorator]
    def delete(self, location: Any, context: Any = None) -> None:
        """Delete an image; see :meth:`glance_store.driver.Store.delete`.

        :raises glance_store.exceptions.NotFound: if it is not stored
        :raises glance_store.exceptions.InUseByStore: if something depends
            on it
        :raises glance_store.exceptions.TimeoutError: if that cannot be done
            now, whatever the cause: it is the only error on which Glance
            answers 503 to a DELETE
        """
        place = self._own(location)
        with _retriable(), _translated():
            self.engine.delete(place.image_id, place.generation)


class _Admissions:
    """Which locations were given to images, by which requests.

    Keyed by the identity of the request's context: request ids can be chosen
    by the client.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uris: weakref.WeakKeyDictionary[Any, set[str]] = \
            weakref.WeakKeyDictionary()

    def admit(self, context: Any, uri: str) -> None:
        """Note that a request stored an image at ``uri``."""
        if _is_request(context):
            with self._lock:
                self._uris.setdefault(context, set()).add(uri)

    def admitted(self, context: Any, uri: str) -> bool:
        """Tell whether a location may be given to an image."""
        if not _is_request(context):
            return True
        with self._lock:
            return uri in self._uris.get(context, ())


def _is_request(context: Any) -> bool:
    """Tell whether this is the context of a request to Glance.

    Others who use glance_store pass None, or something simple.
    """
    return hasattr(context, 'request_id') and isinstance(context, Hashable)


class _Chunks:
    """An iterable of bytes as a source."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b''

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b''
            self._rest = chunk
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


class _Body(Iterator[bytes]):
    """The bytes of an image, with glance_store's errors."""

    def __init__(self, reader: engine_module.Reader) -> None:
        self._reader = reader

    def __next__(self) -> bytes:
        with _translated():
            return next(self._reader)

    def close(self) -> None:
        """Release threads and files; may be called again."""
        self._reader.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the engine's errors into glance_store's.

    Users get to see their messages, so what they tell of devices goes to
    the log only.
    """
    try:
        yield
    except exceptions.ImageNotFound as error:
        raise store_exceptions.NotFound(message=str(error)) from error
    except exceptions.ImageExists as error:
        raise store_exceptions.Duplicate(message=str(error)) from error
    except (exceptions.SizeMismatch, exceptions.InvalidRequest) as error:
        raise store_exceptions.Invalid(message=str(error)) from error
    except exceptions.ImageInUse as error:
        raise store_exceptions.InUseByStore(message=str(error)) from error
    except exceptions.ImageBusy as error:
        LOG.error('%s', error)
        raise store_exceptions.TimeoutError(
            message='Another process works on the image; try again') from error
    except exceptions.NotEnoughCopies as error:
        LOG.error('%s', error)
        raise _write_error(error) from error
    except exceptions.BlockStoreError as error:
        LOG.error('%s', error)
        raise store_exceptions.RemoteServiceUnavailable(
            message='No good copy of the image can be reached') from error


def _write_error(error: exceptions.NotEnoughCopies) -> Any:
    """Return the error of glance_store that tells best what happened."""
    if isinstance(error, exceptions.NoRoom):
        return store_exceptions.StorageFull(
            message=f'There is no room for the image: {error.place}')
    if any(cause.errno in _FULL for cause in error.causes):
        return store_exceptions.StorageFull(
            message='Too few devices have room for the image')
    if error.causes and all(isinstance(cause, exceptions.DeviceTimeout)
                            for cause in error.causes):
        return store_exceptions.TimeoutError(
            message='Too few storage devices answered in time')
    return store_exceptions.StorageWriteDenied(
        message='Too few storage devices can be written')
