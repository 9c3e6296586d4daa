"""Finding engines: the entry points are loaded for real."""

from __future__ import annotations

from importlib import metadata
import os
import subprocess
import sys

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore import loading
from easystack_image.blockstore.local import engine as local_engine

OPTIONS = {'devices': ['/srv/one', '/srv/two', '/srv/three'], 'copies': 3,
           'min_copies': 2, 'of_another_engine': 'ignored'}

#: Asks for an engine, in a process that sees what was just installed.
_ASK = """\
import sys
from easystack_image import exceptions
from easystack_image.blockstore import loading
try:
    made = loading.load({'engine': sys.argv[1]})
except exceptions.ConfigurationError as error:
    print('refused:', error)
else:
    print('made:', made)
"""


class LoadTest(testtools.TestCase):

    def test_every_entry_point(self) -> None:
        points = metadata.entry_points(group=loading.NAMESPACE)
        self.assertIn('local', points.names)
        for point in points:
            self.assertTrue(issubclass(point.load(), engine.Engine), point)

    def test_local(self) -> None:
        made = loading.load({**OPTIONS, 'engine': 'local'})
        self.addCleanup(made.close)
        self.assertIsInstance(made, local_engine.LocalEngine)
        self.assertEqual((3, 2), (made.copies, made.min_copies))

    def test_bad_options(self) -> None:
        error = self.assertRaises(
            exceptions.ConfigurationError, loading.load,
            {**OPTIONS, 'engine': 'local', 'min_copies': 4})
        self.assertIn('min_copies', str(error))

    def test_unknown_name(self) -> None:
        for name in ('locale', '', 'easystack_image.blockstore'):
            error = self.assertRaises(
                exceptions.ConfigurationError, loading.load,
                {**OPTIONS, 'engine': name})
            self.assertIn(repr(name), str(error))
            installed = str(error).rpartition('installed are: ')[2]
            self.assertEqual(
                sorted(metadata.entry_points(
                    group=loading.NAMESPACE).names), installed.split(', '))


class InstalledTest(testtools.TestCase):
    """Engines of another distribution, installed for the moment."""

    def setUp(self) -> None:
        super().setUp()
        self.home = self.useFixture(fixtures.TempDir()).path
        with open(f'{self.home}/another_engine.py', 'w') as file:
            file.write('class Other:\n'
                       '    @classmethod\n'
                       '    def from_options(cls, options):\n'
                       '        return "the other one"\n'
                       'class Rival(Other):\n'
                       '    pass\n')
        self.install('another', 'other = another_engine:Other',
                     'broken = another_engine_that_is_not_there:Other',
                     'nameless = another_engine:Missing')

    def install(self, distribution: str, *entry_points: str) -> None:
        """Have a distribution with engines on the path."""
        information = f'{self.home}/{distribution}-1.0.dist-info'
        os.mkdir(information)
        with open(f'{information}/METADATA', 'w') as file:
            file.write(f'Metadata-Version: 2.1\nName: {distribution}\n'
                       'Version: 1.0\n')
        with open(f'{information}/entry_points.txt', 'w') as file:
            file.write('\n'.join(['[easystack_image.block_engines]',
                                  *entry_points]))

    def ask(self, name: str) -> str:
        """Return what comes of asking for an engine."""
        path = os.pathsep.join([self.home, *filter(None, sys.path)])
        done = subprocess.run(
            [sys.executable, '-c', _ASK, name], text=True,
            capture_output=True, env={
                **os.environ, 'PYTHONPATH': path,
                # stevedore's, of which this must leave nothing.
                'XDG_CACHE_HOME': f'{self.home}/cache'})
        return done.stdout.strip() or done.stderr

    def test_another_engine(self) -> None:
        self.assertEqual('made: the other one', self.ask('other'))

    def test_engine_that_cannot_be_imported(self) -> None:
        for name, reason in (('broken', 'another_engine_that_is_not_there'),
                             ('nameless', 'Missing')):
            answer = self.ask(name)
            self.assertTrue(answer.startswith('refused:'), answer)
            self.assertIn(reason, answer)
            self.assertIn('installed are: broken, ceph, local, nameless, '
                          'other',
                          answer)

    def test_two_engines_of_one_name(self) -> None:
        self.install('yet_another', 'other = another_engine:Rival')
        answer = self.ask('other')
        self.assertTrue(answer.startswith('refused:'), answer)
