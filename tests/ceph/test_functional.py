"""A real Glance that keeps its images in Ceph.

Those of the functional tests that are not about devices, on the cluster.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import rbd

from tests.ceph import cluster as cluster_module
from tests.ceph import lab
from tests.functional import client
from tests.functional import server
from tests.functional import test_crash
from tests.functional import test_images
from tests.functional import test_imports
from tests.functional import test_locations
from tests.functional import test_uploads

#: Seconds that one operation of the cluster may take.  What nobody writes is
#: swept when it is three times as old.
TIMEOUT = 10


@dataclasses.dataclass(frozen=True)
class CephStore(server.Store):
    """A store of this package's driver in a pool of the cluster."""

    pool: str

    scheme = 'rbd://'

    def _names(self) -> list[str]:
        """Return the names of all RBD images and of our own objects."""
        ioctx = lab.pool(self.pool)
        return [*rbd.RBD().list(ioctx), *(
            each.key for each in ioctx.list_objects()
            if each.key.startswith('easystack-'))]

    def held(self, image_id: str) -> list[str]:
        """See the base class."""
        return [name for name in self._names() if image_id in name]

    def contents(self, image_id: str) -> list[bytes]:
        """See the base class: here, what whoever clones it would see."""
        with rbd.Image(lab.pool(self.pool), image_id, snapshot='snap',
                       read_only=True) as image:
            return [image.read(0, image.size())]

    def leftovers(self) -> list[str]:
        """See the base class."""
        return [name for name in self._names() if name.startswith(
            ('easystack-upload.', 'easystack-trash.'))]


class OnCeph:
    """The stores of a test are in pools of the cluster."""

    @classmethod
    def make_store(cls, name: str, root: Path,
                   **options: object) -> CephStore:
        """Return a store in a pool: ``second`` in one, all others in another.

        :param root: not used
        """
        del root
        cluster = cluster_module.shared()
        pool = cluster.add_pool() if name == 'second' else cluster.pool
        given = {'engine': 'ceph', 'ceph_conf': cluster.conf,
                 'ceph_pool': pool, 'ceph_user': cluster.user,
                 'ceph_timeout': TIMEOUT} | options
        return CephStore(name, 'easystack_block', {
            f'easystack_block_{option}': value
            for option, value in given.items()}, pool)


class TestImages(OnCeph, test_images.TestBlockStore):
    pass


class TestUploads(OnCeph, test_uploads.TestBrokenUploads):
    pass


class TestImports(OnCeph, test_imports.TestBlockStores):
    pass


class TestLocations(OnCeph, test_locations.TestForeignLocations):

    def snapshot(self, data: bytes) -> tuple[str, str]:
        """Put an image into the pool, as Nova does with a server's disk.

        :returns: its id, which Glance has given, and its location
        """
        image_id = self.images.create()
        ioctx = lab.pool()
        rbd.RBD().create(ioctx, image_id, len(data), old_format=False)
        with rbd.Image(ioctx, image_id) as image:
            image.write(data, 0)
            image.create_snap('snap')
            image.protect_snap('snap')
        return image_id, self.location['url'].replace(self.source, image_id)

    def give(self, image_id: str, url: str, **headers: str) -> int:
        """Give an image a location; return the status of the answer."""
        operation = {'op': 'add', 'path': '/locations/-',
                     'value': {'url': url, 'metadata': {'store': 'copies'}}}
        answer = self.images.request(
            'PATCH', f'/images/{image_id}', json=[operation],
            headers={'Content-Type': test_locations.PATCH_TYPE, **headers})
        return int(answer.status_code)

    def test_snapshot_made_by_nova(self) -> None:
        data = client.content(5_000_000, seed=61)
        image_id, url = self.snapshot(data)
        # A user could name whatever the old driver wrote for others.
        self.assertIn(self.give(image_id, url), range(400, 500))
        self.check_untouched(image_id)
        # Nova sends a token of its own besides the user's.
        token = {'X-Service-Roles': 'service'}
        self.assertEqual(200, self.give(image_id, url, **token))
        self.assertEqual('active', self.images.show(image_id)['status'])
        self.assertEqual(data, self.images.get(image_id).content)
        # That suffices for nothing else.
        other = self.images.create()
        self.assertIn(self.give(other, self.location['url'], **token),
                      range(400, 500))
        self.images.delete(image_id)
        self.assertNotIn(image_id, rbd.RBD().list(lab.pool()))


class TestKill(OnCeph, test_crash.TestKill):

    # After each, a lock of the dead has to run out.
    DELAYS = (0.05, 0.4)
