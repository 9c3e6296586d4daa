"""Tests of glance_store itself, while our package is installed.

Being installed is enough to be noticed: glance_store loads all entry points
of ``glance_store.drivers`` to list options.  Its own tests run in a process
of their own, as they come:

* ``glance_store.tests.unit.test_store_base``
* ``glance_store.tests.unit.test_backend``
* ``glance_store.tests.unit.test_backend_group_configuration``
* ``glance_store.tests.unit.test_store_capabilities``
* ``glance_store.tests.unit.test_location``
* ``glance_store.tests.unit.test_driver``

``glance_store.tests.unit.test_opts`` cannot pass beside any third-party
driver: it compares the options of all drivers that can be loaded with a list
of its own.  So it is run with our options added to that list, and without
those of drivers whose libraries are not installed: nothing but our options is
new, and no option is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import re
import subprocess
import sys

import fixtures
from glance_store import backend
from glance_store import multi_backend
from glance_store.tests.unit import test_opts
from oslo_config import cfg
import testtools

from easystack_image.conf import store as store_conf
from easystack_image.store import driver

_MODULES = [f'glance_store.tests.unit.test_{name}' for name in (
    'store_base', 'backend', 'backend_group_configuration',
    'store_capabilities', 'location', 'driver')]


class InstalledTest(testtools.TestCase):

    def test_their_tests_pass(self) -> None:
        directory = Path(self.useFixture(fixtures.TempDir()).path)
        result = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'unittest', *_MODULES],
            capture_output=True, text=True, timeout=120, cwd=directory)
        self.addDetail('output', testtools.content.text_content(
            result.stdout + result.stderr))
        self.assertEqual(0, result.returncode)
        ran = re.search(r'^Ran (\d+) tests', result.stderr, re.MULTILINE)
        self.assertGreater(int(ran[1]) if ran else 0, 40)
        self.assertRegex(result.stderr, r'(?m)^OK$')

    def test_all_drivers_load(self) -> None:
        """One that cannot be loaded is left out, with a line in the log."""
        log = self.useFixture(fixtures.FakeLogger())
        self.assertIn('easystack_block', multi_backend._list_driver_opts())
        self.assertNotIn('easystack_block', log.output)

    def test_names_of_options_are_ours_alone(self) -> None:
        """In [glance_store] the options of all drivers lie together."""
        ours = {option.name for option in store_conf.OPTS}
        for name, options in multi_backend._list_driver_opts().items():
            if options is not driver.Store.OPTIONS:
                self.assertEqual(set(), ours & {
                    option.name for option in options}, name)

    def test_options_can_be_registered(self) -> None:
        conf = cfg.ConfigOpts()
        backend.register_opts(conf)
        self.assertEqual(3, conf.glance_store.easystack_block_copies)


class TheirOptsTest(test_opts.OptsTestCase):
    """``test_opts``, with our options expected too."""

    def _check_opt_names(self, opt_list: Sequence[tuple[str, list[cfg.Opt]]],
                         expected_opt_names: Sequence[str]) -> None:
        found = {option.name for _, options in opt_list
                 for option in options}
        super()._check_opt_names(opt_list, [
            *(name for name in expected_opt_names if name in found),
            *(option.name for option in store_conf.OPTS)])
