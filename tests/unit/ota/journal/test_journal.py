"""The journal: what is written is there, and only what was written here."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import threading
import time

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.journal import journal
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from tests.unit.ota import base


class JournalCase(base.Case):

    def setUp(self) -> None:
        super().setUp()
        self.patch(journal, '_PAUSE', 0.001)
        self.place = self.root / 'state'
        self.journal = journal.Journal(home.Home(self.place))

    def write_upgrade(self, target: str = '1.1.0') -> None:
        with self.journal.writer() as writer:
            writer.open(Kind.UPGRADE, '1.0.0', target)
            writer.begin(Step.STAGE)
            writer.done(Step.STAGE, slot='/opt')
            writer.close(Outcome.COMMITTED)

    def file(self, number: int = 1) -> Path:
        return self.place / 'journal' / f'{number:06}.jsonl'

    def assertBad(self, *words: str) -> None:
        for use in (self.journal.history, self.open):
            error = self.assertRaises(exceptions.JournalError, use)
            for word in words:
                self.assertIn(word, str(error))

    def open(self) -> None:
        with self.journal.writer():
            pass


class WriterTest(JournalCase):

    def test_nothing_yet(self) -> None:
        self.assertEqual([], self.journal.history())
        with self.journal.writer() as writer:
            self.assertIsNone(writer.unfinished)

    def test_upgrade(self) -> None:
        began = time.time()
        with self.journal.writer() as writer:
            upgrade = writer.open(Kind.UPGRADE, '1.0.0', '1.1.0', by='me')
            self.assertIs(upgrade, writer.unfinished)
            self.assertIsNone(upgrade.event(Step.STAGE))
            writer.begin(Step.STAGE)
            self.assertIs(Event.BEGUN, upgrade.event(Step.STAGE))
        with self.journal.writer() as writer:
            upgrade = writer.unfinished
            self.assertEqual((1, Kind.UPGRADE, '1.0.0', '1.1.0', None), (
                upgrade.number, upgrade.kind, upgrade.origin, upgrade.target,
                upgrade.outcome))
            self.assertIs(Event.BEGUN, upgrade.event(Step.STAGE))
            # It was cut short, and is done once more.
            writer.begin(Step.STAGE)
            writer.done(Step.STAGE, slot='/opt/slots/1.1.0')
            writer.begin(Step.CANARY)
            writer.failed(Step.CANARY, 'it is slow', seconds=3.5)
            writer.close(Outcome.ROLLED_BACK)
            self.assertIsNone(writer.unfinished)
        upgrade, = self.journal.history()
        self.assertIs(Outcome.ROLLED_BACK, upgrade.outcome)
        self.assertEqual({'reason': 'it is slow', 'seconds': 3.5},
                         upgrade.details(Step.CANARY))
        self.assertEqual('/opt/slots/1.1.0',
                         upgrade.details(Step.STAGE)['slot'])
        self.assertEqual(
            ['opened', 'begun', 'begun', 'done', 'begun', 'failed', 'closed'],
            [record.event for record in upgrade.records])
        self.assertGreaterEqual(upgrade.records[0].time, began)

    def test_wrong_order(self) -> None:
        with self.journal.writer() as writer:
            self.assertRaises(exceptions.JournalError, writer.begin,
                              Step.STAGE)
            writer.open(Kind.INSTALL, None, '1.0.0')
            error = self.assertRaises(
                exceptions.JournalError, writer.open, Kind.UPGRADE, '1.0.0',
                '1.1.0')
            self.assertIn('install to 1.0.0 did not end', str(error))
            self.assertRaises(exceptions.JournalError, writer.done,
                              Step.STAGE)
            writer.begin(Step.STAGE)
            writer.done(Step.STAGE)
            self.assertRaises(exceptions.JournalError, writer.failed,
                              Step.STAGE, 'why')
            writer.close(Outcome.ABANDONED)
            self.assertRaises(exceptions.JournalError, writer.close,
                              Outcome.ABANDONED)

    def test_one_writer(self) -> None:
        with self.journal.writer():
            self.assertRaises(exceptions.AlreadyRunning, self.open)
            # It keeps nobody from downloading.
            with home.Home(self.place).locked():
                pass
        self.open()

    def test_read_while_it_is_written(self) -> None:
        end = threading.Event()
        faults: list[Exception] = []

        def read() -> None:
            while not end.is_set():
                try:
                    self.journal.history()
                except Exception as error:
                    faults.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            for number in range(20):
                self.write_upgrade(f'1.{number}.0')
        finally:
            end.set()
            thread.join()
        self.assertEqual([], faults)
        self.assertEqual(20, len(self.journal.history()))


class CrashTest(JournalCase):
    """What a crash leaves; tests/crash has the crashes."""

    def test_half_a_line(self) -> None:
        self.write_upgrade()
        before = self.file().read_bytes()
        with self.file().open('ab') as file:
            file.write(b'{"details": {')
        self.assertEqual(1, len(self.journal.history()))
        self.open()
        self.assertEqual(before, self.file().read_bytes())

    def test_half_of_a_first_line(self) -> None:
        self.write_upgrade()
        for data in (b'', b'{"details'):
            self.file(2).write_bytes(data)
            self.assertEqual(1, len(self.journal.history()))
            self.open()
            self.assertFalse(self.file(2).exists())
        self.write_upgrade()
        self.assertEqual(2, len(self.journal.history()))

    def test_the_anchor_is_one_line_behind(self) -> None:
        for line in range(4):
            shutil.rmtree(self.place, ignore_errors=True)
            with self.journal.writer() as writer:
                for number in range(line + 1):
                    if number == line:
                        anchor = (self.place / 'journal/anchor.json'
                                  ).read_bytes()
                    if number:
                        writer.begin(list(Step)[number])
                    else:
                        writer.open(Kind.UPGRADE, '1', '2')
            (self.place / 'journal/anchor.json').write_bytes(anchor)
            with self.journal.writer() as writer:
                self.assertEqual(line + 1, len(writer.unfinished.records))
                writer.close(Outcome.ABANDONED)
            self.assertEqual(line + 2,
                             len(self.journal.history()[0].records))


class ReplayTest(JournalCase):

    def test_older(self) -> None:
        self.write_upgrade()
        old = self.root / 'old'
        shutil.copytree(self.place / 'journal', old)
        self.write_upgrade('1.2.0')
        # Its files without the anchor, and the anchor without its files.
        self.file(2).unlink()
        self.assertBad('it is an old one')
        shutil.rmtree(self.place)
        self.assertEqual([], self.journal.history())

    def test_another_machine(self) -> None:
        self.write_upgrade()
        other = self.root / 'other'
        self.journal = journal.Journal(home.Home(other))
        self.place = other
        self.write_upgrade()
        shutil.copy(self.root / 'state/journal/000001.jsonl', self.file())
        self.assertBad()

    def test_an_anchor_of_another_machine(self) -> None:
        self.write_upgrade()
        path = self.place / 'journal/anchor.json'
        record = json.loads(path.read_bytes())
        record['node'] = 'another'
        path.write_text(json.dumps(record))
        self.assertBad('of another machine')

    def test_without_anchor(self) -> None:
        self.write_upgrade()
        os.unlink(self.place / 'journal/anchor.json')
        self.assertBad()

    def test_anchor_is_damaged(self) -> None:
        self.write_upgrade()
        for text in ('', '[]', '{"format": 2}', '{"format": 1}',
                     '{"format": 1, "node": "", "who": 1}'):
            (self.place / 'journal/anchor.json').write_text(text)
            self.assertBad('anchor.json', 'damaged')

    def test_any_line_is_changed(self) -> None:
        self.write_upgrade()
        self.write_upgrade()
        for number in (1, 2):
            lines = self.file(number).read_bytes().splitlines(True)
            for place, line in enumerate(lines):
                changed = line[:-1] + b' \n'
                self.file(number).write_bytes(b''.join(
                    [*lines[:place], changed, *lines[place + 1:]]))
                self.assertBad()
            for place in range(len(lines)):
                self.file(number).write_bytes(b''.join(
                    lines[:place] + lines[place + 1:]))
                self.assertBad()
            self.file(number).write_bytes(b''.join(lines))
        self.open()

    def test_a_file_is_lacking(self) -> None:
        for _ in range(3):
            self.write_upgrade()
        for number in (1, 2, 3):
            data = self.file(number).read_bytes()
            self.file(number).unlink()
            self.assertBad()
            self.file(number).write_bytes(b'')
            self.assertBad()
            self.file(number).write_bytes(data)
        self.open()
