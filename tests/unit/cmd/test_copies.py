"""``copies show`` and ``repair``."""

from __future__ import annotations

import io
from pathlib import Path
import shutil

from tests.unit.cmd import base
from tests.unit.store import base as store_base

DATA = store_base.content(2 * store_base.MIB + 1234)


class CopiesCase(base.CommandCase):

    def setUp(self) -> None:
        super().setUp()
        self.devices = store_base.shared_devices()
        self.write_config(copies={'devices': self.devices.paths})
        self.image_id = store_base.new_id()
        engine = base.local_engine(self.devices.paths)
        engine.write(self.image_id, io.BytesIO(DATA), len(DATA))
        engine.close()
        self.files = self.devices.data_files(self.image_id)

    def flip(self, path: Path, offset: int = 1_500_000) -> None:
        """Change a byte of a copy."""
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)

    def show(self, *arguments: object) -> base.Result:
        return self.manage('copies', 'show', self.image_id, *arguments,
                           '-f', 'json')

    def repair(self) -> base.Result:
        return self.manage('repair', self.image_id, '-f', 'json')

    def states(self, result: base.Result) -> dict[str, str]:
        """Return the state of the copy on each device, by its name."""
        return {Path(row['device']).name: row['state']
                for row in result.rows}

    def all_good(self) -> None:
        """See three good copies, every byte of them read."""
        result = self.show('--verify')
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertEqual({'disk0': 'good', 'disk1': 'good', 'disk2': 'good'},
                         self.states(result))
        self.assertEqual([DATA] * 3,
                         [Path(row['path']).read_bytes()
                          for row in result.rows])


class ShowTest(CopiesCase):

    def test_good(self) -> None:
        self.all_good()

    def test_table(self) -> None:
        result = self.manage('copies', 'show', self.image_id)
        self.assertEqual((0, ''), (result.code, result.errors))
        head = result.output.splitlines()[1]
        self.assertEqual(['device', 'zone', 'state', 'verified', 'size'],
                         head.replace('|', ' ').split())
        result = self.manage('copies', 'show', self.image_id, '--long')
        for path in self.files:
            self.assertIn(f' {path} |', result.output)

    def test_csv(self) -> None:
        records = self.manage('copies', 'show', self.image_id, '-f',
                              'csv').records
        self.assertEqual({str(path) for path in self.files},
                         {record['path'] for record in records})

    def test_value(self) -> None:
        result = self.manage('copies', 'show', self.image_id, '-f', 'value',
                             '-c', 'state')
        self.assertEqual('good\n' * 3, result.output)

    def test_damage_within(self) -> None:
        """Only a look at every byte finds it."""
        self.flip(self.files[1])
        result = self.show()
        self.assertEqual((0, ''), (result.code, result.errors))
        result = self.show('--verify')
        self.assertEqual(3, result.code)
        self.assertEqual({'disk0': 'good', 'disk1': 'damaged',
                          'disk2': 'good'}, self.states(result))
        reasons = {row['reason'] for row in result.rows}
        self.assertEqual({'', 'block 1 does not match its checksum'},
                         reasons)

    def test_damage_that_shows(self) -> None:
        with self.files[0].open('ab') as file:
            file.write(b'x')
        manifest = self.files[2].with_name('manifest')
        manifest.write_bytes(manifest.read_bytes()[:-1])
        result = self.show()
        self.assertEqual(3, result.code)
        self.assertEqual({'disk0': 'damaged', 'disk1': 'good',
                          'disk2': 'damaged'}, self.states(result))
        for row in result.rows:
            self.assertEqual(row['state'] == 'good', row['reason'] == '')

    def test_missing(self) -> None:
        shutil.rmtree(self.files[2].parent)
        result = self.show()
        self.assertEqual(3, result.code)
        self.assertEqual({'disk0': 'good', 'disk1': 'good',
                          'disk2': 'missing'}, self.states(result))

    def test_device_that_is_away(self) -> None:
        with self.devices.away(0):
            result = self.show()
        self.assertEqual(3, result.code)
        self.assertEqual({'disk0': 'unreachable', 'disk1': 'good',
                          'disk2': 'good'}, self.states(result))
        self.assertIn(str(self.devices.paths[0]), result.errors)

    def test_capital_letters(self) -> None:
        self.image_id = self.image_id.upper()
        self.assertEqual(0, self.show().code)

    def test_unknown_image(self) -> None:
        for command in (('copies', 'show'), ('repair',)):
            image_id = store_base.new_id()
            self.check_error(self.manage(*command, image_id), image_id,
                             'not in this store')

    def test_bad_image_id(self) -> None:
        self.check_error(self.manage('copies', 'show', '../../etc'), 'UUID',
                         '../../etc')
        self.check_error(self.manage('repair', 'cirros'), 'UUID', 'cirros')

    def test_empty_image_id(self) -> None:
        """As of a variable that a script did not set."""
        self.check_error(self.manage('copies', 'show', ''), 'UUID')


class RepairTest(CopiesCase):

    def test_nothing_to_do(self) -> None:
        result = self.repair()
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertEqual({'disk0': 'good', 'disk1': 'good', 'disk2': 'good'},
                         self.states(result))

    def test_damaged_and_missing(self) -> None:
        self.flip(self.files[0])
        shutil.rmtree(self.files[1].parent)
        result = self.repair()
        self.assertEqual(0, result.code)
        for path in self.devices.paths[:2]:
            self.assertIn(f'made a new copy on {path}', result.errors)
        self.all_good()
        # The damaged one is put aside, not thrown away.
        kept, = self.devices.paths[0].glob(
            f'quarantine/{self.image_id}.*')
        self.assertNotEqual(DATA, (kept / 'data').read_bytes())
        self.assertIn('checksum', (kept / 'reason').read_text())

    def test_device_that_is_away(self) -> None:
        """Some copies are not good afterwards, and the code says so."""
        with self.devices.away(2):
            result = self.repair()
        self.assertEqual(3, result.code)
        self.assertEqual('unreachable', self.states(result)['disk2'])
        self.all_good()

    def test_no_good_copy(self) -> None:
        """What cannot be repaired is left as it is."""
        for path in self.files:
            self.flip(path)
        before = [path.read_bytes() for path in self.files]
        result = self.repair()
        self.assertEqual((1, ''), (result.code, result.output))
        self.assertIn(self.image_id, result.errors)
        self.assertIn('no copy has a good block 1', result.errors)
        self.assertEqual(before, [path.read_bytes() for path in self.files])
        self.assertEqual(3, self.show('--verify').code)
