"""``device add``, ``drain``, ``remove`` and ``replace``; ``rebalance``."""

from __future__ import annotations

from pathlib import Path
import shutil
import signal

from easystack_image.blockstore.local import device
from tests.unit.cmd import base
from tests.unit.cmd import moving

STOPPED = 'Run the same command again'


class AddTest(moving.MovingCase):

    def test_takes_its_share(self) -> None:
        """First of what is new, then of what is there."""
        self.configure(4)
        result = self.done('device', 'add', self.paths[3], '--zone', 'rack',
                           '--weight', '2')
        self.assertIn('"rebalance" gives', result.errors)
        # That it was no device before is no news.
        self.assertNotIn('is not a device', result.errors)
        added = self.devices()['disk3']
        self.assertEqual(('rack', 2.0, 'active', 0), (
            added['zone'], added['weight'], added['state'],
            added['copies']))

        before = self.contents()
        planned = self.done('rebalance', '--dry-run').rows
        self.assertEqual(before, self.contents())
        copied = [row['image'] for row in planned if row['action'] == 'copy']
        self.assertEqual({str(self.paths[3])}, {
            row['device'] for row in planned if row['action'] == 'copy'})
        self.assertGreater(len(copied), 1)

        row = self.row('rebalance')
        self.assertEqual((len(copied), len(copied), len(copied)), (
            row['images'], row['copied'], row['removed']))
        self.assertEqual(len(copied) * self.SIZE, row['size'])
        self.check_whole()
        self.assertEqual(len(copied), self.devices()['disk3']['copies'])
        for row in planned:
            self.assertEqual(
                row['action'] == 'copy', self.copy(
                    self.root / row['device'], row['image']).exists())
        # It stays as it is.
        result = self.done('rebalance', '--dry-run')
        self.assertEqual([], result.rows)
        self.assertIn('No copy', result.errors)
        self.assertEqual(0, self.row('rebalance')['images'])

    def test_not_in_the_configuration(self) -> None:
        self.check_error(self.manage('device', 'add', self.paths[3]),
                         self.paths[3], 'easystack_block_devices')
        self.assertEqual([], list(self.paths[3].iterdir()))

    def test_not_empty(self) -> None:
        self.configure(4)
        (self.paths[3] / 'precious').write_text('')
        self.check_error(self.manage('device', 'add', self.paths[3]),
                         'not empty', 'precious')
        self.assertEqual(['precious'],
                         [path.name for path in self.paths[3].iterdir()])

    def test_prepared_already(self) -> None:
        before = self.contents()
        self.check_error(self.manage('device', 'add', self.paths[0]),
                         'already')
        self.assertEqual(before, self.contents())

    def test_weight_that_cannot_be(self) -> None:
        self.configure(4)
        self.check_error(self.manage('device', 'add', self.paths[3],
                                     '--weight', '-1'), 'weight must be')


class DrainTest(moving.MovingCase):

    def setUp(self) -> None:
        super().setUp()
        self.configure(4)
        self.done('device', 'add', self.paths[3])
        self.leaving = self.paths[0]

    def test_life(self) -> None:
        """It is emptied, then it goes, and nothing is lost meanwhile."""
        before = self.contents()
        planned = self.done('device', 'drain', self.leaving,
                            '--dry-run').rows
        self.assertEqual(before, self.contents())
        self.assertEqual(
            set(self.images), {row['image'] for row in planned
                               if row['action'] == 'remove'
                               and row['device'] == str(self.leaving)})
        count = self.devices()['disk0']['copies']
        self.assertEqual(len(self.images), count)

        row = self.row('device', 'drain', self.leaving)
        self.assertEqual((count, 0), (row['images'], row['left']))
        self.check_whole(self.leaving)
        self.assertEqual('draining', self.states()['disk0'])
        # Nothing new gets there.
        self.images |= self.store(3)
        self.check_whole(self.leaving)

        before = self.contents()
        result = self.done('device', 'remove', self.leaving, '--dry-run')
        self.assertEqual([], result.rows)
        self.assertEqual(before, self.contents())
        result = self.done('device', 'remove', self.leaving)
        self.assertEqual([str(path) for path in self.paths[1:4]],
                         [row['device'] for row in result.rows])
        self.assertIn('easystack_block_devices', result.errors)
        self.paths = self.paths[1:]
        self.configure(3)
        self.assertEqual({f'disk{number}': 'active' for number in (1, 2, 3)},
                         self.states())
        self.done('rebalance')
        self.check_whole(self.leaving)

    def test_cancel(self) -> None:
        self.done('device', 'drain', self.leaving)
        result = self.done('device', 'drain', self.leaving, '--cancel',
                           '--dry-run')
        self.assertEqual('draining', result.rows[0]['state'])
        result = self.done('device', 'drain', self.leaving, '--cancel')
        self.assertEqual('active', result.rows[0]['state'])
        self.assertGreater(self.row('rebalance')['images'], 0)
        self.assertGreater(self.devices()['disk0']['copies'], 0)
        self.check_whole()

    def test_cancel_with_force(self) -> None:
        self.check_error(
            self.manage('device', 'drain', '--cancel', self.leaving,
                        '--force', self.leaving), '--force', code=2)

    def test_too_few_would_remain(self) -> None:
        self.done('device', 'drain', self.leaving)
        before = self.contents()
        for more in ((), ('--dry-run',)):
            self.check_error(
                self.manage('device', 'drain', self.paths[1], *more),
                self.paths[1], '2 other devices', '--force')
        result = self.manage('device', 'drain', self.paths[1], '--force',
                             self.paths[0])
        self.check_error(result, '--force must repeat', code=2)
        self.assertEqual(before, self.contents())
        # Forced, it takes nothing new; what is on it has no place to go.
        row = self.row('device', 'drain', self.paths[1], '--force',
                       self.paths[1], code=3)
        self.assertEqual(len(self.images), row['left'])
        self.check_whole(self.leaving)

    def test_unknown_device(self) -> None:
        self.check_error(self.manage('device', 'drain', '/absent'),
                         '/absent', 'easystack_block_devices')

    def test_device_that_is_away(self) -> None:
        shutil.rmtree(self.leaving)
        result = self.manage('device', 'drain', self.leaving)
        self.assertEqual((1, ''), (result.code, result.output))
        self.assertIn(str(self.leaving), result.errors)

    def test_damaged_copy_stays(self) -> None:
        """A bad copy is no reason to hurry: it is told, and repaired."""
        image_id = min(self.images)
        with self.copy(self.leaving, image_id).open('ab') as file:
            file.write(b'x')
        result = self.done('device', 'drain', self.leaving, code=3)
        self.assertEqual(1, result.rows[0]['left'])
        self.assertIn('"repair"', result.errors)
        self.done('repair')
        self.assertEqual(0, self.row('device', 'drain',
                                     self.leaving)['left'])
        self.check_whole(self.leaving)

    def test_interrupted(self) -> None:
        result = self.stop(self.started('device', 'drain', self.leaving),
                           signal.SIGINT)
        self.assertEqual((130, ''), (result.code, result.output))
        self.assertIn(STOPPED, result.errors)
        listed = self.devices()['disk0']
        self.assertEqual('draining', listed['state'])
        self.assertTrue(0 < listed['copies'] < len(self.images), listed)
        for path in self.paths[:4]:
            self.assertEqual([], list((path / 'tmp').iterdir()))
        row = self.row('device', 'drain', self.leaving)
        self.assertEqual((listed['copies'], 0), (row['images'], row['left']))
        self.check_whole(self.leaving)


class RemoveTest(moving.MovingCase):

    def test_copies_would_be_lost(self) -> None:
        before = self.contents()
        for more in ((), ('--dry-run',)):
            self.check_error(
                self.manage('device', 'remove', self.paths[0], *more),
                f'holds copies of {len(self.images)} images', 'drain it',
                f'--force {self.paths[0]}')
        self.check_error(
            self.manage('device', 'remove', self.paths[0], '--force',
                        self.paths[1]), '--force must repeat', code=2)
        self.assertEqual(before, self.contents())

    def test_forced(self) -> None:
        forced = ('--force', self.paths[0])
        before = self.contents()
        rows = self.done('device', 'remove', self.paths[0], *forced,
                         '--dry-run').rows
        self.assertEqual(
            [(image_id, 'remove', str(self.paths[0]))
             for image_id in sorted(self.images)],
            [(row['image'], row['action'], row['device']) for row in rows])
        self.assertEqual(before, self.contents())
        self.done('device', 'remove', self.paths[0], *forced)
        # All that was on it is still there.
        self.assertEqual({data for _, data in before.values()}, {
            data for name, (_, data) in self.contents().items()
            if '.json' not in name} | {
                data for name, (_, data) in before.items()
                if '.json' in name})
        self.assertEqual('removed', self.states()['disk0'])
        # Not "missing": nothing has to be looked for.
        kinds = {row['device']: row['kind'] for row in
                 self.done('fsck', code=3).rows if row['device']}
        self.assertEqual({str(self.paths[0]): 'removed-device'}, kinds)

    def test_away_while_images_lack_copies(self) -> None:
        with self.away():
            self.check_error(
                self.manage_quietly('device', 'remove', self.paths[0]),
                f'copies of {len(self.images)} images', 'replace it')

    def test_away_and_made_up_for(self) -> None:
        self.configure(4)
        self.done('device', 'add', self.paths[3])
        with self.away():
            self.done('repair')
            self.done('device', 'remove', self.paths[0])
            self.paths = self.paths[1:]
            self.configure(3)
            self.assertEqual({'disk1', 'disk2', 'disk3'}, set(self.states()))

    def test_not_listed_any_more(self) -> None:
        """The set remembers it until it is removed."""
        self.configure(4)
        self.done('device', 'add', self.paths[3])
        self.done('device', 'drain', self.paths[0])
        left, self.paths = self.paths[0], self.paths[1:]
        self.configure(3)
        row = self.devices()['disk0']
        self.assertEqual(('unlisted', 'not in the configuration'),
                         (row['state'], row['reason']))
        self.done('device', 'remove', left)
        self.assertNotIn('disk0', self.devices())

    def test_unknown_device(self) -> None:
        self.check_error(self.manage('device', 'remove', '/absent'),
                         '/absent', str(self.paths[0]))

    def away(self) -> moving.Away:
        return moving.Away(self.paths[0])

    def manage_quietly(self, *arguments: object) -> moving.base.Result:
        return self.manage('--quiet', *arguments)


class ReplaceTest(moving.MovingCase):

    def test_same_path(self) -> None:
        """A disk died, and there is a new one in its place."""
        old = self.devices()['disk1']
        self.lose(self.paths[1])
        before = self.contents()
        planned = self.done('device', 'replace', self.paths[1],
                            '--dry-run').rows
        self.assertEqual(
            [(image_id, 'copy', str(self.paths[1]))
             for image_id in sorted(self.images)],
            [(row['image'], row['action'], row['device'])
             for row in planned])
        self.assertEqual(before, self.contents())
        row = self.row('device', 'replace', self.paths[1])
        self.assertEqual(len(self.images), row['copied'])
        self.check_whole()
        new = self.devices()['disk1']
        self.assertEqual((old['zone'], old['weight'], 'active'),
                         (new['zone'], new['weight'], new['state']))
        self.assertNotEqual(old['device_id'], new['device_id'])
        self.assertEqual(3, len(self.devices()))
        # Again, there is nothing left to do.
        self.assertEqual(0, self.row('device', 'replace',
                                     self.paths[1])['images'])

    def test_other_path(self) -> None:
        """The old one is there still, is read from, and then goes."""
        self.configure(4)
        old, new = self.paths[0], self.paths[3]
        before = self.contents()
        planned = self.done('device', 'replace', old, new,
                            '--dry-run').rows
        self.assertEqual(
            {(image_id, action, str(path)) for image_id in self.images
             for action, path in (('copy', new), ('remove', old))},
            {(row['image'], row['action'], row['device'])
             for row in planned})
        self.assertEqual(before, self.contents())
        row = self.row('device', 'replace', old, new, '--weight', '3')
        self.assertEqual((len(self.images), len(self.images)),
                         (row['copied'], row['removed']))
        self.check_whole(old)
        self.assertEqual(('replaced', 'active'), tuple(
            self.states()[path.name] for path in (old, new)))
        self.assertEqual(3.0, self.devices()['disk3']['weight'])
        self.done('device', 'remove', old)

    def test_device_that_works(self) -> None:
        before = self.contents()
        for more in ((), ('--dry-run',)):
            self.check_error(
                self.manage('device', 'replace', self.paths[0], *more),
                self.paths[0], 'already')
        self.assertEqual(before, self.contents())
        self.assertEqual(3, len(self.devices()))

    def test_unknown_device(self) -> None:
        self.configure(4)
        self.check_error(
            self.manage('--quiet', 'device', 'replace', '/absent',
                        self.paths[3]), '/absent', str(self.paths[0]))

    def test_interrupted(self) -> None:
        """What was prepared goes on being filled."""
        self.lose(self.paths[1])
        result = self.stop(self.started('device', 'replace', self.paths[1]),
                           signal.SIGTERM)
        self.assertEqual((130, ''), (result.code, result.output))
        self.assertIn(STOPPED, result.errors)
        copies = self.devices()['disk1']['copies']
        self.assertTrue(0 < copies < len(self.images), copies)
        row = self.row('device', 'replace', self.paths[1])
        self.assertEqual(len(self.images) - copies, row['copied'])
        self.check_whole()


class TwoAtOnePathTest(moving.MovingCase):
    """A disk died, and another device was prepared in its place."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.paths[1]
        rows = self.devices()
        self.old = str(rows['disk1']['device_id'])
        self.done('rebalance')
        self.engine = base.local_engine(self.paths[:3])
        self.engine.membership.remember()
        self.lose(self.path)
        device.initialise(str(self.path), device.new_identity(
            self.engine.store_id))
        self.engine.membership.remember()
        self.new = str(self.row_of(self.path, 'active')['device_id'])

    def row_of(self, path: Path, state: str) -> dict[str, object]:
        row, = (row for row in self.done('device', 'list').rows
                if (row['device'], row['state']) == (str(path), state))
        return dict(row)

    def test_dead_one_is_forgotten(self) -> None:
        row = self.row_of(self.path, 'unlisted')
        self.assertEqual((self.old, 'another device is at its path now'),
                         (row['device_id'], row['reason']))
        for command in (('remove', self.path), ('replace', self.path)):
            self.check_error(self.manage('device', *command), self.old,
                             self.new, 'by its id')
        self.done('rebalance')
        self.check_whole()
        result = self.done('device', 'remove', self.old, '--dry-run')
        self.assertEqual([], result.rows)
        result = self.done('device', 'remove', self.old)
        self.assertEqual([str(path) for path in self.paths[:3]],
                         [row['device'] for row in result.rows])
        self.assertIn(f'{self.new} stays', result.errors)
        self.assertEqual(0, self.done('fsck').code)
        # The path tells again which one is meant.
        self.check_error(self.manage('device', 'remove', self.path),
                         'holds copies')

    def test_dead_one_is_replaced(self) -> None:
        self.configure(4)
        result = self.done('device', 'replace', self.old, self.paths[3])
        self.assertIn(f'device remove {self.old}', result.errors)
        self.done('device', 'remove', self.old)
        self.check_whole()
        self.assertEqual({'active'}, set(self.states().values()))

    def test_force(self) -> None:
        self.check_error(
            self.manage('device', 'remove', self.old, '--force', self.path),
            '--force must repeat', self.old, code=2)
        self.done('device', 'remove', self.old, '--force', self.old)
        self.assertEqual({'active'}, set(self.states().values()))


class NameTest(moving.MovingCase):
    """How a device may be named."""

    def setUp(self) -> None:
        super().setUp()
        self.configure(4)
        # As a shell completes it.
        self.slash = f'{self.paths[3]}/'
        self.done('device', 'init', self.slash)

    def test_slash(self) -> None:
        for arguments in (('drain', self.slash, '--force', self.slash),
                          ('drain', '--cancel', self.slash),
                          ('drain', self.slash),
                          ('replace', f'{self.paths[0]}/', self.paths[3],
                           '--dry-run')):
            code = 1 if arguments[0] == 'replace' else 0
            result = self.manage('device', *arguments)
            self.assertEqual(code, result.code, arguments)
        self.assertIn('already', result.errors)
        self.done('device', 'remove', self.slash, '--force', self.paths[3])
        self.assertEqual('removed', self.states()['disk3'])

    def test_id(self) -> None:
        name = self.devices()['disk3']['device_id']
        self.done('device', 'drain', name)
        self.assertEqual('draining', self.states()['disk3'])
        self.done('device', 'drain', '--cancel', name)
        self.assertEqual('active', self.states()['disk3'])
        self.done('device', 'drain', name)
        result = self.done('device', 'remove', name)
        self.assertIn(f'take {self.paths[3]} from', result.errors)
        self.assertEqual(3, len(result.rows))

    def test_replaced(self) -> None:
        """By its id, also when it was cut short; and it stays replaced."""
        name = self.devices()['disk1']['device_id']
        self.lose(self.paths[1])
        for _ in range(2):
            result = self.done('device', 'replace', name)
            self.assertIn('the device that was there', result.errors)
        self.check_whole()

    def test_replaced_stays_so(self) -> None:
        self.done('device', 'drain', self.slash)
        self.done('device', 'remove', self.slash)
        self.lose(self.paths[3])
        self.done('device', 'replace', self.paths[0], self.paths[3])
        for more in ((), ('--dry-run',)):
            self.check_error(
                self.manage('device', 'drain', '--cancel', self.paths[0],
                            *more), self.paths[3], 'device remove')
        self.assertEqual('replaced', self.states()['disk0'])


class RebalanceTest(moving.MovingCase):

    def test_interrupted(self) -> None:
        self.configure(5)
        self.done('device', 'init')
        planned = {row['image'] for row in
                   self.done('rebalance', '--dry-run').rows}
        self.assertGreater(len(planned), 2)
        result = self.stop(self.started('rebalance'), signal.SIGTERM)
        self.assertEqual((130, ''), (result.code, result.output))
        self.assertIn(STOPPED, result.errors)
        self.check_whole()
        rest = {row['image'] for row in
                self.done('rebalance', '--dry-run').rows}
        self.assertTrue(rest < planned, rest)
        self.assertEqual(len(rest), self.row('rebalance')['images'])
        self.check_whole()

    def test_image_that_cannot_be_moved(self) -> None:
        """The others are."""
        self.configure(4)
        self.done('device', 'add', self.paths[3])
        planned = {row['image'] for row in
                   self.done('rebalance', '--dry-run').rows}
        bad = min(planned)
        for name in self.holders(bad):
            self.copy(self.root / name, bad).write_bytes(b'')
        result = self.done('rebalance', code=3)
        self.assertEqual(len(planned) - 1, result.rows[0]['images'])
        self.assertIn(bad, result.errors)
        self.images.pop(bad)
        self.check_whole()
