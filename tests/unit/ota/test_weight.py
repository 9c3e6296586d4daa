"""What the updater needs beside this package: three wheels, not more."""

from __future__ import annotations

import subprocess
import sys

from easystack_image.ota.release import lock
from tests.unit.ota import base

#: Runs the command where nothing can be imported but the standard library,
#: this package, and the names that are given.
_RUN = """\
import importlib.abc
import sys

class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition('.')[0]
        if top not in sys.stdlib_module_names and top not in allowed:
            raise ModuleNotFoundError(f'No module named {name!r}')

# What measures the tests is there before.
allowed = {*sys.argv.pop(1).split(','), *(
    name.partition('.')[0] for name in sys.modules)}
sys.meta_path.insert(0, Guard())
from easystack_image.cmd.ota import main
sys.exit(main.main())
"""
LIGHT = ('easystack_image', 'securesystemslib', 'tuf', 'urllib3')


class LockTest(base.Case):

    def test_what_is_locked(self) -> None:
        """With hashes, and nothing that brings in more."""
        found = lock.parse((base.ROOT / 'etc/easystack-image-ota.lock'
                            ).read_text())
        self.assertEqual(set(LIGHT) - {'easystack_image'},
                         {each.name for each in found})
        # Wheel and source; the oldest tuf that has what is used of it.
        self.assertTrue(all(each.always and len(each.hashes) == 2
                            for each in found))
        tuf, = (each.version for each in found if each.name == 'tuf')
        self.assertLessEqual((7, 0, 1), tuple(map(int, tuf.split('.'))))


class WeightTest(base.SiteCase):
    """Without cryptography, too: Ed25519 is verified in Python then."""

    def run_with(self, *arguments: object,
                 allowed: tuple[str, ...] = LIGHT,
                 ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, '-c', _RUN, ','.join(allowed), '--config-file',
             str(self.write_config()), *map(str, arguments)],
            capture_output=True, text=True, timeout=300)

    def test_three_wheels_do(self) -> None:
        for arguments in (('check',), ('download',), ('slots', 'list'),
                          ('history',)):
            done = self.run_with(*arguments)
            self.assertEqual((0, ''), (done.returncode, done.stderr))
        path, = (self.root / 'state' / 'downloads').iterdir()
        done = self.run_with('slots', 'build', path)
        self.assertEqual((0, ''), (done.returncode, done.stderr))

    def test_signing_takes_more(self) -> None:
        done = self.run_with('release', 'key', self.root / 'key')
        self.assertEqual(1, done.returncode)
        self.assertIn('ota-release', done.stderr)
        self.assertNotIn('Traceback', done.stderr)

    def test_without_tuf(self) -> None:
        done = self.run_with('check', allowed=LIGHT[:1])
        self.assertEqual(1, done.returncode)
        self.assertIn('easystack-image[ota]', done.stderr)
        self.assertNotIn('Traceback', done.stderr)
