"""Which locations Glance would take from whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fixtures
from oslo_config import cfg
from oslo_context import context as oslo_context
import testtools
from webob import exc

from easystack_image import exceptions
from easystack_image.middleware import locations

IMAGE = {'id': 'x', 'owner': 'mine', 'status': 'queued'}
WEB = 'http://example.org/image'
RBD = 'rbd://fsid/pool/image/snap'


def user(*roles: str, **arguments: Any) -> oslo_context.RequestContext:
    return oslo_context.RequestContext(
        roles=list(roles), overwrite=False,
        **{'project_id': 'mine', **arguments})


class LocationsTest(testtools.TestCase):

    def make(self, shown: bool = True) -> locations.Locations:
        path = Path(self.useFixture(fixtures.TempDir()).path, 'glance.conf')
        path.write_text(f'[DEFAULT]\nshow_multiple_locations = {shown}\n')
        conf = cfg.ConfigOpts()
        conf([], project='glance', default_config_files=[str(path)],
             default_config_dirs=[])
        return locations.Locations(conf)

    def test_allowed(self) -> None:
        permitted = self.make()
        for context, method, urls in (
                (user('member'), 'PATCH', [WEB, RBD]),
                (user('member'), 'POST', [WEB, 'HTTPS://example.org/']),
                (user('admin', project_id='x'), 'PATCH', [RBD]),
                (user('service', project_id='x'), 'POST', [RBD]),
                (user('member', service_roles=['service']), 'POST', [RBD])):
            permitted.check(context, method, IMAGE, urls)
        self.make(shown=False).check(user('member'), 'POST', IMAGE, [WEB])

    def test_users_who_may_not(self) -> None:
        permitted = self.make()
        for context, method, urls in (
                (user('reader'), 'PATCH', [WEB]),
                (user('reader'), 'POST', [WEB]),
                (user('member', project_id='x'), 'PATCH', [WEB]),
                (user('member', project_id='x'), 'POST', [WEB]),
                (user('member'), 'POST', [WEB, RBD]),
                (user('admin'), 'POST', [RBD])):
            self.assertRaises(exc.HTTPForbidden, permitted.check, context,
                              method, IMAGE, urls)
        self.assertRaises(exc.HTTPForbidden, self.make(shown=False).check,
                          user('admin'), 'PATCH', IMAGE, [WEB])

    def test_what_nobody_may(self) -> None:
        permitted = self.make()
        for url in ('file:///etc/passwd', 'FILE:///etc/passwd',
                    ' file:///etc/passwd', 'fi\nle:///etc/passwd',
                    'filesystem:///etc/passwd', 'swift+config://ref/c/o',
                    'http://['):
            for method in ('PATCH', 'POST'):
                self.assertRaises(
                    exceptions.UrlRefused, permitted.check,
                    user('admin', 'service'), method, IMAGE, [WEB, url])
