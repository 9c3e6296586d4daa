"""``scrub``, ``repair`` of all, ``copies list`` and ``capacity``."""

from __future__ import annotations

import os
import shutil
import signal

from easystack_image.blockstore.local import roster
from easystack_image.cmd import upkeep
from tests.unit.cmd import base
from tests.unit.cmd import moving

STOPPED = 'Run the same command again'


class UpkeepCase(moving.MovingCase):

    def flip(self, number: int, image_id: str) -> None:
        """Change a byte of a copy, unnoticed."""
        path = self.copy(self.paths[number], image_id)
        data = bytearray(path.read_bytes())
        data[self.SIZE // 2] ^= 1
        path.write_bytes(data)

    def drop(self, number: int, image_id: str) -> None:
        """Have a copy vanish."""
        shutil.rmtree(self.copy(self.paths[number], image_id).parent)

    def hurt(self) -> list[str]:
        """Harm three images, each in another way; return them."""
        images = sorted(self.images)[:3]
        self.flip(0, images[0])
        self.drop(1, images[1])
        with self.copy(self.paths[2], images[2]).open('ab') as file:
            file.write(b'x')
        return images

    def verified(self) -> dict[str, str]:
        """Return when each image was verified."""
        return {row['image']: row['verified']
                for row in self.done('copies', 'list').rows}


class ScrubTest(UpkeepCase):

    def test_all_good(self) -> None:
        self.assertEqual(
            {'images': self.IMAGES, 'good': 3 * self.IMAGES, 'bad': 0,
             'repaired': 0, 'lacking': 0, 'failed': 0}, self.row('scrub'))

    def test_damage(self) -> None:
        self.hurt()
        self.assertEqual(
            {'images': self.IMAGES, 'good': 3 * self.IMAGES - 3, 'bad': 3,
             'repaired': 3, 'lacking': 0, 'failed': 0}, self.row('scrub'))
        self.check_whole()

    def test_no_good_copy(self) -> None:
        """It is told, and the others are scrubbed."""
        bad = min(self.images)
        for number in range(3):
            self.flip(number, bad)
        result = self.done('scrub', code=3)
        row, = result.rows
        self.assertEqual((self.IMAGES, 1), (row['images'], row['failed']))
        self.assertIn(bad, result.errors)

    def test_device_that_is_away(self) -> None:
        with moving.Away(self.paths[0]):
            row = self.row('scrub', code=3)
        self.assertEqual((2 * self.IMAGES, self.IMAGES),
                         (row['good'], row['lacking']))
        self.assertEqual(0, self.row('scrub')['lacking'])

    def test_one_image(self) -> None:
        image_id = self.hurt()[0]
        result = self.done('scrub', image_id)
        self.assertEqual(['good'] * 3, [row['state'] for row in result.rows])
        self.assertIn(f'made a new copy on {self.paths[0]}', result.errors)
        self.check_error(self.manage('scrub', base.store_base.new_id()),
                         'not in this store')

    def test_interrupted(self) -> None:
        """It goes on where it was, unless it is to begin anew."""
        result = self.stop(self.started('scrub'), signal.SIGINT)
        self.assertEqual((130, ''), (result.code, result.output))
        self.assertIn(STOPPED, result.errors)
        rest = self.row('scrub')['images']
        self.assertTrue(0 < rest < self.IMAGES, rest)
        self.assertEqual(self.IMAGES, self.row('scrub')['images'])

    def test_restart(self) -> None:
        result = self.stop(self.started('scrub'), signal.SIGTERM)
        self.assertEqual((130, ''), (result.code, result.output))
        self.assertEqual(self.IMAGES,
                         self.row('scrub', '--restart')['images'])

    def test_restart_of_one_image(self) -> None:
        """There is nothing to go on with."""
        self.check_error(self.manage('scrub', '--restart', max(self.images)),
                         '--restart', code=2)

    def test_rate(self) -> None:
        """24 MiB at 12 MiB/s take two seconds."""
        began = self.clock()
        result = self.manage('scrub', '--rate-limit', '12', '--report-every',
                             '0.5')
        self.assertGreater(self.clock() - began, 1.9)
        lines = result.errors.splitlines()
        self.assertGreater(len(lines), 1)
        for line in lines:
            self.assertRegex(
                line, r'^scrub: \d/8 images, [\d.]+[BKM]/24M, '
                      r'[\d.]+ MiB/s, time left (\d:\d\d:\d\d|unknown)$')

    def test_rate_that_cannot_be(self) -> None:
        for rate in ('0', '-1', 'fast', 'nan'):
            result = self.manage('scrub', f'--rate-limit={rate}')
            self.assertEqual((2, ''), (result.code, result.output))
            self.assertIn('--rate-limit', result.errors)
        self.assertIn("'fast' is no number", self.manage(
            'scrub', '--rate-limit', 'fast').errors)

    def test_quiet(self) -> None:
        result = self.manage('--quiet', 'scrub', '--rate-limit', '24',
                             '--report-every', '0.1')
        self.assertEqual((0, ''), (result.code, result.errors))


class RepairTest(UpkeepCase):

    def test_nothing_to_do(self) -> None:
        result = self.done('repair')
        self.assertEqual([], result.rows)
        self.assertIn('No image', result.errors)

    def test_what_shows(self) -> None:
        """A flipped bit does not; what a reader found does."""
        flipped, *plain = self.hurt()
        rows = self.done('repair').rows
        self.assertEqual([(image_id, 'repaired') for image_id in plain],
                         [(row['image'], row['result']) for row in rows])
        engine = base.local_engine(self.paths[:3])
        engine.request_repair(flipped)
        engine.close()
        rows = self.done('repair').rows
        self.assertEqual([(flipped, 'repaired')],
                         [(row['image'], row['result']) for row in rows])
        self.check_whole()

    def test_dry_run(self) -> None:
        """It tells which and why, and changes nothing."""
        flipped, dropped, longer = self.hurt()
        engine = base.local_engine(self.paths[:3])
        engine.request_repair(flipped)
        engine.close()
        before = self.contents()
        rows = self.done('repair', '--dry-run').rows
        self.assertEqual(
            [(flipped, 'it was found damaged when it was read'),
             (dropped, f'{self.paths[1]}: has no copy'),
             (longer, f'{self.paths[2]}: data has {self.SIZE + 1} bytes, '
                      f'not {self.SIZE}')],
            [(row['image'], row['reason']) for row in rows])
        self.assertEqual({'would be repaired'},
                         {row['result'] for row in rows})
        # Of one image, all is read.
        row = self.row('repair', flipped, '--dry-run')
        self.assertIn(f'{self.paths[0]}: block ', row['reason'])
        result = self.done('repair', max(self.images), '--dry-run')
        self.assertEqual([], result.rows)
        self.assertIn('No image', result.errors)
        after = self.contents()
        self.assertEqual({name: data for name, (_, data) in before.items()},
                         {name: data for name, (_, data) in after.items()})
        self.assertEqual(3, len(self.done('repair').rows))

    def test_not_enough_devices(self) -> None:
        with moving.Away(self.paths[0]):
            rows = self.done('repair', code=3).rows
        self.assertEqual({'lacking'}, {row['result'] for row in rows})
        self.assertEqual(self.IMAGES, len(rows))

    def test_device_that_cannot_be_listed(self) -> None:
        """What is on it does not count, after a repair no more than before."""
        shutil.rmtree(self.paths[1] / 'deleted')
        rows = self.done('repair', code=3).rows
        self.assertEqual({'lacking'}, {row['result'] for row in rows})
        self.assertEqual(set(self.images), {row['image'] for row in rows})
        for row in rows:
            self.assertIn('2 of 3 copies', row['reason'])
            self.assertIn(str(self.paths[1]), row['reason'])
        rows = self.done('copies', 'list', code=3).rows
        self.assertEqual({2}, {row['copies'] for row in rows})

    def test_no_good_copy(self) -> None:
        bad, *_ = self.hurt()
        for number in (1, 2):
            self.flip(number, bad)
        self.drop(0, bad)
        result = self.manage('repair', '-f', 'csv')
        self.assertEqual(3, result.code)
        results = {record['image']: record for record in result.records}
        self.assertEqual(('failed', 'repaired', 'repaired'), tuple(
            results[image_id]['result']
            for image_id in sorted(self.images)[:3]))
        self.assertIn('no copy has a good block', results[bad]['reason'])

    def test_known_to_be_lost(self) -> None:
        """What one command found out, the others tell."""
        bad = min(self.images)
        for number in range(3):
            self.flip(number, bad)
        # Nobody knows yet, unless it is read now.
        self.assertEqual([], self.done('copies', 'list', '--lacking').rows)
        row = self.row('repair', bad, '--dry-run', code=3)
        self.assertEqual('would be tried', row['result'])
        self.done('scrub', code=3)
        for command in (('list',), ('list', '--lacking')):
            rows = self.done('copies', *command, code=3).rows
            self.assertEqual([(bad, 0)], [
                (row['image'], row['copies']) for row in rows
                if row['copies'] < 3])
        rows = self.done('copies', 'show', bad, code=3).rows
        self.assertEqual(['damaged'] * 3, [row['state'] for row in rows])
        rows = self.done('fsck', code=3).rows
        self.assertEqual({bad}, {row['image'] for row in rows})
        self.assertIn('no-good-copy', {row['kind'] for row in rows})
        for which in ((), (bad,)):
            row = self.row('repair', *which, '--dry-run', code=3)
            self.assertEqual((bad, 'would be tried'),
                             (row['image'], row['result']))
        self.assertEqual('failed', self.row('repair', code=3)['result'])

    def test_interrupted(self) -> None:
        for image_id in self.images:
            self.drop(1, image_id)
        result = self.stop(self.started('repair'), signal.SIGTERM)
        self.assertEqual((130, ''), (result.code, result.output))
        self.assertIn(STOPPED, result.errors)
        self.assertLess(len(self.done('repair').rows), self.IMAGES)
        self.check_whole()


class ListTest(UpkeepCase):

    def test_all(self) -> None:
        rows = self.done('copies', 'list').rows
        self.assertEqual(sorted(self.images), [row['image'] for row in rows])
        for row in rows:
            self.assertEqual((self.SIZE, 3), (row['size'], row['copies']))
            self.assertRegex(row['verified'],
                             r'^\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z$')

    def test_lacking(self) -> None:
        image_id = max(self.images)
        self.drop(0, image_id)
        rows = self.done('copies', 'list', '--lacking', code=3).rows
        self.assertEqual([(image_id, 2)],
                         [(row['image'], row['copies']) for row in rows])
        self.assertEqual(self.IMAGES,
                         len(self.done('copies', 'list', code=3).rows))

    def test_table(self) -> None:
        """It fits a narrow terminal."""
        result = self.manage('copies', 'list')
        lines = result.output.splitlines()
        self.assertEqual({80 - 4}, {len(line) for line in lines})
        self.assertIn('| 3 of 3 |', result.output)
        self.assertIn('|  1.0M |', result.output)


class CapacityTest(UpkeepCase):

    def test_sums(self) -> None:
        *rows, whole = self.done('capacity').rows
        self.assertEqual([str(path) for path in self.paths[:3]],
                         [row['device'] for row in rows])
        self.assertEqual('all', whole['device'])
        for name in ('total', 'used'):
            self.assertEqual(sum(row[name] for row in rows), whole[name])
        # Others use the disk of this machine, too.
        room = min(row['free'] for row in rows)
        self.assertTrue(0.9 < whole['fits'] / room <= 1, whole)
        for row in rows:
            self.assertEqual(None, row['fits'])
            self.assertTrue(0 <= row['use'] <= 100, row)
            self.assertLessEqual(row['used'] + row['free'], row['total'])

    def test_full(self) -> None:
        """Only where nothing is free at all."""
        told = [upkeep._row(roster.Entry(
            '/d', '', '', 1.0, 'active', 100, used, 100 - used), 85.0, None)
            for used in (84, 85, 99, 100)]
        self.assertEqual(['no', 'nearly', 'nearly', 'yes'],
                         [row[7] for row in told])

    def test_absent_values(self) -> None:
        """What there is not has no name in CSV, and is null in JSON."""
        result = self.manage('capacity', '-f', 'csv')
        *records, whole = result.records
        self.assertEqual({''}, {record['fits'] for record in records})
        self.assertTrue(int(whole['fits']))
        self.assertNotIn('None', result.output)

    def test_nearly_full(self) -> None:
        usage = os.statvfs(self.root)
        lacking = int(usage.f_frsize * (
            0.015 * usage.f_blocks - (usage.f_blocks - usage.f_bfree)))
        if lacking > 0:
            # Less than the lowest limit that can be set is in use.
            with (self.root / 'ballast').open('wb') as file:
                os.posix_fallocate(file.fileno(), 0, lacking)
        for limit, word in ((1, 'nearly'), (100, 'no')):
            self.configure(3, nearly_full=limit)
            rows = self.done('capacity').rows
            self.assertEqual([word] * 4, [row['full'] for row in rows])

    def test_too_few_devices(self) -> None:
        """Nothing fits where copies cannot be told apart."""
        with moving.Away(self.paths[1]):
            *rows, whole = self.done('capacity').rows
        self.assertEqual((2, 0), (len(rows), whole['fits']))
