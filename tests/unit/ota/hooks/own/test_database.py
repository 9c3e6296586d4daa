"""What a release lacks in the database, as its programs tell."""

from __future__ import annotations

from pathlib import Path

from easystack_image import exceptions
from easystack_image.ota.hooks.own import database
from tests.unit.ota.hooks import base

EXPAND, CONTRACT = 3, 5


class CheckTest(base.HookCase):
    """A release that declares no phases, over one that has some."""

    def slot(self, name: str, code: int) -> str:
        """Make a slot whose ``glance-manage db check`` exits with a code."""
        path: Path = self.root / name
        (path / 'bin').mkdir(parents=True)
        program = path / 'bin/glance-manage'
        program.write_text(f'#!/bin/sh\nexit {code}\n')
        program.chmod(0o755)
        return str(path)

    def refusal(self, needed: int, origin: str | None,
                point: str = 'at-check') -> str:
        config = self.root / 'glance-api.conf'
        config.write_text('[DEFAULT]\n')
        context = self.context(
            point, config_files=(str(config),), origin='1.0', target='1.1',
            slot=self.slot('new', needed), origin_slot=origin, phases=())
        return str(self.assertRaises(
            exceptions.HookFailed, database.DatabaseCheck().run, context))

    def test_left_by_a_node_that_is_gone(self) -> None:
        """Nobody who made the new release is to blame."""
        origin = self.slot('old', CONTRACT)
        said = self.refusal(CONTRACT, origin)
        for words in ('the contraction of 1.0', 'the last of nodes',
                      f'{origin}/bin/glance-manage db contract'):
            self.assertIn(words, said)
        self.assertNotIn('who made it', said)

    def test_not_declared(self) -> None:
        """What the release in use needs may go with that contraction."""
        for number, (needed, origin) in enumerate((
                (CONTRACT, 0), (CONTRACT, 1), (EXPAND, CONTRACT))):
            self.root = self.root / str(number)
            said = self.refusal(needed, self.slot('old', origin))
            self.assertIn('who made it', said)

    def test_no_release_before(self) -> None:
        self.assertIn('who made it', self.refusal(CONTRACT, None))

    def test_while_it_is_done(self) -> None:
        """A phase was left out, and the origin does not know of it."""
        self.assertIn('who made it', self.refusal(
            CONTRACT, self.slot('old', CONTRACT), 'after-migrate'))
