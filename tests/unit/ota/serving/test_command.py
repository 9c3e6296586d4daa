"""How an instance of the holder is started."""

from __future__ import annotations

from pathlib import Path

import fixtures
import testtools

from easystack_image.ota.serving import command
from easystack_image.ota.serving import layout


class EnvironmentTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.place = layout.Place(Path('/run/i/a'))

    def environment(self, **inherited: str) -> dict[str, str]:
        return command.environment(
            self.place, command.Service(environment={'GREETING': 'hello'}),
            inherited, 5)

    def test_what_is_kept(self) -> None:
        self.assertEqual(
            {'KEPT': 'yes', 'UWSGI': 'x', 'GREETING': 'hello',
             layout.DIRECTORY_VARIABLE: '/run/i/a',
             layout.APPLICATION_VARIABLE: 'glance.wsgi.api:application',
             layout.PRIVATE_WORKER_VARIABLE: '5',
             layout.LISTENER_VARIABLE: '5'},
            self.environment(KEPT='yes', UWSGI='x', LISTEN_FDS='1',
                             PYTHONPATH='/elsewhere'))
        self.assertEqual('', self.log.output)

    def test_options_of_uwsgi(self) -> None:
        """They would get past the check of the deployer's file."""
        found = self.environment(UWSGI_HARAKIRI='60', KEPT='yes')
        self.assertNotIn('UWSGI_HARAKIRI', found)
        self.assertEqual('yes', found['KEPT'])
        self.assertIn('UWSGI_HARAKIRI', self.log.output)
