"""Paste files that lead nowhere; tests/functional has Glance's own."""

from __future__ import annotations

import configparser

import testtools

from easystack_image.ota.checks import pipelines

PASTE = """\
[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api

[composite:glance-api-{flavor}]
paste.composite_factory = glance.api:root_app_factory
/: api

[composite:api]
paste.composite_factory = glance.api:pipeline_factory
keystone = rootapp

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
"""


class FlavorTest(testtools.TestCase):

    def find(self, flavor: str) -> list[str]:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(PASTE.format(flavor=flavor or 'x'))
        found = list(pipelines._Walk(parser, 'paste.ini', flavor).run())
        self.assertTrue(all(each.serious for each in found))
        return [each.text for each in found]

    def test_there(self) -> None:
        self.assertEqual([], self.find('keystone'))

    def test_not_there(self) -> None:
        for flavor, name in (('', 'default'), ('caching', 'caching')):
            text, = self.find(flavor)
            self.assertIn(f'[composite:api] of paste.ini has no pipeline '
                          f'"{name}"', text)
