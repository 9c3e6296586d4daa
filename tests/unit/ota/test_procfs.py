"""Real processes, with names that make reading hard."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess

import fixtures
import testtools

from easystack_image.ota import procfs


class StatTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        sleep = shutil.which('sleep')
        assert sleep is not None
        # The kernel names a process by its program.
        path = Path(self.useFixture(fixtures.TempDir()).path) / ') Z 1 (x'
        path.write_bytes(Path(sleep).read_bytes())
        path.chmod(0o700)
        self.child = subprocess.Popen([str(path), '60'],
                                      start_new_session=True)
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)

    def test_child(self) -> None:
        stat, ours = procfs.stat(self.child.pid), procfs.stat(os.getpid())
        assert stat and ours
        self.assertEqual((os.getpid(), self.child.pid),
                         (stat.parent, stat.session))
        self.assertGreaterEqual(stat.started, ours.started)
        self.assertTrue(stat.lives)

    def test_zombie(self) -> None:
        self.child.kill()
        os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        stat = procfs.stat(self.child.pid)
        assert stat
        self.assertEqual(('Z', False), (stat.state, stat.lives))

    def test_none(self) -> None:
        self.child.kill()
        self.child.wait()
        self.assertIsNone(procfs.stat(self.child.pid))
