"""The pipelines that deployers copy."""

from __future__ import annotations

import configparser
import json
from pathlib import Path
import re
import sys
from typing import Any

from oslo_config import cfg

from easystack_image.conf import content as content_conf
from easystack_image.conf import properties as properties_conf
from easystack_image.conf import store as store_conf
from tests.functional import base
from tests.functional import processes
from tests.functional import server

FLAVORS = ('default', 'caching', 'cachemanagement', 'keystone',
           'keystone+caching', 'keystone+cachemanagement')
#: Our filters that need the context of a request, from the outside in.
BEHIND_CONTEXT = ('easystack_export', 'easystack_properties',
                  'easystack_copies', 'easystack_uploads',
                  'easystack_content')


class TestPaste(base.TestCase):

    def sample(self) -> configparser.RawConfigParser:
        parser = configparser.RawConfigParser()
        parser.read(server.SAMPLE_PASTE)
        return parser

    def theirs(self) -> configparser.RawConfigParser:
        """Return what Glance installs."""
        parser = configparser.RawConfigParser()
        path = Path(sys.prefix, 'etc', 'glance', 'glance-api-paste.ini')
        self.assertNotEqual([], parser.read(path))
        return parser

    def test_it_is_glances_but_for_us(self) -> None:
        ours, theirs = self.sample(), self.theirs()
        self.assertEqual(
            {*theirs.sections(), 'filter:easystack_api',
             'filter:easystack_ota',
             *(f'filter:{name}' for name in BEHIND_CONTEXT)},
            set(ours.sections()))
        for section in theirs.sections():
            expected = dict(theirs[section])
            if section == 'composite:api':
                expected = {name: value.replace(
                    'versionnegotiation ', 'easystack_ota easystack_api '
                    'versionnegotiation ').replace(
                    'context ', f'context {" ".join(BEHIND_CONTEXT)} ')
                    for name, value in expected.items()}
            if section == 'app:apiv2app':
                expected = {'use': 'egg:easystack-image#easystack_images'}
            if section == 'app:healthcheck':
                expected['backends'] += ',easystack_block,easystack_ota'
            self.assertEqual(expected, dict(ours[section]), section)

    def test_every_flavor_loads(self) -> None:
        """In Glance's own way, from the sample as it is."""
        root = self.temporary_directory()
        glance = server.Glance(root, [
            server.block_store('copies', server.make_devices(root))],
            options={'paste_deploy': {'config_file': server.SAMPLE_PASTE,
                                      'flavor': ''},
                     'DEFAULT': {'image_cache_dir': root / 'cache'}})
        glance.prepare()
        self.assertEqual(set(FLAVORS), set(self.sample()[
            'composite:api']) - {'paste.composite_factory'})
        for flavor in FLAVORS:
            shown = self.load(glance, flavor)
            self.assertIn('CopiesFilter', shown['chain'], flavor)
            place = shown['chain'].index('CopiesFilter')
            self.assertEqual('PropertiesFilter', shown['chain'][place - 1])
            self.assertEqual('ExportFilter', shown['chain'][place - 2])
            self.assertIn('Context', shown['chain'][place - 3], flavor)
            self.assertEqual(['UploadsFilter', 'ContentFilter'],
                             shown['chain'][place + 1:place + 3])
            self.assertEqual(['disable_by_file', 'easystack_block',
                              'easystack_ota'], shown['healthcheck'])
            place = shown['chain'].index('OtaFilter')
            self.assertEqual('ApiFilter', shown['chain'][place + 1])

    def load(self, glance: server.Glance, flavor: str) -> dict[str, Any]:
        """Return what stands in a pipeline."""
        shown: dict[str, Any] = json.loads(processes.check(
            [sys.executable, '-W', 'ignore', '-m',
             'tests.functional.pipeline', str(glance.config_file),
             flavor]).splitlines()[-1])
        return shown


class TestSnippet(base.TestCase):
    """The lines for glance-api.conf."""

    PATH = processes.ROOT / 'etc' / 'glance-api.conf.easystack-sample'

    def test_options_exist(self) -> None:
        conf = cfg.ConfigOpts()
        conf.register_opts(store_conf.OPTS, group='copies')
        names = {opt.name for opt in store_conf.OPTS}
        text = self.PATH.read_text()
        for line in text.splitlines():
            name = line.lstrip('#').partition(' = ')[0]
            if line.lstrip('#').startswith(store_conf.PREFIX):
                self.assertIn(name, names)
        conf(['--config-file', str(self.PATH)])
        self.assertEqual(3, len(conf.copies.easystack_block_devices))

    def shown_of(self, group: str) -> list[tuple[str, str]]:
        """Return the names and values of what a group shows."""
        text = self.PATH.read_text().partition(f'\n[{group}]\n')[2]
        return re.findall('^#([a-z_]+) = ?(.*)$',
                          re.split(r'\n#?\[', text)[0], re.MULTILINE)

    def test_options_of_properties(self) -> None:
        shown = self.shown_of(properties_conf.GROUP)
        self.assertEqual(4, len(shown))
        conf = cfg.ConfigOpts()
        properties_conf.register(conf)
        path = self.temporary_directory() / 'glance.conf'
        path.write_text(f'[{properties_conf.GROUP}]\n' + '\n'.join(
            ' = '.join(each) for each in shown))
        conf(['--config-file', str(path)])
        for name, _ in shown:
            self.assertEqual(cfg.Locations.user, conf.get_location(
                name, properties_conf.GROUP).location)
        self.assertEqual('rocky', conf.easystack_properties.
                         os_distro_words['Rocky Linux'])

    def test_options_of_the_content_gate(self) -> None:
        shown = self.shown_of('easystack_content')
        self.assertGreater(len(shown), 5)
        options = {opt.name: opt for opt in content_conf.OPTS}
        for name, value in shown:
            default = options[name].default
            if name != 'url_allowed_networks':
                self.assertEqual(
                    ','.join(default) if isinstance(default, list)
                    else str(default), value, name)
