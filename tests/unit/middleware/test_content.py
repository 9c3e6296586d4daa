"""The gate before an application that is not Glance.

What it does before Glance is in tests/content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import datetime
import functools
import hashlib
import io
import json
import socket
import types
from typing import Any

import fixtures
from oslo_config import cfg
import testtools
import webob
from webob import exc

from easystack_image import exceptions
from easystack_image.conf import content as content_conf
from easystack_image.middleware import answers
from easystack_image.middleware import bodies
from easystack_image.middleware import content
from tests.corpus import formats

IMAGE = '70b31a50-0d3f-4d1f-a3ee-9c3f7d5ea1a8'
PATCH_TYPE = 'application/openstack-images-v2.1-json-patch'


class Behind:
    """Shows an image, changes it, and takes its data as Glance does."""

    def __init__(self) -> None:
        self.image: dict[str, Any] = {
            'id': IMAGE, 'status': 'queued', 'disk_format': 'raw',
            'container_format': 'bare', 'min_disk': 0}
        #: Called when data come, before the first byte is read.
        self.before_reading: Callable[[], None] = lambda: None
        self.data: bytes | None = None
        self.passed: list[tuple[str, str]] = []
        #: Whether the user may change the image, and see tasks.
        self.may_change = True

    def __call__(self, environ: dict[str, Any],
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = webob.Request(environ)
        try:
            answer = self._answer(request)
        except exc.HTTPException as error:
            # glance/common/wsgi.py
            answer = error
        sent: Iterable[bytes] = answer(environ, start_response)
        return sent

    def _answer(self, request: webob.Request) -> webob.Response:
        if request.method == 'GET' and request.path.endswith(IMAGE):
            return webob.Response(json_body=self.image)
        if not self.may_change:
            raise exc.HTTPForbidden()
        if request.method == 'GET':
            return webob.Response(json_body={'tasks': []})
        if request.method == 'PATCH' and request.content_type == PATCH_TYPE:
            for change in request.json_body:
                name = change['path'].strip('/')
                if change['op'] == 'remove':
                    del self.image[name]
                else:
                    self.image[name] = change['value']
            return webob.Response(json_body=self.image)
        self.passed.append((request.method, request.path))
        if request.method == 'PUT':
            self._take(request)
            return webob.Response(status=204)
        return webob.Response(body=request.body)

    def _take(self, request: webob.Request) -> None:
        self.image['status'] = 'saving'
        self.before_reading()
        try:
            source = request.body_file
            self.data = b''.join(iter(lambda: source.read(65536), b''))
        except exc.HTTPError:
            self.image['status'] = 'queued'
            raise
        self.image['status'] = 'active'


class FilterCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.behind = Behind()
        self.filter = self.make()

    def make(self, **options: Any) -> content.ContentFilter:
        conf = cfg.ConfigOpts()
        conf([], project='glance', default_config_files=[],
             default_config_dirs=[])
        content_conf.register(conf)
        for name, value in options.items():
            conf.set_override(name, value, content_conf.GROUP)
        return content.ContentFilter(self.behind, conf)

    def send(self, method: str, path: str, body: Any = b'',
             content_type: str = 'application/json',
             **more: Any) -> webob.Response:
        request = webob.Request.blank(
            f'/v2{path}', method=method, content_type=content_type,
            body=body if isinstance(body, bytes)
            else json.dumps(body).encode(), accept='application/json')
        request.environ.update(more)
        return request.get_response(self.filter)

    def put(self, data: bytes, what: str = 'file',
            **more: Any) -> webob.Response:
        return self.send('PUT', f'/images/{IMAGE}/{what}', data,
                         'application/octet-stream', **more)


class UploadsTest(FilterCase):

    def test_good(self) -> None:
        for data in (b'data', bytes(3 << 20)):
            self.behind.image['status'] = 'queued'
            self.assertEqual(204, self.put(data).status_int)
            self.assertEqual(data, self.behind.data)

    def test_nothing(self) -> None:
        self.behind.image['disk_format'] = 'qcow2'
        for what in ('file', 'stage'):
            for more in ({}, {'HTTP_TRANSFER_ENCODING': 'chunked',
                              'CONTENT_LENGTH': '',
                              'wsgi.input_terminated': True}):
                answer = self.put(b'', what, **more)
                self.assertEqual(400, answer.status_int)
                self.assertIn('No data', answer.json['message'])
        self.assertEqual([], self.behind.passed)
        # As Nova makes a snapshot of a server that boots from a volume.
        self.behind.image['block_device_mapping'] = '[{"snapshot_id": "x"}]'
        self.assertEqual(204, self.put(b'').status_int)
        self.assertEqual(b'', self.behind.data)
        self.assertNotIn('easystack_content_error', self.behind.image)

    def test_bad(self) -> None:
        """Glance does not even hear of it."""
        for what in ('file', 'stage', 'file/'):
            answer = self.put(formats.qcow2(), what)
            self.assertEqual(415, answer.status_int)
            self.assertIn('is qcow2', answer.json['message'])
            self.assertIn('is qcow2', self.behind.image[
                'easystack_content_error'])
        self.assertEqual([], self.behind.passed)
        self.assertEqual(204, self.put(b'data').status_int)
        self.assertNotIn('easystack_content_error', self.behind.image)

    def test_server_that_takes_chunks_apart(self) -> None:
        for data, status in ((bytes(2 << 20), 204), (formats.qcow2(), 415)):
            self.behind.image['status'] = 'queued'
            answer = self.put(b'', HTTP_TRANSFER_ENCODING='chunked',
                              CONTENT_LENGTH='', **{
                                  'wsgi.input': io.BytesIO(data),
                                  'wsgi.input_terminated': True})
            self.assertEqual(status, answer.status_int)
        self.assertEqual(bytes(2 << 20), self.behind.data)

    def test_format_that_changes_under_way(self) -> None:
        """Good as what it was said to be, bad as what it is said to be now."""
        for was, now, data in (
                ('qcow2', 'raw', formats.qcow2()),
                ('raw', 'qcow2', b'data'), ('raw', 'vmdk', b'data')):
            self.behind.image |= {'status': 'queued', 'disk_format': was}
            self.behind.before_reading = lambda now=now: (
                self.behind.image.update(disk_format=now))
            answer = self.put(data)
            self.assertEqual(415, answer.status_int)
            self.assertIsNone(self.behind.data)
            self.assertEqual('queued', self.behind.image['status'])

    def test_image_that_is_not_queued_yet(self) -> None:
        """It may be, when Glance looks: so nothing passes unseen."""
        for data, status in ((formats.qcow2(), 415), (b'data', 204)):
            self.behind.image['status'] = 'uploading'
            self.assertEqual(status, self.put(data).status_int)

    def test_other_types_are_glances_to_refuse(self) -> None:
        answer = self.send('PUT', f'/images/{IMAGE}/file', formats.qcow2())
        self.assertEqual(204, answer.status_int)
        self.assertEqual(formats.qcow2(), self.behind.data)

    def test_client_that_hangs_up(self) -> None:
        class Broken:
            def read(self, size: int = -1) -> bytes:
                raise OSError('gone')

        answer = self.put(b'', CONTENT_LENGTH='1000',
                          **{'wsgi.input': Broken(),
                             'webob.is_body_seekable': False})
        self.assertEqual(400, answer.status_int)
        self.assertEqual([], self.behind.passed)

    def test_read_to_the_end_or_not(self) -> None:
        for options, size, rest in (
                ({'drain_size': 4}, 3 << 20, 0),
                ({'drain_size': 1}, 3 << 20, 2 << 20),
                ({'drain_size': 0}, 3 << 20, 2 << 20),
                ({'drain_size': 4, 'drain_time': 0}, 3 << 20, 2 << 20)):
            self.filter = self.make(**options)
            source = io.BytesIO(formats.qcow2().ljust(size, b'\0'))
            self.put(b'', CONTENT_LENGTH=str(size),
                     **{'wsgi.input': source})
            self.assertEqual(rest, len(source.read()), options)


class OtherWaysTest(FilterCase):

    def test_the_rest_passes_untouched(self) -> None:
        source = io.BytesIO(b'never read')
        for method, path in (
                ('GET', f'/images/{IMAGE}/file'), ('GET', '/images'),
                ('GET', f'/images/{IMAGE}/members'),
                ('PUT', '/images'), ('POST', '/metadefs/namespaces'),
                ('DELETE', f'/images/{IMAGE}'), ('PATCH', '/tasks'),
                ('POST', f'/images/{IMAGE}/members'),
                ('PUT', f'/images/{IMAGE}/tags/file')):
            environ = {'REQUEST_METHOD': method, 'PATH_INFO': f'/v2{path}',
                       'wsgi.input': source}
            self.assertIsNone(self.filter._handler(environ), path)

    def test_import_without_plugin(self) -> None:
        answer = self.send('POST', f'/images/{IMAGE}/import',
                           {'method': {'name': 'glance-download'}})
        self.assertEqual(400, answer.status_int)
        self.assertIn('easystack_content', answer.text)
        for body in ({'method': {'name': 'glance-direct'}}, {'method': 1},
                     [], 'x', {'method': {'name': 'web-download'}},
                     {'method': {'name': 'web-download', 'uri': 1}}):
            answer = self.send('POST', f'/images/{IMAGE}/import', body)
            # Whole, as Glance has to read it.
            self.assertEqual(body, answer.json)

    def test_import_of_what_is_not_all_staged(self) -> None:
        for status, size, expected in (
                ('uploading', None, 409), ('uploading', 0, 200),
                ('uploading', 5, 200), ('queued', None, 200)):
            self.behind.image |= {'status': status, 'size': size}
            self.assertEqual(expected, self.send(
                'POST', f'/images/{IMAGE}/import',
                {'method': {'name': 'glance-direct'}}).status_int)

    def test_urls_inside(self) -> None:
        for name in ('gate', 'glance'):
            self.filter = self.make(web_download=name)
            for url in ('http://127.0.0.1/', 'http://169.254.169.254/',
                        'http://[::1]/', 'file:///etc/passwd',
                        'http://127.0.0.1:22/', 'http://2130706433/'):
                answer = self.send('POST', f'/images/{IMAGE}/import', {
                    'method': {'name': 'web-download', 'uri': url}})
                self.assertEqual(400, answer.status_int, url)
        self.assertEqual([], self.behind.passed)

    def test_locations_that_are_refused(self) -> None:
        self.filter = self.make(locations='refuse')
        place = {'url': 'http://example.org/', 'metadata': {}}
        for method, path, body in (
                ('POST', f'/images/{IMAGE}/locations', place),
                ('PATCH', f'/images/{IMAGE}', [
                    {'op': 'add', 'path': '/locations/-', 'value': place}]),
                ('PATCH', f'/images/{IMAGE}', [
                    {'op': 'replace', 'path': '/locations',
                     'value': [place]}]),
                *(('PATCH', f'/images/{IMAGE}', [change]) for change in (
                    {'add': '/locations/-', 'value': place},
                    # Glance reads all of them as the same.
                    {'add': '/locations/-', 'path': '/x', 'value': place},
                    {'op': 'add', 'path': '/locations /-', 'value': place},
                    {'op': 'add', 'path': '//\tlocations/-',
                     'value': place}))):
            self.assertEqual(403, self.send(method, path, body).status_int)
        answer = self.send('PATCH', f'/images/{IMAGE}', [
            {'op': 'add', 'path': '/locations_note', 'value': 'x'}],
            PATCH_TYPE)
        self.assertEqual(200, answer.status_int)

    def test_nothing_is_fetched_for_whoever_may_not_use_it(self) -> None:
        """Else an answer would tell him what servers there are."""
        self.behind.may_change = False
        self.filter = self.make(import_tasks='inspect')
        self.useFixture(fixtures.MockPatchObject(
            socket, 'getaddrinfo', lambda *_, **__: self.fail('looked up')))
        place = {'url': 'http://example.org/', 'metadata': {}}
        for method, path, body in (
                ('POST', f'/images/{IMAGE}/locations', place),
                ('PATCH', f'/images/{IMAGE}', [
                    {'op': 'add', 'path': '/locations/-', 'value': place}]),
                ('POST', f'/images/{IMAGE}/import', {'method': {
                    'name': 'web-download', 'uri': 'http://example.org/'}}),
                ('POST', '/tasks', {'type': 'import', 'input': {
                    'import_from': 'http://example.org/',
                    'image_properties': {'disk_format': 'raw',
                                         'container_format': 'bare'}}})):
            self.assertEqual(403, self.send(method, path, body).status_int)
        self.assertEqual([], self.behind.passed)

    def test_what_was_judged_stays_until_it_is_stored(self) -> None:
        for status, expected in (('queued', 200), ('active', 200),
                                 ('uploading', 409), ('importing', 409),
                                 ('saving', 409)):
            self.behind.image['status'] = status
            for change in (
                    {'op': 'replace', 'path': '/disk_format',
                     'value': 'raw'},
                    {'op': 'replace', 'path': '/disk_format ',
                     'value': 'raw'},
                    {'op': 'remove', 'path': '/easystack_expected_hash'},
                    {'op': 'add', 'path': '/hypervisor_type',
                     'value': 'qemu'}):
                self.behind.image['easystack_expected_hash'] = 'x'
                self.assertEqual(expected, self.send(
                    'PATCH', f'/images/{IMAGE}', [change],
                    PATCH_TYPE).status_int, status)
            self.assertEqual(200, self.send('PATCH', f'/images/{IMAGE}', [
                {'op': 'add', 'path': '/name', 'value': 'x'}],
                PATCH_TYPE).status_int)

    def test_locations_that_are_passed(self) -> None:
        self.filter = self.make(locations='pass')
        self.assertEqual(200, self.send(
            'POST', f'/images/{IMAGE}/locations',
            {'url': 'http://127.0.0.1/'}).status_int)

    def test_tasks(self) -> None:
        body = {'type': 'import', 'input': {
            'import_from': 'http://127.0.0.1/', 'image_properties': {}}}
        for option, status in (('refuse', 403), ('inspect', 400),
                               ('pass', 200)):
            self.filter = self.make(import_tasks=option)
            self.assertEqual(status, self.send('POST', '/tasks',
                                               body).status_int)
            self.assertEqual(200, self.send('POST', '/tasks', {
                'type': 'export'}).status_int)

    def test_announced_checksum(self) -> None:
        digest = 'a' * 128
        for given, kept in (
                ({'os_hash_value': digest}, f'sha512:{digest}'),
                ({'os_hash_algo': 'sha256', 'os_hash_value': 'B' * 64},
                 'sha256:' + 'b' * 64),
                ({'easystack_expected_hash': f'SHA512:{digest}'},
                 f'sha512:{digest}')):
            self.assertEqual(
                {'name': 'x', 'easystack_expected_hash': kept},
                self.send('POST', '/images', {'name': 'x'} | given).json)
        for given in ({'os_hash_value': 'x'}, {'os_hash_value': 5},
                      {'os_hash_algo': 'md5', 'os_hash_value': 'a' * 32},
                      {'easystack_expected_hash': 'nonsense'}):
            self.assertEqual(400, self.send('POST', '/images',
                                            given).status_int)
        # Nothing announced: not touched.
        self.assertEqual({'os_hash_algo': 'sha512'}, self.send(
            'POST', '/images', {'os_hash_algo': 'sha512'}).json)

    def test_what_only_the_gate_says(self) -> None:
        for name in ('easystack_content_error',
                     'easystack_download_progress'):
            answer = self.send('POST', '/images', {name: '5'})
            self.assertEqual(403, answer.status_int)
            self.assertIn(f'{name}: only the content gate', answer.text)
            for form, changes in (
                    (PATCH_TYPE, [{'op': 'add', 'path': f'/{name}',
                                   'value': '5'}]),
                    (PATCH_TYPE, [{'op': 'add', 'path': '/x', 'value': '5'},
                                  {'op': 'replace', 'path': f'/ {name}',
                                   'value': '5'}]),
                    (PATCH_TYPE.replace('.1', '.0'), [
                        {'add': f'/{name}', 'value': '5'}])):
                answer = self.send('PATCH', f'/images/{IMAGE}', changes, form)
                self.assertEqual(403, answer.status_int)
            self.behind.image[name] = '5'
            answer = self.send('PATCH', f'/images/{IMAGE}', [
                {'op': 'remove', 'path': f'/{name}'}], PATCH_TYPE)
            self.assertEqual(200, answer.status_int)
            self.assertNotIn(name, self.behind.image)
        self.assertEqual([], self.behind.passed)

    def test_checksum_by_patch(self) -> None:
        for value, status in (('nonsense', 400), (5, 400), ('md5:' + 'a' * 32,
                              400), ('sha256:' + 'a' * 64, 200), ('', 200)):
            answer = self.send('PATCH', f'/images/{IMAGE}', [
                {'op': 'add', 'path': '/easystack_expected_hash',
                 'value': value}], PATCH_TYPE)
            self.assertEqual(status, answer.status_int, value)
            self.assertEqual(status == 400, 'sha256' in answer.text
                             and 'algorithm' in answer.text)

    def test_services_that_copy_properties(self) -> None:
        """What was said of an image holds for no snapshot of its server."""
        inherited = {'name': 'x', 'easystack_content_error': 'no',
                     'easystack_download_progress': '5',
                     'easystack_expected_hash': 'sha256:' + 'a' * 64}
        served = types.SimpleNamespace(service_roles=['service'])
        self.assertEqual({'name': 'x'}, self.send(
            'POST', '/images', inherited,
            **{'webob.adhoc_attrs': {'context': served}}).json)

    def test_checksum_goes_with_the_data(self) -> None:
        name = 'easystack_expected_hash'
        self.behind.image[name] = 'sha256:' + hashlib.sha256(
            b'data').hexdigest()
        self.assertEqual(204, self.put(b'data', 'stage').status_int)
        self.assertIn(name, self.behind.image)
        self.behind.image['status'] = 'queued'
        self.assertEqual(204, self.put(b'data').status_int)
        self.assertNotIn(name, self.behind.image)

    def test_progress_of_the_living_stays(self) -> None:
        """Outside of Glance, the dead stay as well; no request fails."""
        now = datetime.datetime.now(datetime.UTC).isoformat()
        for written in (now, '2020-01-01T00:00:00Z'):
            self.behind.image |= {'easystack_download_progress': '5',
                                  'updated_at': written}
            answer = self.send('GET', f'/images/{IMAGE}')
            self.assertEqual(self.behind.image, answer.json)
            answer = self.send('GET', f'/images/{IMAGE}/tasks')
            self.assertEqual({'tasks': []}, answer.json)

    def test_bodies_that_are_no_json(self) -> None:
        for body in (b'', b'{', b'\xff'):
            answer = self.send('POST', '/images', body)
            self.assertEqual(body, answer.body)
        answer = self.send('POST', '/images', b'[' * 10_000)
        self.assertEqual(400, answer.status_int)
        answer = self.send('PATCH', f'/images/{IMAGE}', b' ' * (4 << 20)
                           + b'[]')
        self.assertEqual(413, answer.status_int)

    def test_json_in_chunks(self) -> None:
        """No detour for what would be refused."""
        self.filter = self.make(import_tasks='refuse')
        data = json.dumps({'type': 'import'}).encode()
        answer = self.send('POST', '/tasks', CONTENT_LENGTH='',
                           HTTP_TRANSFER_ENCODING='chunked', **{
                               'wsgi.input': io.BytesIO(data),
                               'wsgi.input_terminated': True})
        self.assertEqual(403, answer.status_int)


class SmallPartsTest(testtools.TestCase):

    def test_answers(self) -> None:
        for error, status in (
                (exceptions.ContentRefused('x'), 415),
                (exceptions.ContentTooLarge('x'), 413),
                (exceptions.ChecksumMismatch('x'), 400),
                (exceptions.UrlRefused('x'), 400),
                (exceptions.DownloadFailed('x'), 400),
                (exceptions.ContentError('x'), 400)):
            self.assertEqual(status, answers.of(error).status_int)

    def test_chunks_under_uwsgi(self) -> None:
        class Fake:
            pieces: list[bytes]

            def chunked_read(self) -> bytes:
                return self.pieces.pop(0)

        fake = Fake()
        self.useFixture(fixtures.MockPatchObject(bodies, 'uwsgi', fake))
        environ = {'HTTP_TRANSFER_ENCODING': 'Chunked', 'wsgi.input': None}
        for size in (1, 3, 4, 100, -1):
            fake.pieces = [b'abc', b'defgh', b'i', b'']
            source = bodies.source_of(environ)
            read = list(iter(functools.partial(source.read, size), b''))
            self.assertEqual(b'abcdefghi', b''.join(read))
            self.assertEqual({size}, {len(each) for each in read[:-1]}
                             or {size})

    def test_misconfigured(self) -> None:
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        content_conf.register(conf)
        conf.set_override('url_denied_networks', ['10.0.0.1/8'],
                          content_conf.GROUP)
        error = self.assertRaises(exceptions.ConfigurationError,
                                  content.ContentFilter, Behind(), conf)
        self.assertIn('url_denied_networks', str(error))
