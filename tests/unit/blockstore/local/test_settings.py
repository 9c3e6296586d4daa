"""Settings: each bad one is named, and what would be right."""

from __future__ import annotations

import os
from typing import Any

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.blockstore.local import settings

GOOD = {'devices': ['/srv/one', '/srv/two', '/srv/three', '/srv/four']}
NAMES = ('copies', 'min_copies', 'io_timeout', 'sweep_interval')


class SettingsTest(testtools.TestCase):

    def assertRefused(self, *words: str, **fields: Any) -> str:
        error = self.assertRaises(
            exceptions.ConfigurationError, settings.Settings,
            **{**GOOD, **fields})
        message = str(error)
        for word in words:
            self.assertIn(word, message)
        self.assertNotIn('\n', message)
        return message

    def test_defaults(self) -> None:
        made = settings.Settings(**GOOD)
        self.assertEqual((3, 2, 30.0, 300.0), (
            made.copies, made.min_copies, made.io_timeout,
            made.sweep_interval))
        self.assertEqual((False, True, True), (
            made.allow_shared_disk, made.direct_io, made.self_repair))

    def test_limits_are_allowed(self) -> None:
        devices = [f'/srv/{number}' for number in range(16)]
        for fields in ({'copies': 1, 'min_copies': 1},
                       {'copies': 16, 'min_copies': 16},
                       {'copies': 16, 'min_copies': 1},
                       {'io_timeout': 0.001}, {'sweep_interval': 0.001}):
            settings.Settings(**{'devices': devices, **fields})

    def test_copies(self) -> None:
        for value in (0, -1, 17):
            self.assertRefused('copies must be 1 to 16', str(value),
                               copies=value, min_copies=1)

    def test_min_copies(self) -> None:
        for value in (0, -1, 4):
            self.assertRefused('min_copies', '(3)', f'not {value}',
                               min_copies=value)
        self.assertRefused('min_copies', '(1)', copies=1, min_copies=2)

    def test_times(self) -> None:
        for name, other in (('io_timeout', 'sweep_interval'),
                            ('sweep_interval', 'io_timeout')):
            for value in (0, -1, -0.5, float('nan')):
                message = self.assertRefused(name, str(value),
                                             **{name: value})
                self.assertNotIn(other, message)

    def test_no_device(self) -> None:
        for devices in ([], ()):
            self.assertRefused('no device', devices=devices)

    def test_fewer_devices_than_copies(self) -> None:
        self.assertRefused('3 copies', 'only 2', devices=['/one', '/two'])
        settings.Settings(devices=['/one', '/two'], copies=2)

    def test_path(self) -> None:
        for path, word in (
                ('srv/five', 'absolute'), ('', 'absolute'),
                ('./srv', 'absolute'), ('~/srv', 'absolute'),
                ('/srv/a b', 'white space'), (' /srv/five', 'absolute'),
                ('/srv/five ', 'white space'), ('/srv/\tfive', 'white space'),
                ('/srv/five\n', 'white space'),
                ('/srv/\u00a0five', 'white space'),
                ('/srv/five/', "'/srv/five'"), ('/srv//five', "'/srv/five'"),
                ('/srv/./five', "'/srv/five'"),
                ('/srv/six/../five', "'/srv/five'")):
            self.assertRefused(repr(path), word,
                               devices=[*GOOD['devices'], path])

    def test_two_slashes_in_front(self) -> None:
        # POSIX lets them mean something else; on Linux they do not.
        self.assertRefused('//srv/five', devices=[
            *GOOD['devices'], '//srv/five'])

    def test_path_with_a_nul(self) -> None:
        self.assertRefused('srv', devices=[*GOOD['devices'], '/srv/\0'])

    def test_listed_twice(self) -> None:
        self.assertRefused("'/srv/two'", 'more than once',
                           devices=[*GOOD['devices'], '/srv/two'])

    def test_paths_are_not_looked_at(self) -> None:
        # A disk that hangs must not hang whoever reads the configuration.
        home = self.useFixture(fixtures.TempDir()).path
        os.symlink('two', f'{home}/one')
        os.symlink('one', f'{home}/two')
        settings.Settings(devices=[
            f'{home}/one', f'{home}/two', f'{home}/missing'])

    def test_one_offender_at_a_time(self) -> None:
        message = self.assertRefused(copies=0, min_copies=-5, io_timeout=-1,
                                     devices=[])
        self.assertEqual(1, sum(name in message.split() for name in NAMES))

    def test_cannot_be_changed(self) -> None:
        made = settings.Settings(**GOOD)
        self.assertRaises(AttributeError, setattr, made, 'copies', 5)
