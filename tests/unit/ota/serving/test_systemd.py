"""What is said where systemd does not do as told; tests/ota has a real one."""

from __future__ import annotations

import os
from pathlib import Path

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import systemd


class SystemdTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.slot = self.root / 'slot'
        (self.slot / 'bin').mkdir(parents=True)
        (self.slot / 'bin' / 'uwsgi').touch()

    def launcher(self, *systemctl: str) -> systemd.SystemdLauncher:
        return systemd.SystemdLauncher(self.root / 'run', command.Service(),
                                       systemctl)

    def refused(self, launcher: systemd.SystemdLauncher) -> str:
        return str(self.assertRaises(exceptions.InstanceError,
                                     launcher.start, 'a', self.slot))

    def test_no_systemd(self) -> None:
        self.assertIn('does not answer', self.refused(
            self.launcher('/nowhere/systemctl')))

    def test_refusal(self) -> None:
        message = self.refused(self.launcher(
            'sh', '-c', 'echo Unit not found. >&2; exit 5', 'sh'))
        self.assertIn('Unit not found.; are the units of easystack-image '
                      'installed', message)

    def test_slot_without_uwsgi(self) -> None:
        (self.slot / 'bin' / 'uwsgi').unlink()
        self.assertRaises(exceptions.ConfigurationError,
                          self.launcher('true').start, 'a', self.slot)
        self.assertFalse((self.root / 'run').exists())

    def test_umask(self) -> None:
        """Root may have any; the service's user has to read the script."""
        self.addCleanup(os.umask, os.umask(0o077))
        self.launcher('true').start('a', self.slot)
        run = self.root / 'run'
        self.assertEqual([0o755, 0o755, 0o644], [
            path.stat().st_mode & 0o777
            for path in (run, run / 'start', run / 'start' / 'a')])

    def test_forgotten_and_ended(self) -> None:
        """Known until it has ended; the script is where systemd looks."""
        launcher = self.launcher('true')
        instance = launcher.start('33.0.0.1', self.slot)
        self.assertEqual(self.root / 'run' / 'i' / '33.0.0.1',
                         instance.place.path)
        script = self.root / 'run' / 'start' / '33.0.0.1'
        self.assertEqual(0o644, script.stat().st_mode & 0o777)
        started, = launcher.list()
        self.assertEqual(('33.0.0.1', self.slot, None),
                         (started.name, started.slot, started.pid))
        # It runs, and is told to leave.
        runs = self.launcher('echo', (
            'Id=easystack-image@33.0.0.1.service\n'
            'ActiveState=deactivating\nMainPID=77\n'))
        runs.forget('33.0.0.1')
        self.assertFalse(script.exists())
        self.assertEqual([77], [each.pid for each in runs.list()])
        self.assertEqual([], launcher.list())
        self.assertEqual([], runs.list())
