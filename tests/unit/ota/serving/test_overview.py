"""What operators see of instances and upgrades."""

from __future__ import annotations

import os
from pathlib import Path
import time

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.journal import journal
from easystack_image.ota.journal import records
from easystack_image.ota.serving import aside
from easystack_image.ota.serving import counting
from easystack_image.ota.serving import counts
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import overview


class OverviewCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)


class InstancesTest(OverviewCase):

    def test_states(self) -> None:
        places = {}
        for name in ('ended', 'left', 'serves', 'waits'):
            places[name] = layout.Place(self.root / name)
            places[name].path.mkdir()
        (self.root / 'aside').touch()
        for name in ('left', 'serves', 'waits'):
            counter = counting.open_counter(places[name], 1)
            if name != 'waits':
                counter.begin(counts.Kind.DOWNLOAD)
        places['serves'].gate.touch()
        found = overview.instances(self.root)
        self.assertEqual(
            [('ended', 'not-running', 0), ('left', 'draining', 1),
             ('serves', 'serving', 1), ('waits', 'waiting', 0)],
            [(each['name'], each['state'], each['in_flight']['download'])
             for each in found])


class UpgradeTest(OverviewCase):

    def test_before_the_first(self) -> None:
        self.assertIsNone(overview.last_upgrade(self.root / 'nowhere'))
        self.assertFalse((self.root / 'nowhere').exists())

    def test_last(self) -> None:
        with journal.Journal(home.Home(self.root)).writer() as writer:
            writer.open(records.Kind.INSTALL, None, '1.0')
            writer.close(records.Outcome.COMMITTED)
            writer.open(records.Kind.UPGRADE, '1.0', '2.0')
            writer.begin(records.Step.CANARY)
        found = overview.last_upgrade(self.root)
        assert found is not None
        self.assertEqual(
            {'number': 2, 'kind': 'upgrade', 'origin': '1.0',
             'target': '2.0', 'step': 'canary', 'event': 'begun',
             'outcome': None}, {name: value for name, value in found.items()
                                if not name.endswith('_at')})
        self.assertRegex(found['began_at'], r'^\d{4}-\d\d-\d\dT.*Z$')

    def test_unreadable(self) -> None:
        directory = self.root / 'journal'
        directory.mkdir()
        (directory / '000001.jsonl').write_text('nonsense')
        (self.root / 'anchor.json').write_text('nonsense')
        found, reason = overview.try_last_upgrade(self.root)
        self.assertIsNone(found)
        self.assertTrue(reason)
        self.assertRaises(exceptions.JournalError, overview.last_upgrade,
                          self.root)


class AsideTest(OverviewCase):

    def test_back_and_forth(self) -> None:
        self.assertFalse(aside.is_aside(self.root))
        for _ in range(2):
            aside.step_aside(self.root, 60)
            self.assertTrue(aside.is_aside(self.root))
        self.assertEqual(['aside'], os.listdir(self.root))
        for _ in range(2):
            aside.step_back(self.root)
            self.assertFalse(aside.is_aside(self.root))

    def test_it_ends_by_itself(self) -> None:
        aside.step_aside(self.root, 0.2)
        self.assertTrue(aside.is_aside(self.root))
        time.sleep(0.3)
        self.assertFalse(aside.is_aside(self.root))

    def test_never_for_long(self) -> None:
        aside.step_aside(self.root, 1e9)
        self.assertTrue(aside.is_aside(self.root))
        # As if it were of an earlier boot, whose clock was further.
        until = time.monotonic() + aside.LONGEST + 60
        for text in (f'{{"until": {until}}}', '{"until": NaN}', '{}', 'x'):
            (self.root / 'aside').write_text(text)
            self.assertFalse(aside.is_aside(self.root), text)
