"""What workers ask themselves before they serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import json
import os
import threading
from typing import Any

from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warming
from easystack_image.ota.serving import warmth
from tests.unit.ota import base

THREADS = 3
SIZE = 100_000
#: What is done with an image, and what comes of it.
IMAGE = [warmth.Request('/v2/images', {'Content-Type': 'application/json'},
                        'POST', body='{"name": "x"}'),
         warmth.Request(f'/v2/images/{warmth.IMAGE}/file', method='PUT',
                        size=SIZE),
         warmth.Request(f'/v2/images/{warmth.IMAGE}', method='DELETE')]


class WarmingCase(base.Case):

    def setUp(self) -> None:
        super().setUp()
        self.place = layout.Place(self.root)

    def statuses(self) -> dict[int, list[str | None]]:
        """Return what came of requests, by worker."""
        return {worker: each.statuses
                for worker, each in warmth.results(self.place).items()}


class TestAtOnce(WarmingCase):

    def setUp(self) -> None:
        super().setUp()
        self.calls = 0
        self.together = threading.Barrier(THREADS)

    def application(self, environ: dict[str, Any],
                    start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer the first request; all others only if they come at once."""
        self.calls += 1
        if self.calls > 1:
            self.together.wait(30)
        start_response('200 OK', [])
        return []

    def test_as_many_as_will_come(self) -> None:
        """What each thread needs is there, such as a connection."""
        warmth.ask(self.place, [warmth.Request('/')])
        asked = warming.answer(self.place, self.application, 1, None, THREADS)
        self.assertEqual(1 + THREADS, self.calls)
        self.assertFalse(self.together.broken)
        self.assertEqual({1: ['200 OK']}, self.statuses())
        # Once is enough.
        self.assertEqual(asked, warming.answer(
            self.place, self.application, 1, asked, THREADS))
        self.assertEqual(1 + THREADS, self.calls)

    def test_one_thread(self) -> None:
        warmth.ask(self.place, [warmth.Request('/')])
        warming.answer(self.place, self.application, 1, None)
        self.assertEqual(1, self.calls)


class TestImage(WarmingCase):

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[tuple[str, str, bytes, str]] = []
        self.nice: set[int] = set()
        self.made = 0
        #: What a POST is answered with.
        self.status = '201 Created'
        self.closed = 0

    def application(self, environ: dict[str, Any],
                    start_response: Callable[..., Any]) -> Iterable[bytes]:
        size = int(environ.get('CONTENT_LENGTH', 0))
        self.heard.append((
            environ['REQUEST_METHOD'], environ['PATH_INFO'],
            environ['wsgi.input'].read(size), environ.get('CONTENT_TYPE', '')))
        self.nice.add(os.getpriority(os.PRIO_PROCESS, 0))
        body = b''
        if environ['REQUEST_METHOD'] == 'POST':
            self.made += 1
            body = json.dumps({'id': f'image-{self.made}'}).encode()
        start_response(self.status if body else '204 No Content', [])
        return self.answer(body)

    def answer(self, body: bytes) -> Iterable[bytes]:
        try:
            yield body
        finally:
            self.closed += 1

    def test_image(self) -> None:
        """Each round has an image of its own, and deletes it."""
        warmth.ask(self.place, IMAGE, rounds=2)
        warming.answer(self.place, self.application, 7, None, THREADS)
        self.assertEqual({7: ['201 Created', '204 No Content',
                              '204 No Content']}, self.statuses())
        self.assertEqual(
            [('POST', '/v2/images'), ('PUT', '/v2/images/image-1/file'),
             ('DELETE', '/v2/images/image-1'), ('POST', '/v2/images'),
             ('PUT', '/v2/images/image-2/file'),
             ('DELETE', '/v2/images/image-2')],
            [each[:2] for each in self.heard])
        self.assertEqual((b'{"name": "x"}', 'application/json'),
                         self.heard[0][2:])
        data = self.heard[1][2]
        self.assertEqual((SIZE, bytes(1 << 16)), (len(data), data[:1 << 16]))
        self.assertNotEqual(bytes(SIZE), data)
        self.assertEqual(6, self.closed)

    def test_results_of_who_controls_the_service(self) -> None:
        """No link is followed, no pipe waited for, and nothing believed."""
        path = self.place.path
        (path / 'warm.3').write_text(
            '{"process": 1, "answers": [["GET /", "200 OK"]]}')
        (path / 'warm.1').write_text('["200 OK"]')
        (path / 'warm.2').write_text('{"process": "1", "answers": []}')
        (path / 'warm.10').write_text('{"process": 1, "answers": [[]]}')
        (path / 'secret').write_text('["of root"]')
        (path / 'warm.4').symlink_to(path / 'secret')
        os.mkfifo(path / 'warm.5')
        (path / 'warm.6').write_text('{"nonsense": ')
        (path / 'warm.7').write_text('{"a": 1}')
        (path / 'warm.8').write_text('[' * 100000)
        (path / 'warm.9x').write_text('["200 OK"]')
        self.assertEqual({3: ['200 OK']}, self.statuses())

    def test_refused(self) -> None:
        """Without an image, nothing is done with one."""
        self.status = '401 Unauthorized'
        warmth.ask(self.place, IMAGE, rounds=2)
        warming.answer(self.place, self.application, 1, None, THREADS)
        self.assertEqual({1: ['401 Unauthorized', None, None]},
                         self.statuses())
        self.assertEqual(['POST', 'POST'], [each[0] for each in self.heard])

    def test_yielding(self) -> None:
        """Whoever serves users goes first; afterwards, all is as before."""
        before = os.getpriority(os.PRIO_PROCESS, 0)
        warmth.ask(self.place, [*IMAGE, warmth.Request('/')])
        warming.answer(self.place, self.application, 1, None, THREADS)
        self.assertEqual(before, os.getpriority(os.PRIO_PROCESS, 0))
        # Only who may come back yields, and the tests may do so already.
        yielding = max(10, before)
        self.assertIn(self.nice, ({yielding}, {before}))
        if os.geteuid() == 0:
            self.assertEqual({yielding}, self.nice)

    def test_what_the_application_raises(self) -> None:
        def broken(environ: Any, start_response: Any) -> Iterable[bytes]:
            raise LookupError('nothing')

        warmth.ask(self.place, IMAGE)
        warming.answer(self.place, broken, 1, None, THREADS)
        self.assertEqual({1: ['LookupError: nothing', None, None]},
                         self.statuses())
