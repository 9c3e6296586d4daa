"""Libraries that announce their options, or do something else instead."""

from __future__ import annotations

from pathlib import Path
import sys
import textwrap

import fixtures
import testtools

from easystack_image.ota.checks import apart
from easystack_image.ota.checks import options
from tests.unit.ota import libraries


class AnnouncedTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.logged = self.useFixture(fixtures.FakeLogger())
        self.useFixture(fixtures.MonkeyPatch(
            'sys.path', [str(self.root), *sys.path]))

    def test_library(self) -> None:
        libraries.make(self.root, 'thing')
        self.assertIn('size', options.announced()['thing'])

    def test_imports_that_fail(self) -> None:
        for number, fault in enumerate((
                'raise SystemExit(2)', 'import sys; sys.exit("no")',
                'assert False', 'import nowhere_to_be_found')):
            name = f'faulty{number}'
            libraries.make(self.root, name, fault)
            self.assertNotIn(name, options.announced())
            self.assertIn(f'options of {name} cannot', self.logged.output)

    def test_lists_that_fail(self) -> None:
        for number, fault in enumerate((
                'raise SystemExit(2)', 'raise AssertionError', 'return None',
                'return [(None, None)]')):
            name = f'unlisted{number}'
            libraries.make(self.root, name, listing=fault)
            self.assertNotIn(name, options.announced())
            self.assertIn(f'options of {name} cannot', self.logged.output)

    def test_driver_that_fails(self) -> None:
        libraries.make(self.root, 'driver', 'raise SystemExit(2)',
                       group='glance_store.drivers')
        self.assertIn('file', options.drivers())
        self.assertIn('options of driver cannot', self.logged.output)


class ApartTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(fixtures.EnvironmentVariable(
            'PYTHONPATH', str(self.root)))
        self.config = self.root / 'glance-api.conf'
        self.config.write_text(textwrap.dedent("""\
            [thing]
            size = many
            password = hush-hush
            """))

    def text(self) -> str:
        found, = apart.findings('options', [str(self.config)])
        self.assertTrue(found.serious)
        return found.text

    def test_findings(self) -> None:
        libraries.make(self.root, 'thing', 'print("[]")')
        self.assertIn('[thing] size', self.text())

    def test_none(self) -> None:
        self.config.write_text('')
        self.assertEqual([], apart.findings('options', [str(self.config)],
                                            [str(self.root / 'none')]))

    def test_end_of_the_process(self) -> None:
        libraries.make(self.root, 'thing', """\
            import os
            os.write(2, b'I am hush-hush\\n')
            os._exit(5)
            """)
        self.assertEqual('it cannot be found out (5): I am ***', self.text())

    def test_no_end(self) -> None:
        libraries.make(self.root, 'thing', 'import time; time.sleep(3600)')
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.ota.checks.apart._TIME', 0.1))
        self.assertIn('within 0.1 s', self.text())
