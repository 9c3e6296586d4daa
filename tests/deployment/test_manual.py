"""The manual's chapter 4, row by row, with tokens of a real Keystone.

Each test names its row.  What is promised and cannot be is in
doc/source/api.rst.
"""

from __future__ import annotations

import datetime
import time
from typing import Any
import urllib.parse
import uuid

import requests

from tests.deployment import base
from tests.functional import client

UNAUTHORIZED = {'error': {
    'message': 'The request you have made requires authentication.',
    'code': 401, 'title': 'Unauthorized'}}
#: 4.3, the example of a request.
CREATE = {'name': 'fake_image', 'container_format': 'bare', 'min_ram': 512,
          'disk_format': 'qcow2', 'visibility': 'public', 'min_disk': 1}
#: 4.3, the example of a change.
CHANGES = [{'path': '/min_ram', 'value': 512, 'op': 'replace'},
           {'path': '/min_disk', 'value': 1, 'op': 'replace'},
           {'path': '/name', 'value': 'fake_image1', 'op': 'replace'}]
#: 4.3, the rows of an image in an answer; "update_at" in the manual is
#: "updated_at" in its examples, and "location" is in a header.
FIELDS = {'checksum', 'created_at', 'file', 'container_format',
          'disk_format', 'id', 'min_disk', 'min_ram', 'name', 'protected',
          'tags', 'visibility', 'owner', 'schema', 'self', 'size', 'status',
          'updated_at', 'virtual_size'}
ISO_8601 = r'\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z'


class ManualCase(base.DeploymentCase):

    def ask(self, method: str, path: str, user: str | None = 'member',
            **arguments: Any) -> requests.Response:
        """Send a request as the manual has it, whatever the answer."""
        headers = {'Content-Type': 'application/json',
                   **arguments.pop('headers', {})}
        if user is not None:
            headers['X-Auth-Token'] = self.deployment.token(user)
        answer = requests.request(
            method, f'{self.deployment.url}{path}', headers=headers,
            timeout=client.TIMEOUT, **arguments)
        # 4.2, RequestId: whether it succeeds or not.
        self.assertRegex(answer.headers['RequestId'], r'\Areq-')
        return answer

    def check_error(self, answer: requests.Response, code: int, title: str,
                    ) -> str:
        """See an error in the manual's form, and return its message."""
        self.assertEqual(code, answer.status_code, answer.text)
        error = answer.json()['error']
        self.assertEqual({'message', 'code', 'title'}, set(error))
        self.assertEqual((code, title), (error['code'], error['title']))
        self.assertEqual(answer.headers['x-openstack-request-id'],
                         answer.headers['RequestId'])
        self.assertEqual('application/json', answer.headers['Content-Type'])
        message: str = error['message']
        self.assertNotRegex(message, '<[a-z]')
        return message

    def make(self, user: str = 'member', **properties: Any) -> str:
        """Create an image, for this test."""
        answer = self.ask('POST', '/v2/images', user, json={
            'disk_format': 'raw', 'container_format': 'bare'} | properties)
        self.assertEqual(201, answer.status_code, answer.text)
        image_id: str = answer.json()['id']
        self.addCleanup(self.remove, image_id)
        return image_id


class TestCalling(ManualCase):
    """4.2: how the API is called."""

    def test_method_get(self) -> None:
        """GET: reads all of a resource."""
        image_id = self.make(name='a')
        self.assertEqual('a', self.ask(
            'GET', f'/v2/images/{image_id}').json()['name'])

    def test_method_head(self) -> None:
        """HEAD: what GET would tell, without the body."""
        image_id = self.make()
        for path in ('/v2/images?limit=1', f'/v2/images/{image_id}'):
            got, seen = self.ask('GET', path), self.ask('HEAD', path)
            self.assertEqual((200, b''), (seen.status_code, seen.content))
            for name in ('Content-Length', 'Content-Type'):
                self.assertEqual(got.headers[name], seen.headers[name])

    def test_method_put(self) -> None:
        """PUT: sends the data of a resource."""
        image_id = self.make()
        self.assertEqual(204, self.ask(
            'PUT', f'/v2/images/{image_id}/file', data=b'data', headers={
                'Content-Type': 'application/octet-stream'}).status_code)
        self.assertEqual(b'data', self.images.download(image_id))

    def test_method_post(self) -> None:
        """POST: adds a resource."""
        self.assertIn(self.make(), [image['id'] for image in self.ask(
            'GET', '/v2/images').json()['images']])

    def test_method_delete(self) -> None:
        """DELETE: a resource is gone."""
        image_id = self.make()
        self.assertEqual(204, self.ask(
            'DELETE', f'/v2/images/{image_id}').status_code)
        self.assertEqual(404, self.ask(
            'GET', f'/v2/images/{image_id}').status_code)

    def test_character_encoding(self) -> None:
        """Requests and answers are in UTF-8."""
        image_id = self.make(name='镜像', tags=['标签'])
        answer = self.ask('GET', f'/v2/images/{image_id}')
        self.assertIn('镜像'.encode(), answer.content)
        listed = self.ask('GET', '/v2/images?name=镜像&tag=标签')
        self.assertEqual([image_id],
                         [image['id'] for image in listed.json()['images']])
        error = self.ask('GET', '/v2/images?sort-key=镜像')
        self.assertIn('镜像'.encode(), error.content)

    def test_host(self) -> None:
        """Host: hostname[:port], from the URI."""
        for host in ('image.example', 'image.example:9292'):
            answer = self.ask('GET', '/', None, headers={'Host': host})
            self.assertIn(f'http://{host}/v2/', answer.text)

    def test_content_type(self) -> None:
        """Content-Type: application/json does, wherever JSON is sent."""
        image_id = self.make()
        answer = self.ask('PATCH', f'/v2/images/{image_id}', json=CHANGES)
        self.assertEqual(200, answer.status_code, answer.text)

    def test_content_length(self) -> None:
        """Content-Length: not needed; a body may come in chunks."""
        def pieces() -> Any:
            yield b'{"name": '
            yield b'"in chunks"}'

        answer = self.ask('POST', '/v2/images', data=pieces())
        self.assertEqual(201, answer.status_code, answer.text)
        self.addCleanup(self.remove, answer.json()['id'])
        self.assertEqual('in chunks', answer.json()['name'])

    def test_project_id(self) -> None:
        """X-Project-Id: may be there; the token says which it is."""
        answer = self.ask('POST', '/v2/images', json={}, headers={
            'X-Project-Id': uuid.uuid4().hex})
        self.addCleanup(self.remove, answer.json()['id'])
        session = self.deployment.session('member')
        self.assertEqual(session.get_project_id(), answer.json()['owner'])

    def test_auth_token(self) -> None:
        """X-Auth-Token: needed."""
        for headers in ({}, {'X-Auth-Token': 'nonsense'}):
            for method, path in (
                    ('GET', '/v2/images'), ('POST', '/v2/images'),
                    ('GET', f'/v2/images/{uuid.uuid4()}'),
                    ('GET', f'/v2/images/{uuid.uuid4()}/file')):
                answer = self.ask(method, path, None, headers=headers)
                self.check_error(answer, 401, 'Unauthorized')
                self.assertEqual(UNAUTHORIZED, answer.json())

    def test_request_id(self) -> None:
        """RequestId: with each answer, and another one each time."""
        found = set()
        for method, path in (('GET', '/v2/images'), ('GET', '/'),
                             ('GET', '/v2/nothing'), ('PUT', '/v2/images'),
                             ('GET', '/v2/images?limit=x')):
            for user in ('member', None):
                answer = self.ask(method, path, user)
                found.add(answer.headers['RequestId'])
                self.assertEqual(answer.headers['x-openstack-request-id'],
                                 answer.headers['RequestId'])
        self.assertEqual(10, len(found))


class TestCodes(ManualCase):
    """4.2: the public codes, as far as the service gives them itself."""

    def test_300(self) -> None:
        """Multiple choices: the versions."""
        for path in ('/', '/v9/images', '/nothing'):
            answer = self.ask('GET', path)
            self.assertEqual(300, answer.status_code)
            self.assertIn('versions', answer.json())

    def test_400(self) -> None:
        """Bad Request."""
        for method, path, body in (
                ('GET', '/v2/images?limit=ten', None),
                ('POST', '/v2/images', b'{'), ('POST', '/v2/images', b'[]'),
                ('POST', '/v2/images', b'{"min_disk": "much"}')):
            self.check_error(self.ask(method, path, data=body), 400,
                             'Bad Request')

    def test_401(self) -> None:
        """Unauthorized: with the manual's body."""
        answer = self.ask('GET', '/v2/images', None)
        self.check_error(answer, 401, 'Unauthorized')
        self.assertEqual(UNAUTHORIZED, answer.json())

    def test_403(self) -> None:
        """Forbidden."""
        message = self.check_error(self.ask(
            'POST', '/v2/images', json={'visibility': 'public'}), 403,
            'Forbidden')
        self.assertIn('not authorized', message)

    def test_404(self) -> None:
        """Not Found: no such image, nobody's business, no such path."""
        hidden = self.make('stranger')
        for path in (f'/v2/images/{uuid.uuid4()}', f'/v2/images/{hidden}',
                     '/v2/nothing'):
            self.check_error(self.ask('GET', path), 404, 'Not Found')

    def test_405(self) -> None:
        """Method Not Allowed."""
        answer = self.ask('PUT', '/v2/images')
        self.check_error(answer, 405, 'Method Not Allowed')
        self.assertIn('GET', answer.headers['Allow'])

    def test_409(self) -> None:
        """Conflict."""
        image_id = self.make()
        self.check_error(self.ask('POST', '/v2/images', json={
            'id': image_id}), 409, 'Conflict')

    def test_501(self) -> None:
        """Not Implemented: a method that HTTP does not have."""
        self.check_error(self.ask('BREW', '/v2/nothing'), 501,
                         'Not Implemented')


class TestList(ManualCase):
    """4.3: GET /v2/images."""

    def setUp(self) -> None:
        super().setUp()
        self.mark = uuid.uuid4().hex

    def found(self, query: str, user: str = 'member') -> list[str]:
        """Return the names of this test's images that a query finds."""
        answer = self.ask('GET', f'/v2/images?tag={self.mark}&{query}', user)
        self.assertEqual(200, answer.status_code, answer.text)
        return [image['name'] for image in answer.json()['images']]

    def add(self, name: str, **properties: Any) -> str:
        return self.make(name=name, tags=[self.mark], **properties)

    def test_changes_since(self) -> None:
        """Parameter changes-since: updated then, or later."""
        old = self.add('old')
        time.sleep(1.1)
        updated = self.images.show(self.add('new'))['updated_at']
        self.assertEqual(['new'], self.found(f'changes-since={updated}'))
        moment = datetime.datetime.fromisoformat(updated)
        east = datetime.timezone(datetime.timedelta(hours=8))
        local = urllib.parse.quote(moment.astimezone(east).isoformat())
        self.assertEqual(['new'], self.found(f'changes-since={local}'))
        later = moment + datetime.timedelta(hours=1)
        self.assertEqual([], self.found(
            f'changes-since={later:%Y-%m-%dT%H:%M:%SZ}'))
        time.sleep(1.1)
        self.ask('PATCH', f'/v2/images/{old}', json=[
            {'op': 'replace', 'path': '/min_ram', 'value': 1}])
        updated = self.images.show(old)['updated_at']
        self.assertEqual(['old'], self.found(f'changes-since={updated}'))

    def test_name(self) -> None:
        """Parameter name."""
        self.add('a')
        self.add('b:1')
        self.assertEqual(['a'], self.found('name=a'))
        self.assertEqual(['b:1'], self.found('name=b:1'))

    def test_status(self) -> None:
        """status: in any case."""
        self.add('queued')
        self.assertEqual(204, self.images.put(
            self.add('active'), b'data').status_code)
        for value in ('active', 'ACTIVE', 'Active'):
            self.assertEqual(['active'], self.found(f'status={value}'))
        self.assertEqual(['queued'], self.found('status=QUEUED'))

    def test_sort(self) -> None:
        """sort-key, sort-dir: also in the example's spelling."""
        for name in ('b', 'c', 'a'):
            self.add(name)
        for key, direction in (('sort-key', 'sort-dir'),
                               ('sort_key', 'sort_dir')):
            self.assertEqual(['a', 'b', 'c'], self.found(
                f'{key}=name&{direction}=asc'))
            self.assertEqual(['c', 'b', 'a'], self.found(
                f'{key}=name&{direction}=desc'))

    def test_type(self) -> None:
        """type: snapshot, backup, image."""
        self.add('s', image_type='snapshot')
        self.add('b', image_type='backup')
        self.add('i')
        for kind, name in (('snapshot', 's'), ('backup', 'b'),
                           ('image', 'i')):
            self.assertEqual([name], self.found(f'type={kind}'))

    def test_limit(self) -> None:
        """limit: and the rest behind the link."""
        for name in ('a', 'b', 'c'):
            self.add(name)
        query = f'/v2/images?tag={self.mark}&type=image&limit=2&sort-key=name'
        first = self.ask('GET', query).json()
        self.assertEqual(['c', 'b'],
                         [image['name'] for image in first['images']])
        self.assertEqual(query, first['first'])
        rest = self.ask('GET', first['next']).json()
        self.assertEqual(['a'], [image['name'] for image in rest['images']])
        self.assertNotIn('next', rest)

    def test_example(self) -> None:
        """The example of a request; images, id, name."""
        image_id = self.add('fakeimage7')
        answer = self.ask('GET', '/v2/images?limit=20&sort_key=name'
                                 f'&sort_dir=asc&tag={self.mark}')
        self.assertEqual(200, answer.status_code)
        image, = answer.json()['images']
        self.assertEqual((image_id, 'fakeimage7'),
                         (image['id'], image['name']))


class FieldsCase(ManualCase):

    def check_fields(self, image: dict[str, Any]) -> None:
        self.assertEqual(set(), FIELDS - set(image))
        image_id = image['id']
        self.assertEqual(f'/v2/images/{image_id}', image['self'])
        self.assertEqual(f'/v2/images/{image_id}/file', image['file'])
        self.assertEqual('/v2/schemas/image', image['schema'])
        for name in ('created_at', 'updated_at'):
            self.assertRegex(image[name], ISO_8601)


class TestCreate(FieldsCase):
    """4.3: POST /v2/images."""

    def test_example(self) -> None:
        """The example, and each field of the answer."""
        answer = self.ask('POST', '/v2/images', 'admin', json=CREATE)
        self.assertEqual(201, answer.status_code, answer.text)
        image = answer.json()
        self.addCleanup(self.remove, image['id'])
        self.check_fields(image)
        for name, value in CREATE.items():
            self.assertEqual(value, image[name])
        self.assertEqual(
            ('queued', None, None, None, False, []),
            (image['status'], image['size'], image['checksum'],
             image['virtual_size'], image['protected'], image['tags']))
        # "location"
        self.assertTrue(answer.headers['Location'].endswith(image['self']))

    def test_formats(self) -> None:
        """container_format, disk_format: one of those that there are."""
        for name, good in (('disk_format', 'iso'), ('disk_format', 'raw'),
                           ('disk_format', 'qcow2'),
                           ('container_format', 'bare')):
            image_id = self.make(**{name: good})
            self.assertEqual(good, self.images.show(image_id)[name])
            self.check_error(self.ask('POST', '/v2/images', json={
                name: 'floppy'}), 400, 'Bad Request')

    def test_id(self) -> None:
        """id: a UUID."""
        image_id = str(uuid.uuid4())
        self.assertEqual(image_id, self.make(id=image_id))
        self.check_error(self.ask('POST', '/v2/images', json={'id': 'one'}),
                         400, 'Bad Request')

    def test_minima(self) -> None:
        """min_disk, min_ram: whole numbers, in GB and in MB."""
        image = self.images.show(self.make(min_disk=20, min_ram=2048))
        self.assertEqual((20, 2048), (image['min_disk'], image['min_ram']))
        for name in ('min_disk', 'min_ram'):
            for value in (-1, 2**31, 'x', None):
                self.check_error(self.ask('POST', '/v2/images', json={
                    name: value}), 400, 'Bad Request')

    def test_name(self) -> None:
        """name: a text, though the table says integer."""
        self.assertEqual('镜像', self.images.show(
            self.make(name='镜像'))['name'])
        self.check_error(self.ask('POST', '/v2/images', json={
            'name': 'a' * 256}), 400, 'Bad Request')

    def test_protected(self) -> None:
        """protected: whether it may be deleted."""
        image_id = self.make(protected=True)
        self.check_error(self.ask('DELETE', f'/v2/images/{image_id}'), 403,
                         'Forbidden')
        self.ask('PATCH', f'/v2/images/{image_id}', json=[
            {'op': 'replace', 'path': '/protected', 'value': False}])
        self.assertEqual(204, self.ask(
            'DELETE', f'/v2/images/{image_id}').status_code)

    def test_tags(self) -> None:
        """tags: a list."""
        self.assertEqual(['a', 'b'], sorted(self.images.show(
            self.make(tags=['a', 'b']))['tags']))

    def test_visibility(self) -> None:
        """visibility: whether everybody sees it."""
        shown = {}
        for visibility in ('public', 'private'):
            image_id = self.make('admin', visibility=visibility)
            shown[visibility] = self.ask(
                'GET', f'/v2/images/{image_id}', 'stranger').status_code
        self.assertEqual({'public': 200, 'private': 404}, shown)


class TestModify(FieldsCase):
    """4.3: PATCH /v2/images/{image_id}, with the same fields."""

    def test_example(self) -> None:
        """The example, and each field of the answer."""
        image_id = self.make(description='test_description',
                             os_distro='others')
        answer = self.ask('PATCH', f'/v2/images/{image_id}', json=CHANGES)
        self.assertEqual(200, answer.status_code, answer.text)
        image = answer.json()
        self.check_fields(image)
        self.assertEqual(
            (512, 1, 'fake_image1', 'test_description', 'others'),
            (image['min_ram'], image['min_disk'], image['name'],
             image['description'], image['os_distro']))

    def test_active(self) -> None:
        """The image is active, or queued: see above."""
        image_id = self.upload(b'data')
        answer = self.ask('PATCH', f'/v2/images/{image_id}', json=CHANGES)
        self.assertEqual(200, answer.status_code, answer.text)
        self.assertEqual(('active', 4), (answer.json()['status'],
                                         answer.json()['size']))

    def test_other_states(self) -> None:
        """In no other state."""
        image_id = self.upload(b'data')
        self.assertEqual(204, self.ask(
            'POST', f'/v2/images/{image_id}/actions/deactivate',
            'admin').status_code)
        message = self.check_error(self.ask(
            'PATCH', f'/v2/images/{image_id}', json=CHANGES), 409, 'Conflict')
        self.assertIn('deactivated', message)
        self.check_error(self.ask(
            'PATCH', f'/v2/images/{image_id}', 'stranger', json=CHANGES),
            404, 'Not Found')

    def test_image_id(self) -> None:
        """image_id: of an image that there is."""
        self.check_error(self.ask('PATCH', f'/v2/images/{uuid.uuid4()}',
                                  json=CHANGES), 404, 'Not Found')


class TestDownload(ManualCase):
    """4.3: GET /v2/images/{image_id}/file."""

    def test_image_id(self) -> None:
        """image_id, and the file comes."""
        image_id = self.upload(b'the data')
        answer = self.ask('GET', f'/v2/images/{image_id}/file')
        self.assertEqual((200, b'the data'),
                         (answer.status_code, answer.content))
        self.check_error(self.ask('GET', f'/v2/images/{uuid.uuid4()}/file'),
                         404, 'Not Found')


class TestDelete(ManualCase):
    """4.3: DELETE /v2/images/{image_id}."""

    def test_image_id(self) -> None:
        """image_id; the answer is 204, without a body."""
        image_id = self.upload(b'data')
        answer = self.ask('DELETE', f'/v2/images/{image_id}')
        self.assertEqual((204, b''), (answer.status_code, answer.content))
        self.check_error(self.ask('DELETE', f'/v2/images/{image_id}'), 404,
                         'Not Found')
