"""No request makes the service fail, and every error has the one form.

How many requests are sent is told by EASYSTACK_TEST_FUZZ (number); the
default is for every day, 20000 and more for a release.  More take longer than
a test may otherwise: OS_TEST_TIMEOUT (seconds).
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.parse

import hypothesis

from tests.functional import base
from tests.functional import fuzz
from tests.functional import server

COUNT = int(os.environ.get('EASYSTACK_TEST_FUZZ', 5000))


@base.needs_mariadb
class TestFuzz(base.SharedGlanceCase):

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(cls.root, [cls.make_store('copies', cls.root)])

    def send(self, request: fuzz.Request) -> tuple[
            int, http.client.HTTPMessage, bytes]:
        """Send a request as it is: no library mends what is wrong in it."""
        place = urllib.parse.urlsplit(self.glance.url)
        connection = http.client.HTTPConnection(
            place.hostname or '', place.port, timeout=120)
        try:
            connection.putrequest(request.method, request.path,
                                  skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value.encode('latin-1'))
            if request.body is not None:
                connection.putheader('Content-Length',
                                     str(len(request.body)))
            connection.endheaders(request.body)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def check(self, request: fuzz.Request) -> None:
        """Send a request, and judge the answer."""
        code, headers, body = self.send(request)
        self.assertLess(code, 500, body)
        identity = headers['x-openstack-request-id']
        self.assertRegex(identity, r'\Areq-[A-Za-z0-9._-]+\Z')
        self.assertEqual(identity, headers['RequestId'])
        if code < 400 or request.method == 'HEAD':
            return
        if headers['Content-Type'].startswith('text/'):
            self.assertIn('text/', request.accept)
            return
        error = json.loads(body)['error']
        self.assertEqual(['code', 'message', 'title'], sorted(error))
        self.assertEqual(code, error['code'])
        self.assertNotRegex(error['message'], r'<[a-zA-Z/!][^<>]*>|\A\s*\Z')

    def test_fuzz(self) -> None:
        image_ids = fuzz.make_images(self.images)

        @hypothesis.settings(
            max_examples=COUNT, deadline=None, database=None,
            derandomize=True, suppress_health_check=list(
                hypothesis.HealthCheck), phases=[hypothesis.Phase.generate])
        @hypothesis.given(fuzz.requests(image_ids))
        def every(request: fuzz.Request) -> None:
            self.check(request)

        every()
        self.assertNotIn('Traceback', self.glance.log())
