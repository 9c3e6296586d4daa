"""The updater, killed at each change that it makes to its directories.

Afterwards there is either the old or the new, and the same command does what
it should have done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import os
from pathlib import Path
import shutil
from typing import Any

from easystack_image import fsio
from easystack_image.ota import home
from easystack_image.ota import settings
from easystack_image.ota.client import memory
from easystack_image.ota.client import updater
from easystack_image.ota.journal import journal
from easystack_image.ota.journal import records
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.slots import seal
from tests.crash import base
from tests.crash import steps
from tests.crash import updating
from tests.unit.ota import base as ota_base


class KillCase(ota_base.Case):
    """Kills jobs at every step, on a directory that is restored each time."""

    def setUp(self) -> None:
        super().setUp()
        self.worker = base.Worker('tests.crash.updating')
        self.addCleanup(self.worker.close)
        self.place = self.place_in(self.root)
        self.place.mkdir()

    def place_in(self, root: Path) -> Path:
        """Return the path of the directory that the jobs change."""
        return root / 'place'

    def run_job(self, kind: str, cut: steps.Cut | None = None,
                **others: Any) -> base.Run:
        return self.worker.run(kind, [str(self.place)], cut, elsewhere=[
            f'{self.place}/{name}' for name in ('scratch', 'trash')], **others)

    def kill_everywhere(self, kind: str, judge: Callable[[base.Run], None],
                        relevant: Callable[[base.Step], bool] = bool,
                        **others: Any) -> None:
        """Kill a job before and in the middle of each step, and at its end.

        :param judge: sees what there is afterwards
        :param relevant: which of the steps can matter
        """
        before = self.root / 'before'
        shutil.copytree(self.place, before, symlinks=True)
        whole = self.run_job(kind, **others)
        self.assertEqual(1, len(whole.acknowledged))
        judge(whole)
        cuts = list(_cuts(filter(relevant, whole.steps)))
        self.assertGreater(len(cuts), 5)
        for cut in cuts:
            self.restore(before)
            run = self.run_job(kind, cut, **others)
            self.assertTrue(run.stopped, str(run))
            judge(run)
        self.addDetail('cuts', ota_base.testtools.content.text_content(
            '\n'.join(map(str, cuts))))

    def restore(self, before: Path) -> None:
        for path in self.place.rglob('*'):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(self.place)
        shutil.copytree(before, self.place, symlinks=True)


def _cuts(done: Iterator[base.Step]) -> Iterator[steps.Cut]:
    last = 0
    for step in done:
        yield steps.Cut(0, step.number)
        if step.name == 'write_at':
            yield steps.Cut(0, step.number, 'middle')
        last = step.number
    yield steps.Cut(0, last, 'after')


class ClientCase(KillCase):
    """A client that knows release 1.0.0, while 1.1.0 is published."""

    def setUp(self) -> None:
        super().setUp()
        self.site = ota_base.Site(self.root / 'site')
        self.site.directory.mkdir()
        self.site.begin()
        self.publish('1.0.0', 1)
        self.settings = {
            'repository':
                f'file://{self.site.directory}/repository/public',
            'trusted_root': str(self.site.directory / 'root.json'),
            'state_directory': str(self.place)}
        self.client().check()
        self.publish('1.1.0', 2)
        self.site.lost_key()

    def publish(self, version: str, number: int) -> None:
        self.site.add(version, number)
        self.site.sign_and_publish(['stable'])

    def client(self) -> updater.Client:
        return updater.Client(settings.Settings(**self.settings))


class ClientTest(ClientCase):

    def test_check(self) -> None:
        old = self.metadata()
        self.client().check()
        new = self.metadata()
        self.assertIn('2.root.json', set(new) - set(old))
        for name in set(new) - set(old):
            os.unlink(self.place / 'metadata' / name)
        for name, data in old.items():
            (self.place / 'metadata' / name).write_bytes(data)
        seen = memory.load(home.Home(self.place))

        def judge(run: base.Run) -> None:
            for name, data in self.metadata().items():
                self.assertIn(data, (old.get(name), new[name]),
                              f'{name}, {run}')
            self.assertGreaterEqual(
                memory.load(home.Home(self.place)).seen, seen.seen)
            self.assertEqual('1.1.0', self.client().check().next.version)
            self.assertEqual(new, self.metadata())

        self.kill_everywhere('check', judge, settings=self.settings)

    def metadata(self) -> dict[str, bytes]:
        """Return what is kept, without what was left unfinished."""
        return {path.name: path.read_bytes()
                for path in (self.place / 'metadata').iterdir()
                if not path.name.endswith(fsio.NEW)}

    def test_download(self) -> None:
        self.client().check()
        # A run in the same second would have nothing new to remember, and
        # so have other steps than the next.
        place = home.Home(self.place)
        memory.update(place, lambda seen: dataclasses.replace(
            seen, seen=seen.seen - 60))
        good, = (self.site.directory / 'archives').glob('*1.1.0.tar')

        def judge(run: base.Run) -> None:
            path = self.place / 'downloads' / good.name
            if path.exists():
                self.assertEqual(good.read_bytes(), path.read_bytes())
            elif run.acknowledged:
                self.fail(f'it is lost: {run}')
            self.assertEqual(path, self.client().download())
            self.assertEqual(good.read_bytes(), path.read_bytes())
            self.assertEqual([good.name], os.listdir(path.parent))

        self.kill_everywhere('download', judge, settings=self.settings)


class SlotsCase(KillCase):
    """Four slots; 2.0.0 is in use, and 1.0.0 was before."""

    def setUp(self) -> None:
        super().setUp()
        self.slots = updating.make_slots(str(self.place), str(ota_base.UV))
        for number in range(1, 5):
            self.make_slot(f'{number}.0.0', number)
        for version in ('3.0.0', '1.0.0', '2.0.0'):
            self.slots.select(self.slots.get(version))

    def make_slot(self, version: str, number: int) -> None:
        """Make a slot that has next to nothing in it."""
        path = self.place / 'slots' / version
        path.mkdir(parents=True)
        (path / 'code.py').write_text(f'{number}\n')
        seal.write(path, declarations.Declaration(
            version, number, python=('3.11',)), '3.11')

    def names(self) -> list[str]:
        return [slot.release.version for slot in self.slots.all()]


class SlotsTest(SlotsCase):

    def assertUse(self, current: str, previous: str, run: base.Run) -> None:
        self.assertEqual((current, previous), (
            self.slots.current().release.version,
            self.slots.previous().release.version), str(run))

    def test_select(self) -> None:
        def judge(run: base.Run) -> None:
            self.assertTrue((self.place / 'current').is_dir(), str(run))
            if self.slots.current().release.version == '2.0.0':
                self.assertEqual([], run.acknowledged)
                self.assertUse('2.0.0', '1.0.0', run)
                self.slots.select(self.slots.get('4.0.0'))
            self.assertUse('4.0.0', '2.0.0', run)
            self.assertEqual(self.place / 'slots/4.0.0',
                             (self.place / 'current').resolve())
            self.assertFalse(any(self.place.rglob('*.new')) and
                             run.acknowledged)

        self.kill_everywhere('select', judge, directory=str(self.place),
                             version='4.0.0')

    def test_collect(self) -> None:
        def judge(run: base.Run) -> None:
            self.assertUse('2.0.0', '1.0.0', run)
            for slot in self.slots.all():
                slot.verify()
            self.assertLessEqual({'1.0.0', '2.0.0', '3.0.0'},
                                 set(self.names()), str(run))
            self.slots.collect(1)
            self.assertEqual(['1.0.0', '2.0.0', '3.0.0'], self.names())
            self.assertEqual([], list((self.place / 'trash').iterdir()))

        self.make_slot('5.0.0', 5)
        self.kill_everywhere('collect', judge, directory=str(self.place),
                             keep=1)

    def test_build(self) -> None:
        archive = self.archive('6.0.0', 6)

        def judge(run: base.Run) -> None:
            self.assertUse('2.0.0', '1.0.0', run)
            slot = self.slots.get('6.0.0')
            self.assertTrue(slot or not run.acknowledged)
            if slot is None:
                slot = self.slots.build(archive)
            slot.verify()
            self.slots.select(slot)
            self.assertUse('6.0.0', '2.0.0', run)

        # What is unpacked in scratch is nobody's, whatever becomes of it.
        self.kill_everywhere(
            'build', judge, lambda step: not step.place.startswith('scratch'),
            directory=str(self.place), archive=str(archive),
            uv=str(ota_base.UV))

    def run_job(self, kind: str, cut: steps.Cut | None = None,
                **others: Any) -> base.Run:
        if kind != 'build':
            return super().run_job(kind, cut, **others)
        # uv writes where the slot will be; it counts when it is sealed.
        return self.worker.run(kind, [str(self.place)], cut, elsewhere=[
            f'{self.place}/{name}' for name in (
                'scratch', 'trash', 'slots/6.0.0')], **others)


class JournalTest(KillCase):

    def test_upgrade(self) -> None:
        self.complete(0)

        def judge(run: base.Run) -> None:
            upgrades = journal.Journal(home.Home(self.place)).history()
            written = sum(len(each.records) for each in upgrades[1:])
            # All that was acknowledged, and what was about to be.
            self.assertIn(written - len(run.churned), (0, 1), str(run))
            self.complete(written % len(updating.LINES))
            last = journal.Journal(home.Home(self.place)).history()[-1]
            self.assertEqual(records.Outcome.ROLLED_BACK, last.outcome)
            self.assertEqual('it does not import', last.details(
                records.Step.CHECK)['reason'])
            self.assertEqual(len(updating.LINES), len(last.records))

        self.kill_everywhere('upgrade', judge, home=str(self.place))

    def complete(self, written: int) -> None:
        """Write the rest of an upgrade, as who resumes it."""
        with journal.Journal(home.Home(self.place)).writer() as writer:
            self.assertEqual(written == 0, writer.unfinished is None)
            for number in range(written, len(updating.LINES)):
                updating.add_line(writer, number)
