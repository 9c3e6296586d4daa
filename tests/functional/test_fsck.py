"""``fsck``: what is stored, compared with what Glance's database says."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
import re
import shutil
import subprocess
from typing import Any
import uuid

import sqlalchemy

from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server

MIB = 1 << 20
SIZE = 5 * MIB + 321


class FsckCase(base.TestCase):

    glance: server.Glance
    store: server.Store

    def begin(self, *others: server.Store, **arguments: Any) -> None:
        """Run a Glance with a store in three copies, and maybe others."""
        self.store = server.block_store('copies', server.make_devices(
            self.temporary_directory()))
        self.glance = self.start_glance(self.store, *others, **arguments)
        self.images = client.Images(self.glance.url)

    def fsck(self, *arguments: str, store: str | None = None,
             ) -> subprocess.CompletedProcess[str]:
        """Run it with Glance's configuration and database."""
        return processes.run(self.glance.manage_command(
            'fsck', '--with-database', '--older-than', '0', '-f', 'json',
            *arguments, store=store))

    def check(self, *expected: tuple[str, str], arguments: str = '',
              store: str | None = None) -> list[dict[str, Any]]:
        """See exactly these problems, as pairs of kind and image."""
        result = self.fsck(*arguments.split(), store=store)
        self.assertEqual(3 if expected else 0, result.returncode,
                         result.stdout + result.stderr)
        rows: list[dict[str, Any]] = json.loads(result.stdout)
        self.assertEqual(sorted(expected), sorted(
            (row['kind'], row['image']) for row in rows))
        return rows

    @contextlib.contextmanager
    def database(self) -> Iterator[Any]:
        """Open Glance's database; every statement counts at once."""
        text = self.glance.config_file.read_text()
        match = re.search('^connection = (.*)$', text, re.MULTILINE)
        assert match
        engine = sqlalchemy.create_engine(
            match[1], isolation_level='AUTOCOMMIT')
        with engine.connect() as connection:
            yield connection
        engine.dispose()

    def forget(self, image_id: str) -> None:
        """Lose what the database knows of an image."""
        with self.database() as database:
            for table, column in (('image_locations', 'image_id'),
                                  ('image_properties', 'image_id'),
                                  ('images', 'id')):
                database.execute(sqlalchemy.text(
                    f'DELETE FROM {table} WHERE {column} = :id'),  # noqa: S608
                    {'id': image_id})

    def remove_copies(self, image_id: str) -> None:
        for device in server.devices(self.store):
            shutil.rmtree(server.copy_directory(device, image_id))


class TestDatabase(FsckCase):

    def setUp(self) -> None:
        super().setUp()
        self.begin(options={'DEFAULT': {'delayed_delete': False}})
        self.data = client.content(SIZE, seed=71)
        self.kept = self.images.upload(self.data)

    def test_sound(self) -> None:
        answer = self.images.put(self.images.create(
            block_device_mapping='[{}]'), b'')
        self.assertEqual(204, answer.status_code, answer.text)
        self.images.create()
        self.images.delete(self.images.upload(self.data))
        self.check()
        self.check(arguments='--verify')

    def test_while_glance_serves(self) -> None:
        """An upload that is under way is no orphan, nor anything else."""
        image_id = self.images.create()
        with contextlib.closing(self.images.begin_put(
                image_id, self.data, SIZE - 1)) as upload:
            processes.poll(lambda: server.leftovers(self.store),
                           'the upload reaching the devices')
            self.check()
            upload.send(self.data[-1:])
            self.assertEqual(204, upload.getresponse().status)
        self.check()
        self.check_image(image_id, self.data)

    def test_orphan(self) -> None:
        orphan = self.images.upload(self.data)
        self.forget(orphan)
        row, = self.check(('orphan', orphan))
        self.assertIn('no record of this id', row['reason'])
        result = self.fsck('--remove-orphans')
        self.assertEqual(0, result.returncode, result.stderr)
        self.assertEqual(['deleted'], [
            row['result'] for row in json.loads(result.stdout)])
        self.check()
        self.check_image(self.kept, self.data)

    def test_lost(self) -> None:
        lost = self.images.upload(self.data)
        self.remove_copies(lost)
        self.check(('lost-image', lost))

    def test_wrong_record(self) -> None:
        with self.database() as database:
            database.execute(sqlalchemy.text(
                'UPDATE images SET size = 7 WHERE id = :id'),
                {'id': self.kept})
        row, = self.check(('differs-from-record', self.kept))
        self.assertIn('size 7', row['reason'])

    def test_other_database(self) -> None:
        """On the word of a Glance that knows none of it, nothing goes."""
        self.forget(self.kept)
        result = self.fsck('--remove-orphans')
        self.assertEqual((1, ''), (result.returncode, result.stdout))
        self.assertIn('no image of this store', result.stderr)
        self.assertEqual(3, len(self.glance.copies(self.kept)))

    def test_killed_before_the_record(self) -> None:
        """The data is complete, and then the worker is gone."""
        image_id = self.images.create()
        with contextlib.closing(self.images.begin_put(
                image_id, self.data, SIZE - 1)) as upload:
            processes.poll(lambda: server.leftovers(self.store),
                           'the upload reaching the devices')
            with self.records_locked(image_id):
                upload.send(self.data[-1:])
                processes.poll(lambda: self.committed(image_id),
                               'the copies in their places', interval=0.01)
                self.glance.kill()
        self.glance.start()
        self.assertNotEqual('active', self.images.show(image_id)['status'])
        row, = self.check(('orphan', image_id))
        self.assertIn("'saving'", row['reason'])
        self.fsck('--remove-orphans')
        self.check()
        self.check_image(self.kept, self.data)

    def committed(self, image_id: str) -> bool:
        return all(server.data_file(device, image_id).exists()
                   for device in server.devices(self.store))

    @contextlib.contextmanager
    def records_locked(self, image_id: str) -> Iterator[None]:
        """Have whoever writes the record of an image wait."""
        with self.database() as database:
            if base.ON_MARIADB:
                database.exec_driver_sql('BEGIN')
                database.execute(sqlalchemy.text(
                    'SELECT id FROM images WHERE id = :id FOR UPDATE'),
                    {'id': image_id})
            else:
                database.exec_driver_sql('BEGIN IMMEDIATE')
            try:
                yield
            finally:
                database.exec_driver_sql('ROLLBACK')

    def test_attached_again(self) -> None:
        """As the documentation tells, after the database was lost."""
        self.forget(self.kept)
        output = processes.check(self.glance.manage_command(
            'location', self.kept, '-f', 'json'))
        place, = json.loads(output)
        self.images.create(id=self.kept, name='found again')
        with self.database() as database:
            for statement in _documented_statements():
                database.execute(sqlalchemy.text(statement), {
                    **place, 'image': self.kept,
                    'about': json.dumps({'store': 'copies'})})
        self.check_image(self.kept, self.data)
        self.check()
        self.images.delete(self.kept)
        self.check()


def _documented_statements() -> list[str]:
    """Return the SQL of the documentation, with names for its values."""
    page = processes.ROOT / 'doc' / 'source' / 'fsck.rst'
    text = page.read_text().partition('.. code-block:: sql')[2]
    block = re.match(r'(?:\n|   .*\n)+', text.partition('\n')[2])
    assert block
    names = {"'IMAGE'": ':image', "'URI'": ':uri', 'SIZE': ':size',
             "'MD5'": ':md5', "'ALGORITHM'": ':algorithm',
             "'MULTIHASH'": ':multihash',
             """'{"store": "STORE"}'""": ':about'}
    sql = block[0]
    for name, variable in names.items():
        assert name in sql, name
        sql = sql.replace(name, variable)
    return [each for each in map(str.strip, sql.split(';')) if each]


class TestDelayedDelete(FsckCase):

    def test(self) -> None:
        """Data that is to be deleted later is no orphan."""
        self.begin(options={'DEFAULT': {'delayed_delete': True}})
        data = client.content(SIZE, seed=72)
        image_id = self.images.upload(data)
        self.images.delete(image_id)
        self.assertEqual(3, len(self.glance.copies(image_id)))
        self.check()
        self.remove_copies(image_id)
        self.check()


class TestEncryptedLocations(FsckCase):

    def test(self) -> None:
        key = uuid.uuid4().hex
        self.begin(options={'DEFAULT': {'metadata_encryption_key': key}})
        image_id = self.images.upload(client.content(SIZE, seed=73))
        orphan = self.images.upload(b'something')
        with self.database() as database:
            for value in database.execute(sqlalchemy.text(
                    'SELECT value FROM image_locations')).scalars():
                self.assertNotIn(image_id, value)
        self.check()
        self.forget(orphan)
        self.check(('orphan', orphan))
        text = self.glance.config_file.read_text()
        for line, word in (('', 'metadata_encryption_key'),
                           (f'metadata_encryption_key = {"0" * 32}',
                            'cannot be decrypted')):
            self.glance.config_file.write_text(text.replace(
                f'metadata_encryption_key = {key}', line))
            result = self.fsck('--remove-orphans')
            self.assertEqual(1, result.returncode)
            self.assertIn(word, result.stderr)
        self.glance.config_file.write_text(text)
        result = self.fsck('--remove-orphans')
        self.assertEqual(['deleted'], [
            row['result'] for row in json.loads(result.stdout)])
        self.check()


class TestSeveralStores(FsckCase):

    def setUp(self) -> None:
        super().setUp()
        root: Path = self.temporary_directory()
        self.second = server.block_store('second', server.make_devices(root))
        self.begin(self.second, server.file_store('files', root / 'files'))
        self.data = client.content(SIZE, seed=74)

    def test_each_has_its_own(self) -> None:
        here = self.images.upload(self.data)
        there = self.images.upload(self.data,
                                   X_Image_Meta_Store='second')
        self.images.upload(self.data, X_Image_Meta_Store='files')
        self.check(store='copies')
        self.check(store='second')
        self.forget(there)
        self.check(store='copies')
        self.check(('orphan', there), store='second')
        self.remove_copies(here)
        self.check(('lost-image', here), store='copies')

    def test_one_image_in_both(self) -> None:
        image_id = self.images.upload(self.data)
        self.images.start_import(image_id, {'name': 'copy-image'},
                                 stores=['second'])
        self.images.wait(image_id, os_glance_importing_to_stores='',
                         stores='copies,second')
        self.check(store='copies')
        self.check(store='second')
        self.remove_copies(image_id)
        self.check(('lost-image', image_id), store='copies')
        self.check(store='second')
