"""What a holder leaves that is killed anywhere; tests/ota has real uWSGI.

The slot's uWSGI is a program that does nothing but live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import errno
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import time
from typing import Any
from unittest import mock

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import keeper
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import logs
from easystack_image.ota.serving import processes
from easystack_image.ota.serving import records
from tests.functional import processes as programs

UWSGI = """\
#!/bin/sh
exec sleep 60
"""
KILLED = 9


class KeeperCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger())
        self.root = Path(self.useFixture(fixtures.TempDir()).path).resolve()
        self.run_directory = self.root / 'run'
        for name in (keeper.INSTANCES, logs.LOGS, records.RECORDS):
            (self.run_directory / name).mkdir(parents=True)
        self.slot = self.root / 'slot'
        (self.slot / 'bin').mkdir(parents=True)
        program = self.slot / 'bin' / 'uwsgi'
        program.write_text(UWSGI)
        program.chmod(0o700)
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(self.listener.close)
        self.addCleanup(self.kill_all)

    def kill_all(self) -> None:
        for pid in self.living():
            os.kill(pid, signal.SIGKILL)

    def make(self) -> keeper.Keeper:
        """Return a keeper that has taken over what there is."""
        made = keeper.Keeper(self.run_directory, self.listener,
                             command.Service())
        made.adopt()
        return made

    def die(self, action: Callable[[keeper.Keeper], object]) -> int:
        """Have a process do something, and end; return how."""
        pid = os.fork()
        if not pid:
            try:
                action(self.make())
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def living(self) -> list[int]:
        """Return the processes of the instance."""
        wanted = (f'{layout.DIRECTORY_VARIABLE}={self.run_directory}/'
                  f'{keeper.INSTANCES}/a').encode()
        return list(self._with(wanted))

    def _with(self, wanted: bytes) -> Iterator[int]:
        for path in Path('/proc').glob('[0-9]*/environ'):
            try:
                found = path.read_bytes().split(b'\0')
            except OSError:
                continue
            if wanted in found:
                yield int(path.parent.name)

    def slay(self, pid: int) -> None:
        """Kill a process; return when it is dead, which takes its time."""
        found = processes.identify(pid)
        os.kill(pid, signal.SIGKILL)
        programs.poll(lambda: not (found and found.lives), 'its death',
                      interval=0.01)

    def settle(self, kept: keeper.Keeper) -> list[int]:
        """Return what lives when the keeper is content."""
        def content() -> bool:
            kept.watch()
            return all(each['pid'] for each in kept.describe())
        programs.poll(content, 'all instances')
        return [each['pid'] for each in kept.describe()]


class AdoptionTest(KeeperCase):

    def start(self, kept: keeper.Keeper) -> None:
        kept.start('a', self.slot)

    def test_all_is_done(self) -> None:
        self.die(self.start)
        pid, = self.living()
        kept = self.make()
        self.assertEqual([{'name': 'a', 'slot': str(self.slot), 'pid': pid,
                           'starts': 1}], kept.describe())
        kept.start('a', self.slot)
        self.assertEqual([pid], self.living())
        self.slay(pid)
        again, = self.settle(kept)
        # While a program is exchanged for another, it shows no environment.
        programs.poll(lambda: self.living() == [again], 'the next one')
        self.assertEqual(2, kept.describe()[0]['starts'])
        kept.stop('a')
        self.assertEqual([], self.living())

    def test_stopped(self) -> None:
        self.die(self.start)
        kept = self.make()
        kept.stop('a')
        self.assertEqual([], self.living())
        self.assertEqual(0, len(self.make()))
        for name in (keeper.INSTANCES, records.RECORDS):
            self.assertEqual([], os.listdir(self.run_directory / name))

    def test_forgotten(self) -> None:
        def forget(kept: keeper.Keeper) -> None:
            self.start(kept)
            kept.forget('a')

        self.die(forget)
        kept = self.make()
        self.assertEqual(1, len(kept))
        self.slay(*self.living())
        programs.poll(lambda: not kept.watch() and not len(kept), 'its end')
        self.assertEqual([], self.living())

    def test_left_and_dead(self) -> None:
        """The updater forgets before; who ends everything does not."""
        self.die(self.start)
        kept = self.make()
        place = layout.Place(self.run_directory / keeper.INSTANCES / 'a')
        place.leaving.touch()
        self.slay(*self.living())
        programs.poll(lambda: not kept.watch() and not len(kept), 'its end')

    def test_one_that_cannot_be_told(self) -> None:
        """The others are told, and it is said once."""
        logged = self.useFixture(fixtures.FakeLogger())
        kept, told = self.make(), []
        for name in ('a', 'b'):
            kept.start(name, self.slot)
            self.addCleanup(kept.stop, name)

        def leave(instance: instance_module.Instance) -> None:
            told.append(instance.name)
            if instance.name == 'a':
                raise OSError(errno.EROFS, 'Read-only file system')

        with mock.patch.object(instance_module.Instance, 'leave', leave):
            for _ in range(3):
                kept.leave()
        self.assertEqual(['a', 'b', 'a', 'a'], told)
        self.assertEqual(1, logged.output.count('Read-only file system'))

    def test_one_that_does_not_die(self) -> None:
        """Nobody waits for it without an end."""
        kept = self.make()
        self.start(kept)
        self.addCleanup(kept.stop, 'a')
        with (mock.patch.object(os, 'killpg'),
              mock.patch.object(keeper, '_DEATH', 0.1)):
            error = self.assertRaises(exceptions.InstanceError, kept.stop,
                                      'a')
        self.assertIn('does not die', str(error))

    def kill_at(self, owner: object, name: str, number: int,
                after: bool) -> bool:
        """Kill who starts an instance at a point; False if there is none."""
        passed = []

        def point(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                passed.append(name)
                if len(passed) == number and not after:
                    os._exit(KILLED)
                result = real(*args, **kwargs)
                if len(passed) == number:
                    os._exit(KILLED)
                return result
            return wrapped

        with mock.patch.object(owner, name, point(getattr(owner, name))):
            return self.die(self.start) == KILLED

    def test_killed_at_each_point(self) -> None:
        """One process at most, and the next keeper knows it."""
        points = [(records.Records, 'write', 1), (records.Records, 'write', 2),
                  (records.Records, 'new_lock', 1),
                  (subprocess, 'Popen', 1)]
        for owner, name, number in points:
            for after in (False, True):
                what = f'{name} {number} {after}'
                self.assertTrue(self.kill_at(owner, name, number, after),
                                what)
                kept = self.make()
                settled = self.settle(kept)
                programs.poll(lambda settled=settled: self.living()
                              == settled, what)
                begun = (name, number, after) != ('write', 1, False)
                self.assertEqual(begun, len(kept) == 1, what)
                self.assertEqual(begun, (
                    self.run_directory / keeper.INSTANCES / 'a').exists())
                kept.stop('a')
                self.assertEqual([], self.living(), what)

    def test_reused_number(self) -> None:
        """A process that has the number of a dead one is left alone."""
        self.die(self.start)
        path = self.run_directory / records.RECORDS / 'a.json'
        record = json.loads(path.read_text())
        self.slay(*self.living())
        programs.poll(lambda: not self.living(), 'its end')
        other = subprocess.Popen(['sleep', '60'], start_new_session=True)
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        record['process']['pid'] = other.pid
        path.write_text(json.dumps(record))
        kept = self.make()
        self.assertIsNone(kept.describe()[0]['pid'])
        kept.stop('a')
        found = processes.identify(other.pid)
        self.assertTrue(found and found.lives)

    def test_logs(self) -> None:
        """They do not grow, nor pile up, whoever started the instances."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.serving.logs.LIMIT', 10))
        directory = self.run_directory / logs.LOGS
        (self.slot / 'bin' / 'uwsgi').write_text(
            '#!/bin/sh\necho a word or two\nexec sleep 60\n')
        self.die(self.start)
        kept = self.make()

        def begun_anew() -> bool:
            kept.watch()
            return (directory / 'a.log.old').exists()

        programs.poll(begun_anew, 'the next log')
        self.assertEqual(0, (directory / 'a.log').stat().st_size)
        for number in range(5):
            kept.start(f'b{number}', self.slot)
            kept.stop(f'b{number}')
        self.assertEqual(1 + logs.ENDED, len(list(directory.glob('*.log'))))
        self.assertTrue((directory / 'a.log').exists())

    def test_orphans(self) -> None:
        """A master that is dead, and a worker that is not yet."""
        (self.slot / 'bin' / 'uwsgi').write_text(
            '#!/bin/sh\nsleep 60 & exec sleep 60\n')
        self.die(self.start)
        record, = records.Records(
            self.run_directory / records.RECORDS).all()
        assert record.process
        programs.poll(lambda: len(self.living()) == 2, 'the worker')
        self.slay(record.process.pid)
        begin = time.monotonic()
        kept = self.make()
        self.assertLess(time.monotonic() - begin, 10)
        self.assertIsNone(kept.describe()[0]['pid'])
        kept.stop('a')
        programs.poll(lambda: not self.living(), 'its end', 30)

    def test_nonsense(self) -> None:
        path = self.run_directory / records.RECORDS / 'a.json'
        for text in ('', '[]', '{}', '{"process": 3}'):
            path.write_text(text)
            error = self.assertRaises(exceptions.InstanceError, self.make)
            self.assertIn(str(path), str(error))

    def test_stale(self) -> None:
        instances = self.run_directory / keeper.INSTANCES
        (instances / 'b').mkdir()
        (instances / 'aside').touch()
        self.make()
        self.assertEqual(['aside'], os.listdir(instances))
