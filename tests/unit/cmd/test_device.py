"""``device init`` and ``device list``."""

from __future__ import annotations

import io
import os
from pathlib import Path
import shutil
import stat
import unittest

from easystack_image.blockstore.local import device
from easystack_image.blockstore.local import provision
from tests.unit.cmd import base
from tests.unit.store import base as store_base


def identity(path: Path) -> device.Identity:
    return device.Identity.unpack((path / device.IDENTITY).read_bytes())


class InitTest(base.CommandCase):

    def setUp(self) -> None:
        super().setUp()
        self.paths = [self.root / f'disk{number}' for number in range(4)]
        for path in self.paths:
            path.mkdir()
        self.configure(self.paths[:3])

    def configure(self, paths: list[Path], **options: object) -> None:
        self.write_config(copies={'devices': paths, **options})

    def init(self, *arguments: object) -> base.Result:
        return self.manage('device', 'init', *arguments, '-f', 'json')

    def contents(self) -> dict[str, bytes | None]:
        """Return what the devices hold, but for hundreds of shards."""
        return {str(path.relative_to(self.root)):
                path.read_bytes() if path.is_file() else None
                for top in self.paths for path in sorted(top.rglob('*'))
                if path.is_file() or len(path.name) > 2}

    def check_nothing_done(self, result: base.Result,
                           *words: object) -> None:
        """See a command refuse to touch any device."""
        self.check_error(result, *words)
        self.assertEqual({}, self.contents())

    def test_life_of_a_set(self) -> None:
        """First the set is made, then it is left alone, then it grows."""
        result = self.init()
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertEqual([str(path) for path in self.paths[:3]],
                         [row['device'] for row in result.rows])
        self.assertEqual(['active'] * 3,
                         [row['state'] for row in result.rows])
        identities = [identity(path) for path in self.paths[:3]]
        self.assertEqual(1, len({each.store_id for each in identities}))
        self.assertEqual(3, len({each.device_id for each in identities}))
        # Each device is a zone of its own, if nothing else is said.
        self.assertEqual([(each.device_id, 1.0) for each in identities],
                         [(each.zone, each.weight) for each in identities])
        for path in self.paths[:3]:
            self.assertEqual(0o700, stat.S_IMODE(path.stat().st_mode))

        before = self.contents()
        result = self.init()
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertEqual(3, len(result.rows))
        self.assertEqual(before, self.contents())

        self.configure(self.paths)
        result = self.init('--zone', 'rack 2', '--weight', '2.5')
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertEqual(
            (str(self.paths[3]), 'rack 2', '2.5', 'active'), tuple(
                str(result.rows[3][name])
                for name in ('device', 'zone', 'weight', 'state')))
        added = identity(self.paths[3])
        self.assertEqual((identities[0].store_id, 'rack 2', 2.5),
                         (added.store_id, added.zone, added.weight))
        self.assertEqual(identities,
                         [identity(path) for path in self.paths[:3]])

    def test_one_after_the_other(self) -> None:
        """Each controller or rack gets its zone."""
        for number in (1, 0):
            result = self.init(self.paths[number], '--zone', f'z{number}')
            self.assertEqual(0, result.code)
        self.assertEqual(
            [('z0', 'active'), ('z1', 'active')],
            [(row['zone'], row['state']) for row in result.rows[:2]])
        self.assertNotEqual('active', result.rows[2]['state'])
        # What cannot be used is told once more, in words.
        self.assertIn(str(self.paths[2]), result.errors)
        self.assertEqual([], list(self.paths[2].iterdir()))
        self.assertEqual(identity(self.paths[0]).store_id,
                         identity(self.paths[1]).store_id)

    def test_prepared_already(self) -> None:
        self.init(self.paths[1])
        before = self.contents()
        self.check_error(self.manage('device', 'init', self.paths[1]),
                         self.paths[1], 'already')
        self.assertEqual(before, self.contents())

    def test_not_empty(self) -> None:
        precious = self.paths[0] / 'precious'
        precious.write_text('data')
        self.check_error(self.manage('device', 'init'), self.paths[0],
                         'not empty', 'precious')
        self.assertEqual({'disk0/precious': b'data'}, self.contents())

    def test_new_file_system(self) -> None:
        (self.paths[0] / 'lost+found').mkdir()
        self.assertEqual(0, self.init(self.paths[0]).code)
        self.assertTrue((self.paths[0] / device.IDENTITY).exists())

    def test_after_an_interruption(self) -> None:
        (self.paths[0] / 'images').mkdir()
        (self.paths[0] / f'{device.IDENTITY}.new').write_bytes(b'{')
        self.assertEqual(0, self.init(self.paths[0]).code)
        self.assertEqual('active', self.manage(
            'device', 'list', '-f', 'json').rows[0]['state'])

    def test_images_without_an_identity(self) -> None:
        """They may be all that is left of some images."""
        (self.paths[0] / 'images' / '00' / store_base.new_id()).mkdir(
            parents=True)
        before = self.contents()
        self.check_error(self.manage('device', 'init'), self.paths[0],
                         'images', 'identity')
        self.assertEqual(before, self.contents())

    def test_damaged_identity(self) -> None:
        for content in (b'', b'{}'):
            (self.paths[0] / device.IDENTITY).write_bytes(content)
            self.check_error(self.manage('device', 'init'), self.paths[0],
                             'identity')

    def test_device_of_another_set(self) -> None:
        others = [store_base.shared_devices(number).paths[0]
                  for number in (0, 1)]
        self.configure([*others, *self.paths])
        self.check_nothing_done(self.manage('device', 'init'),
                                'different sets')

    def test_missing_directory(self) -> None:
        self.configure([*self.paths[:3], self.root / 'absent'])
        self.check_nothing_done(self.manage('device', 'init'),
                                self.root / 'absent', 'mount')

    def test_file(self) -> None:
        file = self.root / 'file'
        file.write_text('')
        self.configure([*self.paths[:3], file])
        self.check_nothing_done(self.manage('device', 'init'), file,
                                'Not a directory')

    def test_path_that_is_not_configured(self) -> None:
        self.check_nothing_done(
            self.manage('device', 'init', self.paths[3]), self.paths[3],
            'easystack_block_devices')

    def test_weights_that_cannot_be(self) -> None:
        for weight in ('0', 'nan', '1e7'):
            self.check_nothing_done(
                self.manage('device', 'init', f'--weight={weight}'),
                'weight must be')

    def test_weight_that_is_no_number(self) -> None:
        result = self.manage('device', 'init', '--weight', 'heavy')
        self.assertEqual(2, result.code)
        self.assertIn("'heavy'", result.errors)

    def test_relative_path(self) -> None:
        self.configure([*self.paths[:3], Path('disk3')])
        self.check_nothing_done(self.manage('device', 'init'), "'disk3'",
                                'absolute')

    def test_configuration_that_cannot_work(self) -> None:
        """It is refused before anything is written to the devices."""
        for options, word in (
                ({'copies': 4}, '4 copies'),
                ({'copies': 2, 'min_copies': 3}, 'min_copies'),
                ({'allow_shared_disk': False}, 'same disk')):
            self.configure(self.paths[:3], **options)
            self.check_nothing_done(self.manage('device', 'init'), word)


class ListTest(base.CommandCase):

    def setUp(self) -> None:
        super().setUp()
        self.devices = store_base.shared_devices()
        self.write_config(copies={'devices': self.devices.paths})

    def test_table(self) -> None:
        result = self.manage('device', 'list')
        self.assertEqual((0, ''), (result.code, result.errors))
        head = result.output.splitlines()[1]
        self.assertEqual(['device', 'zone', 'state', 'total', 'free',
                          'copies'],
                         head.replace('|', ' ').split())
        for path in self.devices.paths:
            self.assertIn(f'| {path} |', result.output)

    def test_json(self) -> None:
        rows = self.manage('device', 'list', '-f', 'json').rows
        usage = shutil.disk_usage(self.devices.root)
        for path, row in zip(self.devices.paths, rows, strict=True):
            self.assertEqual(
                {'device': str(path), 'zone': identity(path).zone,
                 'weight': '1.0', 'state': 'active'},
                {name: str(row[name]) for name in
                 ('device', 'zone', 'weight', 'state')})
            self.assertEqual(usage.total, row['total'])
            self.assertGreater(row['free'], 0)
            self.assertLess(row['free'], usage.total)

    def test_csv(self) -> None:
        records = self.manage('device', 'list', '-f', 'csv').records
        self.assertEqual([str(path) for path in self.devices.paths],
                         [record['device'] for record in records])

    def test_value(self) -> None:
        """One field per column, for scripts."""
        result = self.manage('device', 'list', '-f', 'value', '-c',
                             'device', '-c', 'state')
        self.assertEqual(
            ''.join(f'{path} active\n' for path in self.devices.paths),
            result.output)

    def test_device_that_is_away(self) -> None:
        with self.devices.away(1):
            result = self.manage('device', 'list', '-f', 'json')
        self.assertEqual(0, result.code)
        self.assertIn(str(self.devices.paths[1]), result.errors)
        states = [row['state'] for row in result.rows]
        self.assertEqual(['active', 'active'], [states[0], states[2]])
        self.assertEqual('unavailable', states[1])
        self.assertIn('No such file or directory', result.rows[1]['reason'])

    def test_no_device_is_there(self) -> None:
        with self.devices.away(0, 1, 2):
            self.check_error(self.manage('device', 'list'),
                             *self.devices.paths, 'mount')


@unittest.skipUnless(os.geteuid() == 0, 'root can act for another user')
class OwnerTest(base.CommandCase):
    """Glance runs as a user of its own; operators tend to be root.

    What root leaves behind on a device must not lock Glance out: neither its
    directories nor a new copy nor, worst of all, the files that processes
    lock against each other.
    """

    #: Whoever that is; on most systems nobody.
    OWNER = 65534

    def setUp(self) -> None:
        super().setUp()
        self.paths = [self.root / f'disk{number}' for number in range(3)]
        for path in self.paths:
            path.mkdir()
            os.chown(path, self.OWNER, self.OWNER)
        # Up to the devices, that user must be let through.
        self.root.chmod(0o755)
        self.write_config(copies={'devices': self.paths})

    def check_owner(self) -> None:
        foreign = [path for top in self.paths for path in top.rglob('*')
                   if path.lstat().st_uid != self.OWNER]
        self.assertEqual([], foreign[:3])

    def test_init(self) -> None:
        self.check_error(self.manage('device', 'init'), self.paths[0],
                         'user', 'sudo -u')
        self.check_owner()

    def test_owner_without_a_name(self) -> None:
        """As on a disk that comes from another machine."""
        os.chown(self.paths[1], 54321, 54321)
        os.chown(self.paths[0], 0, 0)
        self.check_error(self.manage('device', 'init'), self.paths[1],
                         '54321')
        self.assertEqual([], [each for path in self.paths
                              for each in path.iterdir()])

    def test_repair(self) -> None:
        provision.initialise([str(path) for path in self.paths])
        engine = base.local_engine(self.paths)
        image_id = store_base.new_id()
        engine.write(image_id, io.BytesIO(b'data'), 4)
        engine.close()
        for top in self.paths:
            shutil.rmtree(top / 'locks')
            (top / 'locks').mkdir()
            for path in top.rglob('*'):
                os.chown(path, self.OWNER, self.OWNER)
        shutil.rmtree(self.paths[1] / 'images' / image_id[:2] / image_id)
        self.check_error(self.manage('repair', image_id), 'user', 'sudo -u')
        self.check_owner()
