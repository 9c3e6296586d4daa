"""For how long the hooks of a point are run again; time is made up."""

from __future__ import annotations

import types
from typing import Any
from unittest import mock

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.hooks import base
from easystack_image.ota.journal.records import Step
from easystack_image.ota.upgrade import hooking


class HooksTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.now = 1000.0
        #: When the hooks began.
        self.runs: list[float] = []
        self.pauses: list[float] = []
        #: Seconds that each run takes, None for one that does not ask again.
        self.takes: list[float | None] = []
        self.asks = 15.0
        for name, replacement in (
                ('upgrade.hooking.time', types.SimpleNamespace(
                    monotonic=lambda: self.now, sleep=self.pause)),
                ('upgrade.hooking.Hooks.context', mock.Mock()),
                ('hooks.calls.HookCaller.run', self.run_hooks)):
            self.useFixture(fixtures.MonkeyPatch(
                f'easystack_image.ota.{name}', replacement))

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def run_hooks(self, *_: Any) -> None:
        self.runs.append(self.now)
        took = self.takes.pop(0) if len(self.takes) > 1 else self.takes[0]
        if took is not None:
            self.now += took
            raise exceptions.RetryLater('the database is away', self.asks)

    def run_point(self, *takes: float | None, limit: float = 600.0) -> None:
        self.takes = list(takes)
        work = mock.Mock(rolling_back=False, settings=settings.Settings(
            retry_limit=limit))
        work.tools.pause = self.pause
        hooking.Hooks(work).run(base.Point('before-soak'), Step.SOAK)

    def test_what_they_take_counts(self) -> None:
        began = self.now
        error = self.assertRaises(exceptions.NotNow, self.run_point, 100.0)
        self.assertIn('more than 600 s', str(error))
        # All but the first run, before which nobody asked for time.
        self.assertLessEqual(self.now - began, 100.0 + 600.0 + 100.0)
        self.assertEqual(7, len(self.runs))

    def test_one_that_took_long_is_asked_again(self) -> None:
        """As a migration that lost the database after an hour."""
        self.run_point(3600.0, None)
        self.assertEqual([15.0], self.pauses)

    def test_one_that_asks_for_no_time(self) -> None:
        for self.asks in (0.0, -5.0, float('nan')):
            self.pauses.clear()
            self.assertRaises(exceptions.NotNow, self.run_point, 0.0,
                              limit=10.0)
            self.assertEqual([1.0] * 10, self.pauses)

    def test_one_that_asks_for_too_much(self) -> None:
        self.asks = float('inf')
        self.assertRaises(exceptions.NotNow, self.run_point, 0.0)
        self.assertEqual([], self.pauses)
