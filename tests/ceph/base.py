"""What the tests on a Ceph cluster have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import os
from pathlib import Path
import time
from typing import Any
import uuid

import fixtures
import rados
import testtools

from easystack_image.blockstore.ceph import engine as ceph
from tests.ceph import cluster as cluster_module
from tests.ceph import stores
from tests.faults import base as faults
from tests.functional import client as http

MIB = 1 << 20
#: Several objects of the engine and of the old driver, no multiple of
#: anything.
SIZE = 21 * MIB + 4321
#: Objects that stay, once they are there, and hold lists of others.
LISTS = frozenset({'easystack-damaged', 'easystack-deletions',
                   'easystack-index', 'easystack-requests',
                   'easystack-uploads', 'rbd_children',
                   'rbd_directory', 'rbd_info', 'rbd_trash'})


def content(size: int = SIZE, seed: int = 0) -> bytes:
    """Return bytes without any structure, the same for the same seed."""
    return http.content(size, seed)


class TestCase(testtools.TestCase):
    """A test with a time limit, on the cluster that all of them share.

    The cluster is mended when the test ends.
    """

    cluster: cluster_module.Cluster

    def setUp(self) -> None:
        super().setUp()
        # It may have to be started first.
        self.cluster = cluster_module.shared()
        self.addCleanup(self.cluster.mend)
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))

    def temporary_directory(self) -> Path:
        """Return a new directory of this test."""
        return Path(self.useFixture(fixtures.TempDir()).path)

    def connect(self, user: str | None = None,
                **options: str) -> rados.Rados:
        """Return a connection of this test.

        :param options: of Ceph
        """
        handle = rados.Rados(conffile=str(self.cluster.conf),
                             rados_id=user or self.cluster.user,
                             conf=options)
        handle.connect(timeout=cluster_module.PATIENCE)
        self.addCleanup(handle.shutdown)
        return handle

    def pool(self, user: str | None = None, **options: str) -> rados.Ioctx:
        """Return the pool for images, over a connection of this test."""
        pool = self.connect(user, **options).open_ioctx(self.cluster.pool)
        self.addCleanup(pool.close)
        return pool


class StoreCase(TestCase):
    """A test with a store; checks that it leaves the pool as it was."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger())
        self.whole_pool = self.pool('admin')
        self.before = self.objects()
        self.client = self.easystack()

    def easystack(self, **options: Any) -> stores.Client:
        """Return a client of a store of ours, as in a process of its own.

        :param options: of the store, without their prefix
        """
        made = stores.easystack(self.cluster, **options)
        self.addCleanup(made.close)
        return made

    def objects(self) -> set[str]:
        """Return the names of all objects in the pool, and of all entries.

        Without those where RBD and the engine keep lists.
        """
        found = {each.key for each in self.whole_pool.list_objects()}
        return (found - LISTS).union(
            *(self._entries(name) for name in found & LISTS))

    def _entries(self, name: str) -> set[str]:
        """Return the keys in the omap of an object, with its name."""
        with rados.ReadOpCtx() as operation:
            pairs, _ = self.whole_pool.get_omap_vals(operation, '', '', 10000)
            self.whole_pool.operate_read_op(operation, name)
            return {f'{name}/{key}' for key, _ in pairs}

    def check_nothing_left(self) -> None:
        """See that the pool holds what it held before the test began."""
        self.assertEqual(set(), self.objects() - self.before)

    def sweep(self, client: stores.Client | None = None) -> None:
        """Have the engine remove now what it removes now and then."""
        engine = (client or self.client).engine
        assert isinstance(engine, ceph.CephEngine)
        engine.sweeper.sweep()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """See that what is done takes no longer than this."""
        begin = time.monotonic()
        yield
        took = time.monotonic() - begin
        self.assertLess(took, seconds, f'it took {took:.1f} s')

    def upload(self, data: bytes,
               events: Mapping[int, Callable[[], object]] | None = None,
               known: bool = True, client: stores.Client | None = None,
               ) -> str:
        """Store an image and return its location; it goes with the test.

        :param events: what happens when so many bytes were read
        :param known: whether the size is told in advance
        """
        client = client or self.client
        uri = client.upload(str(uuid.uuid4()),
                            faults.Scripted(data, events or {}),
                            len(data) if known else 0)
        self.addCleanup(self._remove, client, uri)
        return uri

    def _remove(self, client: stores.Client, uri: str) -> None:
        # This is called before the other clean-ups.
        self.cluster.mend()
        with contextlib.suppress(stores.NotFound):
            client.delete(uri)

    def check_image(self, uri: str, data: bytes,
                    client: stores.Client | None = None) -> None:
        """Download an image and compare every byte."""
        client = client or self.client
        self.assertEqual(len(data), client.size(uri))
        # Not assertEqual: it would print megabytes.
        self.assertTrue(client.download(uri) == data, 'wrong bytes')
