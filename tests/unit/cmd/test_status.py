"""What the upgrade check makes of what it finds.

The command itself needs Glance: see tests/functional.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys

import fixtures
import testtools

from easystack_image.blockstore import engine
from easystack_image.cmd import status
from tests.unit.ota import libraries
from tests.unit.store import base as store_base

SUCCESS, WARNING, FAILURE = (status.Code.SUCCESS, status.Code.WARNING,
                             status.Code.FAILURE)
ROOT = Path(__file__).parents[3]


class ReleasesTest(testtools.TestCase):

    def test_python(self) -> None:
        for version, code in (((3, 10, 9), FAILURE), ((3, 11, 0), SUCCESS),
                              ((3, 13, 5), SUCCESS), ((3, 14, 0), WARNING),
                              ((4, 0, 0), WARNING)):
            self.assertIs(code, status.check_python(version).code, version)
        self.assertIs(SUCCESS, status.check_python(sys.version_info).code)

    def test_glance(self) -> None:
        for version, code in (('31.0.0', FAILURE), ('32.0.0', SUCCESS),
                              ('32.1.0.dev5', SUCCESS), ('33.0.0', SUCCESS),
                              ('33.0.0rc1', SUCCESS), ('34.0.0', WARNING),
                              ('0', FAILURE), ('unknown', FAILURE)):
            self.assertIs(code, status.check_glance(version).code, version)

    def test_they_are_those_of_the_package(self) -> None:
        text = (ROOT / 'setup.cfg').read_text()
        lowest, highest = status.PYTHON
        for minor in range(lowest[1], highest[1] + 1):
            self.assertIn(f'Python :: 3.{minor}\n', text)
        self.assertNotIn(f'Python :: 3.{highest[1] + 1}\n', text)

    def test_entry_points(self) -> None:
        result = status.check_entry_points()
        self.assertIs(SUCCESS, result.code, result.details)


class ConfigurationTest(testtools.TestCase):
    """Files that cannot be read: one line says so, and where."""

    def check(self, path: Path, *words: str) -> None:
        # Options are registered with a configuration of the process.
        result = subprocess.run(
            [sys.executable, '-m', 'easystack_image.cmd.status',
             '--config-file', str(path), 'upgrade', 'check'],
            capture_output=True, text=True, cwd=ROOT, timeout=300)
        self.assertEqual((status.FAILED, ''), (
            result.returncode, result.stdout), result.stderr)
        lines = [line for line in result.stderr.splitlines()
                 if 'cannot be read' in line]
        self.assertEqual(1, len(lines), result.stderr)
        self.assertNotIn('Traceback', result.stderr)
        for word in (str(path), *words):
            self.assertIn(word, lines[0])

    def test_directory(self) -> None:
        self.check(Path(self.useFixture(fixtures.TempDir()).path),
                   'directory')

    def test_not_text(self) -> None:
        path = Path(self.useFixture(fixtures.TempDir()).path, 'glance.conf')
        path.write_bytes(b'[DEFAULT]\nenabled_backends = \xff\xfe\n')
        self.check(path, 'is not UTF-8')

    def test_none(self) -> None:
        self.check(Path(self.useFixture(fixtures.TempDir()).path, 'none'))


class LibraryTest(testtools.TestCase):

    def test_one_that_reads_the_configuration(self) -> None:
        """As manilaclient does: it is no command line, nor Glance's."""
        root = Path(self.useFixture(fixtures.TempDir()).path)
        libraries.make(root, 'thing', """\
            cfg.CONF([], project='thing', default_config_files=[])
            cfg.CONF.register_opts([cfg.IntOpt('enabled_backends')])
            """)
        path = store_base.write_config(root / 'glance.conf', {
            'DEFAULT': {'enabled_backends': 'fast:easystack_block'},
            'fast': store_base.block_options([root / 'd0']),
            'thing': {'size': 3}})
        self.useFixture(fixtures.EnvironmentVariable('PYTHONPATH', str(root)))
        result = subprocess.run(
            [sys.executable, '-m', 'easystack_image.cmd.status',
             '--config-file', str(path), 'upgrade', 'check', '--json'],
            capture_output=True, text=True, cwd=ROOT, timeout=300)
        self.assertEqual('', result.stderr)
        found = {each['check']: (each['result'], each['details'])
                 for each in json.loads(result.stdout)['checks']}
        # What Glance says is unknown here; the rest is not.
        self.assertIn('enabled_backends', found['Options'][1])
        self.assertNotIn('thing', found['Options'][1])
        self.assertEqual((SUCCESS, 'fast'), found['Stores'])


class OutputTest(testtools.TestCase):

    def test_nobody_reads_it(self) -> None:
        """As where "head" has enough: no word of the configuration."""
        path = Path(self.useFixture(fixtures.TempDir()).path, 'glance.conf')
        path.touch()
        for more in ((), ('--json',)):
            reader, writer = os.pipe()
            os.close(reader)
            try:
                result = subprocess.run(
                    [sys.executable, '-m', 'easystack_image.cmd.status',
                     '--config-file', str(path), 'upgrade', 'check', *more],
                    stdout=writer, stderr=subprocess.PIPE, text=True,
                    cwd=ROOT, timeout=300)
            finally:
                os.close(writer)
            self.assertEqual(status.FAILED, result.returncode, result.stderr)
            self.assertNotIn('cannot be read', result.stderr)
            self.assertNotIn('Broken', result.stderr)


class JudgeTest(testtools.TestCase):

    def problem(self, what: str, severity: engine.Severity,
                ) -> engine.Problem:
        return engine.Problem(severity, what, None, f'do this about {what}')

    def test_nothing(self) -> None:
        self.assertIs(SUCCESS, status.judge([]).code)

    def test_worst_counts(self) -> None:
        warning = self.problem('full-device', engine.Severity.WARNING)
        critical = self.problem('no-devices', engine.Severity.CRITICAL)
        self.assertIs(WARNING, status.judge([warning]).code)
        result = status.judge([critical, warning])
        self.assertIs(FAILURE, result.code)
        self.assertEqual(
            '(1) no-devices: do this about no-devices. '
            '(2) full-device: do this about full-device.', result.details)

    def test_topics(self) -> None:
        for what, topic in (('missing-device', 'devices'),
                            ('too-few-zones', 'devices'),
                            ('anything', 'devices'),
                            ('images-waiting', 'images'),
                            ('healer-stale', 'healer'),
                            ('scrub-late', 'healer')):
            self.assertEqual(topic, status._topic(
                self.problem(what, engine.Severity.WARNING)), what)
