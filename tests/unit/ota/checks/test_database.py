"""What is made of "glance-manage db check"; tests/functional has the real one.

Its place is taken by a program of the same name.
"""

from __future__ import annotations

import os
from pathlib import Path

import fixtures
import testtools

from easystack_image.ota.checks import database


class DatabaseTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        root = Path(self.useFixture(fixtures.TempDir()).path)
        self.manage = root / 'glance' / 'cmd' / 'manage.py'
        self.manage.parent.mkdir(parents=True)
        for directory in (self.manage.parent, self.manage.parents[1]):
            (directory / '__init__.py').touch()
        self.useFixture(fixtures.EnvironmentVariable('PYTHONPATH', str(root)))
        # What was written within a second looks the same.
        self.useFixture(fixtures.EnvironmentVariable(
            'PYTHONDONTWRITEBYTECODE', '1'))

    def find(self, body: str) -> list[tuple[bool, str]]:
        self.manage.write_text(f'import sys\ndef main():\n    {body}\n')
        return [(each.serious, each.text) for each in database.findings(
            ['/etc/glance/a.conf', '/b.conf'], ['/etc/glance/c.d'])]

    def test_phases(self) -> None:
        self.assertEqual([], self.find('return 0'))
        for code, phase, serious in ((3, 'expand', True),
                                     (4, 'migrate', True),
                                     (5, 'contract', False)):
            found, = self.find(f'sys.exit({code})')
            self.assertIs(serious, found[0])
            self.assertIn(f'"glance-manage db {phase}"', found[1])

    def test_arguments(self) -> None:
        found, = self.find('sys.exit(repr(sys.argv[1:]))')
        self.assertIn("['--config-file=/etc/glance/a.conf', "
                      "'--config-file=/b.conf', "
                      "'--config-dir=/etc/glance/c.d', 'db', 'check']",
                      found[1])

    def test_from_where_it_is_asked(self) -> None:
        """A Glance in the current directory is another one."""
        elsewhere = Path(self.useFixture(fixtures.TempDir()).path)
        (elsewhere / 'glance').mkdir()
        (elsewhere / 'glance' / '__init__.py').write_text('raise SystemExit')
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(elsewhere)
        self.assertIn('migrate', self.find('return 4')[0][1])

    def test_failure(self) -> None:
        """Its last words, and no password in them."""
        serious, text = self.find(
            'print("x", file=sys.stderr); sys.exit("cannot connect to '
            'mysql+pymysql://glance:s3cr3t@db/glance")')[0]
        self.assertTrue(serious)
        self.assertIn('mysql+pymysql://glance:***@db/glance', text)
        self.assertIn('(1)', text)
        self.assertNotIn('x\n', text)
        for password in ('pa/ss', 'p@ss', 'p:a'):
            (_, text), = self.find('sys.exit("cannot connect to mysql://'
                                   f'glance:{password}@db/glance")')
            self.assertIn('mysql://glance:***@db/glance', text)
        (_, text), = self.find('sys.exit(9)')
        self.assertIn('(9)', text)
