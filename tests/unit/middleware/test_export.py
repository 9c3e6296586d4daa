"""The filter that lists images as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import csv
import io
import json
import logging
from typing import Any

import fixtures
import testtools
import webob

from easystack_image import exceptions
from easystack_image.api import export as cells
from easystack_image.middleware import export
from tests.unit.api import simulated

CSV = {'Accept': 'text/csv'}


class Context:
    """What Glance's filter ``context`` makes, as far as it matters."""

    def __init__(self) -> None:
        self.request_id = 'req-1'
        self.roles = ['member']


class Glance:
    """Lists images like Glance, and remembers who asked."""

    def __init__(self, count: int) -> None:
        self.listing = simulated.Listing(
            [simulated.image(number) for number in range(count)])
        self.requests: list[webob.Request] = []
        self.contexts: list[Context] = []
        #: Called before each answer.
        self.fail: Callable[[int], webob.Response | None] = lambda _: None

    def __call__(self, environ: dict[str, Any],
                 start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = webob.Request(environ)
        self.requests.append(request)
        answer = self.fail(len(self.requests))
        context = getattr(request, 'context', None)
        if context is not None:
            self.contexts.append(context)
            # As its check of protected properties does.
            context.roles.extend(['service'])
        if answer is None:
            status, record = self.listing.page(request.query_string)
            answer = webob.Response(json_body=record, status=status)
        return answer(environ, start_response)


class FilterCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        self.glance = Glance(1234)
        self.filter = export.factory({})(self.glance)

    def ask(self, path: str = '/v2/images', method: str = 'GET',
            environ: dict[str, Any] | None = None,
            **headers: str) -> webob.Response:
        request = webob.Request.blank(path, environ, method=method,
                                      headers=headers or CSV)
        request.context = Context()
        return request.get_response(self.filter)

    def rows(self, answer: webob.Response) -> list[dict[str, str]]:
        self.assertEqual(200, answer.status_int)
        text = answer.body.decode('utf-8-sig')
        return list(csv.DictReader(io.StringIO(text, newline=''),
                                   strict=True))


class ListTest(FilterCase):

    def test_all_pages(self) -> None:
        rows = self.rows(self.ask())
        self.assertEqual([image['id'] for image in self.glance.listing.images],
                         [row['id'] for row in rows])

    def test_headers(self) -> None:
        headers = self.ask().headers
        self.assertEqual(cells.CONTENT_TYPE, headers['Content-Type'])
        self.assertRegex(headers['Content-Disposition'],
                         r'^attachment; filename="images-\d{8}T\d{6}Z.csv"$')
        self.assertEqual('nosniff', headers['X-Content-Type-Options'])
        self.assertNotIn('Content-Length', headers)

    def test_limit(self) -> None:
        self.assertEqual(7, len(self.rows(self.ask('/v2/images?limit=7'))))
        self.assertEqual([], self.rows(self.ask('/v2/images?limit=0')))

    def test_pages_when_they_are_wanted(self) -> None:
        """A slow client has nothing waiting for it."""
        body = iter(self.ask().app_iter)
        next(body)
        self.assertEqual(1, len(self.glance.requests))
        next(body)
        self.assertEqual(2, len(self.glance.requests))
        body.close()
        self.assertEqual('', self.log.output)

    def test_what_is_kept(self) -> None:
        rows = self.rows(self.ask('/v2/images?limit=5', environ={
            export.KEEP: lambda image: image['name'].endswith('3')}))
        self.assertEqual(['image 1233', 'image 1223', 'image 1213',
                          'image 1203', 'image 1193'],
                         [row['name'] for row in rows])

    def test_who_asks(self) -> None:
        """The user of the request, with a context that stays small."""
        self.rows(self.ask(**CSV, **{'X-Auth-Token': 'secret'}))
        self.assertGreater(len(self.glance.contexts), 3)
        for request, context in zip(self.glance.requests,
                                    self.glance.contexts, strict=True):
            self.assertEqual('secret', request.headers['X-Auth-Token'])
            self.assertEqual('application/json', request.headers['Accept'])
            self.assertEqual(['member', 'service'], context.roles)
            self.assertEqual('req-1', context.request_id)


class PassedOnTest(FilterCase):

    def test_what_is_not_for_us(self) -> None:
        for path, method, accept in (
                ('/v2/images', 'GET', ''),
                ('/v2/images', 'GET', '*/*'),
                ('/v2/images', 'GET', 'application/json'),
                ('/v2/images', 'GET', 'application/json, text/csv;q=0.9'),
                ('/v2/images', 'GET', 'text/csv, application/json'),
                ('/v2/images', 'GET', 'text/csv;q=0.5, */*'),
                ('/v2/images', 'GET', 'text/*'),
                ('/v2/images', 'GET', 'text/csv,,=;;'),
                ('/v2/images', 'GET', 'text/html,*/*;q=0.8'),
                ('/v2/images', 'GET', 'text/csv;q=0'),
                ('/v2/images', 'HEAD', 'text/csv'),
                ('/v2/images', 'POST', 'text/csv'),
                ('/v2/images/abc', 'GET', 'text/csv'),
                ('/v2/tasks', 'GET', 'text/csv')):
            self.glance.requests.clear()
            self.ask(path, method, **{'Accept': accept})
            request, = self.glance.requests
            self.assertEqual((path, method, accept), (
                request.path, request.method, request.headers['Accept']))

    def test_what_is(self) -> None:
        for accept in ('text/csv', 'TEXT/CSV', 'text/csv, */*',
                       'text/csv; charset=utf-8; header=present',
                       'text/csv, application/json;q=0.5',
                       'application/*, text/csv;q=0.1'):
            answer = self.ask(**{'Accept': accept})
            self.assertEqual('text/csv', answer.content_type, accept)


class ErrorTest(FilterCase):

    def test_before_the_first_byte(self) -> None:
        """They are Glance's own, to the letter."""
        for code in (401, 403, 500, 503):
            said = webob.Response('no', status=code)
            self.glance.fail = lambda number, said=said: said
            answer = self.ask()
            self.assertEqual((code, b'no'), (answer.status_int, answer.body))

    def test_what_glance_cannot_read(self) -> None:
        self.assertEqual(400, self.ask('/v2/images?limit=no').status_int)
        self.assertEqual(400, self.ask('/v2/images?marker=no').status_int)

    def interrupted(self, error: type[Exception]) -> str:
        """Return what a client has got until an error ended it."""
        body = iter(self.ask().app_iter)
        got: list[bytes] = []
        with testtools.ExpectedException(error):
            for piece in body:
                got.append(piece)
        return b''.join(got).decode('utf-8-sig')

    def test_in_the_middle(self) -> None:
        self.glance.fail = lambda number: (
            webob.Response('ouch', status=500) if number == 4 else None)
        text = self.interrupted(exceptions.ListInterrupted)
        *rows, last = csv.reader(io.StringIO(text, newline=''), strict=True)
        self.assertEqual(1 + 100 + 400, len(rows))
        self.assertEqual(1, len(last))
        self.assertIn('INCOMPLETE', last[0])
        self.assertIn('req-1', last[0])
        self.assertIn('500', self.log.output)
        self.assertIn('ouch', self.log.output)
        self.assertIn('req-1', self.log.output)

    def test_an_exception_in_the_middle(self) -> None:
        def fail(number: int) -> None:
            if number == 3:
                raise OSError('the database is gone')

        self.glance.fail = fail
        self.assertIn('INCOMPLETE', self.interrupted(OSError))
        self.assertIn('the database is gone', self.log.output)

    def test_what_is_no_page(self) -> None:
        self.glance.fail = lambda number: (
            webob.Response('<html>') if number == 3 else None)
        self.assertIn('INCOMPLETE', self.interrupted(json.JSONDecodeError))

    def test_marker_deleted_meanwhile(self) -> None:
        def meanwhile(listing: simulated.Listing) -> None:
            if len(listing.asked) == 2:
                del listing.images[80:100]

        self.glance.listing.meanwhile = meanwhile
        rows = self.rows(self.ask())
        self.assertEqual([f'image {number}' for number in range(1233, -1, -1)],
                         [row['name'] for row in rows])
        self.assertEqual('', self.log.output)

    def test_no_marker_left(self) -> None:
        gone = webob.Response(json_body={}, status=400)
        self.glance.fail = lambda number: gone if number > 2 else None
        self.assertIn('INCOMPLETE',
                      self.interrupted(exceptions.ListInterrupted))
        self.assertLess(len(self.glance.requests), 20)
