"""kill -9 of the command, and of instances, everywhere.

Afterwards ``resume`` or ``rollback`` ends with exactly the old or the new
release, and the service answered all the while.

All points take an hour; by default, some that lie evenly between the first
and the last are tried.  ``EASYSTACK_TEST_POINTS=all`` has all of them tried,
``EASYSTACK_TEST_POINTS=NUMBER`` so many of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import itertools
import json
import os
import subprocess
import sys
from typing import Any

from testtools import content

from easystack_image.ota.upgrade import plans
from tests.functional import processes
from tests.ota import upgrades
from tests.unit.ota import base

POINTS = os.environ.get('EASYSTACK_TEST_POINTS', '')
KILLED = -9


def chosen(count: int, default: int) -> Iterator[int]:
    """Yield the numbers of the points to try, from 1.

    :param count: how many there are
    :param default: how many to try, unless the environment says otherwise
    """
    wanted = count if POINTS == 'all' else min(int(POINTS or default), count)
    for number in range(wanted):
        yield 1 + number * (count - 1) // max(wanted - 1, 1)


class KillCase(upgrades.UpgradeCase):
    """Commands run in processes that are forked, and perhaps killed."""

    def setUp(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        super().setUp()

    def _serve(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, '-m', 'tests.ota.killed'], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, cwd=base.ROOT)
            self.addCleanup(self._server.communicate)
        return self._server

    def command(self, *words: object, kill_at: int = 0) -> base.Result:
        server = self._serve()
        assert server.stdin and server.stdout
        paths = {name: self.root / name
                 for name in ('output', 'errors', 'points')}
        paths['points'].unlink(missing_ok=True)
        server.stdin.write(json.dumps({
            'argv': [*self.arguments(*words)[1:], '-f', 'json'],
            'kill_at': kill_at, **{name: str(path) for name, path
                                   in paths.items()}}) + '\n')
        server.stdin.flush()
        code = int(server.stdout.readline())
        result = base.Result(code, paths['output'].read_text(),
                             paths['errors'].read_text())
        self.addDetail('last', content.text_content(f'{words} {result}'))
        self.assertNotIn('Traceback', result.errors)
        return result

    def points(self) -> list[str]:
        """Return the points that the last command passed."""
        found: list[str] = json.loads((self.root / 'points').read_text())
        return found

    def finish(self, how: str) -> None:
        """Go on, or back, by another process; see how it ends."""
        result = self.command(how)
        self.assertIn(result.code, (0, 1), result.errors)
        if result.code and not result.output:
            # It was killed before it had begun, or after it had ended.
            self.assertIn('no release to go back to', result.errors)
        self.serves('1.0.0', '2.0.0')

    def release(self) -> str:
        version: str = self.status()['current']['version']
        return version

    def go_to(self, version: str) -> None:
        """Have a release serve, by whatever it takes."""
        if self.release() != version:
            self.succeed(*(('rollback',) if version == '1.0.0' else
                           ('upgrade', version, '--soak', '0')))
        self.serves(version)

    def kill_at(self, number: int, *words: object) -> None:
        """Kill a command at a point."""
        result = self.command(*words, kill_at=number)
        self.assertEqual(KILLED, result.code, f'{number}: {result}')


#: How to end what was killed, in turn.
ENDS = itertools.cycle(('resume', 'rollback'))


class TestKilled(KillCase):

    def setUp(self) -> None:
        super().setUp()
        self.succeed('upgrade', '2.0.0')
        self.go_to('1.0.0')
        self.clients = self.enterContext(self.load())

    def end(self, *found: object) -> None:
        self.addDetail('points', content.text_content(str(found)))
        self.assertEqual([], self.clients.failures)

    def test_upgrade(self) -> None:
        words = ('upgrade', '2.0.0', '--soak', '0.1')
        self.succeed(*words)
        passed = self.points()
        self.assertGreater(len(passed), 150)
        for number in chosen(len(passed), 6):
            self.go_to('1.0.0')
            self.kill_at(number, *words)
            self.finish(next(ENDS))
        self.end(passed)

    def test_warm_rollback(self) -> None:
        begin = ('upgrade', '2.0.0', '--until', 'soak', '--soak', '0')
        self.succeed(*begin)
        self.succeed('rollback')
        passed = self.points()
        self.assertGreater(len(passed), 40)
        for number in chosen(len(passed), 3):
            self.go_to('1.0.0')
            self.succeed(*begin)
            self.kill_at(number, 'rollback')
            self.finish(next(ENDS))
        self.end(passed)

    def test_cold_rollback(self) -> None:
        self.go_to('2.0.0')
        self.succeed('rollback')
        passed = self.points()
        self.assertGreater(len(passed), 80)
        for number in chosen(len(passed), 3):
            self.go_to('2.0.0')
            self.kill_at(number, 'rollback')
            self.finish('resume')
        self.end(passed)


class TestInstances(KillCase):
    """The new instance, or the old one, is killed after each step."""

    #: Those that differ most.
    DEFAULT = (('preflight', 'old'), ('start', 'new'), ('hand-over', 'new'),
               ('hand-over', 'old'), ('soak', 'new'))

    def cases(self) -> Sequence[tuple[str, str]]:
        if POINTS != 'all':
            return self.DEFAULT
        return [(step, which) for step in plans.ALL[:-1]
                for which in ('old', 'new')]

    def test_killed(self) -> None:
        for step, which in self.cases():
            self.go_to('1.0.0')
            old = set(self.settled())
            with self.load() as load:
                self.succeed('upgrade', '2.0.0', '--soak', '0.1',
                             '--until', step)
                for each in self.status()['instances']:
                    if (each['name'] in old) == (which == 'old'):
                        self.kill(each['name'])
                result = self.command('resume')
                self.assertIn(result.code, (0, 1), result.errors)
                self.serves('1.0.0', '2.0.0')
            # What the killed one was at, and nothing else.
            self.assertLessEqual(len(load.failures), 3, f'{step}, {which}')
            for failure in load.failures:
                self.assertNotIn('ConnectionRefused', failure)

    def test_killed_in_the_soak(self) -> None:
        """The old one waits for this: users do not wait for a new start."""
        child = self.start_command('upgrade', '2.0.0', '--soak', '100')
        processes.poll(lambda: self.event('2.0.0', 'soak'), 'the soak')
        self.kill(self.names()[0])
        output, errors = child.communicate(timeout=upgrades.TIMEOUT)
        self.assertEqual(1, child.returncode, errors)
        found: Any = json.loads(output)
        self.assertEqual('rolled-back', found['outcome'])
        self.assertIn('died', found['reason'])
        self.serves('1.0.0')
