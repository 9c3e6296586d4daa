"""Real processes, that live, are killed, and are not buried."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess

import fixtures
import testtools

from easystack_image.ota.serving import processes


class ProcessTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        path = Path(self.useFixture(fixtures.TempDir()).path) / 'a (file) x'
        path.touch()
        self.path = path
        descriptor = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        self.child = subprocess.Popen(
            ['sleep', '60'], start_new_session=True, pass_fds=[descriptor])
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)

    def test_lives(self) -> None:
        found = processes.identify(self.child.pid)
        assert found
        self.assertTrue(found.lives)
        # A later one with its number.
        self.assertFalse(
            processes.Process(found.pid, found.started - 1).lives)
        self.child.kill()
        os.waitid(os.P_PID, found.pid, os.WEXITED | os.WNOWAIT)
        # It is a zombie now.
        self.assertEqual(found, processes.identify(found.pid))
        self.assertFalse(found.lives)
        self.child.wait()
        self.assertFalse(found.lives)
        self.assertIsNone(processes.identify(found.pid))

    def test_leaders(self) -> None:
        self.assertEqual([processes.identify(self.child.pid)],
                         list(processes.leaders(self.path)))
        other = self.path.with_name('other')
        other.touch()
        self.assertEqual([], list(processes.leaders(other)))
