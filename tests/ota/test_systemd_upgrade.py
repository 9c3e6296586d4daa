"""Upgrades where a real systemd starts the instances."""

from __future__ import annotations

import os
import signal

import fixtures
from testtools import content

from tests.ota import upgrades
from tests.ota import user_systemd


class TestSystemdUpgrade(upgrades.UpgradeCase):
    """There and back, with the units and no holder."""

    def start_keeper(self) -> None:
        """Start the manager; find it where systemctl is called."""
        manager = user_systemd.UserSystemd(self.port)
        self.manager = manager
        self.addCleanup(manager.stop)
        self.addOnException(lambda _: self.addDetail(
            'systemd.log', content.text_content(manager.log())))
        manager.start()
        self.useFixture(fixtures.EnvironmentVariable(
            'PATH', manager.environment['PATH']))
        self.configure(launcher='systemd',
                       run_directory=manager.runtime / 'easystack-image')
        manager.updater.symlink_to(self.config)

    def test_upgrade(self) -> None:
        """An instance that dies begins again, and "resume" goes on."""
        with self.load() as load:
            # The next instance has more processes than the one that serves.
            self.configure(processes=upgrades.PROCESSES + 1)
            self.succeed('upgrade', '2.0.0', '--until', 'start')
            new, = self.names('waiting')
            pid, = (each['pid'] for each in self.status()['instances']
                    if each['name'] == new)
            os.kill(pid, signal.SIGKILL)
            result = self.command('resume')
            self.assertEqual(0, result.code, result.errors)
            # The probe has found where the socket of systemd is.
            self.assertRegex(result.errors, 'GET / was answered [1-9]')
            self.serves('2.0.0')
            self.succeed('rollback')
            self.serves('1.0.0')
        self.assertEqual([], load.failures)
