"""What the installed distribution announces is really there."""

from __future__ import annotations

import configparser
import importlib.metadata
import inspect
from pathlib import Path
import subprocess
import sysconfig

from glance_store import driver as store_driver
from glance_store import location as store_location
from oslo_config import cfg
import stevedore
import testtools

from easystack_image.blockstore import engine
from easystack_image.blockstore import loading

ROOT = Path(__file__).parents[3]

DRIVERS = 'glance_store.drivers'
ENGINES = 'easystack_image.block_engines'
HOOKS = 'easystack_image.ota_hooks'
OPTIONS = 'oslo.config.opts'
PLUGINS = 'glance.image_import.plugins'
SCRIPTS = 'console_scripts'


class EntryPointsTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        distribution = importlib.metadata.distribution('easystack-image')
        self.points = distribution.entry_points
        self.loaded = {(point.group, point.name): point.load()
                       for point in self.points}

    def of(self, group: str) -> dict[str, object]:
        """Return what is announced in a group, loaded, by name."""
        return {name: loaded for (each, name), loaded in self.loaded.items()
                if each == group}

    def test_names(self) -> None:
        """Deployers' files name them."""
        self.assertEqual(
            {(DRIVERS, 'easystack_block'), (ENGINES, 'ceph'),
             (ENGINES, 'local'),
             *((HOOKS, name) for name in (
                 'configuration', 'copies', 'database-check',
                 'database-contract', 'database-expand', 'database-migrate',
                 'disk-space', 'notification', 'policy', 'replica-format',
                 'upgrade-check')),
             (OPTIONS, 'easystack_image'),
             ('oslo.middleware.healthcheck', 'easystack_block'),
             ('oslo.middleware.healthcheck', 'easystack_ota'),
             ('oslo.policy.enforcer', 'easystack_image'),
             ('oslo.policy.policies', 'easystack_image'),
             ('oslo.policy.rule_checks', 'easystack_has'),
             ('paste.app_factory', 'easystack_images'),
             ('paste.filter_factory', 'easystack_api'),
             (PLUGINS, 'easystack_content'),
             ('paste.filter_factory', 'easystack_content'),
             ('paste.filter_factory', 'easystack_copies'),
             ('paste.filter_factory', 'easystack_export'),
             ('paste.filter_factory', 'easystack_ota'),
             ('paste.filter_factory', 'easystack_properties'),
             ('paste.filter_factory', 'easystack_uploads'),
             (SCRIPTS, 'easystack-image-manage'),
             (SCRIPTS, 'easystack-image-ota'),
             (SCRIPTS, 'easystack-image-status')}, set(self.loaded))

    def test_installed_is_what_is_here(self) -> None:
        """An old installation would make the other tests vain."""
        parser = configparser.ConfigParser()
        parser.read(ROOT / 'setup.cfg')
        wanted = {
            (group, *(part.strip() for part in line.split('=')))
            for group, lines in parser['entry_points'].items()
            for line in lines.strip().splitlines()}
        self.assertEqual(wanted, {
            (point.group, point.name, point.value) for point in self.points})

    def test_drivers(self) -> None:
        for name, kind in self.of(DRIVERS).items():
            self.assertTrue(issubclass(kind, store_driver.Store), name)
            self.assertFalse(inspect.isabstract(kind), name)
            # glance_store looks for it beside the driver.
            location = inspect.getmodule(kind).StoreLocation
            self.assertTrue(issubclass(
                location, store_location.StoreLocation), name)
            for method in ('add', 'get', 'get_size', 'delete',
                           'get_schemes', 'configure_add'):
                self.assertIsNot(getattr(store_driver.Store, method),
                                 getattr(kind, method))

    def test_engines(self) -> None:
        for name, kind in self.of(ENGINES).items():
            self.assertTrue(issubclass(kind, engine.Engine), name)
            self.assertFalse(inspect.isabstract(kind), name)

    def test_engine_by_name(self) -> None:
        made = loading.load({'engine': 'local',
                             'devices': ['/a', '/b', '/c'], 'copies': 3})
        self.addCleanup(made.close)
        self.assertIs(self.of(ENGINES)['local'], type(made))

    def test_options(self) -> None:
        for name, list_opts in self.of(OPTIONS).items():
            for group, options in list_opts():
                self.assertIsInstance(group, str, name)
                self.assertNotEqual([], options)
                for option in options:
                    self.assertIsInstance(option, cfg.Opt, name)

    def test_scripts(self) -> None:
        for name, main in self.of(SCRIPTS).items():
            self.assertTrue(callable(main), name)
            script = Path(sysconfig.get_path('scripts')) / name
            result = subprocess.run([script, '--help'], capture_output=True,
                                    text=True, timeout=60)
            self.assertEqual((0, ''), (result.returncode, result.stderr))
            self.assertIn(f'usage: {name} ', result.stdout)

    def test_stevedore_finds_them(self) -> None:
        """As glance_store and oslo.config do."""
        for (group, name), loaded in self.loaded.items():
            if group != SCRIPTS:
                manager = stevedore.DriverManager(group, name)
                self.assertIs(loaded, manager.driver)
