"""Stores on the cluster: ours, and glance_store's rbd driver."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import tempfile
from typing import Any

from glance_store import exceptions as store_exceptions
from glance_store import location as store_location
from glance_store import multi_backend
from oslo_config import cfg

from easystack_image.blockstore import engine as engine_module
from easystack_image.store import driver
from tests.ceph import cluster as cluster_module

GROUP = 'store'
NotFound = store_exceptions.NotFound
#: Seconds that an operation on the cluster may take.
TIMEOUT = 10


class Client:
    """What Glance does with a store, on the real driver.

    :param name: of the driver
    :param options: of the store, by their full names; None leaves the
        option unset
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.conf = cfg.ConfigOpts()
        self.conf.register_opt(cfg.DictOpt(
            'enabled_backends', default={GROUP: name}))
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.writelines([f'[{GROUP}]\n', *(
                f'{option} = {value}\n' for option, value in options.items()
                if value is not None)])
            file.flush()
            self.conf([], project='ceph-tests', default_config_dirs=[],
                      default_config_files=[file.name])
        multi_backend.register_store_opts(self.conf)
        self.name = name
        # As Glance does it.
        self.store = multi_backend._load_multi_store(
            self.conf, name, backend=GROUP)
        self.store.configure(re_raise_bsc=True)

    def close(self) -> None:
        """Let go of the cluster."""
        if isinstance(self.store, driver.Store):
            self.store.engine.close()

    @property
    def engine(self) -> engine_module.Engine:
        """The engine of a store of ours."""
        assert isinstance(self.store, driver.Store)
        return self.store.engine

    def upload(self, image_id: str, source: engine_module.Source,
               size: int = 0) -> str:
        """Store an image; return its location.

        :param size: 0 if it is not known
        """
        return str(self.add(image_id, source, size)[0])

    def add(self, image_id: str, source: engine_module.Source,
            size: int = 0) -> tuple[str, int, str, str, dict[str, str]]:
        """Store an image; return all that the driver says."""
        answer: tuple[str, int, str, str, dict[str, str]] = self.store.add(
            image_id, source, size, 'sha512')
        return answer

    def _location(self, uri: str) -> store_location.Location:
        return store_location.Location(
            self.name, self.store.get_store_location_class(), self.conf,
            uri=uri, backend=GROUP)

    @contextlib.contextmanager
    def opened(self, uri: str, offset: int = 0,
               length: int | None = None) -> Iterator[Iterator[bytes]]:
        """Begin to download an image, or a range of it."""
        body, _ = self.store.get(self._location(uri), offset=offset,
                                 chunk_size=length)
        # The old driver's is an iterable that closes itself.
        pieces = iter(body)
        with contextlib.closing(pieces):
            yield pieces

    def download(self, uri: str, offset: int = 0,
                 length: int | None = None) -> bytes:
        """Return the bytes of an image, or of a range of it."""
        with self.opened(uri, offset, length) as pieces:
            return b''.join(pieces)

    def size(self, uri: str) -> int:
        """Return the size of an image in bytes."""
        size: int = self.store.get_size(self._location(uri))
        return size

    def delete(self, uri: str) -> None:
        """Delete an image."""
        self.store.delete(self._location(uri))


def easystack(cluster: cluster_module.Cluster, **options: Any) -> Client:
    """Return a client of a store of this package.

    :param options: without their prefix ``easystack_block_``
    """
    given = {'engine': 'ceph', 'ceph_conf': str(cluster.conf),
             'ceph_pool': cluster.pool, 'ceph_user': cluster.user,
             'ceph_timeout': TIMEOUT} | options
    return Client('easystack_block', {
        f'easystack_block_{name}': value for name, value in given.items()})


def glance_rbd(cluster: cluster_module.Cluster) -> Client:
    """Return a client of glance_store's own rbd driver."""
    return Client('rbd', {
        'rbd_store_ceph_conf': str(cluster.conf),
        'rbd_store_pool': cluster.pool, 'rbd_store_user': cluster.user})
