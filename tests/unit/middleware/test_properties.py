"""What passes the filter, how, and what is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import json
from typing import Any

from oslo_config import cfg
from oslo_context import context as oslo_context
import testtools
import webob

from easystack_image import exceptions
from easystack_image.middleware import properties

IMAGE_ID = '4d5d0496-d499-4407-a79b-013c4f89200c'
IMAGES = '/v2/images'
IMAGE = f'/v2/images/{IMAGE_ID}'
PATCH = 'application/openstack-images-v2.1-json-patch'


class Behind:
    """What stands behind the filter: shows an image, keeps what it gets."""

    def __init__(self) -> None:
        self.image: dict[str, Any] | None = {
            'id': IMAGE_ID, 'owner': 'mine', 'status': 'queued'}
        self.got: list[webob.Request] = []

    def __call__(self, environ: dict[str, Any],
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = webob.Request(environ)
        self.got.append(request)
        answer = webob.Response(status=202)
        if request.method == 'GET':
            answer = webob.Response(json_body=self.image) if (
                self.image) else webob.Response(status=404, body=b'no image')
        return answer(environ, start_response)


class FilterCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.behind = Behind()
        self.filter = self.make_filter()

    def make_filter(self, **options: Any) -> properties.PropertiesFilter:
        conf = cfg.ConfigOpts()
        conf([], project='glance', default_config_files=[],
             default_config_dirs=[])
        properties.options.register(conf)
        for name, value in options.items():
            conf.set_override(name, value, 'easystack_properties')
        return properties.PropertiesFilter(self.behind, conf)

    def send(self, method: str, path: str, body: Any = None,
             roles: str = 'member', service: str = '',
             **extra: Any) -> webob.Response:
        request = webob.Request.blank(path, method=method, **extra)
        if body is not None:
            request.body = (body if isinstance(body, bytes)
                            else json.dumps(body).encode())
        if method == 'PATCH' and 'content_type' not in extra:
            request.content_type = PATCH
        request.context = oslo_context.RequestContext(
            roles=roles.split(','), project_id='mine', overwrite=False,
            service_roles=service.split(',') if service else [])
        return request.get_response(self.filter)

    def check_passed(self, method: str, path: str, body: bytes,
                     **arguments: Any) -> None:
        """See a request arrive as it is, the very same bytes."""
        self.behind.got.clear()
        self.send(method, path, body, **arguments)
        got, = self.behind.got
        self.assertEqual((method, path, body),
                         (got.method, got.path_qs, got.body))


class TestPassing(FilterCase):

    def test_untouched(self) -> None:
        for method, path in (
                ('GET', IMAGE), ('GET', f'{IMAGE}?os_distro=RedHat'),
                ('GET', IMAGES), ('GET', f'{IMAGES}?name=Arm&x=%FF&y'),
                ('GET', f'{IMAGES}?os_distro=%FF'),
                ('GET', f'{IMAGES}?os_distro=beos%20x&os_distro'),
                ('GET', f'{IMAGES}?os_distro=rhel&limit=%35'),
                ('GET', f'{IMAGE}/file?architecture=x86'),
                ('PUT', f'{IMAGE}/file'), ('DELETE', IMAGE),
                ('POST', f'{IMAGE}/import'), ('PATCH', f'{IMAGE}/members'),
                ('HEAD', IMAGE)):
            self.check_passed(method, path, b'')

    def test_bodies_that_are_not_ours(self) -> None:
        for body in (b'{"name":  "Arm"}', b'{', b'[]', b'5', b'', b'\xff',
                     b'{"os_distro":  "rhel", "os_type": "linux"}'):
            for path in (IMAGES, '/v2/tasks'):
                self.check_passed('POST', path, body)
        for body in (b'[{"op": "add",  "path": "/name", "value": "Arm"}]',
                     b'{"os_distro": "x"}', b'[]', b'[5]', b'nonsense'):
            self.check_passed('PATCH', IMAGE, body)
        self.check_passed(
            'PATCH', IMAGE, b'[{"op": "add", "path": "/os_distro", '
            b'"value": "x"}]', content_type='application/json')

    def test_bodies_that_glance_fails_at(self) -> None:
        for body, status in ((b'[' * 10**6, 400),
                             (b' ' * (properties._LIMIT + 1), 413)):
            self.assertEqual(status, self.send(
                'POST', IMAGES, body).status_int)
        self.assertEqual([], self.behind.got)

    def test_no_context(self) -> None:
        request = webob.Request.blank(IMAGES, method='POST',
                                      body=b'{"os_distro": "x"}')
        self.assertEqual(500, request.get_response(self.filter).status_int)
        # It asks for nothing that it does not need.
        request = webob.Request.blank(IMAGES, method='POST', body=b'{}')
        self.assertEqual(202, request.get_response(self.filter).status_int)


class TestRequests(FilterCase):

    def test_create(self) -> None:
        for path in (IMAGES, f'{IMAGES}/', '//v2//images//'):
            self.assertEqual(202, self.send('POST', path, {
                'os_distro': 'RedHat', 'name': 'ä'}).status_int)
            got = self.behind.got.pop()
            self.assertEqual({'os_distro': 'rhel', 'os_type': 'linux',
                              'name': 'ä'}, got.json_body)
            self.assertEqual(len(got.body), got.content_length)

    def test_task(self) -> None:
        self.send('POST', '/v2/tasks', {'type': 'import', 'input': {
            'image_properties': {'architecture': 'Arm'}}})
        self.assertEqual({'architecture': 'aarch64'}, self.behind.got.pop()
                         .json_body['input']['image_properties'])
        for body in ({'input': 5}, {'input': {'image_properties': 5}}, []):
            self.assertEqual(202, self.send('POST', '/v2/tasks',
                                            body).status_int)

    def test_patch(self) -> None:
        self.send('PATCH', IMAGE, [{'op': 'add', 'path': '/os_distro',
                                    'value': 'Windows'}])
        show, patch = self.behind.got
        self.assertEqual(('GET', IMAGE), (show.method, show.path))
        self.assertEqual(['windows', 'windows'],
                         [each['value'] for each in patch.json_body])

    def test_list(self) -> None:
        self.send('GET', f'{IMAGES}?limit=2&os_distro=Red+Hat&tag=a&tag=b'
                         '&os_type=Kylin%20V10&hw%5Farchitecture=Arm')
        self.assertEqual(
            'limit=2&os_distro=rhel&tag=a&tag=b&os_distro=kylin&'
            'os_version=10&hw_architecture=aarch64',
            self.behind.got.pop().query_string)

    def test_refused(self) -> None:
        for method, path, body in (
                ('POST', IMAGES, {'os_distro': 'BeOS'}),
                ('POST', IMAGES, {'os_distro': 'Windows',
                                  'architecture': 'Arm'}),
                ('PATCH', IMAGE, [{'op': 'add', 'path': '/architecture',
                                   'value': 'sparc'}])):
            answer = self.send(method, path, body, headers={
                'Accept': 'application/json'})
            self.assertEqual(400, answer.status_int)
            self.assertEqual('400 Bad Request', answer.json_body['code'])
        self.assertEqual(['GET'], [got.method for got in self.behind.got])

    def test_image_of_nobody(self) -> None:
        """Glance's own answer, to the letter."""
        self.behind.image = None
        answer = self.send('PATCH', IMAGE, [
            {'op': 'remove', 'path': '/os_distro'}])
        self.assertEqual((404, b'no image'), (answer.status_int, answer.body))

    def test_services(self) -> None:
        self.send('POST', IMAGES, {'os_distro': 'BeOS', 'architecture': 'Arm'},
                  service='service')
        self.assertEqual({'os_distro': 'BeOS', 'architecture': 'aarch64'},
                         self.behind.got.pop().json_body)
        # A user's own token in place of a service's.
        answer = self.send('POST', IMAGES, {'os_distro': 'BeOS'},
                           service='member,reader')
        self.assertEqual(400, answer.status_int)


class TestPolicy(FilterCase):

    def permitted(self, *operations: Any, **arguments: Any) -> bool:
        answer = self.send('PATCH', IMAGE, list(operations), **arguments)
        self.assertIn(answer.status_int, (202, 403))
        return bool(answer.status_int == 202)

    def test_create(self) -> None:
        for body, roles, status in (
                ({'os_distro': 'RedHat'}, 'member', 202),
                ({'os_distro': 'RedHat'}, 'reader', 403),
                ({'os_distro': 'RedHat', 'owner': 'else'}, 'member', 403),
                ({'os_distro': 'RedHat', 'owner': 'else'}, 'admin', 202),
                ({'hypervisor_type': 'Baremetal'}, 'member', 403),
                ({'img_hv_type': 'Baremetal'}, 'member', 403),
                ({'img_hv_type': 'Baremetal'}, 'admin', 202)):
            self.assertEqual(status, self.send(
                'POST', IMAGES, body, roles=roles).status_int, body)

    def test_change(self) -> None:
        remove = {'op': 'remove', 'path': '/os_distro'}
        for status, roles, expected in (
                ('queued', 'member', True), ('active', 'member', False),
                ('active', 'admin', True), ('queued', 'reader', False)):
            self.behind.image = {'id': IMAGE_ID, 'owner': 'mine',
                                 'status': status, 'os_distro': 'rhel'}
            self.assertEqual(expected, self.permitted(remove, roles=roles))
            # No change, no question.
            self.assertTrue(self.permitted({
                'op': 'replace', 'path': '/os_distro', 'value': 'RedHat'},
                roles=roles))

    def test_one_of_many(self) -> None:
        """One that is refused holds up all of them."""
        answer = self.send('PATCH', IMAGE, [
            {'op': 'add', 'path': '/os_distro', 'value': 'Debian'},
            {'op': 'add', 'path': '/img_hv_type', 'value': 'Baremetal'}])
        self.assertEqual(403, answer.status_int)
        self.assertIn('easystack_image:hypervisor_type:create', answer.text)
        self.assertEqual(['GET'], [got.method for got in self.behind.got])


class TestOptions(FilterCase):

    def test_lenient(self) -> None:
        self.filter = self.make_filter(refuse_unknown=False,
                                       disabled_rules=['os_architecture'])
        self.send('POST', IMAGES, {'os_distro': 'BeOS'})
        self.assertEqual({'os_distro': 'BeOS'},
                         self.behind.got.pop().json_body)
        self.assertEqual(202, self.send('POST', IMAGES, {
            'os_distro': 'Windows', 'architecture': 'Arm'}).status_int)

    def test_wrong(self) -> None:
        for name, value, word in (
                ('disabled_rules', ['os_architectur'], 'os_architecture'),
                ('allowed_os_distros', ['beos'], 'add words')):
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.make_filter, **{name: value})
            self.assertIn(word, str(error))
