"""``easystack-image-ota config diff``, with real slots and archives."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

from easystack_image.cmd.ota import merge
from easystack_image.ota.release import build
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import sample
from easystack_image.ota.slots import building
from easystack_image.ota.slots import seal
from easystack_image.ota.slots import slots as slots_module
from tests.unit.ota import base

PAGE = base.ROOT / 'doc' / 'source' / 'ota' / 'operating.rst'
PASTE = 'glance-api-paste.ini'
_PIPELINE = 'keystone = cors http_proxy_to_wsgi authtoken context rootapp'
OLD = ('[composite:api]\n'
       'paste.composite_factory = glance.api:pipeline_factory\n'
       'default = cors rootapp\n\n# With Keystone.\n' + _PIPELINE
       + '\n[app:healthcheck]\nbackends = disable_by_file\n')
NEW = OLD.replace('authtoken', 'easystack_ota authtoken').replace(
    'disable_by_file', 'disable_by_file,easystack_ota')
OURS = '# Ours.\n' + OLD.replace('context rootapp',
                                 'context our_filter rootapp')


class DiffTest(base.Case):

    def setUp(self) -> None:
        super().setUp()
        self.slots = slots_module.Slots(
            self.root / 'opt', building.Builder(str(base.UV),
                                                sys.executable))
        self.addCleanup(lambda: [
            seal.unprotect(path)
            for path in (self.root / 'opt' / 'slots').glob('*')])
        self.etc = self.root / 'etc'
        (self.etc / 'policy.d').mkdir(parents=True)
        (self.etc / PASTE).write_text(OURS)
        (self.etc / 'policy.d' / 'image.yaml').write_text(
            'a: b\nadded: here\nand: here\n')
        self.archives = {
            version: self.make(version, number, text)
            for version, number, text in (('33.0.0', 1, OLD),
                                          ('33.1.0', 2, NEW))}
        self.slots.select(self.slots.build(self.archives['33.0.0']))

    def make(self, version: str, number: int, text: str) -> Path:
        folder = sample.write(self.root / version, version, number)
        config = folder / declarations.CONFIG
        (config / 'sample.conf').unlink()
        (config / 'policy.d').mkdir()
        (config / PASTE).write_text(text)
        (config / 'policy.d' / 'image.yaml').write_text('a: b\n')
        return build.build(folder, self.root / 'archives')

    def diff(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [base.COMMAND, '--slots-directory', self.root / 'opt', 'config',
             'diff', *map(str, arguments), '--directory', self.etc],
            capture_output=True, text=True, timeout=120)

    def test_example_in_the_documentation(self) -> None:
        """From an archive, and from a slot."""
        example = PAGE.read_text().partition(
            '# easystack-image-ota config diff 33.1.0\n')[2].partition(
            '   # echo')[0]
        for target in (self.archives['33.1.0'], '33.1.0'):
            done = self.diff(target)
            self.assertEqual((merge.ATTENTION, ''),
                             (done.returncode, done.stderr))
            self.assertEqual(
                [line.strip() for line in example.splitlines()],
                done.stdout.splitlines())
            self.slots.build(self.archives['33.1.0'])
        self.assertEqual(OURS, (self.etc / PASTE).read_text())

    def test_json(self) -> None:
        done = self.diff(self.archives['33.1.0'], '-f', 'json')
        paste, policy = json.loads(done.stdout)
        self.assertEqual((PASTE, 'conflict', 'same'), (
            paste['file'], paste['state'], policy['state']))
        self.assertEqual(
            ['operator', 'conflict', 'release'],
            [part['change'] for part in paste['parts']])
        self.assertEqual([_PIPELINE], paste['parts'][1]['origin'])

    def test_nothing_to_do(self) -> None:
        done = self.diff('33.0.0')
        self.assertEqual((0, ''), (done.returncode, done.stderr))

    def test_write(self) -> None:
        target = self.root / 'merged'
        archive = self.archives['33.1.0']
        self.diff(archive, '--write', target)
        self.assertEqual(0o700, target.stat().st_mode & 0o777)
        text = (target / PASTE).read_text()
        self.assertIn(f'<<<<<<< {self.etc}\n', text)
        self.assertIn('\nbackends = disable_by_file,easystack_ota\n', text)
        # What is there is never written over.
        done = self.diff(archive, '--write', target)
        self.assertEqual(1, done.returncode)
        self.assertIn('exists', done.stderr)

    def test_passwords_are_not_shown(self) -> None:
        path = self.etc / PASTE
        path.write_text(OURS + '[x]\npassword = hunter22\n'
                        'connection = mysql://glance:s3cr3t@db/glance\n')
        for options in ((), ('-f', 'json')):
            done = self.diff(self.archives['33.1.0'], *options)
            for secret in ('hunter22', 's3cr3t'):
                self.assertNotIn(secret, done.stdout)
            self.assertIn('password = ***', done.stdout)

    def test_words_of_other_files_are_shown(self) -> None:
        """Lines without "=" and ":" are none that must not be seen."""
        path = self.etc / PASTE
        path.write_text(OURS + 'unheard-of\n')
        self.assertIn('unheard-of',
                      self.diff(self.archives['33.1.0']).stdout)

    def test_what_is_not_there(self) -> None:
        for target, word in (('9.9.9', 'neither'), (self.etc, 'neither')):
            done = self.diff(target)
            self.assertEqual((1, ''), (done.returncode, done.stdout))
            self.assertIn(word, done.stderr)
        done = self.diff('33.0.0', '--from', '9.9.9')
        self.assertIn('9.9.9 is not installed', done.stderr)
