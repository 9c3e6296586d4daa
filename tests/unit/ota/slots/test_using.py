"""Real processes that have something of a slot, and whose they are."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import fixtures
import testtools

from easystack_image.ota.slots import using


class UsingTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.slot = Path(self.useFixture(fixtures.TempDir()).path) / '1'
        self.slot.mkdir()
        (self.slot / 'file').touch()

    def child(self, code: str, *arguments: object,
              cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start a program that tells when it has begun."""
        child = subprocess.Popen(
            [sys.executable, '-c',
             f'import sys, time, subprocess\n{code}\n'
             'print(flush=True); time.sleep(60)', *map(str, arguments)],
            stdout=subprocess.PIPE, text=True, cwd=cwd)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        assert child.stdout is not None
        self.addCleanup(child.stdout.close)
        self.said = child.stdout.readline()
        return child

    def test_nobody(self) -> None:
        self.child('pass', f'{self.slot}0/file')
        self.assertEqual([], using.processes(self.slot))

    def test_given_open_and_in_it(self) -> None:
        children = [
            self.child('pass', self.slot / 'file'),
            self.child(f'kept = open({str(self.slot / "file")!r})'),
            self.child('pass', cwd=self.slot)]
        self.assertEqual(sorted(child.pid for child in children),
                         using.processes(self.slot))

    def test_name(self) -> None:
        child = self.child('pass')
        self.assertEqual(Path(f'/proc/{child.pid}/comm').read_text().strip(),
                         using.name(child.pid))
        child.kill()
        child.wait()
        self.assertEqual('', using.name(child.pid))

    def test_descends(self) -> None:
        # A grandchild, whose number the child tells.
        child = self.child(
            'g = subprocess.Popen(["sleep", "60"]); print(g.pid, end="")')
        grandchild = int(self.said)
        self.addCleanup(os.kill, grandchild, 9)
        for process in (child.pid, grandchild):
            self.assertTrue(using.descends(process, {child.pid}))
            self.assertTrue(using.descends(process, {os.getpid()}))
        self.assertFalse(using.descends(child.pid, {grandchild}))
        self.assertFalse(using.descends(os.getpid(), {child.pid}))
        child.kill()
        child.wait()
        self.assertFalse(using.descends(child.pid, {os.getpid()}))
