"""Files of this user, of root and of others."""

from __future__ import annotations

import os
from pathlib import Path

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota import owners


class CheckTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.useFixture(fixtures.TempDir()).path) / 'file'
        self.path.touch(mode=0o600)

    def check(self, *kind: type[exceptions.EasystackImageError]) -> None:
        owners.check(self.path, self.path.stat(), 'it is obeyed', *kind)

    def test_ours(self) -> None:
        for mode in (0o400, 0o600, 0o644, 0o755):
            self.path.chmod(mode)
            self.check()

    def test_others_may_change_it(self) -> None:
        for mode in (0o620, 0o602, 0o666, 0o777):
            self.path.chmod(mode)
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.check)
            for words in (f'{self.path} may be changed by others',
                          f'mode {mode:o}', 'it is obeyed',
                          f'chmod go-w {self.path}'):
                self.assertIn(words, str(error))

    def test_of_another_user(self) -> None:
        if os.getuid() == 0:
            os.chown(self.path, 12345, -1)
        user = self.path.stat().st_uid
        with fixtures.MonkeyPatch('os.geteuid', lambda: user + 1):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.check)
        for words in (f'{self.path} belongs to user {user}', 'it is obeyed',
                      f'chown root {self.path}'):
            self.assertIn(words, str(error))

    def test_kind(self) -> None:
        self.path.chmod(0o666)
        self.assertRaises(exceptions.InvalidHooks, self.check,
                          exceptions.InvalidHooks)
