"""The updater, with the power failing after every sync.

What was not synced is lost then: see :mod:`tests.crash.power`.  What was
acknowledged is there, and whatever is there can be gone on with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import shutil

from easystack_image.ota import home
from easystack_image.ota.client import memory
from easystack_image.ota.journal import journal
from easystack_image.ota.journal import records
from tests.crash import power
from tests.crash import steps
from tests.crash import test_kill_updater
from tests.crash import updating


class PowerCase(test_kill_updater.KillCase):
    """Records some work, and judges what is left of it at every moment."""

    def place_in(self, root: Path) -> Path:
        # The recorder follows what is below a directory.
        path = root / 'world' / 'place'
        path.parent.mkdir()
        return path

    def judge_moments(self, work: Callable[[], object],
                      judge: Callable[[bool], None]) -> None:
        """Judge what is left, whenever that changes.

        :param judge: called with whether the work was acknowledged
        """
        recorder = power.Recorder(str(self.place.parent))
        with steps.observed(recorder.observe):
            work()
            recorder.acknowledge()
        self.assertGreater(len(recorder.moments), 2)
        for moment in recorder.moments:
            self.leave(moment.rest)
            try:
                judge(moment.acknowledged)
            except Exception as error:
                raise AssertionError(f'after {moment.step}') from error

    def leave(self, rest: power.Rest) -> None:
        """Leave what is left of everything."""
        shutil.rmtree(self.place)
        for name, data in rest.items():
            path = self.place.parent / name
            if data is None:
                path.mkdir()
            elif isinstance(data, str):
                path.symlink_to(data)
            else:
                path.write_bytes(data)


class ClientTest(test_kill_updater.ClientCase, PowerCase):

    def test_check(self) -> None:
        seen = memory.load(home.Home(self.place))

        def judge(acknowledged: bool) -> None:
            found = memory.load(home.Home(self.place))
            self.assertGreaterEqual(found.seen, seen.seen)
            self.assertEqual('1.1.0', self.client().check().next.version)

        self.judge_moments(lambda: self.client().check(), judge)

    def test_download(self) -> None:
        self.client().check()
        good, = (self.site.directory / 'archives').glob('*1.1.0.tar')
        path = self.place / 'downloads' / good.name

        def judge(acknowledged: bool) -> None:
            self.assertTrue(path.exists() or not acknowledged)
            if path.exists():
                self.assertEqual(good.read_bytes(), path.read_bytes())
            self.assertEqual(path, self.client().download())
            self.assertEqual(good.read_bytes(), path.read_bytes())

        self.judge_moments(lambda: self.client().download(), judge)


class SlotsTest(test_kill_updater.SlotsCase, PowerCase):

    def test_select(self) -> None:
        def judge(acknowledged: bool) -> None:
            current = self.slots.current().release.version
            self.assertIn(current, ('4.0.0', '2.0.0'))
            if current == '2.0.0':
                self.assertFalse(acknowledged)
                self.assertEqual('1.0.0',
                                 self.slots.previous().release.version)
                self.slots.select(self.slots.get('4.0.0'))
            self.assertEqual('2.0.0', self.slots.previous().release.version)

        self.judge_moments(
            lambda: self.slots.select(self.slots.get('4.0.0')), judge)


class JournalTest(PowerCase):

    def test_every_line(self) -> None:
        found = journal.Journal(home.Home(self.place))
        for line in range(len(updating.LINES)):
            def judge(acknowledged: bool, line: int = line) -> None:
                upgrades = found.history()
                written = sum(len(each.records) for each in upgrades)
                self.assertIn(written - line, (0, 1))
                self.assertTrue(written > line or not acknowledged)
                with found.writer() as writer:
                    for number in range(written, len(updating.LINES)):
                        updating.add_line(writer, number)
                last, = found.history()
                self.assertIs(records.Outcome.ROLLED_BACK, last.outcome)

            if self.place.exists():
                shutil.rmtree(self.place)
            self.place.mkdir()
            with found.writer() as writer:
                for number in range(line):
                    updating.add_line(writer, number)

            def work(line: int = line) -> None:
                with found.writer() as writer:
                    updating.add_line(writer, line)

            self.judge_moments(work, judge)
