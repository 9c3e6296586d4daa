"""The one form of every error."""

from __future__ import annotations

import json
import time
from typing import Any

import testtools
from testtools import matchers
from webob import exc

from easystack_image.api import errors
from easystack_image.middleware import wsgi


def error_of(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)['error']
    return found


class EnvelopeTest(testtools.TestCase):

    def test_the_manuals_table(self) -> None:
        titles = {
            400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden',
            404: 'Not Found', 405: 'Method Not Allowed',
            406: 'Not Acceptable', 407: 'Proxy Authentication Required',
            408: 'Request Timeout', 409: 'Conflict',
            500: 'Internal Server Error', 501: 'Not Implemented',
            502: 'Bad Gateway', 503: 'Service Unavailable',
            504: 'Gateway Timeout'}
        for code, title in titles.items():
            error = error_of(errors.envelope(code, ''))
            self.assertEqual((code, title), (error['code'], error['title']))
            self.assertNotEqual('', error['message'])

    def test_unauthorized_is_the_manuals(self) -> None:
        self.assertEqual(
            {'error': {
                'message': 'The request you have made requires '
                           'authentication.',
                'code': 401, 'title': 'Unauthorized'}},
            json.loads(errors.envelope(401, 'whatever was said')))

    def test_utf_8(self) -> None:
        self.assertIn('没有'.encode(), errors.envelope(404, '没有'))
        # Half a character cannot be written.
        errors.envelope(400, 'a\ud800b').decode()

    def test_code_without_a_name(self) -> None:
        self.assertEqual('Bad Request', error_of(
            errors.envelope(499, ''))['title'])


class MessageTest(testtools.TestCase):
    """What webob, Glance and others write comes out as plain text."""

    MESSAGE = 'Invalid sort key: "x" & \'y\'.'

    def said(self, accept: str, error: exc.HTTPException) -> str:
        answer = wsgi.call(error, {'REQUEST_METHOD': 'GET',
                                   'HTTP_ACCEPT': accept})
        return errors.message_of(answer.header('content-type'),
                                 answer.read())

    def test_any_form(self) -> None:
        for accept in ('application/json', 'text/html', 'text/plain', ''):
            self.assertEqual(self.MESSAGE, self.said(
                accept, exc.HTTPBadRequest(explanation=self.MESSAGE)), accept)

    def test_comments_are_no_message(self) -> None:
        for accept in ('application/json', 'text/html'):
            self.assertEqual('a', self.said(accept, exc.HTTPBadRequest(
                explanation='a', comment='unseen')))

    def test_detail(self) -> None:
        self.assertEqual('a\nb', self.said(
            'application/json', exc.HTTPConflict('b', explanation='a')))

    def test_markup_of_users(self) -> None:
        for accept in ('application/json', 'text/html'):
            self.assertEqual('alert(1)', self.said(accept, exc.HTTPConflict(
                explanation='<script>alert(1)</script>')))
        self.assertEqual('1 < 2 > 0', errors.plain('1 < 2 > 0'))

    def test_markup_without_end(self) -> None:
        """It takes no time that grows with the square of its length."""
        started = time.thread_time()
        for begin in ('<!--', '<head>', '<h1>', '<a ', '</'):
            text = f'{begin * 100000}end'
            for kind, body in (
                    ('application/json', json.dumps({'message': text})),
                    ('text/html', text)):
                self.assertThat(errors.message_of(kind, body.encode()),
                                matchers.EndsWith('end'))
        self.assertLess(time.thread_time() - started, 5)

    def test_envelope_again(self) -> None:
        body = errors.envelope(409, 'busy')
        self.assertEqual('busy', errors.message_of('application/json', body))
        self.assertEqual('busy', errors.message_of(
            'application/json; charset=UTF-8', body))

    def test_nonsense(self) -> None:
        for body in (b'', b'[]', b'null', b'{"message": 3}', b'\xff{',
                     b'[' * 100000):
            self.assertEqual('', errors.message_of('application/json', body))
        self.assertEqual('', errors.message_of('', b'text'))
        self.assertEqual('', errors.message_of('image/png', b'text'))
