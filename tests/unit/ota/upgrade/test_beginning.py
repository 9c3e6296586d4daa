"""What is installed is what was signed, from the index to the last step.

A real repository, and a client that downloads from it; slots are built
without uv, and instances take no time.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from pathlib import Path
import shutil
import threading
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.client import memory as memories
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from easystack_image.ota.release import build
from easystack_image.ota.release import sample
from easystack_image.ota.slots import building
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.upgrade import beginning
from easystack_image.ota.upgrade import canary
from easystack_image.ota.upgrade import machine
from easystack_image.ota.upgrade import returning
from easystack_image.ota.upgrade import tools as tools_module
from tests.unit.ota import base
from tests.unit.ota.upgrade import world as worlds

OLD, NEW = '1.0.0', '2.0.0'


def _without_uv(self: building.Builder, scratch: Path, lock: int, what: str,
                *arguments: object) -> None:
    if what == 'venv':
        python = Path(str(arguments[-1]), 'bin', 'python')
        python.parent.mkdir(parents=True)
        python.write_text(worlds.PYTHON)
        python.chmod(0o755)


def _fail(*_: object) -> None:
    raise exceptions.CanaryFailed('other bytes')


def _later(*_: object) -> None:
    raise exceptions.NotNow('Keystone does not answer')


class BeginningCase(base.SiteCase):
    """A channel with 1.0.0, which serves, and 2.0.0."""

    @classmethod
    def prepare(cls) -> None:
        super().prepare()
        cls.publish(NEW, 2)

    def setUp(self) -> None:
        super().setUp()
        # Sockets, which are never made here, need short paths.
        self.world = worlds.World(Path(self.useFixture(
            fixtures.TempDir()).path).resolve())
        self.options |= {'state_directory': self.world.root / 'state',
                         'slots_directory': self.world.root / 'opt'}
        self.downloads = self.world.root / 'state/downloads'
        for name, replacement in (
                ('ota.upgrade.canary.run',
                 lambda *_: canary.Report('', 0, {}, 0)),
                ('ota.slots.building.Builder._call_uv', _without_uv)):
            self.useFixture(fixtures.MonkeyPatch(
                f'easystack_image.{name}', replacement))
        self.addCleanup(worlds.unprotect, self.world.root)

    @property
    def tools(self) -> tools_module.Tools:
        return self.world.tools(**{
            name: str(self.options[name])
            for name in ('repository', 'trusted_root')})

    @property
    def slots(self) -> slots_module.Slots:
        return self.tools.slots

    def begin(self, kind: Kind = Kind.UPGRADE, version: str | None = None,
              **others: Any) -> machine.Result | None:
        return beginning.begin(self.tools, beginning.Order(
            kind, version, soak=0, drain_timeout=0.01, **others),
            lambda done, size: None)

    def refused(self, *words: str, **others: Any) -> None:
        """See that it is not begun, for a reason, and nothing was done."""
        before = len(self.tools.journal.history())
        slots = self.built()
        error = self.assertRaises(exceptions.OtaError, self.begin, **others)
        for word in words:
            self.assertIn(word, str(error))
        self.assertEqual(before, len(self.tools.journal.history()))
        self.assertEqual(slots, self.built())

    def built(self) -> list[str]:
        path = self.world.root / 'opt/slots'
        return sorted(os.listdir(path)) if path.exists() else []

    def install(self) -> None:
        result = self.begin(Kind.INSTALL, OLD)
        self.assertEqual((Outcome.COMMITTED, {OLD}),
                         (result.outcome, self.world.serving()))

    def another(self, version: str = NEW, number: int = 2) -> Path:
        """Make another release of a version: all of it fits together."""
        folder = sample.write(self.root / f'another-{version}', version,
                              number)
        (folder / 'config/sample.conf').write_text('# evil\n')
        return build.build(folder, self.root / 'another')

    def learn(self, floor: int = 0, **revoked: str) -> None:
        """Have the updater know what its next ``check`` would tell."""
        home = self.tools.home
        memories.update(home, lambda memory: memory.learn(
            0, floor, {int(number[1:]): reason
                       for number, reason in revoked.items()}))

    def config(self, version: str) -> str:
        return (self.slots.get(version).path
                / 'config/sample.conf').read_text()


class TestOrder(BeginningCase):

    def test_what_fits(self) -> None:
        self.refused('"install" comes first')
        self.install()
        self.refused('"upgrade" it', kind=Kind.INSTALL, version=NEW)
        # Whoever says it twice has what he wanted.
        self.assertIsNone(self.begin(Kind.INSTALL))
        self.assertIsNone(self.begin(version=OLD))
        self.refused("no release '6.6.6'", version='6.6.6')
        self.assertIs(Outcome.COMMITTED, self.begin().outcome)
        self.assertEqual({NEW}, self.world.serving())
        self.refused('is a "rollback"', version=OLD)
        self.assertIsNone(self.begin())

    def test_untrusted_hook(self) -> None:
        """Of whatever point: it is not begun."""
        self.install()
        path = self.world.root / 'hooks/after-commit/50-x'
        path.parent.mkdir(parents=True)
        path.write_text('#!/bin/sh\n')
        for mode, words in ((0o775, 'may be changed by others'),
                            (0o644, 'not executable')):
            path.chmod(mode)
            self.refused(words)
        path.unlink()
        self.assertIs(Outcome.COMMITTED, self.begin().outcome)

    def test_install_again(self) -> None:
        """The first one failed; whatever was wrong may be right now."""
        with fixtures.MonkeyPatch('easystack_image.ota.upgrade.canary.run',
                                  _fail):
            result = self.begin(Kind.INSTALL)
        self.assertIs(Outcome.ROLLED_BACK, result.outcome)
        self.assertIs(Outcome.COMMITTED, self.begin(Kind.INSTALL).outcome)

    def test_archive_again(self) -> None:
        self.install()
        path = self.client().download(NEW)
        self.begin(archive=path, until=Step.PREFLIGHT)
        self.refused('did not end', archive=path)
        with fixtures.MonkeyPatch('easystack_image.ota.upgrade.canary.run',
                                  _later):
            self.assertRaises(exceptions.NotNow, machine.resume, self.tools)
        # Another file is another release, whatever it is called.
        self.refused('did not end', archive=self.another())
        self.assertIs(Outcome.COMMITTED, self.begin(archive=path).outcome)

    def test_below_the_floor_or_revoked(self) -> None:
        self.learn(floor=9)
        self.refused('below 9', kind=Kind.INSTALL, version=OLD)

    def test_revoked(self) -> None:
        self.install()
        self.learn(n2='it leaks')
        self.refused('it leaks', version=NEW)
        self.assertIsNone(self.begin())


class TestArchive(BeginningCase):

    def setUp(self) -> None:
        super().setUp()
        self.install()
        self.archive_path = self.client().download(NEW)

    def test_wherever_it_is(self) -> None:
        path = Path(shutil.copy(self.archive_path, self.root / 'x.tar'))
        # Nothing is asked of anybody.
        self.options['repository'] = 'http://127.0.0.1:1'
        result = self.begin(archive=path)
        self.assertIs(Outcome.COMMITTED, result.outcome)
        self.assertEqual({NEW}, self.world.serving())
        self.assertEqual('# of 2.0.0\n', self.config(NEW))

    def test_of_somebody(self) -> None:
        for version, number in ((NEW, 2), ('6.6.6', 6)):
            path = self.another(version, number)
            self.refused('not what was downloaded here', archive=path)
            path = Path(shutil.copy(path, self.downloads))
            self.refused('not what was downloaded here', archive=path)

    def test_unfinished_download(self) -> None:
        """It was never compared with the index, which is no dead end."""
        path = self.world.root / 'state' / memories.NAME
        record = json.loads(path.read_bytes())
        # As the updater before wrote it, too.
        del record['receipts']
        path.write_text(json.dumps(record))
        self.refused('get it with "download"', archive=self.archive_path)
        self.client().download(NEW)
        self.assertIs(Outcome.COMMITTED,
                      self.begin(archive=self.archive_path).outcome)

    def test_not_any_more(self) -> None:
        self.learn(n2='it leaks')
        self.refused('it leaks', archive=self.archive_path)
        self.learn(floor=9)
        self.assertIs(Kind.INSTALL, self.tools.journal.history()[-1].kind)

    def test_below_the_floor(self) -> None:
        self.learn(floor=9)
        self.refused('below 9', archive=self.archive_path)


class TestChain(BeginningCase):

    def setUp(self) -> None:
        super().setUp()
        self.install()

    def test_slot_of_another(self) -> None:
        """As "slots build --unsigned" makes it."""
        self.slots.build(self.another())
        self.assertEqual('# evil\n', self.config(NEW))
        self.assertIs(Outcome.COMMITTED, self.begin().outcome)
        self.assertEqual('# of 2.0.0\n', self.config(NEW))

    def test_slot_in_use(self) -> None:
        slot = self.slots.build(self.another())
        with (slot.path / 'config/sample.conf').open(), \
                fixtures.MonkeyPatch(
                    'easystack_image.ota.slots.using.os.getpid', lambda: 0):
            result = self.begin()
        self.assertIs(Outcome.ABANDONED, result.outcome)
        self.assertIn('another release of version 2.0.0', result.reason)
        self.assertEqual({OLD}, self.world.serving())

    def test_slot_is_swapped(self) -> None:
        for until in (Step.STAGE, Step.CHECK, Step.CANARY):
            self.assertIsNone(self.begin(until=until).outcome)
            worlds.unprotect(self.world.root)
            shutil.rmtree(self.world.root / 'opt/slots' / NEW)
            self.slots.build(self.another())
            result = machine.resume(self.tools)
            self.assertIn('than the one that was signed', result.reason)
            self.assertEqual({OLD}, self.world.serving())
            shutil.rmtree(self.root / 'another-2.0.0')

    def test_slots_are_locked(self) -> None:
        """By what an updater that was killed had begun: it takes its time."""
        path = self.world.root / 'opt'
        with fixtures.MonkeyPatch(
                'easystack_image.ota.upgrade.tools._PATIENCE', 0.2), \
                home.Home(path).locked():
            error = self.assertRaises(exceptions.AlreadyRunning, self.begin)
        self.assertIn(f'{path} is in use', str(error))
        self.assertIn('one that was killed', str(error))
        self.assertIs(Outcome.COMMITTED, machine.resume(self.tools).outcome)
        self.assertEqual({NEW}, self.world.serving())

    def test_archive_is_swapped(self) -> None:
        self.begin(until=Step.PREFLIGHT)
        shutil.copy(self.another(), self.downloads / (
            'easystack-image-2.0.0.tar'))
        result = machine.resume(self.tools)
        self.assertIn('another release than was signed', result.reason)
        self.assertEqual([OLD], self.built())

    def test_archive_is_swapped_while_it_is_read(self) -> None:
        release = self.slots.get(OLD).release
        with fixtures.MonkeyPatch(
                'easystack_image.ota.slots.slots.archive.inspect',
                lambda _: dataclasses.replace(release, version=NEW)):
            error = self.assertRaises(exceptions.SlotError, self.slots.build,
                                      self.another())
        self.assertIn('while it was read', str(error))
        self.assertIsNone(self.slots.get(NEW))

    def test_begun_by_an_earlier_updater(self) -> None:
        self.slots.build(self.client().download(NEW))
        tools = self.tools
        with tools.writer() as writer:
            writer.open(Kind.UPGRADE, OLD, NEW, soak=0, drain_timeout=0.01)
            writer.begin(Step.PREFLIGHT)
        result = machine.resume(tools)
        self.assertEqual((Outcome.ABANDONED, True), (
            result.outcome, 'begin it again' in result.reason))
        self.assertIs(Outcome.COMMITTED, self.begin().outcome)

    def test_back_to_another(self) -> None:
        self.assertIs(Outcome.COMMITTED, self.begin().outcome)
        worlds.unprotect(self.world.root)
        shutil.rmtree(self.world.root / 'opt/slots' / OLD)
        self.slots.build(self.another(OLD, 1))
        error = self.assertRaises(exceptions.SlotError, returning.roll_back,
                                  self.tools)
        self.assertIn('than was in use', str(error))
        self.assertEqual({NEW}, self.world.serving())


class TestRollback(BeginningCase):
    """Somebody wants to go back while another process downloads."""

    def test_it_is_given_up(self) -> None:
        """The release in use is bad, and the next one comes slowly."""
        self.install()
        self.begin(version=NEW)
        archive = self.publish_third()
        faults: list[exceptions.OtaError] = []

        def upgrade() -> None:
            try:
                self.begin(Kind.UPGRADE)
            except exceptions.OtaError as error:
                faults.append(error)

        sent = threading.Event()
        self.server.tricks['3.0.0'] = functools.partial(_slowly, sent)
        thread = threading.Thread(target=upgrade)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.ended.set)
        self.assertTrue(sent.wait(60))
        result = returning.roll_back(self.tools)
        self.assertEqual((Kind.ROLLBACK, Outcome.COMMITTED, {OLD}), (
            result.kind, result.outcome, self.world.serving()))
        thread.join()
        error, = faults
        self.assertIsInstance(error, exceptions.RollbackAsked)
        # What came until then is not asked for again.
        part, = self.downloads.glob('*.part')
        self.assertGreater(part.stat().st_size, 0)
        self.assertLess(part.stat().st_size, archive)
        self.server.tricks.clear()
        self.assertIs(Outcome.COMMITTED, self.begin(again=True).outcome)
        self.assertGreater(self.server.requests[-1][1], 0)

    def publish_third(self) -> int:
        """Publish 3.0.0; return the size of its archive, in bytes."""
        site = self.own_site()
        site.add('3.0.0', 3)
        site.sign_and_publish(['stable'])
        self.server.folder = site.repository.root / 'public'
        archive, = self.server.folder.rglob('*3.0.0*.tar')
        return archive.stat().st_size


def _slowly(sent: threading.Event, handler: Any, data: bytes) -> None:
    """Send a file as slowly as is allowed."""
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(data)))
    handler.end_headers()
    for place in range(0, len(data), 100):
        handler.wfile.write(data[place:place + 100])
        sent.set()
        if handler.server_ended.wait(0.2):
            return


class TestResume(BeginningCase):

    def setUp(self) -> None:
        super().setUp()
        self.install()

    def check_back(self, until: Step, words: str) -> None:
        """See that who resumes goes back, once something was learned."""
        result = machine.resume(self.tools)
        self.assertIn(f'must not be installed any more: {words}',
                      result.reason)
        self.assertIs(Outcome.ROLLED_BACK if self.built() == [OLD, NEW] and (
            until is not Step.CHECK) else Outcome.ABANDONED, result.outcome)
        self.assertEqual({OLD}, self.world.serving())
        self.assertEqual(OLD, self.slots.current().release.version)

    def test_revoked(self) -> None:
        """Before it is built, before users get it, and before it is kept."""
        for until in (Step.PREFLIGHT, Step.CHECK, Step.CANARY, Step.SOAK,
                      Step.CONTRACT):
            self.begin(version=NEW, until=until)
            before = memories.load(self.tools.home)
            self.learn(n2='it leaks')
            self.check_back(until, 'it is revoked: it leaks')
            # Which no updater does.
            memories.update(self.tools.home, lambda _, kept=before: kept)

    def test_below_the_floor(self) -> None:
        self.begin(until=Step.CANARY)
        self.learn(floor=9)
        self.check_back(Step.CANARY, 'its number is below 9')

    def test_irrevocable(self) -> None:
        self.begin(until=Step.SOAK)
        tools = self.tools
        with tools.writer() as writer:
            writer.begin(Step.CONTRACT, irrevocable=True)
        self.learn(n2='it leaks')
        self.assertIs(Outcome.COMMITTED, machine.resume(tools).outcome)

    def test_archive_is_kept(self) -> None:
        """Others may download meanwhile, for the next time."""
        self.begin(until=Step.PREFLIGHT)
        self.succeed('download', OLD)
        self.assertEqual([f'easystack-image-{version}.tar'
                          for version in (OLD, NEW)],
                         sorted(os.listdir(self.downloads)))
        self.assertIs(Outcome.COMMITTED, machine.resume(self.tools).outcome)
        self.succeed('download', OLD)
        self.assertEqual(['easystack-image-1.0.0.tar'],
                         os.listdir(self.downloads))

    def test_archive_is_gone(self) -> None:
        self.begin(until=Step.PREFLIGHT)
        shutil.rmtree(self.downloads)
        result = machine.resume(self.tools)
        self.assertIn('is gone: "upgrade" again', result.reason)
