"""Requests that Glance would take for others than they look like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from oslo_config import cfg
import testtools
import webob

from easystack_image.middleware import content
from easystack_image.middleware import properties
from easystack_image.middleware import routing
from easystack_image.middleware import uploads

IMAGE = '/v2/images/4d5d0496-d499-4407-a79b-013c4f89200c'
DISGUISED = [('PUT', f'{IMAGE}/stage%0A'), ('PUT', f'{IMAGE}/file%0a'),
             ('POST', f'{IMAGE}/import%0A'), ('PATCH', f'{IMAGE}%0A'),
             ('GET', f'{IMAGE}?_method=PATCH'),
             ('POST', f'{IMAGE}/stage?x=1&_method=put'),
             ('GET', f'{IMAGE}/stage?x=_method&%5Fmethod=PUT')]


class RoutingTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.conf = cfg.ConfigOpts()
        self.conf([], project='glance', default_config_files=[],
                  default_config_dirs=[])
        self.passed: list[str] = []

    def behind(self, environ: dict[str, Any],
               start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.passed.append(environ['PATH_INFO'])
        return webob.Response()(environ, start_response)

    def test_refused(self) -> None:
        """By each filter that looks at path and method."""
        for make in (uploads.UploadsFilter, properties.PropertiesFilter,
                     content.ContentFilter):
            made: Any = make(self.behind, self.conf)
            for method, path in DISGUISED:
                request = webob.Request.blank(path, method=method)
                self.assertEqual(
                    400, request.get_response(made).status_int,
                    (make, method, path))
        self.assertEqual([], self.passed)

    def test_others_pass(self) -> None:
        for path in ('/v2/images?name=x_method', f'{IMAGE}?method=PUT',
                     '/v2/images?tag=_method',
                     # Routes looks for the word before it decodes.
                     f'{IMAGE}/stage?%5Fmethod=PUT', '/v2/images/%E4%B8%AD'):
            request = webob.Request.blank(path)
            self.assertIsNone(routing.refusal(request.environ))
