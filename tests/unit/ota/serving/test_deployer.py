"""Which of uWSGI's options a deployer may set."""

from __future__ import annotations

from pathlib import Path

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import deployer
from easystack_image.ota.serving import layout

ETC = Path(__file__).parents[4] / 'etc' / 'uwsgi'


class DeployerTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path).resolve()

    def write(self, text: str) -> Path:
        path = self.root / 'uwsgi.ini'
        path.write_text(text)
        return path

    def refused(self, text: str) -> str:
        return str(self.assertRaises(exceptions.ConfigurationError,
                                     deployer.check, self.write(text)))

    def test_sample(self) -> None:
        deployer.check(ETC / 'easystack-image.ini')

    def test_sample_of_a_glance_that_is_not_upgraded(self) -> None:
        """All of it is said by the command line, and some would break it."""
        message = str(self.assertRaises(
            exceptions.ConfigurationError, deployer.check,
            ETC / 'glance-api.ini'))
        for name in ('thunder-lock', 'http-socket', 'module', 'processes'):
            self.assertIn(name, message)

    def test_what_ends_requests(self) -> None:
        for name in ('harakiri', 'http-harakiri', 'harakiri_verbose',
                     'worker-reload-mercy', 'max-requests',
                     'max-requests-delta', 'max-worker-lifetime',
                     'reload-on-rss', 'evil-reload-on-as', 'touch-reload',
                     'touch-chain-reload', 'py-autoreload', 'cheaper',
                     'idle', 'no-threads-wait', 'fs-brutal-reload',
                     'fs_reload', 'check-mountpoint', 'mount-check',
                     'no-orphans', 'python-auto-reload', 'worker-exec'):
            message = self.refused(f'[uwsgi]\n{name} = 30\n')
            self.assertIn(name.replace('_', '-'), message)
            self.assertIn('under way', message)

    def test_what_breaks_the_exchange(self) -> None:
        for name, word in (
                ('shutdown-sockets', 'for all'), ('gevent', 'threads'),
                ('async', 'threads'), ('env', 'slot'), ('envdir', 'slot'),
                *((f'{kind}-socket', 'inherited') for kind in (
                    'scgi', 'scgi-nph', 'fastcgi', 'fastcgi-nph', 'raw',
                    'puwsgi', 'shared', 'undeferred-shared', 'abstract'))):
            self.assertIn(word, self.refused(f'[uwsgi]\n{name} = 1\n'))

    def test_what_does_not(self) -> None:
        names = ('log-socket', 'logto', 'log-format', 'add-header',
                 'auto-procname', 'ignore-sigpipe', 'metric')
        self.assertEqual([''] * len(names), [*map(deployer.refusal, names)])

    def test_as_uwsgi_reads_it(self) -> None:
        text = ('harakiri = 1\n[other]\nharakiri = 1\n[uwsgi]\n'
                '# harakiri = 1\n; harakiri = 1\n\nif-env = X\n'
                'logto = %(x)\nendif =\nlogto = /var/log/x\n')
        deployer.check(self.write(text))
        self.assertIn('harakiri', self.refused(text + '  harakiri=1\n'))
        self.assertIn('harakiri', self.refused(
            text + '[uwsgi]\nharakiri\n'))

    def test_all_at_once(self) -> None:
        message = self.refused('[uwsgi]\nprocesses = 2\nvirtualenv = /x\n'
                               'processes = 3\ninclude = /etc/more.ini\n')
        self.assertEqual(1, message.count('processes'))
        for word in ('virtualenv', 'slot', 'include', 'take them out'):
            self.assertIn(word, message)

    def test_unreadable(self) -> None:
        error = self.assertRaises(exceptions.ConfigurationError,
                                  deployer.check, self.root / 'none')
        self.assertIn('cannot be read', str(error))

    def test_launchers_refuse(self) -> None:
        path = self.write('[uwsgi]\nharakiri = 60\n')
        self.assertRaises(
            exceptions.ConfigurationError, command.arguments, self.root,
            layout.Place(self.root / 'a'),
            command.Service(configuration=path))

    def test_what_the_command_line_says(self) -> None:
        """Each option of it is refused, but that which adds up."""
        program = self.root / 'bin' / 'uwsgi'
        program.parent.mkdir()
        program.touch()
        for word in command.arguments(self.root, layout.Place(
                self.root / 'a'), command.Service())[1:]:
            name = word.removeprefix('--').partition('=')[0]
            if name != 'add-header':
                self.assertNotEqual('', deployer.refusal(name), name)
