"""The filter before an application that is not Glance.

What it does before Glance is in tests/functional.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import importlib.metadata
import json
import pathlib
from typing import Any

import fixtures
from oslo_config import cfg
import testtools
import webob

from easystack_image.middleware import ota
from easystack_image.ota.serving import counting
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import standing

Kind, Result = counts.Kind, counts.Result
IMAGE = '70b31a50-0d3f-4d1f-a3ee-9c3f7d5ea1a8'
VERSION = importlib.metadata.version('easystack-image')


class Body(Iterator[bytes]):
    """A body that is made while it is sent."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = iter(pieces)
        self.closed = 0

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


class FilterCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = self.useFixture(fixtures.TempDir()).path
        self.conf = cfg.ConfigOpts()
        self.conf([], project='glance', default_config_files=[],
                  default_config_dirs=[])
        self.counter = counting.private_counter()
        self.body = Body(b'1', b'2')
        self.status = '200 OK'
        self.filter = self.make()

    def make(self) -> ota.OtaFilter:
        return ota.OtaFilter(self.app, self.conf, self.counter)

    def app(self, environ: dict[str, Any],
            start_response: Any) -> Iterable[bytes]:
        start_response(self.status, [('X-Mine', 'yes')])
        return self.body

    def ask(self, path: str = '/v2/images', method: str = 'GET',
            **environ: Any) -> tuple[str, dict[str, str], Iterable[bytes]]:
        heard: list[tuple[str, dict[str, str]]] = []

        def start_response(status: str, headers: list[tuple[str, str]],
                           exc_info: Any = None) -> Any:
            heard.append((status, dict(headers)))

        body = self.filter({'REQUEST_METHOD': method, 'PATH_INFO': path,
                            **environ}, start_response)
        return (*heard[-1], body) if heard else ('', {}, body)

    def finish(self, body: Iterable[bytes]) -> bytes:
        """Do as a server does."""
        try:
            return b''.join(body)
        finally:
            body.close()  # type: ignore[attr-defined]

    def in_flight(self) -> dict[str, int]:
        return {kind: number for kind, number
                in self.counter.now().in_flight.items() if number}

    def results(self) -> dict[str, int]:
        now = self.counter.now()
        return {result: now.of(result) for result in Result
                if now.of(result)}


class HeaderTest(FilterCase):

    def test_named(self) -> None:
        status, headers, body = self.ask()
        self.assertEqual(('200 OK', {'X-Mine': 'yes', ota.HEADER: VERSION}),
                         (status, headers))
        self.assertEqual(b'12', self.finish(body))

    def test_not_named(self) -> None:
        self.conf.set_override('name_release', False, 'easystack_ota')
        self.filter = self.make()
        self.assertEqual({'X-Mine': 'yes'}, self.ask()[1])


class StandingTest(FilterCase):
    """What other nodes go by, in answers to ``GET /`` alone."""

    def setUp(self) -> None:
        super().setUp()
        slot = pathlib.Path(self.root) / 'slots/2.0.0'
        self.instance = pathlib.Path(self.root) / 'i/2.0.0.2'
        self.instance.mkdir(parents=True)
        standing.write(slot.parents[1], standing.Standing('2.0.0', 2))
        self.useFixture(fixtures.MonkeyPatch('sys.prefix', str(slot)))
        self.useFixture(fixtures.EnvironmentVariable(
            layout.DIRECTORY_VARIABLE, str(self.instance)))

    def told(self, path: str) -> str | None:
        return self.ask(path)[1].get(layout.STANDING_HEADER)

    def test_told(self) -> None:
        for path in ('', '/'):
            self.assertEqual('settled=2.0.0; contracted=2', self.told(path))
        for path in ('/v2/images', '/healthcheck'):
            self.assertIsNone(self.told(path))

    def test_not_told(self) -> None:
        """What cannot be known is not claimed, and no request fails."""
        (pathlib.Path(self.root) / standing.NAME).write_text('{')
        self.assertIsNone(self.told('/'))
        self.useFixture(fixtures.EnvironmentVariable(
            layout.DIRECTORY_VARIABLE))
        self.assertIsNone(self.told('/'))

    def test_release_not_named(self) -> None:
        self.conf.set_override('name_release', False, 'easystack_ota')
        self.filter = self.make()
        self.assertIsNone(self.told('/'))


class CountingTest(FilterCase):

    def test_kinds(self) -> None:
        for method, path, kind in (
                ('GET', '/v2/images', Kind.LIST),
                ('HEAD', '/v2.9/images', Kind.LIST),
                ('GET', f'/v2/images/{IMAGE}', Kind.GET),
                ('GET', f'/v2/images/{IMAGE}/file', Kind.DOWNLOAD),
                ('PUT', f'/v2/images/{IMAGE}/file', Kind.UPLOAD),
                ('PUT', f'/v2/images/{IMAGE}/stage', Kind.UPLOAD),
                ('POST', '/v2/images', Kind.CHANGE),
                ('PATCH', f'/v2/images/{IMAGE}', Kind.CHANGE),
                ('DELETE', f'/v2/images/{IMAGE}', Kind.CHANGE),
                ('PUT', f'/v2/images/{IMAGE}/tags/x', Kind.CHANGE),
                ('POST', f'/v2/images/{IMAGE}/import', Kind.CHANGE),
                ('GET', '/', Kind.OTHER), ('GET', '', Kind.OTHER),
                ('GET', '/v2/schemas/image', Kind.OTHER),
                ('OPTIONS', '/v2/images', Kind.OTHER),
                ('GET', f'/v2/images/{IMAGE}/members', Kind.OTHER)):
            self.body = Body()
            *_, body = self.ask(path, method)
            self.assertEqual({kind: 1}, self.in_flight(), path)
            self.finish(body)
            self.assertEqual({}, self.in_flight())

    def test_until_the_body_is_closed(self) -> None:
        *_, body = self.ask(f'/v2/images/{IMAGE}/file')
        self.assertEqual([b'1', b'2'], list(body))
        self.assertEqual({Kind.DOWNLOAD: 1}, self.in_flight())
        for _ in range(2):
            body.close()  # type: ignore[attr-defined]
        self.assertEqual({}, self.in_flight())
        self.assertEqual({Result.SUCCESS: 1}, self.results())
        self.assertEqual(2, self.body.closed)

    def test_given_up_by_the_client(self) -> None:
        *_, body = self.ask(f'/v2/images/{IMAGE}/file')
        next(iter(body))
        body.close()  # type: ignore[attr-defined]
        self.assertEqual(({}, {Result.SUCCESS: 1}),
                         (self.in_flight(), self.results()))

    def test_results(self) -> None:
        for status, result in (('204 No Content', '2xx'),
                               ('300 Multiple Choices', '3xx'),
                               ('404 Not Found', '4xx'),
                               ('503 Service Unavailable', '5xx')):
            before = self.results().get(result, 0)
            self.status = status
            self.finish(self.ask()[2])
            self.assertEqual(before + 1, self.results()[result])

    def test_cut(self) -> None:
        """An exception in the middle of an answer, or instead of one."""
        self.body = Body(b'1', OSError('the disk is gone'))
        *_, body = self.ask()
        self.assertRaises(OSError, self.finish, body)
        self.assertEqual({Result.CUT: 1}, self.results())

        def fail(environ: Any, start_response: Any) -> Iterable[bytes]:
            raise RuntimeError

        self.filter = ota.OtaFilter(fail, self.conf, self.counter)
        self.assertRaises(RuntimeError, self.ask)
        self.assertEqual(({}, {Result.CUT: 2}),
                         (self.in_flight(), self.results()))

    def test_an_error_instead_of_an_answer(self) -> None:
        """PEP 3333 allows to think better of it."""
        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response('200 OK', [])
            start_response('500 Internal Server Error', [], (None,) * 3)
            return [b'']

        self.filter = ota.OtaFilter(app, self.conf, self.counter)
        status, _, body = self.ask()
        self.finish(body)
        self.assertEqual(('500 Internal Server Error', {Result.FAILED: 1}),
                         (status, self.results()))

    def test_times(self) -> None:
        for path in ('/v2/images', f'/v2/images/{IMAGE}',
                     f'/v2/images/{IMAGE}/file'):
            self.finish(self.ask(path)[2])
        self.finish(self.ask(f'/v2/images/{IMAGE}/file', 'PUT')[2])
        now = self.counter.now()
        self.assertEqual({Kind.LIST: 1, Kind.GET: 1}, {
            kind: now.timed(kind) for kind in Kind if now.timed(kind)})
        self.assertLess(now.quantile(Kind.GET, 1), 5)

    def test_answer_that_begins_late(self) -> None:
        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response('200 OK', [])
            yield b'x'

        self.filter = ota.OtaFilter(app, self.conf, self.counter)
        *_, body = self.ask()
        self.assertEqual(0, self.counter.now().timed(Kind.LIST))
        self.finish(body)
        self.assertEqual((1, {Result.SUCCESS: 1}), (
            self.counter.now().timed(Kind.LIST), self.results()))

    def test_warmth_is_no_traffic(self) -> None:
        *_, body = self.ask(**{layout.WARMING: True})
        self.assertIs(self.body, body)
        self.assertEqual(counting.private_counter().now(),
                         self.counter.now())


class OverviewTest(FilterCase):
    """Who asks is known by what stands further in."""

    #: What stands there in Glance.
    code = 200

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[tuple[str, str]] = []
        self.context: Any = None
        self.conf.set_override('state_directory', f'{self.root}/state',
                               'easystack_ota')
        self.filter = self.make()

    def app(self, environ: dict[str, Any],
            start_response: Any) -> Iterable[bytes]:
        request = webob.Request(environ)
        self.asked.append((request.method, request.path))
        if self.context is not None:
            request.context = self.context
        return webob.Response(status=self.code, json_body={'name': 'x'})(
            environ, start_response)

    def show(self, method: str = 'GET') -> webob.Response:
        return webob.Request.blank(ota.PATH, method=method).get_response(
            self.filter)

    def test_other_methods(self) -> None:
        answer = self.show('POST')
        self.assertEqual((405, 'GET'), (answer.status_int,
                                        answer.headers['Allow']))
        self.assertEqual([], self.asked)

    def test_unknown_user(self) -> None:
        self.code = 401
        answer = self.show()
        self.assertEqual((401, {'name': 'x'}), (answer.status_int,
                                                answer.json_body))
        self.assertEqual([('GET', '/v2/schemas/image')], self.asked)

    def test_no_context(self) -> None:
        logged = self.useFixture(fixtures.FakeLogger())
        self.assertEqual(500, self.show().status_int)
        self.assertIn('filter context', logged.output)

    def with_roles(self, *roles: str) -> webob.Response:
        # Glance's own class would drag in all of Glance's options.
        from oslo_context import context
        self.context = context.RequestContext(
            user_id='u', project_id='p', roles=list(roles))
        return self.show()

    def test_no_administrator(self) -> None:
        answer = self.with_roles('member', 'reader')
        self.assertEqual(403, answer.status_int)
        self.assertIn('easystack_image:get_ota',
                      answer.json_body['error']['message'])

    def test_administrator(self) -> None:
        answer = self.with_roles('admin')
        self.assertEqual(200, answer.status_int, answer.text)
        self.assertEqual(VERSION, answer.headers[ota.HEADER])
        shown = json.loads(answer.body)
        self.assertEqual((VERSION, None, [], None, None), (
            shown['release'], shown['instance'], shown['instances'],
            shown['upgrade'], shown['upgrade_unreadable']))
        self.assertEqual(1, shown['process']['in_flight']['other'])
