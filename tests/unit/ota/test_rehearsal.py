"""The rehearsal, by the command, as somebody new to it runs it."""

from __future__ import annotations

import os
import stat
import subprocess

from tests.unit.ota import base


class RehearsalTest(base.Case):

    def test_it_goes_well(self) -> None:
        place = self.root / 'rehearsal'
        done = subprocess.run(
            [base.COMMAND, 'release', 'rehearse', '--keep', place],
            capture_output=True, text=True, timeout=300, umask=0o002)
        self.assertEqual((0, ''), (done.returncode, done.stdout),
                         done.stderr)
        self.assertEqual(6, len(done.stderr.splitlines()))
        for words in ('a second key', 'lost key', 'revoked', 'expire'):
            self.assertIn(words, done.stderr)
        for name in os.listdir(place / 'keys'):
            mode = stat.S_IMODE((place / 'keys' / name).stat().st_mode)
            self.assertEqual(0o644 if name.endswith('.pub') else 0o600, mode)
        # What is there is not overwritten.
        done = subprocess.run(
            [base.COMMAND, 'release', 'rehearse', '--keep', place],
            capture_output=True, text=True, timeout=300)
        self.assertEqual(1, done.returncode)
        self.assertIn('is not empty', done.stderr)
