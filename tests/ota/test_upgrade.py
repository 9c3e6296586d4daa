"""Upgrades and rollbacks under load, with real instances of small releases."""

from __future__ import annotations

import os
import signal
import time

from tests.functional import processes
from tests.ota import test_serving
from tests.ota import upgrades

#: How many requests an instance can be at.
HANDS = upgrades.PROCESSES * 2


class TestUpgrade(upgrades.UpgradeCase):

    def test_there_and_back(self) -> None:
        """Up, back while it is warm, up again, and back when it is cold."""
        with self.load() as load:
            # The holder goes by what it was started with.
            self.configure(processes=upgrades.PROCESSES + 1)
            result = self.succeed('upgrade', '2.0.0', '--until', 'soak')
            self.assertIsNone(result['outcome'])
            self.assertEqual((['2.0.0.4'], ['1.0.0.5']), (
                self.names(), self.names('waiting')))
            result = self.succeed('rollback')
            self.assertEqual('rolled-back', result['outcome'])
            self.assertLess(self.seconds('rollback'), 1)
            self.serves('1.0.0')
            result = self.succeed('upgrade', '2.0.0')
            self.assertEqual('committed', result['outcome'])
            self.serves('2.0.0')
            begin = time.monotonic()
            result = self.succeed('rollback')
            self.assertLess(upgrades.since(begin), 10)
            self.assertEqual(('rollback', 'committed'),
                             (result['kind'], result['outcome']))
            self.serves('1.0.0')
        self.assertEqual([], load.failures)
        refused = self.command('rollback')
        self.assertEqual(1, refused.code)
        self.assertIn('no release to go back to', refused.errors)

    def test_long_upload(self) -> None:
        """One that spans two upgrades is answered by who began it."""
        with upgrades.Upload(self.port) as upload:
            processes.poll(lambda: self.status()['instances'][0][
                'in_flight'], 'the upload')
            result = self.command('upgrade', '2.0.0')
            self.assertEqual(0, result.code, result.errors)
            # It is no user who shows how the new release does.
            self.assertIn('nothing that users do was judged', result.errors)
            self.assertNotIn('answered 0 times', result.errors)
            self.succeed('rollback')
            self.assertEqual(['1.0.0.2'], self.names('leaving'))
        self.assertEqual(['1.0.0.2'], upload.answers)
        self.serves('1.0.0')

    def test_bad_releases(self) -> None:
        """Each is rolled back by itself, and no request failed."""
        with self.load() as load:
            for version, word in (('3.0.0', 'ends each time'),
                                  ('4.0.0', 'other bytes'),
                                  ('5.0.0', '500')):
                result = self.command('upgrade', version)
                self.assertEqual(1, result.code, result.errors)
                self.assertEqual('rolled-back', result.json['outcome'])
                self.assertIn(word, result.json['reason'])
                self.serves('1.0.0')
        self.assertEqual([], load.failures)
        self.assertEqual({'1.0.0.2'}, load.since(0))

    def test_slow_release(self) -> None:
        with self.load() as load:
            time.sleep(3)
            result = self.command('upgrade', '6.0.0', '--soak', '60')
            self.assertEqual((1, 'rolled-back'),
                             (result.code, result.json['outcome']))
            self.assertIn('before, they took up to', result.json['reason'])
            self.serves('1.0.0')
        self.assertEqual([], load.failures)

    def test_failing_release(self) -> None:
        """Failures that only users meet, and no canary."""
        with self.load() as load:
            result = self.command('upgrade', '8.0.0', '--soak', '60')
            self.assertEqual((1, 'rolled-back'),
                             (result.code, result.json['outcome']))
            self.assertIn('requests failed', result.json['reason'])
            self.serves('1.0.0')
            before = len(load.failures)
            time.sleep(1)
        self.assertEqual(before, len(load.failures))

    def test_hanging_release(self) -> None:
        """What it has hangs; what waits in the queue is answered."""
        self.configure(watch_hang=2)
        self.hang('9.0.0', 'requests hang')

    def test_stuck_release(self) -> None:
        """It counts nothing, and takes no connections any more."""
        self.configure(watch_probe=1)
        self.hang('10.0.0', 'nobody answers GET /')

    def hang(self, version: str, word: str) -> None:
        """Have a release rolled back that keeps all that it takes.

        More clients ask than it can keep.
        """
        with test_serving.Load(self.port, HANDS + 3, 0.02) as load:
            result = self.command('upgrade', version, '--soak', '60')
            self.assertEqual((1, 'rolled-back'),
                             (result.code, result.json['outcome']))
            self.assertIn(word, result.json['reason'])
            self.assertLess(self.seconds('soak'), 20)
            self.assertLess(self.seconds('rollback'), 1)
            # Whoever it does not have is served.
            rolled_back = time.monotonic()
            processes.poll(lambda: load.since(rolled_back), 'an answer')
            self.assertEqual({'1.0.0.5'}, load.since(rolled_back))
            # It does not end by itself; an operator ends it.
            bad, = (each for each in self.status()['instances']
                    if each['role'] == 'leaving'
                    and each['release'] == version)
            os.killpg(bad['pid'], signal.SIGKILL)
            self.serves('1.0.0')
        # Each failed once, and was served when it asked again.
        self.assertIn(len(load.failures), range(1, HANDS + 1))

    def test_asked_meanwhile(self) -> None:
        """A rollback while another process soaks: within a second."""
        child = self.start_command('upgrade', '2.0.0', '--soak', '100')
        with self.load() as load:
            processes.poll(lambda: self.event('2.0.0', 'soak'), 'the soak')
            begin = time.monotonic()
            result = self.succeed('rollback')
            took = upgrades.since(begin)
            self.assertEqual('rolled-back', result['outcome'])
            self.assertEqual(1, child.wait(upgrades.TIMEOUT))
            self.serves('1.0.0')
        self.assertEqual([], load.failures)
        self.assertLess(self.seconds('rollback'), 1)
        self.assertLess(took, 5)


class TestDatabase(upgrades.UpgradeCase):

    def test_contract(self) -> None:
        """Not while the old release is at something; no way back then."""
        with upgrades.Upload(self.port):
            processes.poll(lambda: self.status()['instances'][0][
                'in_flight'], 'the upload')
            result = self.command('upgrade', '7.0.0', '--drain-timeout', '1')
            self.assertEqual(4, result.code, result.errors)
            self.assertIn('instance 1.0.0.2 must end', result.errors)
            self.assertEqual(['1.0.0.5'], self.names('waiting'))
        self.assertEqual('committed', self.succeed('resume')['outcome'])
        self.serves('7.0.0')
        refused = self.command('rollback')
        self.assertEqual(1, refused.code)
        self.assertIn('contracted', refused.errors)
        self.assertEqual(7, self.status()['floor'])
