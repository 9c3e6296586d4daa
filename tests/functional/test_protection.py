"""What protects images only together with something else is missed.

In this process: Glance is here, and only what it would load is looked at.
"""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg

from easystack_image.ota.checks import protection
from tests.functional import base
from tests.functional import processes
from tests.functional import server
from tests.functional import test_paste

POLICY = processes.ROOT / 'etc' / 'policy.d' / 'easystack-image-uploads.yaml'
IMPORT = ('[image_import_opts]\n'
          'image_import_plugins = [no_op, easystack_content]\n')


class TestProtection(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.etc = self.temporary_directory()
        self.options: dict[str, str] = {}
        (self.etc / 'paste.ini').write_text(server.SAMPLE_PASTE.read_text())
        (self.etc / 'glance-image-import.conf').write_text(IMPORT)
        (self.etc / 'policy.yaml').touch()
        (self.etc / 'policy.d').mkdir()
        (self.etc / 'policy.d' / 'uploads.yaml').write_text(
            POLICY.read_text())
        self.addCleanup(cfg.CONF.reset)

    def configure(self, flavor: str = 'keystone') -> None:
        path = self.etc / 'glance-api.conf'
        path.write_text(''.join(
            ['[DEFAULT]\n', *(f'{name} = {value}\n' for name, value
                              in self.options.items()),
             '[paste_deploy]\n', f'config_file = {self.etc}/paste.ini\n',
             f'flavor = {flavor}\n']))
        cfg.CONF(['--config-file', str(path)], project='glance',
                 prog='glance-api')

    def check(self, *words: str, serious: bool | None = None,
              flavor: str = 'keystone') -> None:
        """See one finding for each word, and no other."""
        self.configure(flavor)
        found = protection.findings(cfg.CONF)
        self.assertEqual(len(words), len(found), found)
        for word, each in zip(words, found, strict=True):
            self.assertIn(word, each.text)
            if serious is not None:
                self.assertEqual(serious, each.serious)

    def paste(self, before: str, after: str) -> None:
        path = self.etc / 'paste.ini'
        text = path.read_text()
        self.assertIn(before, text)
        path.write_text(text.replace(before, after))

    def test_reference(self) -> None:
        for flavor in test_paste.FLAVORS:
            self.check(flavor='' if flavor == 'default' else flavor)

    def test_glances_own_pipeline(self) -> None:
        (self.etc / 'paste.ini').write_text(server.vanilla_paste())
        self.check('nothing of easystack-image', serious=False)

    def test_no_pipeline(self) -> None:
        (self.etc / 'paste.ini').unlink()
        self.check('there is no', serious=True)

    def test_imports(self) -> None:
        path = self.etc / 'glance-image-import.conf'
        for text in (None, '', IMPORT.replace(', easystack_content', '')):
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
            self.check('imports go around', serious=True)
        path.write_text(IMPORT.replace('[no_op', 'no_op'))
        self.check('image_import_plugins: ', serious=True)
        # Whoever has no gate needs no plugin.
        self.paste('easystack_uploads easystack_content', 'easystack_uploads')
        self.check()

    def test_hidden_properties(self) -> None:
        self.options['property_protection_file'] = 'protections.conf'
        self.check()
        self.paste('use = egg:easystack-image#easystack_images',
                   'paste.app_factory = glance.api.v2.router:API.factory')
        self.check('property_protection_file is set', serious=False)

    def test_uploads(self) -> None:
        (self.etc / 'policy.d' / 'uploads.yaml').write_text(
            '"add_image": "role:admin"\n')
        self.check('every member', serious=False)
        (self.etc / 'policy.yaml').write_text(
            '"upload_image": "role:admin"\n')
        self.check()

    def test_policy_that_nobody_reads(self) -> None:
        (self.etc / 'policy.yaml').unlink()
        self.check('are not read', serious=True)

    def test_order(self) -> None:
        self.paste('authtoken context easystack_export',
                   'authtoken easystack_export context')
        self.check('easystack_export must stand behind', serious=True)
        self.paste('easystack_api versionnegotiation osprofiler authtoken '
                   'easystack_export context',
                   'versionnegotiation osprofiler authtoken context '
                   'easystack_export easystack_api')
        self.check('easystack_api must stand before', serious=True)

    def test_health(self) -> None:
        self.paste('easystack_block', 'nothing')
        self.check('the health check does not ask', serious=False)

    def test_by_module(self) -> None:
        """Filters may be named by their factories as well."""
        self.paste('use = egg:easystack-image#easystack_content',
                   'paste.filter_factory = '
                   'easystack_image.middleware.content:factory')
        Path(self.etc / 'glance-image-import.conf').unlink()
        self.check('imports go around')
