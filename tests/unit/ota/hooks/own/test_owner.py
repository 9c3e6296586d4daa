"""As whom programs of a slot run."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import threading
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image.ota.hooks import leash
from easystack_image.ota.hooks.own import owner
from easystack_image.ota.hooks.own import programs
from tests.unit.ota import others
from tests.unit.ota.hooks import base
from tests.unit.store import base as store_base

#: Tells who it is, and makes the file that it is told last.
PROGRAM = """\
#!/bin/sh
echo "$(id -u) $(id -g) $(id -G) $(umask) $HOME $PWD $USER"
for made; do :; done
touch "$made"
"""


class OwnerCase(base.HookCase):
    """Three devices, and a directory for what is staged."""

    def setUp(self) -> None:
        super().setUp()
        self.place = others.directory('owner-')
        self.addCleanup(shutil.rmtree, self.place)
        self.devices = [self.place / f'd{number}' for number in range(3)]
        self.staging = self.place / 'staging'
        for path in (*self.devices, self.staging):
            path.mkdir()
        self.config = self.place / 'glance-api.conf'
        self.write('easystack_block')

    def write(self, driver: str) -> None:
        store_base.write_config(self.config, {
            'DEFAULT': {'enabled_backends': f'fast:{driver}'},
            'fast': store_base.block_options(self.devices),
            'os_glance_staging_store': {
                'filesystem_store_datadir': str(self.staging)}})

    def of(self) -> owner.Owner | None:
        return owner.of(self.context(config_files=(str(self.config),)))

    def be_root(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('os.geteuid', lambda: 0))


class OwnerTest(OwnerCase):

    def test_devices(self) -> None:
        self.be_root()
        others.give(self.devices[1])
        # Two may not be mounted: their mount points are root's.
        found = self.of()
        assert found is not None
        self.assertEqual(others.USER, found.user)
        self.assertEqual('/' if not found.name else os.path.expanduser('~'),
                         found.home)

    def test_no_devices(self) -> None:
        """Elsewhere than on devices of ours, who stages owns."""
        self.be_root()
        self.write('file')
        others.give(self.staging)
        found = self.of()
        assert found is not None
        self.assertEqual(others.USER, found.user)

    def test_nobody_else(self) -> None:
        """Without root's rights nobody is to be: whoever calls, does it."""
        self.useFixture(fixtures.MonkeyPatch('os.geteuid', lambda: 1))
        others.give(self.devices[0])
        self.assertIsNone(self.of())

    def test_gone(self) -> None:
        self.be_root()
        for path in (*self.devices, self.staging):
            path.rmdir()
        # Whoever runs the tests has the configuration.
        found = self.of()
        self.assertEqual(os.getuid() or None, found and found.user)

    def test_configuration_of_somebody_else(self) -> None:
        """What it names is not run by root."""
        self.be_root()
        paste = self.place / 'paste.ini'
        paste.touch()
        with open(self.config, 'a') as file:
            file.write(f'[paste_deploy]\nconfig_file = {paste}\n')
        for path in (paste, self.config, self.place):
            others.give(path)
            for each in self.devices:
                # Owned by root, as those that are not mounted.
                if os.getuid() == 0:
                    os.chown(each, 0, 0)
            found = self.of()
            assert found is not None
            self.assertEqual(others.USER, found.user)
            if os.getuid() == 0:
                os.chown(path, 0, 0)

    def test_hanging(self) -> None:
        """A device that hangs is not waited for: the next one answers."""
        self.be_root()
        others.give(self.devices[1])
        real = os.stat

        def stat(path: object, **options: Any) -> os.stat_result:
            if str(path) == str(self.devices[0]):
                blocked.wait()
            return real(path, **options)

        blocked = threading.Event()
        self.addCleanup(blocked.set)
        self.useFixture(fixtures.MonkeyPatch('os.stat', stat))
        found = self.of()
        assert found is not None
        self.assertEqual(others.USER, found.user)

    def test_configuration(self) -> None:
        self.be_root()
        self.config.write_text('[DEFAULT\n')
        error = self.assertRaises(exceptions.HookFailed, self.of)
        self.assertIn('cannot be read', str(error))


class ProgramTest(OwnerCase):
    """A program really runs as the user."""

    def setUp(self) -> None:
        super().setUp()
        self.program = self.place / 'slot' / 'bin' / 'which'
        self.program.parent.mkdir(parents=True)
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)
        for device in self.devices:
            others.give(device)

    def call(self, made: Path) -> list[str]:
        done = programs.run(
            self.context(slot=str(self.place / 'slot'),
                         config_files=(str(self.config),)), 'which', str(made))
        self.assertEqual('', done.stderr)
        return done.stdout.split()

    def test_user(self) -> None:
        made = self.devices[0] / 'made'
        user, group, *groups, mask, home, place, name = self.call(made)
        status = made.stat()
        self.assertEqual((others.USER, others.GROUP),
                         (status.st_uid, status.st_gid))
        self.assertEqual([str(others.USER), str(others.GROUP)], [user, group])
        if os.geteuid() == 0:
            self.assertEqual([str(others.GROUP)], groups)
            self.assertEqual(['0027', '/', '/', str(others.USER)],
                             [mask, home, place, name])

    def test_lock(self) -> None:
        """Of a hook that must not run twice at once."""
        with open(self.place / 'lock', 'w') as file:
            self.program.write_text(
                f'#!/bin/sh\nreadlink /proc/$$/fd/{file.fileno()}\n')
            self.assertEqual([], self.call(self.place))
            self.useFixture(fixtures.EnvironmentVariable(
                leash.LOCKS, str(file.fileno())))
            self.assertEqual([file.name], self.call(self.place))

    def test_out_of_reach(self) -> None:
        self.program.chmod(0o600)
        error = self.assertRaises(exceptions.HookFailed, self.call,
                                  self.place / 'made')
        self.assertIn('cannot be run', str(error))
        self.assertIn('Permission denied', str(error))
