"""The updater's directory: whose it is, and how it is made."""

from __future__ import annotations

import os
import shutil
import stat

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home
from tests.unit.ota import base


class HomeTest(base.Case):

    def setUp(self) -> None:
        super().setUp()
        self.path = self.root / 'a' / 'state'
        self.home = home.Home(self.path, 0o755)

    def refused(self, *words: str) -> None:
        error = self.assertRaises(exceptions.ConfigurationError, self.lock)
        for word in words:
            self.assertIn(word, str(error))

    def lock(self) -> None:
        with self.home.locked():
            pass

    def test_others_may_write(self) -> None:
        self.lock()
        for mode in (0o775, 0o757, 0o777):
            self.path.chmod(mode)
            self.refused('may be changed by others', 'chmod go-w')
        self.path.chmod(0o755)
        self.lock()

    def test_of_another_user(self) -> None:
        self.lock()
        with fixtures.MonkeyPatch('os.geteuid', lambda: 54321):
            if os.getuid() == 0:
                # Root may do as it likes.
                self.lock()
                os.chown(self.path, 12345, -1)
            self.refused('belongs to user')

    def test_parts(self) -> None:
        """Whichever is made first: it belongs to its owner alone."""
        private = home.Home(self.path)
        for use in (private.locked('journal'), private.directory('other')):
            with use:
                self.assertEqual(0o700, stat.S_IMODE(
                    self.path.stat().st_mode))
            shutil.rmtree(self.path)

    def test_made_with_its_mode(self) -> None:
        """Whoever is killed on the way leaves none with another."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        real = fsio.mkdir

        def die(name: str, dir_fd: int) -> None:
            real(name, dir_fd)
            raise KeyboardInterrupt

        paths = (self.path.parent, self.path)
        for made in range(2):
            with fixtures.MonkeyPatch('easystack_image.fsio.mkdir', die):
                self.assertRaises(KeyboardInterrupt, self.lock)
            self.assertEqual([True] * made + [False] * (2 - made),
                             [path.exists() for path in paths])
        self.lock()
        for path in paths:
            self.assertEqual(0o755, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(['state'], os.listdir(self.path.parent))
