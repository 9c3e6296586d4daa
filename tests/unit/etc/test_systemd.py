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
