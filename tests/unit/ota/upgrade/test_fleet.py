"""Letting instances go."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import fixtures

from easystack_image.ota.serving import instance
from tests.unit.ota import base
from tests.unit.ota.upgrade import world as worlds

OLD = '1.0.0'


class TestLetGo(base.Case):

    def setUp(self) -> None:
        super().setUp()
        root = Path(self.useFixture(fixtures.TempDir()).path)
        self.world = worlds.World(root)
        self.slot = root / 'opt/slots' / OLD
        tools = self.world.tools()
        self.fleet = worlds.fleet(tools)
        self.fleet.launcher.start('a', self.slot)

    def let_go(self) -> int:
        """Let it go; return how often it was asked anything."""
        with mock.patch.object(worlds.Instance, '_all', autospec=True,
                               side_effect=worlds.Instance._all) as asked:
            self.fleet.let_go('a')
        return asked.call_count

    def test_it_never_served(self) -> None:
        self.let_go()
        self.assertEqual({}, self.world.running)

    def test_it_is_told_again(self) -> None:
        """It does not answer any more: nobody waits for it to do so."""
        self.world.busy.add('a')
        self.fleet.open('a')
        self.assertEqual(0, self.let_go())
        self.assertTrue(self.world.running['a'].leaving)
        self.assertEqual(0, self.let_go())

    def test_it_was_told_before_it_served(self) -> None:
        """By somebody who died before he could tell its master."""
        instance._mark(self.world.place('a').leaving)
        self.let_go()
        self.assertEqual({}, self.world.running)
