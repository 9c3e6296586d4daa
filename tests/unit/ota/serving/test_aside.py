"""A node stands aside, whoever has the directory that says so."""

from __future__ import annotations

import os
from pathlib import Path

import fixtures
import testtools

from easystack_image.ota.serving import aside


class AsideTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.root / 'i'
        self.path.mkdir()

    def test_for_a_while(self) -> None:
        self.assertFalse(aside.is_aside(self.path))
        aside.step_aside(self.path, 60)
        self.assertTrue(aside.is_aside(self.path))
        self.assertEqual(0o644, (self.path / aside.NAME).stat().st_mode
                         & 0o777)
        aside.step_aside(self.path, -1)
        self.assertFalse(aside.is_aside(self.path))
        aside.step_back(self.path)
        aside.step_back(self.path)
        self.assertEqual([], os.listdir(self.path))

    def test_whatever_the_service_puts_there(self) -> None:
        """Root follows no link of its user's, and waits for no pipe."""
        other = self.root / 'other'
        other.write_text('data')
        other.chmod(0o600)
        for name in (aside.NAME, f'.{aside.NAME}.new'):
            for make in (lambda path: path.symlink_to(other), os.mkfifo):
                path = self.path / name
                make(path)
                aside.step_aside(self.path, 60)
                self.assertTrue(aside.is_aside(self.path))
                self.assertEqual(('data', 0o600), (
                    other.read_text(), other.stat().st_mode & 0o777))
                self.assertEqual([aside.NAME], os.listdir(self.path))
                aside.step_back(self.path)

    def test_nonsense(self) -> None:
        for text in ('', '[]', '{}', '{"until": []}', '{"until": "x"}'):
            (self.path / aside.NAME).write_text(text)
            self.assertFalse(aside.is_aside(self.path))
