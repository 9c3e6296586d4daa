"""The filter before applications that are not Glance.

What it does before Glance is in tests/functional and tests/deployment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import http
import io
import json
from typing import Any
import urllib.parse

import fixtures
from oslo_config import cfg
import testtools
import webob
from webob import exc

from easystack_image.conf import api as options
from easystack_image.middleware import api
from easystack_image.middleware import export
from easystack_image.middleware import wsgi

IMAGE = '70b31a50-0d3f-4d1f-a3ee-9c3f7d5ea1a8'
PATCH = 'application/openstack-images-v2.1-json-patch'
CHANGES = [{'op': 'add', 'path': '/name', 'value': 'a'}]


class FilterCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.logged = self.useFixture(fixtures.FakeLogger())

    def filter(self, app: wsgi.Application, **values: Any) -> api.ApiFilter:
        conf = cfg.ConfigOpts()
        conf([], project='glance', default_config_files=[],
             default_config_dirs=[])
        options.register(conf)
        for name, value in values.items():
            conf.set_override(name, value, options.GROUP)
        return api.ApiFilter(app, conf)

    def ask(self, app: wsgi.Application, path: str = '/v2/images',
            **arguments: Any) -> webob.Response:
        """Send a request through the filter."""
        if isinstance(app, api.ApiFilter):
            return webob.Request.blank(path, **arguments).get_response(app)
        return self.ask(self.filter(app), path, **arguments)

    def check_error(self, answer: webob.Response, code: int, title: str,
                    message: str = '') -> None:
        """See the one form of every error."""
        self.assertEqual(code, answer.status_int, answer.body)
        self.assertEqual('application/json', answer.content_type)
        self.assertEqual(len(answer.body), answer.content_length)
        error = answer.json_body['error']
        self.assertEqual({'code', 'title', 'message'}, set(error))
        self.assertEqual((code, title), (error['code'], error['title']))
        self.assertIn(message, error['message'])
        self.assertEqual(answer.headers['x-openstack-request-id'],
                         answer.headers['RequestId'])


def says(status: str, body: bytes = b'',
         *headers: tuple[str, str]) -> wsgi.Application:
    """Return an application that always says the same."""
    def app(environ: wsgi.Environ,
            start_response: wsgi.StartResponse) -> Iterable[bytes]:
        del environ
        start_response(status, list(headers))
        return [body]

    return app


class Body(Iterator[bytes]):
    """A body that must not be touched."""

    def __next__(self) -> bytes:
        raise AssertionError('it was read')


class SuccessTest(FilterCase):

    def test_body_passes_untouched(self) -> None:
        body = Body()
        started: list[Any] = []

        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            start_response('200 OK', [('Content-Length', '7')])
            return body

        for path in ('/v2/images', f'/v2/images/{IMAGE}', '/v2/schemas',
                     f'/v2/images/{IMAGE}/file'):
            environ = webob.Request.blank(path).environ
            answer = self.filter(app)(environ, lambda *arguments:
                                      started.append(arguments))
            self.assertIs(body, answer, path)
            status, headers = started.pop()
            self.assertEqual('200 OK', status)
            self.assertEqual(('Content-Length', '7'), headers[0])

    def test_request_id(self) -> None:
        """One and the same everywhere: Glance gets to know it."""
        seen = []

        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            seen.append(environ['HTTP_X_OPENSTACK_REQUEST_ID'])
            start_response('300 Multiple Choices', [])
            return []

        answer = self.ask(app)
        self.assertEqual(seen.pop(), answer.headers['RequestId'])
        for sent, kept in (('req-1', True), ('a' * 64, True), ('a b', False),
                           ('a' * 65, False), ('\xe9', False)):
            answer = self.ask(app, headers={'X-OpenStack-Request-ID': sent})
            identity = answer.headers['RequestId']
            self.assertEqual(identity,
                             answer.headers['x-openstack-request-id'])
            passed = seen.pop()
            self.assertEqual(kept, passed == sent)
            self.assertEqual(identity.removeprefix('req-'),
                             passed.removeprefix('req-'))

    def test_request_id_of_the_application(self) -> None:
        answer = self.ask(says('200 OK', b'', (
            'X-Openstack-Request-Id', 'req-other')))
        self.assertEqual('req-other', answer.headers['RequestId'])
        self.assertEqual(['req-other'],
                         answer.headers.getall('X-Openstack-Request-Id'))

    def test_late_start(self) -> None:
        """An application may start with the first piece of its body."""
        closed = []

        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            try:
                write = start_response('200 OK', [])
                write(b'a')
                yield b'b'
                yield b'c'
            finally:
                closed.append(True)

        answer = self.ask(app)
        self.assertEqual(b'abc', answer.body)
        self.assertEqual([True], closed)

    def test_head(self) -> None:
        """GET without a body, where there is a GET."""
        methods = []

        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            methods.append(environ['REQUEST_METHOD'])
            start_response('200 OK', [('Content-Length', '5')])
            return [b'image']

        for path in ('/v2/images', f'/v2/images/{IMAGE}'):
            answer = self.ask(app, path, method='HEAD')
            self.assertEqual((200, 5, b''), (
                answer.status_int, answer.content_length, answer.body))
        self.assertEqual(['GET', 'GET'], methods)


class ErrorTest(FilterCase):

    def test_any_layer(self) -> None:
        for kind, title in ((exc.HTTPUnauthorized, 'Unauthorized'),
                            (exc.HTTPNotFound, 'Not Found'),
                            (exc.HTTPConflict, 'Conflict'),
                            (exc.HTTPNotImplemented, 'Not Implemented'),
                            (exc.HTTPServiceUnavailable,
                             'Service Unavailable')):
            for accept in (None, '*/*', 'application/json', 'image/png',
                           'text/html, application/json;q=0.1'):
                headers = {} if accept is None else {'Accept': accept}
                self.check_error(self.ask(kind('why'), headers=headers),
                                 kind.code, title,
                                 'authentication' if kind.code == 401
                                 else 'why')

    def test_headers_stay(self) -> None:
        answer = self.ask(exc.HTTPUnauthorized(headers=[
            ('WWW-Authenticate', 'Keystone uri="http://k"')]))
        self.assertEqual('Keystone uri="http://k"',
                         answer.headers['WWW-Authenticate'])
        self.assertEqual(1, len(answer.headers.getall('Content-Type')))

    def test_something_else_by_name(self) -> None:
        for accept in ('text/html', 'text/plain',
                       'text/html, application/json;q=0'):
            theirs = webob.Request.blank('/', headers={
                'Accept': accept}).get_response(exc.HTTPNotFound('why'))
            ours = self.ask(exc.HTTPNotFound('why'),
                            headers={'Accept': accept})
            self.assertEqual(theirs.body, ours.body)
            self.assertEqual(theirs.content_type, ours.content_type)
            own = self.ask(says('200 OK'), '/v2/images?limit=x',
                           headers={'Accept': accept})
            self.assertEqual(400, own.status_int)
            self.assertEqual(theirs.content_type, own.content_type)
            self.assertIn(b'limit', own.body)

    def test_exception(self) -> None:
        """Nothing of it is told to the client."""
        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            raise RuntimeError('secret')

        for accept in ('*/*', 'text/plain', 'text/html'):
            answer = self.ask(app, headers={'Accept': accept})
            self.assertEqual(500, answer.status_int)
            self.assertNotIn(b'secret', answer.body)
            self.assertNotIn(b'Traceback', answer.body)
        answer = self.ask(app)
        self.check_error(answer, 500, 'Internal Server Error')
        # The operator finds it by what the client was told.
        self.assertIn(answer.headers['RequestId'], self.logged.output)
        self.assertIn('RuntimeError: secret', self.logged.output)

    def test_head(self) -> None:
        answer = self.ask(exc.HTTPNotFound('why'), '/v2/x', method='HEAD')
        self.assertEqual((404, b''), (answer.status_int, answer.body))

    def test_huge(self) -> None:
        """Nobody reads more of an error than it takes."""
        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            start_response('502 Bad Gateway', [('Content-Type', 'text/plain')])
            while True:
                yield b'x' * 4096

        self.check_error(self.ask(app), 502, 'Bad Gateway', 'xxx')

    def test_paths(self) -> None:
        for path in ('/v2/images%0A', '/%00', '/v2/%ff'):
            self.check_error(self.ask(says('200 OK'), path), 400,
                             'Bad Request', 'path')

    def test_method_by_parameter(self) -> None:
        for path in (f'/v2/images/{IMAGE}', '/v2/images', '/v2/tasks'):
            self.check_error(
                self.ask(says('200 OK'), f'{path}?_method=PATCH'), 400,
                'Bad Request', '"_method"')

    def test_lost_parameters(self) -> None:
        """Those that the buffer of uWSGI had no room for."""
        for path in ('/v2/images', '/v2/tasks'):
            self.check_error(
                self.ask(says('200 OK'), path,
                         environ={'REQUEST_URI': f'{path}?id=in:a,b'}), 414,
                http.HTTPStatus(414).phrase, 'too long')
            for query, uri in (('', path), ('', f'{path}?'),
                               ('a=b', f'{path}?a=b'), ('a=b', '')):
                answer = self.ask(
                    says('200 OK', b'{}'), f'{path}?{query}',
                    environ={'REQUEST_URI': uri})
                self.assertEqual(200, answer.status_int, answer.body)


class Lister:
    """Lists images as Glance does: by pages, behind a marker, filtered."""

    def __init__(self, count: int, most: int = 10) -> None:
        self.images = [{'id': f'i{number}', 'image_type': kind}
                       for number in range(count)
                       for kind in [('snapshot', 'other', 'backup')[
                           number % 3]]]
        self.most = most
        self.asked: list[str] = []

    def __call__(self, environ: wsgi.Environ,
                 start_response: wsgi.StartResponse) -> Iterable[bytes]:
        self.asked.append(environ['QUERY_STRING'])
        asked = dict(urllib.parse.parse_qsl(environ['QUERY_STRING']))
        found = [image for image in self.images if asked.get(
            'image_type', image['image_type']) == image['image_type']]
        if 'marker' in asked:
            ids = [image['id'] for image in found]
            found = found[ids.index(asked['marker']) + 1:]
        limit = min(self.most, int(asked.get('limit', 5)))
        page: dict[str, Any] = {
            'images': found[:limit], 'first': '/v2/images',
            'schema': '/v2/schemas/images'}
        if page['images'] and len(page['images']) == limit:
            page['next'] = '/v2/images?marker=glances'
        body = json.dumps(page).encode()
        start_response('200 OK', [('Content-Type', 'application/json'),
                                  ('Content-Length', str(len(body)))])
        return [body]


class ListTest(FilterCase):

    def pages(self, lister: Lister, path: str) -> list[list[str]]:
        """Return the images on all pages, by following the links."""
        found = []
        next_path: str | None = path
        while next_path is not None:
            answer = self.ask(lister, next_path)
            self.assertEqual(200, answer.status_int, answer.body)
            self.assertEqual(len(answer.body), answer.content_length)
            found.append([image['id'] for image in
                          answer.json_body['images']])
            next_path = answer.json_body.get('next')
        return found

    def test_untouched(self) -> None:
        lister = Lister(7)
        answer = self.ask(lister, '/v2/images?limit=2&name=a')
        self.assertEqual(['limit=2&name=a'], lister.asked)
        self.assertIn('glances', answer.json_body['next'])

    def test_links(self) -> None:
        lister = Lister(7)
        asked = 'limit=2&tag=a&tag=b&status=ACTIVE'
        answer = self.ask(lister, f'/v2/images?marker=i0&{asked}')
        self.assertEqual(f'/v2/images?{asked}', answer.json_body['first'])
        self.assertEqual(f'/v2/images?{asked}&marker=i2',
                         answer.json_body['next'])
        self.assertIn('status=active', lister.asked[0])

    def test_only_images(self) -> None:
        """Each once, in order, whatever the pages are."""
        for count in (0, 1, 2, 3, 30, 31, 100):
            lister = Lister(count)
            wanted = [image['id'] for image in lister.images
                      if image['image_type'] == 'other']
            for limit in (1, 2, 5, 10, 11, 1000):
                pages = self.pages(
                    lister, f'/v2/images?type=image&limit={limit}')
                self.assertEqual(wanted, sum(pages, []))
                for page in pages[:-1]:
                    self.assertEqual(min(limit, lister.most), len(page))

    def test_few_among_many(self) -> None:
        """A page that is not full is not empty either."""
        lister = Lister(3000)
        for image in lister.images:
            image['image_type'] = 'snapshot'
        for number in (700, 2999):
            lister.images[number]['image_type'] = 'other'
        pages = self.pages(lister, '/v2/images?type=image&limit=2')
        self.assertEqual([['i700'], ['i2999']], pages)

    def test_refusals_pass(self) -> None:
        self.check_error(self.ask(
            exc.HTTPForbidden('no'), '/v2/images?type=image'), 403,
            'Forbidden', 'no')
        self.check_error(self.ask(
            exc.HTTPForbidden('no'), '/v2/images?status=ACTIVE'), 403,
            'Forbidden', 'no')

    def test_csv_is_asked_for_below(self) -> None:
        seen: list[wsgi.Environ] = []

        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            seen.append(environ)
            start_response('200 OK', [('Content-Type', 'text/csv')])
            return []

        self.ask(app, '/v2/images?status=ACTIVE&type=image',
                 headers={'Accept': 'text/csv'})
        environ, = seen
        self.assertEqual('text/csv', environ['HTTP_ACCEPT'])
        self.assertEqual('status=active', environ['QUERY_STRING'])
        self.assertFalse(environ[export.KEEP]({'image_type': 'snapshot'}))
        self.assertTrue(environ[export.KEEP]({}))

    def test_csv_without_its_filter(self) -> None:
        """The list is right all the same."""
        answer = self.ask(Lister(7), '/v2/images?type=image&limit=1',
                          headers={'Accept': 'text/csv'})
        self.assertEqual(['i1'], [image['id'] for image in
                                  answer.json_body['images']])
        self.assertIn('type=image', answer.json_body['next'])

    def test_links_of_images(self) -> None:
        lister = Lister(3)
        for path in ('/v2/images', '/v2/images?type=image',
                     '/v2/images?status=ACTIVE'):
            answer = self.ask(self.filter(lister, links=True), path,
                              base_url='http://image.example')
            for image in answer.json_body['images']:
                self.assertEqual(
                    f'http://image.example/v2/images/{image["id"]}',
                    image['links'][0]['href'])
            self.assertEqual(len(answer.body), answer.content_length)


class Images:
    """One image, as Glance shows it and takes changes of it."""

    def __init__(self, status: str, size: int | None = 1,
                 see: bool = True) -> None:
        self.image = {'id': IMAGE, 'status': status, 'size': size}
        self.see = see
        self.calls: list[tuple[str, bytes]] = []

    def __call__(self, environ: wsgi.Environ,
                 start_response: wsgi.StartResponse) -> Iterable[bytes]:
        request = webob.Request(environ)
        self.calls.append((request.method, request.body))
        answer: Callable[..., Any]
        if not self.see:
            answer = exc.HTTPNotFound('none')
        elif request.path.endswith('/file'):
            answer = exc.HTTPNoContent()
        else:
            answer = webob.Response(json_body=self.image,
                                    content_type='application/json')
        return answer(environ, start_response)


class ChangeTest(FilterCase):

    PATH = f'/v2/images/{IMAGE}'

    def patch(self, app: wsgi.Application) -> webob.Response:
        return self.ask(app, self.PATH, method='PATCH', content_type=PATCH,
                        body=json.dumps(CHANGES).encode())

    def test_states(self) -> None:
        for status in ('active', 'queued'):
            images = Images(status)
            self.assertEqual(200, self.patch(images).status_int)
            self.assertEqual([('GET', b''), (
                'PATCH', json.dumps(CHANGES).encode())], images.calls)
        for status in ('saving', 'importing', 'uploading', 'deactivated'):
            images = Images(status)
            self.check_error(self.patch(images), 409, 'Conflict', status)
            self.assertEqual([('GET', b'')], images.calls)

    def test_states_by_option(self) -> None:
        for states in ([], ['saving']):
            found = self.filter(Images('saving'), modifiable_states=states)
            self.assertEqual(200, self.patch(found).status_int)

    def test_unseen_image(self) -> None:
        """Whoever may not see it learns nothing of its state."""
        self.check_error(self.patch(Images('saving', see=False)), 404,
                         'Not Found', 'none')

    def test_body_is_passed_on(self) -> None:
        for environ in ({}, {'HTTP_TRANSFER_ENCODING': 'chunked',
                             'CONTENT_LENGTH': ''}):
            images = Images('active')
            request = webob.Request.blank('/v2/tasks', method='POST',
                                          body=b'{"a": 1}')
            request.environ.update(environ)
            request.get_response(self.filter(images))
            self.assertEqual([('POST', b'{"a": 1}')], images.calls)

    def test_forms(self) -> None:
        """A form must not say what the method is."""
        kinds: list[str] = []

        def app(environ: wsgi.Environ,
                start_response: wsgi.StartResponse) -> Iterable[bytes]:
            kinds.append(environ['CONTENT_TYPE'])
            start_response('204 No Content', [])
            return []

        body = b'{"a": "&_method=DELETE&"}'
        for kind in ('application/x-www-form-urlencoded', 'text/plain',
                     'Multipart/Form-Data; boundary=a'):
            self.ask(app, self.PATH, method='POST', content_type=kind,
                     body=body)
        self.assertEqual(['application/json', 'text/plain',
                          'application/json'], kinds)

    def test_too_large(self) -> None:
        for environ in ({}, {'HTTP_TRANSFER_ENCODING': 'chunked',
                             'CONTENT_LENGTH': ''}):
            request = webob.Request.blank('/v2/images', method='POST',
                                          body=b' ' * (16384 + 1))
            request.environ.update(environ)
            answer = request.get_response(self.filter(
                says('200 OK'), max_body_kib=16))
            self.check_error(answer, 413, 'Request Entity Too Large',
                             '16384 bytes')

    def test_data_of_images_is_not_read(self) -> None:
        source = io.BytesIO(b'never read')
        environ = webob.Request.blank(f'{self.PATH}/file',
                                      method='PUT').environ
        environ['wsgi.input'] = source
        wsgi.call(self.filter(says('204 No Content')), environ)
        self.assertEqual(0, source.tell())
        self.assertIs(source, environ['wsgi.input'])

    def test_nonsense(self) -> None:
        for path, method, body in (
                ('/v2/images', 'POST', b'[]'),
                ('/v2/images', 'POST', b'{"name": "\\ud800"}'),
                ('/v2/images', 'POST', b'[' * 5000),
                (self.PATH, 'PATCH', b'[{"op": "add", "path": 3}]')):
            images = Images('active')
            self.check_error(
                self.ask(images, path, method=method, body=body,
                         content_type=PATCH), 400, 'Bad Request')
            self.assertEqual([], images.calls)

    def test_length_that_is_none(self) -> None:
        request = webob.Request.blank('/v2/images', method='POST')
        request.environ['CONTENT_LENGTH'] = 'ten'
        self.check_error(request.get_response(self.filter(says('200 OK'))),
                         400, 'Bad Request', 'Content-Length')


class DownloadTest(FilterCase):

    PATH = f'/v2/images/{IMAGE}/file'

    def test_lost_data(self) -> None:
        for status in ('active', 'deactivated'):
            self.check_error(self.ask(Images(status), self.PATH), 404,
                             'Not Found', IMAGE)

    def test_no_data_yet(self) -> None:
        for status, size in (('queued', None), ('active', 0),
                             ('saving', None)):
            answer = self.ask(Images(status, size), self.PATH)
            self.assertEqual((204, b''), (answer.status_int, answer.body))
