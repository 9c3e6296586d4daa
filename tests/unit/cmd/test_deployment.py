"""What the upgrade check says of a deployment; see tests/functional, too."""

from __future__ import annotations

from pathlib import Path

import fixtures
from oslo_config import cfg
import testtools

from easystack_image.cmd import deployment
from easystack_image.ota import checks

SAMPLES = Path(__file__).parents[3] / 'etc'


class DeploymentTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.updater = self.root / 'ota.conf'

    def deployment(self, text: str = '') -> deployment.Deployment:
        path = self.root / 'glance-api.conf'
        path.write_text(text)
        conf = cfg.ConfigOpts()
        conf(['--config-file', str(path)], project='glance')
        return deployment.Deployment(conf, str(self.updater))

    def test_judge(self) -> None:
        note, fault = (checks.Finding(serious, f'do {name}')
                       for serious, name in ((False, 'this'), (True, 'that')))
        for found, code, details in (
                ([], 'SUCCESS', 'well'),
                ([note], 'WARNING', '(1) do this.'),
                ([note, fault], 'FAILURE', '(1) do this. (2) do that.')):
            result = deployment.judge(found, 'well')
            self.assertEqual((deployment.Code[code], details),
                             (result.code, result.details))

    def test_schema(self) -> None:
        path = self.root / 'schema-image.json'
        found = list(self.deployment().schema())
        self.assertEqual([], found)
        sample = (SAMPLES / 'schema-image.json.easystack-sample').read_text()
        path.write_text(sample)
        self.assertEqual([], list(self.deployment().schema()))
        fault, = self.deployment('[easystack_properties]\n'
                                 'os_distro_words = Rocky:rocky\n').schema()
        self.assertFalse(fault.serious)
        self.assertIn('os_distro lacks rocky', fault.text)
        fault, = self.deployment('[easystack_properties]\n'
                                 'allowed_os_distros = amiga\n').schema()
        self.assertIn('amiga cannot be allowed', fault.text)
        # Glance 33 takes a second form.
        path.write_text('{"properties": {"architecture": {"enum": '
                        '["x86_64"]}}, "required": []}')
        fault, = self.deployment().schema()
        self.assertIn('architecture lacks aarch64', fault.text)
        for text in ('{', '[]', '{"properties": {"os_distro": 3}}'):
            path.write_text(text)
            fault, = self.deployment().schema()
            self.assertTrue(fault.serious)
            self.assertIn(f'{path} cannot be read', fault.text)

    def test_uwsgi(self) -> None:
        ours = self.deployment()
        self.assertEqual(deployment.Code.SUCCESS, ours.uwsgi().code)
        self.updater.write_text('[easystack_ota]\n')
        self.assertEqual(deployment.Code.SUCCESS, ours.uwsgi().code)
        for path, word in ((SAMPLES / 'uwsgi' / 'easystack-image.ini', ''),
                           (SAMPLES / 'uwsgi' / 'glance-api.ini', 'thunder'),
                           (self.root / 'none', 'cannot be read')):
            self.updater.write_text(
                f'[easystack_ota]\nuwsgi_file = {path}\n')
            result = ours.uwsgi()
            self.assertEqual(
                deployment.Code['FAILURE' if word else 'SUCCESS'],
                result.code)
            self.assertIn(word or str(path), result.details)
