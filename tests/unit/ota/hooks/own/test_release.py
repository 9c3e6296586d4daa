"""What Glance's files name is not run by root."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import shutil
import subprocess
import sys
import textwrap

import fixtures

from easystack_image import exceptions
from easystack_image.ota.hooks import base as hooks
from easystack_image.ota.hooks.own import release
from tests.unit.ota import base as ota_base
from tests.unit.ota import others
from tests.unit.ota.hooks import base
from tests.unit.store import base as store_base

#: What the check needs of Glance and PasteDeploy.
_PACKAGES = {
    'glance/common/config.py': """\
        from oslo_config import cfg
        cfg.CONF.register_opts([cfg.StrOpt('config_file'),
                                cfg.StrOpt('flavor')], group='paste_deploy')

        def set_config_defaults():
            pass
        """,
    'paste/deploy/loadwsgi.py': """\
        import configparser
        import importlib

        APP = None

        def loadcontext(*_, name):
            pass

        def loadfilter(uri, name):
            parser = configparser.ConfigParser()
            parser.read(uri.removeprefix('config:'))
            options = {key: value for key, value in parser.items(
                'filter:' + name) if key not in parser.defaults()}
            module, _, attribute = options.pop(
                'paste.filter_factory').partition(':')
            return getattr(importlib.import_module(module), attribute)(
                parser.defaults(), **options)
        """}
#: Prints where the packages are that the check imports.
_IMPORTED = """\
import sys, sysconfig
sys.path.insert(0, '')
known = set(sys.modules)
import easystack_image.ota.checks.__main__
known = {name.partition('.')[0] for name in set(sys.modules) - known}
for module in map(sys.modules.get, sorted(known - sys.stdlib_module_names)):
    path = getattr(module, '__file__', None)
    if path:
        print(path.removesuffix('/__init__.py'))
"""
_PASTE = """\
[DEFAULT]
argument = yes
[pipeline:glance-api]
pipeline = ours app
[filter:ours]
paste.filter_factory = {factory}
{options}
[app:app]
paste.app_factory = nothing:nothing
"""
_PROGRAM = """\
#!/bin/sh
id -u > {made}
"""


def _make_python(place: Path) -> str:
    """Return a Python for everybody, with what the check imports."""
    home = place / 'venv'
    subprocess.run([others.python(place), '-m', 'venv', '--without-pip',
                    home], check=True)
    packages, = home.glob('lib/python3*/site-packages')
    # Where they are installed may be closed to others.
    for path in subprocess.run(
            [sys.executable, '-c', _IMPORTED], cwd=ota_base.ROOT, check=True,
            capture_output=True, text=True).stdout.splitlines():
        if os.path.isdir(path):
            shutil.copytree(path, packages / os.path.basename(path))
        else:
            shutil.copy(path, packages)
    for name, text in _PACKAGES.items():
        path = packages / name
        path.parent.mkdir(parents=True)
        path.write_text(textwrap.dedent(text))
    return str(home / 'bin' / 'python')


class ReleaseTest(base.HookCase):
    """Glance's files, which name a program, and a Python for everybody."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.common = others.directory('python-')
        cls.addClassCleanup(shutil.rmtree, cls.common)
        cls.python = _make_python(cls.common)

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('sys.executable', self.python))
        self.place = others.directory('release-')
        self.addCleanup(shutil.rmtree, self.place)
        self.etc, self.devices = self.place / 'etc', self.place / 'd0'
        for path in (self.etc, self.devices):
            path.mkdir()
        self.config = self.etc / 'glance-api.conf'
        self.config.write_text('[DEFAULT]\n')
        self.program, self.made = self.place / 'program', self.place / 'made'
        self.program.write_text(_PROGRAM.format(made=self.made))
        self.program.chmod(0o755)
        self.made.touch()
        others.give(self.made)
        # A paste file needs no module of its own to run a program.
        self.write('subprocess:call', f'executable = {self.program}')

    def write(self, factory: str, options: str = '') -> None:
        (self.etc / 'glance-api-paste.ini').write_text(_PASTE.format(
            factory=factory, options=options))

    def check(self, hook: type[hooks.Hook] = release.Configuration,
              ) -> str | None:
        return hook().run(self.context(config_files=(str(self.config),)))

    def assertRanAsUser(self) -> None:
        self.assertEqual(f'{others.USER}\n', self.made.read_text())

    def test_devices_of_the_service(self) -> None:
        store_base.write_config(self.config, {
            'DEFAULT': {'enabled_backends': 'fast:easystack_block'},
            'fast': store_base.block_options([self.devices])})
        others.give(self.devices)
        with contextlib.suppress(exceptions.HookFailed):
            # What it says of such a store is another matter.
            self.check()
        self.assertRanAsUser()

    def test_nothing_but_the_configuration(self) -> None:
        """Who may write there decides what is run, so it is run by him."""
        for path in (self.etc, self.config,
                     self.etc / 'glance-api-paste.ini'):
            others.give(path)
            self.assertIsNone(self.check())
            self.assertRanAsUser()
            self.made.write_text('')
            if os.getuid() == 0:
                for each in (self.etc, *self.etc.iterdir()):
                    os.chown(each, 0, 0)

    def test_what_cannot_be_made(self) -> None:
        self.write('subprocess:gone')
        error = self.assertRaises(exceptions.HookFailed, self.check)
        self.assertIn('filter "ours" of', str(error))
        self.assertIn('cannot be made: AttributeError', str(error))

    def test_what_is_printed(self) -> None:
        """It is no answer, and a filter that exits none that can serve."""
        self.write('builtins:print')
        self.assertIsNone(self.check())
        self.write('sys:exit')
        error = self.assertRaises(exceptions.HookFailed, self.check)
        self.assertIn('filter "ours"', str(error))
        self.assertIn('cannot be made: SystemExit', str(error))

    def test_policy(self) -> None:
        error = self.assertRaises(exceptions.HookFailed, self.check,
                                  release.Policy)
        self.assertIn('the policy of Glance is not there', str(error))

    def test_no_glance(self) -> None:
        there, = self.common.glob('venv/lib/python3*/site-packages/glance')
        there.rename(self.common / 'glance')
        self.addCleanup((self.common / 'glance').rename, there)
        for hook in (release.Configuration, release.Policy):
            error = self.assertRaises(exceptions.HookFailed, self.check, hook)
            self.assertIn('Glance cannot be imported', str(error))
