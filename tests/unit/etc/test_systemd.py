"""The units for systemd."""

from __future__ import annotations

import configparser
from pathlib import Path
import shlex
import shutil
import subprocess
import unittest

import fixtures
import testtools

from easystack_image.cmd import app as app_module
from easystack_image.cmd.ota import main
from easystack_image.ota import settings
from easystack_image.ota.serving import systemd

UNITS = Path(__file__).parents[3] / 'etc' / 'systemd'
HEALER = UNITS / 'easystack-image-heal.service'


class Unit(configparser.ConfigParser):
    """A unit; of a setting that is given several times, the last."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str  # type: ignore[assignment]
        self.read(path)


class HealerTest(testtools.TestCase):

    def test_command(self) -> None:
        """What it starts is there, and takes these arguments."""
        words = shlex.split(Unit(HEALER)['Service']['ExecStart'])
        self.assertEqual(['/usr/bin/env', 'easystack-image-manage'],
                         words[:2])
        app = app_module.ManageApp()
        factory, name, rest = app.command_manager.find_command(words[2:])
        self.assertEqual(('heal', []), (name, rest))
        factory(app, None).get_parser(name).parse_args(rest)

    def test_bounds(self) -> None:
        service = Unit(HEALER)['Service']
        for name, value in {
                'User': 'glance', 'NoNewPrivileges': 'true',
                'ProtectSystem': 'strict', 'Restart': 'on-failure',
                # No file that root must own, and metrics that others read.
                'CapabilityBoundingSet': '', 'UMask': '0022'}.items():
            self.assertEqual(value, service[name], name)

    @unittest.skipUnless(shutil.which('systemd-analyze'), 'no systemd here')
    def test_systemd_takes_it(self) -> None:
        home = self.useFixture(fixtures.TempDir()).path
        unit = shutil.copy(HEALER, home)
        done = subprocess.run(['systemd-analyze', 'verify', unit],
                              capture_output=True, text=True)
        self.assertEqual((0, '', ''),
                         (done.returncode, done.stdout, done.stderr))


class InstancesTest(testtools.TestCase):
    """Units of what is upgraded over the air; tests/ota starts them."""

    def unit(self, name: str) -> Unit:
        return Unit(UNITS / name)

    def test_commands(self) -> None:
        """What they start is there, and takes these arguments."""
        for name in ('easystack-image.service', 'easystack-image-ota.service',
                     'easystack-image-ota-resume.service'):
            words = shlex.split(self.unit(name)['Service']['ExecStart'])
            self.assertEqual(['/usr/bin/env', 'easystack-image-ota'],
                             words[:2])
            self.assertTrue(callable(
                main.make_parser().parse_args(words[2:]).run))

    def test_nothing_is_installed_unasked(self) -> None:
        service = self.unit('easystack-image-ota.service')['Service']
        self.assertTrue(service['ExecStart'].endswith(' check'))

    def test_nothing_is_cut(self) -> None:
        service = self.unit('easystack-image@.service')['Service']
        for name, value in {
                'TimeoutStopSec': 'infinity', 'KillMode': 'mixed',
                'Restart': 'always',
                'RuntimeDirectoryPreserve': 'restart'}.items():
            self.assertEqual(value, service[name], name)

    def test_hooks_are_not_cut_with_the_updater(self) -> None:
        """Those that change the database go on without it."""
        service = self.unit('easystack-image-ota-resume.service')['Service']
        self.assertEqual('process', service['KillMode'])

    def test_the_socket_is_never_given_up(self) -> None:
        """Not even after many starts in vain."""
        self.assertEqual('0', self.unit('easystack-image.socket')['Socket'][
            'TriggerLimitIntervalSec'])
        for name in ('easystack-image.service', 'easystack-image@.service'):
            self.assertEqual('0', self.unit(name)['Unit'][
                'StartLimitIntervalSec'])

    def test_names(self) -> None:
        """Those that the launcher uses."""
        unit, service = self.unit('easystack-image@.service'), 'Service'
        self.assertEqual(
            f'{systemd.UNIT}/{systemd.INSTANCES}/%i',
            unit[service]['RuntimeDirectory'])
        self.assertEqual(f'/run/{systemd.UNIT}',
                         settings.Settings().run_directory)
        path = f'%t/{systemd.UNIT}/{systemd.START}/%i'
        self.assertEqual(f'/bin/sh {path}', unit[service]['ExecStart'])
        self.assertEqual(path, unit['Unit']['ConditionPathExists'])
        self.assertEqual(f'{systemd.UNIT}.socket', unit[service]['Sockets'])

    @unittest.skipUnless(shutil.which('systemd-analyze'), 'no systemd here')
    def test_systemd_takes_them(self) -> None:
        home = Path(self.useFixture(fixtures.TempDir()).path)
        for unit in UNITS.iterdir():
            shutil.copy(unit, home)
        (home / 'easystack-image@.service').rename(
            home / 'easystack-image@1.0.0.1.service')
        done = subprocess.run(
            ['systemd-analyze', 'verify', '--man=no', *home.iterdir()],
            capture_output=True, text=True)
        self.assertEqual((0, '', ''),
                         (done.returncode, done.stdout, done.stderr))
