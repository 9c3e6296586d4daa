"""Preparing the devices of a store."""

from __future__ import annotations

import os
import shutil
from typing import Any

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.blockstore.local import device
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import provision
from tests.contract import hanging
from tests.contract import local
from tests.unit.blockstore.local import base


class ProvisionTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.home = self.useFixture(fixtures.TempDir()).path
        self.paths = [f'{self.home}/disk{number}' for number in range(3)]
        for path in self.paths:
            os.mkdir(path)

    def identity(self, path: str) -> device.Identity:
        attached = device.Device(path, 1).attach()
        attached.close()
        return attached.identity

    def assertRefused(self, *words: str, configured: Any = None,
                      **kwargs: Any) -> None:
        with base.nothing_left_behind():
            error = self.assertRaises(
                exceptions.ConfigurationError, provision.initialise,
                configured or self.paths, **kwargs)
        for word in words:
            self.assertIn(word, str(error))

    def test_all_of_a_new_set(self) -> None:
        with base.nothing_left_behind():
            self.assertEqual(self.paths, provision.initialise(self.paths))
        found = [self.identity(path) for path in self.paths]
        self.assertEqual(1, len({each.store_id for each in found}))
        self.assertEqual(3, len({each.device_id for each in found}))
        self.assertEqual(3, len({each.zone for each in found}))
        # Once more does nothing.
        self.assertEqual([], provision.initialise(self.paths))
        self.assertEqual(found, [self.identity(path) for path in self.paths])

    def test_device_that_hangs(self) -> None:
        provision.initialise(self.paths)
        with base.nothing_left_behind(), hanging.Hanging() as devices:
            devices.hang(self.paths[1])
            error = self.assertRaises(
                exceptions.ConfigurationError, provision.initialise,
                self.paths, timeout=0.5)
        self.assertIn(f'device {self.paths[1]} did not answer within 0.5 s',
                      str(error))

    def test_new_ones_join_the_set(self) -> None:
        one = device.new_identity(local.STORE_ID)
        device.initialise(self.paths[1], one)
        self.assertEqual(
            [self.paths[0], self.paths[2]],
            provision.initialise(self.paths, zone='rack', weight=2.0))
        self.assertEqual(one, self.identity(self.paths[1]))
        for path in (self.paths[0], self.paths[2]):
            found = self.identity(path)
            self.assertEqual((local.STORE_ID, 'rack', 2.0),
                             (found.store_id, found.zone, found.weight))

    def test_chosen_ones_only(self) -> None:
        self.assertEqual([self.paths[2]], provision.initialise(
            self.paths, [self.paths[2]]))
        self.assertEqual([], os.listdir(self.paths[0]))
        self.assertEqual([self.paths[0]], provision.initialise(
            self.paths, [self.paths[0]]))
        self.assertEqual(self.identity(self.paths[0]).store_id,
                         self.identity(self.paths[2]).store_id)

    def test_chosen_one_that_is_prepared(self) -> None:
        provision.initialise(self.paths, [self.paths[0]])
        self.assertRefused(self.paths[0], 'prepared already',
                           chosen=[self.paths[0]])

    def test_chosen_one_that_is_not_configured(self) -> None:
        self.assertRefused('/srv/other', *self.paths,
                           chosen=[self.paths[0], '/srv/other'])
        self.assertEqual([], os.listdir(self.paths[0]))

    def test_devices_on_one_disk(self) -> None:
        self.assertRefused('same disk', *self.paths,
                           allow_shared_disk=False)
        for path in self.paths:
            self.assertEqual([], os.listdir(path))

    def test_where_a_device_is_remembered(self) -> None:
        provision.initialise(self.paths)
        known = {self.identity(path).device_id: members.Member(
            path, self.identity(path)) for path in self.paths}
        with open(f'{self.paths[0]}/{members.MEMBERS}', 'wb') as file:
            file.write(members.write_down(members.Memory(1.0, known)))
        # Its disk died, and there is another one.
        shutil.rmtree(self.paths[1])
        os.mkdir(self.paths[1])
        for chosen in ((), self.paths[1:2]):
            self.assertRefused(self.paths[1], 'device replace',
                               chosen=chosen)
        self.assertEqual([], os.listdir(self.paths[1]))

    def test_within_another_device(self) -> None:
        provision.initialise(self.paths)
        inner = f'{self.paths[1]}/images/inner'
        os.mkdir(inner)
        link = f'{self.home}/link'
        os.symlink(inner, link)
        for path in (inner, link):
            for chosen in ((), (path,)):
                self.assertRefused(
                    f'{path} lies inside the device {self.paths[1]}',
                    configured=[*self.paths, path], chosen=chosen)
        self.assertEqual([], os.listdir(inner))

    def test_two_sets(self) -> None:
        for path, store_id in zip(self.paths, (
                local.STORE_ID, local.STORE_ID[::-1]), strict=False):
            device.initialise(path, device.new_identity(store_id))
        self.assertRefused('different sets')
        self.assertEqual([], os.listdir(self.paths[2]))

    def test_missing_directory(self) -> None:
        os.rmdir(self.paths[2])
        self.assertRefused(self.paths[2], 'create the directory')
        self.assertEqual([], os.listdir(self.paths[0]))

    def test_damaged_identity(self) -> None:
        # It must not get a second identity, nor found a second set.
        with open(f'{self.paths[1]}/{device.IDENTITY}', 'w') as file:
            file.write('damaged')
        self.assertRefused(self.paths[1], 'identity')
        self.assertEqual([], os.listdir(self.paths[0]))

    def test_not_empty(self) -> None:
        with open(f'{self.paths[1]}/file', 'w'):
            pass
        self.assertRefused(self.paths[1], 'not empty')
        # Those before it are prepared, and stay so.
        self.identity(self.paths[0])
        os.unlink(f'{self.paths[1]}/file')
        self.assertEqual(self.paths[1:], provision.initialise(self.paths))

    def test_bad_paths(self) -> None:
        for configured, word in (
                ([], 'no device'), (['srv/one'], 'absolute'),
                ([*self.paths, self.paths[0]], 'more than once'),
                ([f'{self.home}/a b'], 'white space')):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      provision.initialise, configured)
            self.assertIn(word, str(error))
        for path in self.paths:
            self.assertEqual([], os.listdir(path))
