"""What ``easystack-image-ota`` prints; tests/unit/ota has what it does."""

from __future__ import annotations

import os
import subprocess
import sys

from easystack_image.cmd.ota import output
from tests.unit.ota import base


class OutputTest(base.Case):

    def test_bar_on_a_terminal(self) -> None:
        reader, writer = os.openpty()
        self.addCleanup(os.close, reader)
        with os.fdopen(writer, 'w') as stream:
            bar = output.Bar(stream)
            bar(0, 2 * 1024 * 1024)
            bar(2 * 1024 * 1024, 2 * 1024 * 1024)
            bar.close()
            shown = ''
            # The terminal hands on each piece when it comes.
            while '\n' not in shown:
                shown += os.read(reader, 1000).decode()
        self.assertIn('  0%  0.0 of 2.0 MiB', shown)
        self.assertIn('[' + '#' * 30 + '] 100%  2.0 of 2.0 MiB', shown)

    def test_nobody_reads_it(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [base.COMMAND, '--slots-directory', self.root / 'none',
                 'slots', 'list'], stdout=writer, stderr=subprocess.PIPE,
                text=True, timeout=120)
        finally:
            os.close(writer)
        self.assertEqual((1, ''), (done.returncode, done.stderr))

    def test_help(self) -> None:
        done = subprocess.run(
            [sys.executable, '-m', 'easystack_image.cmd.ota.main', '--help'],
            capture_output=True, text=True, cwd=base.ROOT, timeout=120)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn('130 stopped', ' '.join(done.stdout.split()))
