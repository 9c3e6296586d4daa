"""Who is asked what, before data is staged or imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import io
import json
from typing import Any

from oslo_config import cfg
from oslo_context import context as oslo_context
import testtools
import webob

from easystack_image.middleware import uploads

IMAGE_ID = '4d5d0496-d499-4407-a79b-013c4f89200c'


class Behind:
    """What stands behind the filter: shows images, and keeps what it gets."""

    def __init__(self) -> None:
        self.image: dict[str, Any] | None = {
            'id': IMAGE_ID, 'owner': 'mine', 'visibility': 'private'}
        self.got: list[tuple[str, str, bytes]] = []

    def __call__(self, environ: dict[str, Any],
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = webob.Request(environ)
        answer = webob.Response(status=202)
        if request.method == 'GET':
            answer = webob.Response(json_body=self.image) if (
                self.image) else webob.Response(status=404, body=b'no image')
        else:
            self.got.append((request.method, request.path, request.body))
        return answer(environ, start_response)


class UploadsTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        conf = cfg.ConfigOpts()
        conf([], project='glance', default_config_files=[],
             default_config_dirs=[])
        self.behind = Behind()
        self.filter = uploads.UploadsFilter(self.behind, conf)

    def send(self, what: str = 'import', *, method: str | None = None,
             roles: str = 'member', project: str = 'mine',
             body: bytes | None = None, **extra: Any) -> webob.Response:
        request = webob.Request.blank(
            f'/v2/images/{IMAGE_ID}/{what}',
            method=method or uploads._METHODS.get(what, 'GET'),
            body=json.dumps({'method': {'name': 'web-download'}}).encode()
            if body is None else body, **extra)
        request.context = oslo_context.RequestContext(
            roles=roles.split(','), project_id=project, overwrite=False)
        return request.get_response(self.filter)

    def test_allowed(self) -> None:
        body = b'{"method": {"name": "web-download", "uri": "http://x/y"}}'
        for what, method in (('import', 'POST'), ('stage', 'PUT')):
            for roles, project in (('member', 'mine'), ('admin', 'other')):
                answer = self.send(what, roles=roles, project=project,
                                   body=body)
                self.assertEqual(202, answer.status_int)
                # The very same bytes arrive.
                self.assertEqual(
                    (method, f'/v2/images/{IMAGE_ID}/{what}', body),
                    self.behind.got.pop())

    def test_refused(self) -> None:
        for what in ('import', 'stage'):
            for roles, project in (('reader', 'mine'), ('member', 'other')):
                answer = self.send(what, roles=roles, project=project)
                self.assertEqual(403, answer.status_int)
                self.assertIn(f'easystack_image:{what}_image', answer.text)
        self.assertEqual([], self.behind.got)

    def test_image_that_is_not_to_be_seen(self) -> None:
        """Glance's answer, whatever the user may do otherwise."""
        self.behind.image = None
        for what in ('import', 'stage'):
            answer = self.send(what, roles='admin')
            self.assertEqual((404, b'no image'),
                             (answer.status_int, answer.body))

    def test_copy_image_is_glances(self) -> None:
        body = b'{"method": {"name": "copy-image"}, "stores": ["x"]}'
        self.assertEqual(202, self.send(roles='reader', body=body).status_int)
        self.assertEqual(body, self.behind.got[0][2])

    def test_bodies_that_name_no_method(self) -> None:
        """Whoever may not upload is told so; the others ask Glance."""
        for body in (b'', b'{', b'[]', b'null', b'{"method": "copy-image"}',
                     b'{"method": {"name": ["copy-image"]}}', b'\xff\xfe'):
            self.assertEqual(
                403, self.send(roles='reader', body=body).status_int)
            self.assertEqual(202, self.send(body=body).status_int)
            self.assertEqual(body, self.behind.got.pop()[2])

    def test_too_deep(self) -> None:
        self.assertEqual(400, self.send(body=b'[' * 100_000).status_int)
        self.assertEqual([], self.behind.got)

    def test_the_last_of_two_methods_counts(self) -> None:
        """As it does for Glance, which reads the same bytes."""
        body = (b'{"method": {"name": "copy-image"}, '
                b'"method": {"name": "web-download"}}')
        self.assertEqual(403,
                         self.send(roles='reader', body=body).status_int)

    def test_large_body(self) -> None:
        answer = self.send(body=b' ' * (uploads._LIMIT + 1))
        self.assertEqual(413, answer.status_int)
        self.assertEqual([], self.behind.got)
        exactly = b'{}'.ljust(uploads._LIMIT)
        self.assertEqual(202, self.send(body=exactly).status_int)

    def test_data_is_not_read(self) -> None:
        """What is staged may be of any size."""
        class Untouched(io.BytesIO):
            def read(self, *arguments: Any) -> bytes:
                raise AssertionError('read')

        request = webob.Request.blank(f'/v2/images/{IMAGE_ID}/stage',
                                      method='PUT')
        request.body_file = Untouched()
        request.context = oslo_context.RequestContext(
            roles=['reader'], project_id='mine', overwrite=False)
        self.assertEqual(403, request.get_response(self.filter).status_int)

    def test_other_requests_pass(self) -> None:
        for what, method in (('import', 'GET'), ('stage', 'GET'),
                             ('stage', 'POST'), ('file', 'PUT'),
                             ('imports', 'POST')):
            before = len(self.behind.got)
            answer = self.send(what, method=method, roles='nobody')
            self.assertNotEqual(403, answer.status_int)
            self.assertEqual(before + (method != 'GET'),
                             len(self.behind.got))

    def test_in_the_wrong_place(self) -> None:
        request = webob.Request.blank(f'/v2/images/{IMAGE_ID}/import',
                                      method='POST')
        self.assertEqual(500, request.get_response(self.filter).status_int)
        self.assertEqual([], self.behind.got)
