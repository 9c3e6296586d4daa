"""What the ceph engine is told."""

from __future__ import annotations

from typing import Any

import testtools

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import engine as engine_module
from easystack_image.blockstore.ceph import settings
from easystack_image.conf import store


class SettingsTest(testtools.TestCase):

    def test_defaults_are_those_of_the_options(self) -> None:
        self.assertEqual(settings.Settings(), settings.Settings.from_options(
            {opt.dest.removeprefix(store.PREFIX): opt.default
             for opt in store.OPTS}))

    def test_options(self) -> None:
        made = settings.Settings.from_options({
            'copies': 4, 'min_copies': 3, 'ceph_pool': 'a', 'ceph_user': 'b',
            'ceph_conf': 'c', 'ceph_object_size_mib': 4, 'ceph_timeout': 5,
            'ceph_queue_depth': 6, 'self_repair': False,
            'sweep_interval': 7, 'heal_interval': 8, 'scrub_period': 9,
            'scrub_rate': 0, 'devices': [], 'pool': 'of another engine'})
        self.assertEqual(settings.Settings(
            'a', 'b', 'c', 4, 5, 6, 4, 3, False, 7, 8, 9, 0), made)

    def test_bad_ones(self) -> None:
        bad: list[tuple[str, Any]] = [
            ('pool', ''), ('user', ''), ('conf', ''), ('object_size_mib', 0),
            ('object_size_mib', 3), ('object_size_mib', 64),
            ('queue_depth', 0), ('queue_depth', 65), ('timeout', 0),
            ('timeout', float('inf')), ('timeout', float('nan')),
            ('copies', 0), ('copies', 17), ('min_copies', 0),
            ('min_copies', 4), ('sweep_interval', 0), ('heal_interval', 0),
            ('scrub_period', 0), ('scrub_rate', -1)]
        for name, value in bad:
            error = self.assertRaises(exceptions.ConfigurationError,
                                      settings.Settings, **{name: value})
            self.assertIn(name, str(error))

    def test_order(self) -> None:
        for mib in (1, 2, 4, 8, 16, 32):
            self.assertEqual(mib << 20, 1 << settings.Settings(
                object_size_mib=mib).order)


class WithoutCephTest(testtools.TestCase):
    """A machine that has none of Ceph's modules."""

    def setUp(self) -> None:
        super().setUp()
        for each in (bindings.rados, bindings.rbd):
            each.cache_clear()
            self.addCleanup(each.cache_clear)

    def test_missing_module(self) -> None:
        error = self.assertRaises(exceptions.ConfigurationError,
                                  bindings._load, 'rados_of_nowhere')
        self.assertIn('python3-rados_of_nowhere', str(error))

    def test_engine_can_be_described(self) -> None:
        made = engine_module.CephEngine.from_options({})
        self.assertEqual((3, 2), (made.copies, made.min_copies))
        self.assertRaises(exceptions.BlockStoreError, lambda: made.store_id)
        made.close()
