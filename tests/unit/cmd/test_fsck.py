"""``fsck`` and ``location``."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import sys
import time

from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import engine as local_engine
from tests.unit.cmd import base
from tests.unit.cmd import glance_tables
from tests.unit.store import base as store_base

#: The command, with a database that answers once when it removes orphans.
_GOES_AWAY = """
import sys
from easystack_image import exceptions
from easystack_image.cmd import manage, records
ask, asked = records.Records.to, []
def to(self, image_id):
    asked.append(image_id)
    if len(asked) > 1:
        raise exceptions.RecordsError('it went away')
    return ask(self, image_id)
records.Records.to = to
sys.exit(manage.main())
"""
DATA = store_base.content(store_base.MIB + 99)


class FsckCase(base.CommandCase):

    engine: local_engine.LocalEngine

    def setUp(self) -> None:
        super().setUp()
        # Not those on which other tests leave copies in quarantine.
        self.devices = store_base.shared_devices(9)
        self.write_config(copies={'devices': self.devices.paths})
        self.engine = base.local_engine(self.devices.paths)
        self.addCleanup(self.empty)
        self.info = self.store()

    def store(self, data: bytes = DATA) -> engine_module.ImageInfo:
        return self.engine.write(store_base.new_id(),
                                 store_base.Trickle(data, 1 << 20))

    def empty(self) -> None:
        """Leave no image behind for whoever uses the devices next."""
        for image_id in list(self.engine.list_images()):
            self.engine.delete(image_id)

    def fsck(self, *arguments: object) -> base.Result:
        return self.manage('fsck', *arguments, '-f', 'json')

    def files(self, info: engine_module.ImageInfo) -> list[Path]:
        return self.devices.data_files(info.image_id)

    def age(self, info: engine_module.ImageInfo, hours: float) -> None:
        """Have an image be written earlier."""
        then = time.time() - hours * 3600
        for path in self.files(info):
            os.utime(path.parent, (then, then))

    def kinds(self, result: base.Result) -> list[str]:
        return sorted(row['kind'] for row in result.rows)


class CheckTest(FsckCase):

    def test_sound(self) -> None:
        for arguments in ((), ('--verify',)):
            result = self.fsck(*arguments)
            self.assertEqual((0, '[]'), (result.code,
                                         result.output.strip()))
            self.assertIn('Checked 1 image', result.errors)
            self.assertIn('found 0 problems.', result.errors)
        self.assertIn('read 3 good copies', result.errors)

    def test_damage(self) -> None:
        self.files(self.info)[1].write_bytes(DATA[:-1])
        result = self.fsck()
        self.assertEqual(3, result.code)
        self.assertEqual(['below-copies', 'wrong-size'], self.kinds(result))
        row, = (row for row in result.rows if row['kind'] == 'wrong-size')
        self.assertEqual(
            {'severity': 'error', 'kind': 'wrong-size',
             'device': str(self.devices.paths[1]),
             'image': self.info.image_id, 'advice': 'repair', 'result': ''},
            {name: row[name] for name in ('severity', 'kind', 'device',
                                          'image', 'advice', 'result')})
        for text in (str(len(DATA)), str(len(DATA) - 1),
                     str(self.devices.paths[1])):
            self.assertIn(text, row['reason'])

    def test_rot(self) -> None:
        for path in self.files(self.info):
            os.utime(path.with_name('manifest'), (1, 1))
        with self.files(self.info)[2].open('r+b') as file:
            file.seek(77)
            file.write(bytes([DATA[77] ^ 1]))
        self.assertEqual(0, self.fsck().code)
        result = self.fsck('--verify', '--rate-limit', '500')
        self.assertEqual((3, ['damaged-copy']),
                         (result.code, self.kinds(result)))
        # The other two were read and found good, so this one is not passed.
        result = self.fsck('--verify', '--not-verified-for', '1')
        self.assertEqual(3, result.code)

    def test_what_was_read_not_long_ago(self) -> None:
        self.assertIn('read 3', self.fsck('--verify').errors)
        self.assertIn('read 0', self.fsck(
            '--verify', '--not-verified-for', '1').errors)

    def test_note(self) -> None:
        """What goes by itself does not change the exit code."""
        self.engine.delete(self.info.image_id)
        mark = self.devices.paths[0] / 'repair' / (
            f'{self.info.image_id}.{self.info.generation}')
        mark.touch(0o600)
        self.addCleanup(mark.unlink)
        result = self.fsck()
        self.assertEqual((0, ['mark-without-image']),
                         (result.code, self.kinds(result)))
        self.assertIn('found 0 problems, and 1 note.', result.errors)

    def test_devices_that_do_not_belong_together(self) -> None:
        """What keeps all else from starting is a finding."""
        other = store_base.shared_devices(1)
        self.write_config(copies={'devices': [
            *self.devices.paths, other.paths[0]]})
        result = self.fsck()
        self.assertEqual((3, ['foreign-device']),
                         (result.code, self.kinds(result)))

    def test_device_that_is_away(self) -> None:
        with self.devices.away(1):
            result = self.fsck()
        self.assertEqual((3, ['below-copies', 'missing-device']),
                         (result.code, self.kinds(result)))

    def test_table(self) -> None:
        self.files(self.info)[0].unlink()
        result = self.manage('fsck')
        self.assertEqual(3, result.code)
        self.assertIn('damaged-copy', result.output)
        self.assertNotIn('generation', result.output)
        self.assertIn('; found 2 problems.', result.errors)
        self.assertIn('generation', self.manage('fsck', '--long').output)

    def test_table_on_a_terminal(self) -> None:
        """It is not wider, whatever is said; ids and paths stay whole."""
        self.files(self.info)[0].unlink()
        result = self.run_command(
            '--config-file', self.config, 'fsck', '--long', COLUMNS='80')
        self.assertEqual(3, result.code)
        self.assertNotIn('|', result.output)
        lines = result.output.splitlines()
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertEqual(2, len(result.output.split('\n\n')))
        for name, value in (('image', self.info.image_id),
                            ('severity', 'error'),
                            ('device', str(self.devices.paths[0]))):
            self.assertIn(f'{name:<12}{value}', lines)
        # Where there is room, it is a table.
        result = self.run_command(
            '--config-file', self.config, 'fsck', '--long', COLUMNS='999')
        self.assertIn(f'| {self.info.image_id} ', result.output)

    def test_interrupted(self) -> None:
        """It says so, like other long work, and tells what it found."""
        for _ in range(3):
            self.store()
        self.devices.paths[0].joinpath('strange').touch()
        self.addCleanup(self.devices.paths[0].joinpath('strange').unlink)
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start('fsck', '--verify', '-f', 'json',
                                 '--rate-limit', '1', '--report-every', '.1')
            assert process.stderr is not None
            while ' images, ' not in process.stderr.readline():
                self.assertIsNone(process.poll())
            result = self.stop(process, number)
            self.assertEqual((130, ['unexpected']),
                             (result.code, self.kinds(result)))
            self.assertIn('Stopped; these are the problems found so far',
                          result.errors)
            self.assertIn('--not-verified-for', result.errors)

    def test_wrong_use(self) -> None:
        removal = ('--with-database', '--remove-orphans')
        for arguments, word in (
                (('--remove-orphans',), '--with-database'),
                (('--force', 'other', *removal), 'it names other'),
                (('--force', 'copies'), '--remove-orphans'),
                (('--dry-run',), '--remove-orphans'),
                (('--dry-run', '--verify'), '--remove-orphans'),
                (('--not-verified-for', '0'), '--verify'),
                (('--older-than', '-1'), '--older-than'),
                (('--older-than', '1'), '--database'),
                (('--older-than', 'old'), "'old' is no number"),
                (('--database', 'sqlite://', '--with-database'),
                 'not allowed')):
            result = self.fsck(*arguments)
            self.assertEqual(2, result.code, arguments)
            self.assertIn(word, result.errors)


class DatabaseTest(FsckCase):

    def setUp(self) -> None:
        super().setUp()
        self.tables = glance_tables.Tables(self.root / 'glance.sqlite')
        self.tables.add(self.engine.store_id, self.info)
        self.orphan = self.store()
        self.age(self.orphan, 48)

    def compare(self, *arguments: object) -> base.Result:
        return self.fsck('--database', self.tables.url, *arguments)

    def is_stored(self, info: engine_module.ImageInfo) -> bool:
        return info.image_id in self.engine.list_images()

    def test_orphan(self) -> None:
        result = self.compare()
        self.assertEqual((3, ['orphan']), (result.code, self.kinds(result)))
        self.assertEqual(self.orphan.image_id, result.rows[0]['image'])
        self.assertTrue(self.is_stored(self.orphan))
        self.assertEqual(0, self.compare('--older-than', '49').code)

    def test_configured_database(self) -> None:
        with self.config.open('a') as file:
            file.write(f'[database]\nconnection = {self.tables.url}\n')
        result = self.fsck('--with-database')
        self.assertEqual((3, ['orphan']), (result.code, self.kinds(result)))

    def test_no_configured_database(self) -> None:
        self.check_error(self.fsck('--with-database'), '--config-file',
                         'connection')

    def test_database_that_is_not_there(self) -> None:
        url = 'mysql+pymysql://glance:secret@127.0.0.1:1/glance'
        result = self.fsck('--database', url, '--remove-orphans')
        self.check_error(result, 'cannot be read')
        self.assertNotIn('secret', result.errors)
        self.assertTrue(self.is_stored(self.orphan))

    def test_dry_run(self) -> None:
        result = self.compare('--remove-orphans', '--dry-run')
        self.assertEqual((3, 'would be deleted'),
                         (result.code, result.rows[0]['result']))
        self.assertTrue(self.is_stored(self.orphan))

    def test_removal(self) -> None:
        result = self.compare('--remove-orphans')
        self.assertEqual((0, 'deleted'),
                         (result.code, result.rows[0]['result']))
        self.assertFalse(self.is_stored(self.orphan))
        self.assertTrue(self.is_stored(self.info))
        self.assertEqual((0, '[]'), (
            (result := self.compare()).code, result.output.strip()))

    def test_database_that_goes_away(self) -> None:
        """What was deleted before is told; nothing is deleted after."""
        second = self.store()
        self.age(second, 48)
        result = self.run_command(
            '--config-file', self.config, 'fsck', '--database',
            self.tables.url, '--remove-orphans', '-f', 'json',
            command=(sys.executable, '-c', _GOES_AWAY))
        self.assertEqual((1, ['deleted', 'not deleted']), (
            result.code, [row['result'] for row in result.rows]))
        self.assertIn('it went away', result.errors)
        gone, left = (row['image'] for row in result.rows)
        self.assertEqual({left, self.info.image_id},
                         set(self.engine.list_images()))
        self.assertNotEqual(gone, left)

    def test_more_than_crashes_leave(self) -> None:
        """As by a database that was restored from a backup."""
        many = [self.store(b'data') for _ in range(10)]
        for info in many:
            self.age(info, 48)
        for arguments in ((), ('--dry-run',)):
            result = self.compare('--remove-orphans', *arguments)
            self.assertEqual((1, ''), (result.code, result.output))
            self.assertIn('11 of the 12 images', result.errors)
            self.assertIn('force it by naming the store', result.errors)
        self.assertTrue(all(map(self.is_stored, many)))
        result = self.compare('--remove-orphans', '--force', 'copies')
        self.assertEqual((0, ['deleted'] * 11), (
            result.code, [row['result'] for row in result.rows]))
        self.assertTrue(self.is_stored(self.info))

    def test_young_data_stays(self) -> None:
        young = self.store()
        result = self.compare('--remove-orphans')
        self.assertEqual([self.orphan.image_id],
                         [row['image'] for row in result.rows])
        self.assertTrue(self.is_stored(young))

    def test_empty_database(self) -> None:
        """As of a Glance that was just set up: nothing is deleted."""
        self.tables.execute('DELETE FROM image_locations')
        for arguments in ((), ('--dry-run',)):
            self.age(self.info, 48)
            result = self.compare('--remove-orphans', *arguments)
            self.assertEqual(1, result.code)
            self.assertIn('no image of this store', result.errors)
        self.assertTrue(self.is_stored(self.orphan))
        result = self.compare('--remove-orphans', '--force', 'copies')
        self.assertEqual((0, ['deleted'] * 2), (
            result.code, [row['result'] for row in result.rows]))

    def test_lost(self) -> None:
        self.engine.delete(self.orphan.image_id)
        self.engine.delete(self.info.image_id)
        result = self.compare()
        self.assertEqual((3, ['lost-image']),
                         (result.code, self.kinds(result)))


class LocationTest(FsckCase):

    def test_location(self) -> None:
        result = self.manage('location', self.info.image_id, '-f', 'json')
        self.assertEqual(0, result.code)
        self.assertEqual([{
            'uri': f'easystack-block://{self.engine.store_id}/'
                   f'{self.info.image_id}/{self.info.generation}',
            'size': len(DATA), 'md5': store_base.md5(DATA),
            'algorithm': 'sha512', 'multihash': store_base.sha512(DATA)}],
            result.rows)

    def test_unknown_image(self) -> None:
        self.check_error(self.manage('location', store_base.new_id()),
                         'not in this store')
