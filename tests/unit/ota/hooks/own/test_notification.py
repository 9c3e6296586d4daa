"""Telling others that something happens."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from typing import Any

from easystack_image.ota.hooks import base as hooks_base
from easystack_image.ota.hooks.own import notification
from tests.unit.ota.hooks import base


class _Handler(http.server.BaseHTTPRequestHandler):

    heard: list[tuple[str, Any]] = []
    answer = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.heard.append((self.path, json.loads(body)))
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be silent."""


class NotificationTest(base.HookCase):

    def setUp(self) -> None:
        super().setUp()
        self.handler = type('Handler', (_Handler,), {'heard': []})
        self.server = http.server.HTTPServer(('127.0.0.1', 0), self.handler)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()
        self.url = (f'http://127.0.0.1:{self.server.server_port}'
                    '/hook?key=hush')

    def tell(self, point: str = 'after-commit', url: str | None = None,
             **others: Any) -> str | None:
        return notification.Notification().run(self.context(
            point, notify_url=self.url if url is None else url, **others))

    def test_events(self) -> None:
        for point, event in (
                ('before-preflight', 'begun'), ('after-hand-over', 'serving'),
                ('after-commit', 'committed'),
                ('after-rollback', 'rolled-back')):
            self.assertEqual('notified (200)',
                             self.tell(point, reason='it is slow'))
            path, body = self.handler.heard[-1]
            self.assertEqual('/hook?key=hush', path)
            self.assertEqual((event, 'upgrade', '1.0.0', '2.0.0'), (
                body['event'], body['kind'], body['origin'], body['target']))
            self.assertIn(f'upgrade from 1.0.0 to 2.0.0: {event} (it is slow)',
                          body['text'])
            self.assertEqual(socket.gethostname(), body['host'])
        self.assertEqual(set(notification.Notification.points), {
            'before-preflight', 'after-hand-over', 'after-commit',
            'after-rollback'})

    def test_nobody_to_tell(self) -> None:
        self.assertIsNone(self.tell(url=''))
        self.assertEqual([], self.handler.heard)

    def test_failures_are_told_and_stop_nothing(self) -> None:
        self.handler.answer = 503
        self.assertIn('503', self.tell() or '')
        with contextlib.closing(socket.socket()) as deaf:
            deaf.bind(('127.0.0.1', 0))
            port = deaf.getsockname()[1]
            said = self.tell(url=f'http://127.0.0.1:{port}/?key=hush')
        self.assertIn('nobody was notified', said or '')
        self.assertNotIn('hush', said or '')
        self.patch(notification, '_PATIENCE', 0.1)
        with contextlib.closing(socket.socket()) as silent:
            silent.bind(('127.0.0.1', 0))
            silent.listen()
            port = silent.getsockname()[1]
            said = self.tell(url=f'http://127.0.0.1:{port}/')
        self.assertIn('timed out', said or '')

    def test_from_outside(self) -> None:
        """The settings say where to; a point that is not decisive."""
        import sys
        outcomes = {each.hook: each for each in self.caller(
            notify_url=self.url).run(
                hooks_base.Point('after-commit'),
                self.context('after-commit', slot=sys.prefix))}
        self.assertEqual('notified (200)', outcomes['notification'].message)
        self.assertEqual(1, len(self.handler.heard))
