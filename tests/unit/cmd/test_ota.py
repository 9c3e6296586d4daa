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

    def run_main(self, code: str, redirection: str,
                 ) -> subprocess.CompletedProcess[str]:
        """Run the command, whose action is replaced."""
        return subprocess.run(
            ['/bin/sh', '-c', f'exec "$0" -c "$1" {redirection}',
             sys.executable, 'import sys\n'
             'from easystack_image.cmd.ota import main, output\n'
             f'{code}\n'
             'main._run = run\n'
             'sys.exit(main.main(["status"]))'], capture_output=True,
            text=True, timeout=120, cwd=base.ROOT)

    def test_cannot_be_printed(self) -> None:
        """What was done is done; what was asked was not answered."""
        for acts, code, expected in ((True, 0, 0), (False, 0, 1),
                                     (True, 1, 1), (False, 3, 3)):
            for redirection in ('> /dev/full', '>&-'):
                done = self.run_main(
                    'def run(arguments):\n'
                    f'    arguments.acts = {acts}\n'
                    '    arguments.format = "json"\n'
                    '    output.record(arguments, {"outcome": None})\n'
                    f'    return {code}', redirection)
                self.assertEqual(expected, done.returncode, done.stderr)
                self.assertIn('is lost', done.stderr)
                self.assertNotIn('Traceback', done.stderr)

    def test_nobody_listens(self) -> None:
        """Nobody reads stderr: the system's log is told."""
        done = self.run_main(
            'def run(arguments):\n'
            '    output.say("x")\n'
            '    output.Bar(sys.stderr)(1, 2)\n'
            '    return 0', '2>&-')
        self.assertEqual((0, ''), (done.returncode, done.stderr))

    def test_help(self) -> None:
        done = subprocess.run(
            [sys.executable, '-m', 'easystack_image.cmd.ota.main', '--help'],
            capture_output=True, text=True, cwd=base.ROOT, timeout=120)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn('130 stopped', ' '.join(done.stdout.split()))
