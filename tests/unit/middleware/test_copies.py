"""The filter before an application that is not Glance.

What it does before Glance is in tests/functional.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import io
from typing import Any

from oslo_config import cfg
import testtools
import webob

from easystack_image.middleware import copies

IMAGE = '70b31a50-0d3f-4d1f-a3ee-9c3f7d5ea1a8'


class Body(Iterator[bytes]):
    """A body that must not be touched."""

    def __init__(self) -> None:
        self.closed = False

    def __next__(self) -> bytes:
        raise AssertionError('it was read')

    def close(self) -> None:
        self.closed = True


class Recorder:
    """An application that remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []
        self.body = Body()

    def __call__(self, environ: dict[str, Any],
                 start_response: Any) -> Iterable[bytes]:
        self.calls.append((environ, start_response))
        return self.body


class PassingTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        conf = cfg.ConfigOpts()
        conf([], project='glance', default_config_files=[],
             default_config_dirs=[])
        self.app = Recorder()
        self.filter = copies.CopiesFilter(self.app, conf)

    def test_everything_else_passes_untouched(self) -> None:
        """The same objects, in both directions."""
        for path in ('', '/', '/v2', '/v2/images', f'/v2/images/{IMAGE}',
                     f'/v2/images/{IMAGE}/file', '/v2/images//copies',
                     f'/v2/images/{IMAGE}/copies/', '/healthcheck',
                     f'/v2/images/{IMAGE}/copies/verify/',
                     f'/v2/images/{IMAGE}/members/copies',
                     f'/v1/images/{IMAGE}/copies',
                     f'/v3/v2/images/{IMAGE}/copies',
                     f'/v2/images/{IMAGE}/COPIES',
                     f'/v2/images/{IMAGE}/copies\n'):
            for method in ('GET', 'PUT', 'POST', 'OPTIONS'):
                source = io.BytesIO(b'never read')
                environ = {'REQUEST_METHOD': method, 'PATH_INFO': path,
                           'wsgi.input': source}
                before = dict(environ)

                def start_response(*arguments: Any) -> None:
                    raise AssertionError('the filter answered')

                body = self.filter(environ, start_response)
                self.assertIs(self.app.body, body)
                (passed, started), = self.app.calls
                self.assertIs(environ, passed, path)
                self.assertIs(start_response, started)
                self.assertEqual(before, environ)
                self.assertEqual(0, source.tell())
                self.app.calls.clear()
        self.assertFalse(self.app.body.closed)

    def test_no_path(self) -> None:
        """Servers may leave an empty PATH_INFO out (PEP 3333)."""
        self.assertIs(self.app.body, self.filter({}, None))

    def test_before_the_context(self) -> None:
        """A paste file that cannot work: nothing is shown to anybody."""
        request = webob.Request.blank(f'/v2/images/{IMAGE}/copies')
        answer = request.get_response(self.filter)
        self.assertEqual(500, answer.status_int)
        self.assertEqual([], self.app.calls)

    def test_wrong_method(self) -> None:
        """Is refused before anybody is asked."""
        for path, allowed in (('copies', 'GET'), ('copies/verify', 'POST')):
            for method in ('PUT', 'DELETE', 'OPTIONS', 'HEAD', 'BREW'):
                request = webob.Request.blank(
                    f'/v2/images/{IMAGE}/{path}', method=method)
                answer = request.get_response(self.filter)
                self.assertEqual((405, allowed), (
                    answer.status_int, answer.headers['Allow']))
        self.assertEqual([], self.app.calls)


class TimeTest(testtools.TestCase):

    def test_iso_8601(self) -> None:
        self.assertEqual('2026-11-23T17:00:00.250000Z',
                         copies._time(1795453200.25))
        self.assertIsNone(copies._time(0.0))
