"""How the command is called, and what it says when that is wrong."""

from __future__ import annotations

import signal
import sys

from tests.unit.cmd import base
from tests.unit.store import base as store_base

COMMANDS = ('device add', 'device drain', 'device init', 'device list',
            'device remove', 'device replace', 'copies list', 'copies show',
            'scrub', 'repair', 'rebalance', 'capacity', 'heal',
            'fsck', 'location')


#: A signal that comes when the command imports its first library.
_STOPPED = """
import os, signal, sys
# Whoever runs the tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'cliff':
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from easystack_image.cmd import manage
sys.exit(manage.main())
"""


class UsageTest(base.CommandCase):

    def test_help(self) -> None:
        for arguments in (('--help',), ('help',)):
            result = self.run_command(*arguments)
            self.assertEqual((0, ''), (result.code, result.errors))
            for words in (*COMMANDS, '--config-file', '--config-dir',
                          '--store', 'Exit codes: 0 success', '1 failure',
                          '2 wrong use', '3 done', '130 stopped'):
                self.assertIn(words, ' '.join(result.output.split()))

    def test_help_of_each_command(self) -> None:
        """It needs no configuration."""
        for name in COMMANDS:
            result = self.run_command(*name.split(), '--help')
            self.assertEqual((0, ''), (result.code, result.errors))
            self.assertIn(f'usage: easystack-image-manage {name} ',
                          result.output)
            for option in ('--format', '--column'):
                self.assertEqual(name != 'heal', option in result.output)

    def test_version(self) -> None:
        """It is that of the package which is installed."""
        installed = self.run_command(command=(
            sys.executable, '-c', 'import importlib.metadata as metadata; '
            'print(metadata.version("easystack-image"))'))
        result = self.run_command('--version', command=(
            sys.executable, base.COMMAND))
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertEqual(f'easystack-image-manage {installed.output}',
                         result.output)

    def check_wrong_use(self, result: base.Result, *words: str) -> None:
        self.assertEqual(2, result.code)
        for word in words:
            self.assertIn(word, result.output + result.errors)

    def test_no_command(self) -> None:
        """Scripts have no use for a shell of its own."""
        for arguments in ((), ('--store', 'copies')):
            result = self.run_command(*arguments)
            self.check_wrong_use(result, 'usage: easystack-image-manage')
            self.assertNotIn('is not an', result.output)

    def test_half_a_command(self) -> None:
        for words, rest in (('device', 'device init'),
                            ('copies', 'copies show')):
            self.check_wrong_use(self.run_command(words), rest)

    def test_unknown_command(self) -> None:
        self.check_wrong_use(self.run_command('devise', 'list'),
                             'devise list', 'device list')

    def test_unknown_option(self) -> None:
        self.check_wrong_use(self.run_command('device', 'list', '--all'),
                             'usage:', '--all')
        self.check_wrong_use(self.run_command('--all', 'device', 'list'),
                             '--all')

    def test_unknown_format(self) -> None:
        self.check_wrong_use(
            self.run_command('device', 'list', '-f', 'xml'), 'usage:', 'xml')

    def test_missing_argument(self) -> None:
        for name in ('copies show', 'device add', 'device drain',
                     'device remove'):
            self.check_wrong_use(self.run_command(*name.split()),
                                 'usage:', 'required')

    def test_one_argument_too_many(self) -> None:
        self.check_wrong_use(
            self.run_command('repair', store_base.new_id(),
                             store_base.new_id()), 'usage:')

    def test_as_a_module(self) -> None:
        result = self.run_command(
            'device', 'list', '--config-file', 'absent.conf',
            command=(sys.executable, '-m', 'easystack_image.cmd.manage'))
        self.check_error(result, 'absent.conf')

    def test_stopped_before_it_began(self) -> None:
        """Ctrl-C while modules are imported is no reason for a traceback."""
        result = self.run_command('device', 'list', command=(
            sys.executable, '-c', _STOPPED))
        self.assertEqual((-signal.SIGINT, '', ''),
                         (result.code, result.output, result.errors))

    def test_traceback_on_request(self) -> None:
        """It is for us, when an operator reports a fault."""
        self.write_config(copies={'devices': ['/absent']})
        result = self.run_command(
            '--config-file', self.config, '--debug', 'device', 'list',
            debug=True)
        self.assertEqual(1, result.code)
        self.assertIn('ConfigurationError', result.errors)


class ConfigurationTest(base.CommandCase):

    def setUp(self) -> None:
        super().setUp()
        self.devices = store_base.shared_devices()
        self.write_config(copies={'devices': self.devices.paths})

    def check_found(self, result: base.Result) -> None:
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertIn(str(self.devices.paths[0]), result.output)

    def test_file(self) -> None:
        self.check_found(self.manage('device', 'list'))

    def test_options_may_come_last(self) -> None:
        self.check_found(self.run_command(
            'device', 'list', '--config-file', self.config))

    def test_several_files(self) -> None:
        """The later one wins, as with all services of OpenStack."""
        other = self.root / 'later.conf'
        store_base.write_config(other, {'copies': {
            'easystack_block_copies': 4}})
        self.check_error(self.manage('--config-file', other, 'device',
                                     'list'), '4 copies')

    def test_directory(self) -> None:
        directory = self.root / 'glance-api.conf.d'
        directory.mkdir()
        self.config.rename(directory / '10-glance.conf')
        self.check_found(self.run_command('--config-dir', directory,
                                          'device', 'list'))

    def test_where_glance_looks(self) -> None:
        """Its WSGI application is told by OS_GLANCE_CONFIG_DIR."""
        directory = self.root / 'glance'
        directory.mkdir()
        self.config.rename(directory / 'glance-api.conf')
        self.check_found(self.run_command(
            'device', 'list', OS_GLANCE_CONFIG_DIR=str(directory)))

    def test_other_sections_do_not_matter(self) -> None:
        """The file is Glance's, and says much that is not for us."""
        with self.config.open('a') as file:
            file.write('[keystone_authtoken]\npassword = a$b%c\n'
                       '[os_glance_staging_store]\nfilesystem_store_datadir'
                       ' = /var/lib/glance/staging\n')
        self.check_found(self.manage('device', 'list'))

    def test_missing_file(self) -> None:
        name = self.root / 'absent.conf'
        self.check_error(self.run_command(
            '--config-file', name, 'device', 'list'), name)

    def test_missing_directory(self) -> None:
        name = self.root / 'absent.d'
        self.check_error(self.run_command(
            '--config-dir', name, 'device', 'list'), name)

    def test_file_that_is_none(self) -> None:
        self.config.write_text('enabled backends\n')
        self.check_error(self.manage('device', 'list'), self.config)

    def test_no_backends(self) -> None:
        for text in ('', '[DEFAULT]\nenabled_backends = main:file\n'):
            self.config.write_text(text)
            self.check_error(self.manage('device', 'list'),
                             'enabled_backends', 'easystack_block',
                             '--config-file')

    def test_backends_that_are_no_pairs(self) -> None:
        self.config.write_text('[DEFAULT]\nenabled_backends = copies\n')
        self.check_error(self.manage('device', 'list'), 'enabled_backends')

    def test_option_out_of_range(self) -> None:
        self.write_config(copies={'devices': self.devices.paths,
                                  'copies': 17})
        self.check_error(self.manage('device', 'list'),
                         'easystack_block_copies', '16')

    def test_no_devices(self) -> None:
        self.write_config(copies={})
        for command in (('device', 'list'), ('device', 'init')):
            self.check_error(self.manage(*command), 'no device is listed')

    def test_unknown_engine(self) -> None:
        self.write_config(copies={'devices': self.devices.paths,
                                  'engine': 'floppy'})
        self.check_error(self.manage('device', 'list'), 'floppy', 'local')

    def test_unknown_store(self) -> None:
        self.check_error(self.manage('--store', 'fast', 'device', 'list'),
                         "'fast'", 'copies')

    def test_two_stores(self) -> None:
        self.write_config(
            copies={'devices': self.devices.paths},
            spare={'devices': store_base.shared_devices(1).paths})
        self.check_error(self.manage('device', 'list'), 'copies, spare',
                         '--store')
        result = self.manage('--store', 'spare', 'device', 'list')
        self.assertEqual((0, ''), (result.code, result.errors))
        self.assertIn(str(store_base.shared_devices(1).paths[0]),
                      result.output)
        self.assertNotIn(str(self.devices.paths[0]), result.output)

    def test_backend_defaults(self) -> None:
        with self.config.open('a') as file:
            file.write('[backend_defaults]\neasystack_block_copies = 4\n')
        self.check_error(self.manage('device', 'list'), '4 copies')
