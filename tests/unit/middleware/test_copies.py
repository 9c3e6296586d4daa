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

from easystack_image.blockstore import engine
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


class VerificationTest(testtools.TestCase):
    """How far a verification is, whatever became of it."""

    def copies(self, *states: str) -> list[engine.Copy]:
        return [engine.Copy(f'/disk{number}', '', engine.CopyState(state),
                            verified_at=100.0 + number if state == 'good'
                            else 0.0)
                for number, state in enumerate(states)]

    def shown(self, *found: copies._Verification) -> dict[str, Any]:
        return copies._together(found)

    def one(self, requested_at: float | None = None, lost: bool | None = None,
            states: Iterable[str] = ('good', 'good', 'good'),
            ) -> copies._Verification:
        attempt = None if lost is None else engine.RepairAttempt(
            50.0, 60.0, lost, 'why')
        return copies._verification(requested_at, attempt,
                                    self.copies(*states), 3)

    def check(self, found: dict[str, Any], pending: bool, result: str | None,
              ended_at: float, reason: str = '') -> None:
        self.assertEqual((pending, result, copies._time(ended_at), reason), (
            found['pending'], found['result'], found['ended_at'],
            found['reason']))

    def test_verified(self) -> None:
        found = self.shown(self.one())
        self.check(found, False, 'verified', 100.0)
        self.assertIsNone(found['requested_at'])

    def test_to_come(self) -> None:
        found = self.shown(self.one(40.0))
        self.check(found, True, None, 0.0)
        self.assertEqual(copies._time(40.0), found['requested_at'])

    def test_failed(self) -> None:
        found = self.shown(self.one(40.0, True))
        self.check(found, False, 'failed', 60.0, 'why')
        self.assertEqual(copies._time(40.0), found['requested_at'])

    def test_incomplete(self) -> None:
        self.check(self.shown(self.one(40.0, False)), True, 'incomplete',
                   60.0, 'why')

    def test_nobody_looked(self) -> None:
        """Fewer than wanted, and nobody asked: there is no result."""
        self.check(self.shown(self.one(states=('good', 'damaged', 'good'))),
                   False, None, 0.0)

    def test_damage_that_shows(self) -> None:
        self.check(self.shown(self.one(states=('damaged', 'unreachable'))),
                   False, 'failed', 0.0, 'no copy within reach is good')

    def test_several_stores(self) -> None:
        """The worst counts, once all have ended."""
        failed, good = self.one(40.0, True), self.one()
        incomplete = self.one(45.0, False)
        self.check(self.shown(good, incomplete), True, 'incomplete', 60.0,
                   'why')
        found = self.shown(failed, good, incomplete)
        self.check(found, True, 'failed', 60.0, 'why')
        self.assertEqual(copies._time(45.0), found['requested_at'])
        self.check(self.shown(failed, self.one(40.0)), True, None, 0.0)

    def test_no_store_of_ours(self) -> None:
        self.check(self.shown(), False, None, 0.0)


class TimeTest(testtools.TestCase):

    def test_iso_8601(self) -> None:
        self.assertEqual('2026-11-23T17:00:00.250000Z',
                         copies._time(1795453200.25))
        self.assertIsNone(copies._time(0.0))
