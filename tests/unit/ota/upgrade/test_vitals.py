"""What counts as the death of an instance, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.upgrade import vitals
from tests.unit.ota.upgrade import world as worlds

NAME = '2.0.0.4'


class VitalsTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        root = Path(self.useFixture(fixtures.TempDir()).path)
        self.world = worlds.World(root)
        self.world.make_slot('2.0.0', 2)
        self.world.start(NAME, root / 'opt/slots/2.0.0')
        self.vitals = vitals.Vitals(worlds.fleet(self.world.tools()), NAME)
        self.now = 0.0
        self.useFixture(fixtures.MonkeyPatch(
            'time.monotonic', lambda: self.now))

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def silenced(self, where: str) -> Any:
        """Have a question unanswered while this lasts."""
        def refuse(*_: object) -> None:
            raise exceptions.InstanceError('timed out')

        return mock.patch.object(
            *{'uwsgi': (worlds.Instance, '_all'),
              'launcher': (worlds.Launcher, 'list')}[where], refuse)

    def assertDead(self, look: Callable[[], None], word: str) -> None:
        error = self.assertRaises(exceptions.Regression, look)
        self.assertIn(word, str(error))

    def test_lives(self) -> None:
        for _ in range(3):
            self.vitals.check()

    def test_another_process(self) -> None:
        self.vitals.check()
        self.world.running[NAME].pid += 1
        self.assertDead(self.vitals.check, 'died')

    def test_another_worker(self) -> None:
        self.vitals.check()
        real = worlds.Instance._all

        def other(instance: worlds.Instance) -> Any:
            first, last = real(instance)
            return [type(first)(1, 0, True, 0, 0), last]

        with mock.patch.object(worlds.Instance, '_all', other):
            self.assertDead(self.vitals.check, 'died')

    def test_ended(self) -> None:
        self.vitals.check()
        del self.world.running[NAME]
        self.assertDead(self.vitals.check, 'died')

    def test_one_question_unanswered(self) -> None:
        """A master that is busy, or a systemd that is executed anew."""
        for where in ('uwsgi', 'launcher'):
            self.vitals.check()
            with self.silenced(where):
                for _ in range(10):
                    self.vitals.check()
                    self.now += 1
            self.vitals.check()
            self.now += 60

    def test_silent_for_long(self) -> None:
        self.vitals.check()
        with self.silenced('uwsgi'):
            self.vitals.check()
            # One answer that takes long is not enough.
            self.now += 60
            self.vitals.check()
            self.assertDead(self.vitals.check, 'has not answered')

    def test_ended_while_it_is_silent(self) -> None:
        self.vitals.check()
        with self.silenced('uwsgi'):
            self.vitals.check()
            self.world.running[NAME].pid += 1
            self.assertDead(self.vitals.check, 'died')

    def test_not_before_it_answers(self) -> None:
        with self.silenced('uwsgi'):
            self.assertDead(lambda: self.vitals.confirm(self.pause),
                            'has not answered')
        self.assertGreater(self.now, 20)
