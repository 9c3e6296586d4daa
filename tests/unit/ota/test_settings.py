"""The updater's configuration."""

from __future__ import annotations

import dataclasses
import os

import fixtures
from oslo_config import cfg

from easystack_image import exceptions
from easystack_image.ota import settings
from tests.unit.ota import base

#: Deployers' files name them.
NAMES = {'repository', 'channel', 'check_warn_days', 'trusted_root',
         'state_directory', 'slots_directory', 'keep_slots', 'uv', 'python',
         'proxy', 'ca_file',
         'timeout', 'minimum_rate', 'maximum_size', 'run_directory',
         'launcher', 'listen', 'application', 'config_file', 'uwsgi_file',
         'processes', 'threads', 'warm_paths', 'warm_images',
         'start_timeout', 'soak',
         'drain_timeout', 'retry_limit', 'hooks_directory', 'hook_timeout',
         'notify_url', 'canary_credentials', 'canary_size',
         'canary_timeout', 'watch_errors', 'watch_slower', 'watch_slack',
         'watch_requests', 'watch_hang', 'watch_probe', 'coordination_url',
         'nodes', 'node_url', 'node_timeout', 'aside'}


class SettingsTest(base.Case):

    mode = 0o600

    def write(self, text: str) -> settings.Settings:
        path = self.root / 'ota.conf'
        path.write_text(text)
        path.chmod(self.mode)
        return settings.read(path)

    def assertWrong(self, text: str, *words: str) -> None:
        error = self.assertRaises(exceptions.ConfigurationError, self.write,
                                  text)
        for word in words:
            self.assertIn(word, str(error))

    def test_where_to_listen(self) -> None:
        for text in ('9292', '10.0.0.1', ':9292', 'a:b', 'a:65536', 'a b:1'):
            self.assertWrong(f'[easystack_ota]\nlisten = {text}\n', 'listen',
                             '0.0.0.0:9292')
        for text in ('0.0.0.0:9292', '[::]:9292', 'localhost:0'):
            self.assertEqual(text, self.write(
                f'[easystack_ota]\nlisten = {text}\n').listen)

    def test_names(self) -> None:
        self.assertEqual(NAMES, {field.name for field in
                                 dataclasses.fields(settings.Settings)})

    def test_read(self) -> None:
        found = self.write(
            '# words\n[DEFAULT]\ndebug = true\n[easystack_ota]\n'
            'repository = https://updates.example.org/images/\n'
            'channel=candidate\ntimeout = 2.5\nkeep_slots: 0\n'
            'state_directory = /srv/50%/state\n')
        self.assertEqual(
            ('https://updates.example.org/images/', 'candidate', 2.5, 0,
             '/srv/50%/state', 1024),
            (found.repository, found.channel, found.timeout,
             found.keep_slots, found.state_directory, found.minimum_rate))

    def test_the_command_line_counts_for_more(self) -> None:
        path = self.root / 'ota.conf'
        path.write_text('[easystack_ota]\nchannel = candidate\nuv = /uv\n')
        found = settings.read(path, channel='stable', uv=None)
        self.assertEqual(('stable', '/uv'), (found.channel, found.uv))

    def test_defaults(self) -> None:
        self.assertEqual(settings.Settings(), self.write(''))

    def test_wrong(self) -> None:
        for line, *words in (
                ('chanel = stable', 'chanel', 'known are'),
                ('channel = beta', 'channel', 'stable, candidate'),
                ('timeout = soon', 'timeout', 'no number'),
                ('timeout = nan', 'timeout'), ('timeout = 0', '0.1'),
                ('timeout = 1e9', 'timeout'), ('keep_slots = 1.5', 'slots'),
                ('keep_slots = -1', 'slots'), ('minimum_rate = 0', 'rate'),
                ('keep_slots = 1_0', 'slots'),
                ('repository = ftp://example.org/', 'https://'),
                ('repository = /srv/releases', 'file://'),
                ('repository = https:///x', 'repository'),
                ('repository = https://example.org:x/', 'repository'),
                ('repository = https://example.org/?q=1', 'repository'),
                ('proxy = example.org:3128', 'proxy'),
                ('nodes = http://a http://b', 'node_url', 'none of'),
                ('nodes = http://a http://b\nnode_url = http://a\naside = 9',
                 'aside', 'coordination_url'),
                ('coordination_url = database', 'coordination_url'),
                ('coordination_url = file:///locks', 'nodes', 'list all'),
                ('watch_errors = 101', 'watch_errors')):
            self.assertWrong(f'[easystack_ota]\n{line}\n', *words)

    def test_no_password_is_shown(self) -> None:
        for line in ('repository = https://me:pa55@example.org/',
                     'proxy = socks5://me:pa55@example.org/'):
            error = self.assertRaises(
                exceptions.ConfigurationError, self.write,
                f'[easystack_ota]\n{line}\n')
            self.assertNotIn('pa55', str(error))

        # Of a line that is none, only where it is is said.
        for text, line in (
                ('coordination_url = mysql://u:pa55@db/x\n', 1),
                ('[easystack_ota]\nuv = a\nmysql//u=pa55\n pa55 ]\npa55\n',
                 5),
                ('[easystack_ota]\nproxy = pa55\nproxy = pa55\n', 3)):
            error = self.assertRaises(
                exceptions.ConfigurationError, self.write, text)
            self.assertNotIn('pa55', str(error))
            self.assertIn(f'line {line}', str(error))

    def test_no_password_is_logged(self) -> None:
        self.mode = 0o640
        found = self.write('[easystack_ota]\nnodes = http://a\nnode_url = '
                           'http://a\ncoordination_url = '
                           'mysql://me:pa55@example.org/locks\n'
                           'proxy = http://me:pa55@example.org:3128\n'
                           'notify_url = https://example.org/?hook=pa55\n')
        self.assertIn('pa55', found.coordination_url)
        self.assertNotIn('pa55', repr(found))

    def test_who_may_see_and_change_it(self) -> None:
        text = '[easystack_ota]\nproxy = http://me:pa55@example.org:3128\n'
        for self.mode in (0o600, 0o640):
            self.write(text)
        for self.mode in (0o644, 0o604):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.write, text)
            self.assertIn('may be read by others', str(error))
        for self.mode in (0o660, 0o602):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.write, '')
            self.assertIn('may be changed by others', str(error))

    def test_of_another_user(self) -> None:
        """It names programs, which run as whoever reads it."""
        self.write('')
        with fixtures.MonkeyPatch('os.geteuid', lambda: 54321):
            if os.getuid() == 0:
                # Root may do as it likes.
                self.write('')
                os.chown(self.root / 'ota.conf', 12345, -1)
            self.assertWrong('', f'{self.root}/ota.conf belongs to user',
                             f'chown root {self.root}/ota.conf')

    def test_unreadable(self) -> None:
        self.assertWrong('[easystack_ota\n', 'cannot be read')
        self.assertWrong('channel = stable\n', 'cannot be read')
        self.assertWrong('[easystack_ota]\nuv = a\nuv = b\n',
                         'line 3')
        (self.root / 'ota.conf').write_bytes(b'[easystack_ota]\nuv=\xff\n')
        self.assertRaises(exceptions.ConfigurationError, settings.read,
                          self.root / 'ota.conf')
        self.assertRaises(exceptions.ConfigurationError, settings.read,
                          self.root / 'none')

    def test_the_sample(self) -> None:
        """It is what is in etc/, and oslo.config reads it, too."""
        sample = base.ROOT / 'etc' / 'easystack-image-ota.conf.sample'
        self.assertEqual(sample.read_text(), settings.sample())
        text = settings.sample().replace('\n#', '\n').replace('\n ', '\n# ')
        found = self.write(text)
        self.assertEqual(settings.Settings(), found)
        path = self.root / 'ota.conf'
        conf = cfg.ConfigOpts()
        conf.register_opts([cfg.StrOpt(name) for name in NAMES],
                           settings.GROUP)
        conf([f'--config-file={path}'], default_config_files=[])
        for field in dataclasses.fields(found):
            self.assertEqual(str(field.default),
                             conf[settings.GROUP][field.name] or '')
