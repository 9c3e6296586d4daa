"""The logs of the holder's instances are bounded."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import stat
import time
from typing import NoReturn

import fixtures
import testtools

from easystack_image.ota.serving import logs


class LogsTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.logger = self.useFixture(fixtures.FakeLogger())
        self.path = Path(self.useFixture(fixtures.TempDir()).path)
        self.logs = logs.Logs(self.path)
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.serving.logs.LIMIT', 10))

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def write(self, name: str, text: bytes = b'x') -> None:
        with self.logs.open(name) as file:
            file.write(text)

    def test_long(self) -> None:
        """Whoever writes goes on, at the beginning of the file."""
        with self.logs.open('1.0.0.1') as file:
            for number in range(3):
                file.write(b'%d' % number * 10)
                file.flush()
                self.logs.bound('1.0.0.1')
                self.assertEqual(['1.0.0.1.log'], self.names()[:1])
                file.write(b'\n')
                file.flush()
                self.logs.bound('1.0.0.1')
        self.assertEqual(
            (b'', b'222222222\n'),
            tuple((self.path / f'1.0.0.1.log{suffix}').read_bytes()
                  for suffix in ('', '.old')))
        for path in self.path.iterdir():
            self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))

    def test_no_room(self) -> None:
        """It does not grow all the same, and a piece of it takes no room."""
        def fail(path: Path, to: Path) -> NoReturn:
            to.write_bytes(b'piece')
            raise OSError('no room')

        self.write('a', bytes(11))
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.serving.logs._copy', fail))
        self.logs.bound('a')
        self.assertEqual(['a.log'], self.names())
        self.assertEqual(0, (self.path / 'a.log').stat().st_size)
        self.assertIn('no room', self.logger.output)

    def test_gone(self) -> None:
        self.logs.bound('a')
        shutil.rmtree(self.path)
        self.logs.bound('a')
        self.logs.ended('a', ())
        self.assertEqual('', self.logger.output)
        self.path.mkdir()

    def test_ended(self) -> None:
        """Those of the last ones stay, whenever they wrote last."""
        for name in 'abcdefg':
            self.write(name)
            (self.path / f'{name}.log.old').touch()
        living = set('abcdefg')
        for name in 'gafcbd':
            living.remove(name)
            self.logs.ended(name, living)
            # Clocks of file systems are coarse.
            time.sleep(0.02)
        self.assertEqual(
            sorted(f'{name}.log{suffix}' for name in 'cbde'
                   for suffix in ('', '.old')), self.names())
