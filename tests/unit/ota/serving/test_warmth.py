"""What workers ask themselves before they serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import threading
from typing import Any

from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warmth
from tests.unit.ota import base

THREADS = 3


class WarmthTest(base.Case):

    def setUp(self) -> None:
        super().setUp()
        self.place = layout.Place(self.root)
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
        asked = warmth.answer(self.place, self.application, 1, None, THREADS)
        self.assertEqual(1 + THREADS, self.calls)
        self.assertFalse(self.together.broken)
        self.assertEqual({1: ['200 OK']}, warmth.results(self.place))
        # Once is enough.
        self.assertEqual(asked, warmth.answer(
            self.place, self.application, 1, asked, THREADS))
        self.assertEqual(1 + THREADS, self.calls)

    def test_one_thread(self) -> None:
        warmth.ask(self.place, [warmth.Request('/')])
        warmth.answer(self.place, self.application, 1, None)
        self.assertEqual(1, self.calls)
