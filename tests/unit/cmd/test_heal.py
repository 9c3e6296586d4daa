"""``heal``: a service, and a round of it by hand."""

from __future__ import annotations

import datetime
import re
import select
import shutil
import signal
import subprocess
import time

from tests.unit.cmd import base
from tests.unit.cmd import moving


class HealTest(moving.MovingCase):

    def drop(self) -> None:
        shutil.rmtree(self.copy(self.paths[1], min(self.images)).parent)

    def healer(self) -> subprocess.Popen[str]:
        """Start the service; return once it says how it is."""
        process = self.start('heal')
        assert process.stderr is not None
        ready, _, _ = select.select([process.stderr], [], [], 30)
        self.assertTrue(ready)
        self.assertIn('ealer is at work', process.stderr.readline())
        return process

    def check_ended(self, process: subprocess.Popen[str],
                    number: int) -> None:
        began = time.monotonic()
        result = self.stop(process, number)
        self.assertEqual((0, ''), (result.code, result.output))
        self.assertIn('The healer ends.', result.errors)
        self.assertLess(time.monotonic() - began, 8)

    def test_service(self) -> None:
        """It does what is to be done, until it is told to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.drop()
            process = self.healer()
            self.wait_for(lambda: len(self.holders(min(self.images))) == 3)
            self.check_ended(process, number)
            self.check_whole()

    def test_its_log_tells_times(self) -> None:
        """Line by line, as Glance's own log does."""
        before = datetime.datetime.now()
        process = self.healer()
        result = self.stop(process, signal.SIGTERM)
        after = datetime.datetime.now()
        # The first line was read already.
        lines = result.errors.splitlines()
        self.assertNotEqual([], lines)
        for line in lines:
            match = re.fullmatch(
                r'([0-9-]{10} [0-9:]{8}[.][0-9]{3}) ([0-9]+) '
                r'(?:DEBUG|INFO|WARNING|ERROR) [a-z_.]+ \[-\] .+', line)
            self.assertIsNotNone(match, line)
            self.assertEqual(str(process.pid), match[2])
            told = datetime.datetime.fromisoformat(match[1])
            # It tells milliseconds, and cuts the rest off.
            self.assertLess(before - datetime.timedelta(seconds=1), told)
            self.assertLessEqual(told, after)

    def test_one_at_a_time(self) -> None:
        """The second one waits until the first is gone, however it goes."""
        first = self.healer()
        second = self.healer()
        self.drop()
        self.check_error(self.manage('heal', '--once'), 'another healer')
        first.kill()
        first.wait(30)
        self.wait_for(lambda: len(self.holders(min(self.images))) == 3)
        self.check_ended(second, signal.SIGTERM)
        self.check_whole()

    def test_once(self) -> None:
        self.drop()
        result = self.manage('heal', '--once')
        self.assertEqual((0, ''), (result.code, result.output))
        self.check_whole()

    def test_once_with_a_device_away(self) -> None:
        with moving.Away(self.paths[0]):
            result = self.manage('heal', '--once')
        self.assertEqual((3, ''), (result.code, result.output))

    def test_no_device(self) -> None:
        self.configure(5)
        for path in self.paths[:3]:
            shutil.rmtree(path)
        self.check_error(self.manage('heal'), 'none of the devices')


class OtherEngineTest(base.CommandCase):
    """Commands for devices of our own, with a store of another kind."""

    def setUp(self) -> None:
        super().setUp()
        (self.root / 'other_engine.py').write_text(
            'from tests.contract import memory\n'
            'SHELF = memory.Shelf({name: memory.Device(name, "zone")\n'
            '                      for name in ("m0", "m1")}, "set")\n'
            'class Engine(memory.MemoryEngine):\n'
            '    @classmethod\n'
            '    def from_options(cls, options):\n'
            '        return cls(SHELF, 2, 1, options["self_repair"])\n')
        info = self.root / 'other-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text('Name: other\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text(
            '[easystack_image.block_engines]\nother = other_engine:Engine\n')
        self.write_config(copies={'engine': 'other'})

    def other(self, *words: object) -> base.Result:
        return self.run_command(
            '--config-file', self.config, *words,
            PYTHONPATH=f'{self.root}:{base.REPOSITORY}')

    def test_what_works(self) -> None:
        result = self.other('device', 'list', '-f', 'json')
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertEqual([('m0', 'zone', 'active'), ('m1', 'zone', 'active')],
                         [(row['device'], row['zone'], row['state'])
                          for row in result.rows])
        for words in (('copies', 'show'), ('repair',)):
            image_id = base.store_base.new_id()
            self.check_error(self.other(*words, image_id), image_id)

    def test_they_say_so(self) -> None:
        for words in (('device', 'init'), ('device', 'add', '/disk'),
                      ('device', 'drain', '/disk'),
                      ('device', 'remove', '/disk'),
                      ('device', 'replace', '/disk'), ('copies', 'list'),
                      ('scrub',), ('repair',), ('rebalance',),
                      ('capacity',), ('heal',)):
            result = self.other(*words)
            self.check_error(result, ' '.join(words[:2]).split(' /')[0],
                             'engine "local"', '"other"')
