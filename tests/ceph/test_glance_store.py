"""Images of glance_store's rbd driver, of ours, and Cinder's clones."""

from __future__ import annotations

import uuid

from glance_store import exceptions as store_exceptions
import rbd

from tests.ceph import base
from tests.ceph import stores
from tests.faults import base as faults

MIB = base.MIB
#: RBD's default: what Cinder gives a volume that it clones.
LAYERING = rbd.RBD_FEATURE_LAYERING


class SwitchTest(base.StoreCase):
    """A deployer may change the driver without moving data."""

    def setUp(self) -> None:
        super().setUp()
        self.old = stores.glance_rbd(self.cluster)

    def _old_upload(self, data: bytes, known: bool = True) -> str:
        # Its second upload of unknown size on one object fails.
        return self.upload(data, known=known,
                           client=stores.glance_rbd(self.cluster))

    def test_the_old_ones_through_ours(self) -> None:
        for size in (1, 8 * MIB, base.SIZE):
            for known in (True, False):
                data = base.content(size, seed=size)
                uri = self._old_upload(data, known)
                self.check_image(uri, data)
                self.assertEqual(
                    data[size // 2:size // 2 + 1000],
                    self.client.download(uri, size // 2, 1000))
                self.client.delete(uri)
                for client in (self.old, self.client):
                    self.assertRaises(store_exceptions.NotFound,
                                      client.delete, uri)
        self.check_nothing_left()

    def test_ours_through_the_old_one(self) -> None:
        for size in (1, 8 * MIB, base.SIZE):
            for known in (True, False):
                data = base.content(size, seed=size)
                uri = self.upload(data, known=known)
                self.check_image(uri, data, self.old)
                self.old.delete(uri)
                for client in (self.old, self.client):
                    self.assertRaises(store_exceptions.NotFound,
                                      client.delete, uri)
                self.assertRaises(store_exceptions.NotFound,
                                  self.client.size, uri)
        # It knows nothing of what belongs to the image besides.
        self.sweep()
        self.check_nothing_left()

    def test_locations_are_of_one_form(self) -> None:
        data = base.content(1000)
        for uri in (self.upload(data), self._old_upload(data)):
            scheme, _, fsid, pool, image_id, snapshot = uri.split('/')
            self.assertEqual(
                ('rbd:', self.cluster.fsid, self.cluster.pool, 'snap'),
                (scheme, fsid, pool, snapshot))
            self.assertEqual(str(uuid.UUID(image_id)), image_id)

    def test_neither_takes_the_others_id(self) -> None:
        data = base.content(1000)
        for first, second in ((self.old, self.client),
                              (self.client, self.old)):
            image_id = str(uuid.uuid4())
            uri = first.upload(image_id, faults.Scripted(data, {}), 1000)
            self.addCleanup(self._remove, first, uri)
            self.assertRaises(
                store_exceptions.Duplicate, second.upload, image_id,
                faults.Scripted(base.content(2000, seed=1), {}), 2000)
            self.check_image(uri, data, first)
            self.check_image(uri, data, second)


class CloneTest(base.StoreCase):
    """What Cinder and Nova do with the location of an image."""

    def _clone(self, uri: str, form: int) -> str:
        """Make a volume of an image, as Cinder's RBD driver does.

        Over a connection of an administrator: Cinder's user has a pool of
        its own.

        :param form: of the clone; 2 came with Ceph 13, needs no protected
            snapshot, and does not hold one
        :returns: the name of the volume
        """
        _, _, _, pool, image_id, snapshot = uri.split('/')
        self.assertEqual(self.cluster.pool, pool)
        volume = f'volume-{uuid.uuid4()}'
        ioctx = self.pool('admin', rbd_default_clone_format=str(form))
        rbd.RBD().clone(ioctx, image_id, snapshot, ioctx, volume, LAYERING)
        self.addCleanup(self._remove_volume, volume)
        return volume

    def _remove_volume(self, volume: str) -> None:
        try:
            rbd.RBD().remove(self.whole_pool, volume)
        except rbd.ImageNotFound:
            return

    def _bytes_of(self, volume: str) -> bytes:
        with rbd.Image(self.whole_pool, volume, read_only=True) as image:
            data: bytes = image.read(0, image.size())
        return data

    def test_snapshot_is_protected(self) -> None:
        uri = self.upload(base.content(1000))
        with rbd.Image(self.whole_pool, uri.split('/')[4],
                       read_only=True) as image:
            self.assertEqual(['snap'], [each['name'] for each
                                        in image.list_snaps()])
            self.assertTrue(image.is_protected_snap('snap'))
            self.assertTrue(image.features() & LAYERING)

    def test_a_clone_has_the_same_bytes(self) -> None:
        for known in (True, False):
            data = base.content(seed=known)
            uri = self.upload(data, known=known)
            for form in (1, 2):
                volume = self._clone(uri, form)
                self.assertTrue(self._bytes_of(volume) == data)
                self._remove_volume(volume)

    def test_a_clone_may_be_written(self) -> None:
        data = base.content()
        uri = self.upload(data)
        volume = self._clone(uri, 1)
        with rbd.Image(self.whole_pool, volume) as image:
            image.resize(32 * MIB)
            image.write(b'x' * 100, 5 * MIB)
        expected = bytearray(data.ljust(32 * MIB, b'\0'))
        expected[5 * MIB:5 * MIB + 100] = b'x' * 100
        self.assertTrue(self._bytes_of(volume) == expected)
        self.check_image(uri, data)

    def _check_in_use(self, form: int) -> None:
        data = base.content()
        uri = self.upload(data)
        volume = self._clone(uri, form)
        for _ in range(2):
            self.assertRaises(store_exceptions.InUseByStore,
                              self.client.delete, uri)
            self.check_image(uri, data)
            self.assertTrue(self._bytes_of(volume) == data)
        # And more can be made of it.
        another = self._clone(uri, form)
        self.assertTrue(self._bytes_of(another) == data)
        for each in (volume, another):
            self._remove_volume(each)
        self.client.delete(uri)
        self.assertRaises(store_exceptions.NotFound, self.client.size, uri)
        self.check_nothing_left()

    def test_in_use(self) -> None:
        self._check_in_use(1)

    def test_in_use_by_a_clone_that_holds_no_snapshot(self) -> None:
        self._check_in_use(2)

    def test_a_flattened_clone_is_no_use(self) -> None:
        data = base.content()
        uri = self.upload(data)
        volume = self._clone(uri, 1)
        with rbd.Image(self.whole_pool, volume) as image:
            image.flatten()
        self.client.delete(uri)
        self.assertTrue(self._bytes_of(volume) == data)
