"""Reading Glance's database."""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Any
import uuid

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import address
from easystack_image.blockstore import engine as engine_module
from easystack_image.cmd import records
from tests.unit.cmd import glance_tables

SET = str(uuid.uuid4())


def info(**fields: Any) -> engine_module.ImageInfo:
    return engine_module.ImageInfo(**{
        'image_id': str(uuid.uuid4()), 'generation': str(uuid.uuid4()),
        'size': 5, 'md5': 'a' * 32, 'algorithm': 'sha512',
        'multihash': 'b' * 128, 'created_at': 1.0, **fields})


class RecordsTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        root = Path(self.useFixture(fixtures.TempDir()).path)
        self.tables = glance_tables.Tables(root / 'glance.sqlite')

    def open(self, url: str = '', key: str = '') -> records.Records:
        made = records.Records(url or self.tables.url, 'copies', key)
        self.addCleanup(made.close)
        return made

    def found(self, key: str = '') -> dict[str, list[Any]]:
        """Return all references, by the image that they refer to."""
        made = self.open(key=key)
        made.refresh()
        merged: dict[str, list[Any]] = {}
        for number in range(256):
            shard = f'{number:02x}'
            for image_id, each in made.of_shard(shard).items():
                self.assertTrue(image_id.startswith(shard))
                self.assertNotIn(image_id, merged)
                merged[image_id] = list(each)
        return merged

    def test_image(self) -> None:
        image = info()
        self.tables.add(SET, image)
        reference, = self.found()[image.image_id]
        self.assertEqual(
            (image.image_id, SET, image.image_id, image.generation, 5,
             'a' * 32, 'sha512', 'b' * 128, 'active', False, True),
            tuple(getattr(reference, name) for name in (
                'record', 'store_id', 'image_id', 'generation', 'size',
                'md5', 'algorithm', 'multihash', 'status', 'pending',
                'claims')))

    def test_many(self) -> None:
        images = [info() for _ in range(300)]
        for image in images:
            self.tables.add(SET, image)
        self.assertEqual({image.image_id for image in images},
                         set(self.found()))

    def test_shards(self) -> None:
        ends = ('00000000-0000-0000-0000-000000000000',
                'ffffffff-ffff-ffff-ffff-ffffffffffff',
                '0fffffff-ffff-ffff-ffff-ffffffffffff')
        for image_id in ends:
            self.tables.add(SET, info(image_id=image_id))
        self.assertEqual(set(ends), set(self.found()))

    def test_deleted(self) -> None:
        """What is deleted refers to nothing."""
        image = info()
        self.tables.add(SET, image, deleted=1, status='deleted')
        self.assertEqual({}, self.found())
        other = info()
        self.tables.add(SET, other)
        self.tables.execute("UPDATE images SET deleted=1, status='deleted'")
        self.assertEqual({}, self.found())

    def test_delayed_delete(self) -> None:
        image = info()
        self.tables.add(SET, image, deleted=1, status='pending_delete')
        self.tables.execute(
            "UPDATE images SET deleted=1, status='pending_delete'")
        reference, = self.found()[image.image_id]
        self.assertTrue(reference.pending)

    def test_one_location_of_two_to_be_deleted(self) -> None:
        image = info()
        self.tables.add(SET, image)
        self.tables.add_location(
            image.image_id, address.Address(
                SET, image.image_id, str(uuid.uuid4())).uri, 'copies',
            status='pending_delete', deleted=1)
        self.assertEqual([False, True], sorted(
            each.pending for each in self.found()[image.image_id]))

    def test_other_stores(self) -> None:
        image = info()
        self.tables.add(SET, image)
        for uri, store in (('file:///var/lib/glance/x', 'file'),
                           ('rbd://fsid/pool/image/snap', 'ceph'),
                           ('http://example.com/a:b', None)):
            self.tables.add_location(image.image_id, uri, store)
        other = info()
        self.tables.add(str(uuid.uuid4()), other, 'elsewhere')
        found = self.found()
        reference, = found[image.image_id]
        self.assertTrue(reference.claims)
        reference, = found[other.image_id]
        self.assertFalse(reference.claims)

    def test_without_the_name_of_a_store(self) -> None:
        image = info()
        self.tables.add(SET, image, None)
        self.assertTrue(self.found()[image.image_id][0].claims)

    def test_data_under_another_id(self) -> None:
        """It is found by what it refers to."""
        record, image_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.tables.add_image(record)
        self.tables.add_location(record, address.Address(
            SET, image_id, str(uuid.uuid4())).uri, 'copies')
        reference, = self.found()[image_id]
        self.assertEqual((record, image_id),
                         (reference.record, reference.image_id))

    def test_refresh(self) -> None:
        made = self.open()
        made.refresh()
        image = info()
        self.tables.add(SET, image)
        self.assertEqual(0, made.count(SET))
        made.refresh()
        self.assertEqual(1, made.count(SET))
        self.assertEqual(0, made.count(str(uuid.uuid4())))

    def test_of_one_image(self) -> None:
        """As it is at this moment, not when all were read."""
        images = [info() for _ in range(3)]
        made = self.open()
        made.refresh()
        self.assertEqual([], made.to(images[0].image_id))
        for image in images:
            self.tables.add(SET, image)
        self.assertEqual({}, made.of_shard(images[0].image_id[:2]))
        reference, = made.to(images[0].image_id)
        self.assertEqual(
            (images[0].generation, 'active', False, True),
            (reference.generation, reference.status, reference.pending,
             reference.claims))
        self.tables.execute('UPDATE images SET deleted = 1')
        self.assertEqual([], made.to(images[0].image_id))

    def test_of_one_image_under_another_id(self) -> None:
        image = info()
        self.tables.add_image('b')
        self.tables.add_location('b', address.Address(
            SET, image.image_id, image.generation).uri, 'copies')
        self.assertEqual(['b'], [
            each.record for each in self.open().to(image.image_id)])
        # A record of that id may be about something else.
        self.tables.add_image(image.image_id)
        self.tables.add_location(image.image_id, 'file:///elsewhere', 'fast')
        self.assertEqual(1, len(self.open().to(image.image_id)))

    def test_of_one_image_encrypted(self) -> None:
        """What cannot be read may be about any image."""
        self.tables.add_image('b')
        self.tables.add_location('b', 'c2VjcmV0Cg==', 'copies')
        error = self.assertRaises(exceptions.RecordsError, self.open().to,
                                  info().image_id)
        self.assertIn('metadata_encryption_key', str(error))

    def test_status(self) -> None:
        self.tables.add_image('a', status='saving')
        self.tables.add_image('b', status='deleted', deleted=1)
        made = self.open()
        self.assertEqual(['saving', '', ''],
                         [made.status(each) for each in 'abc'])

    def test_missing_file(self) -> None:
        path = str(self.useFixture(fixtures.TempDir()).join('none'))
        self.assertIn(path, str(self.assertRaises(
            exceptions.RecordsError, self.open, f'sqlite:///{path}')))
        self.assertFalse(Path(path).exists())

    def test_no_tables(self) -> None:
        self.tables.execute('DROP TABLE image_locations')
        made = self.open()
        error = self.assertRaises(exceptions.RecordsError, made.refresh)
        self.assertIn('image_locations', str(error))

    def test_password(self) -> None:
        """It is never told, whatever goes wrong."""
        for url in ('mysql+pymysql://glance:se%40cret@127.0.0.1:1/glance',
                    'mysql+nodriver://glance:se%40cret@127.0.0.1/glance',
                    'mysql+pymysql://glance:se%40cret@127.0.0.1:x/glance',
                    'glance:se%40cret'):
            error = self.assertRaises(exceptions.RecordsError, self.read,
                                      url)
            self.assertNotIn('cret', str(error))
            self.assertIs(None, error.__cause__)

    def read(self, url: str) -> None:
        self.open(url).refresh()

    def test_name(self) -> None:
        self.assertEqual('mysql+pymysql://glance:***@db/glance', self.open(
            'mysql+pymysql://glance:secret@db/glance').name)

    def test_encrypted_without_a_key(self) -> None:
        image = info()
        self.tables.add(SET, image)
        self.tables.add_location(image.image_id, 'c2VjcmV0Cg==', 'copies')
        made = self.open()
        error = self.assertRaises(exceptions.RecordsError, made.refresh)
        self.assertIn('metadata_encryption_key', str(error))
        self.assertIn(image.image_id, str(error))

    def test_encrypted_without_glance(self) -> None:
        self.tables.add_image('a')
        self.tables.add_location('a', 'c2VjcmV0Cg==', 'copies')
        self.useFixture(fixtures.MonkeyPatch('sys.modules', {
            **sys.modules, 'glance': None, 'glance.common': None,
            'glance.common.crypt': None}))
        made = self.open(key='0123456789abcdef')
        error = self.assertRaises(exceptions.ConfigurationError,
                                  made.refresh)
        self.assertIn('where Glance is installed', str(error))

    def test_without_sqlalchemy(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('sys.modules', {
            **sys.modules, 'sqlalchemy': None}))
        error = self.assertRaises(exceptions.ConfigurationError, self.open)
        self.assertIn('easystack-image[database]', str(error))
