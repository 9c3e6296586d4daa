"""The journal: what is written is there, and only what was written here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import errno
import functools
import json
import os
from pathlib import Path
import shutil
import subprocess
import threading
import time

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home
from easystack_image.ota.journal import journal
from easystack_image.ota.journal.records import Event
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.journal.records import Step
from tests.crash import steps
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

    def test_note(self) -> None:
        """No step is further by that, nor begun once more."""
        with self.journal.writer() as writer:
            writer.open(Kind.UPGRADE, '1.0.0', '1.1.0', until='check')
            writer.begin(Step.STAGE, forced=['a'])
            writer.note(until='soak')
            self.assertRaises(exceptions.JournalError, writer.done,
                              Step.CHECK)
        upgrade, = self.journal.history()
        self.assertIs(Event.BEGUN, upgrade.event(Step.STAGE))
        self.assertEqual((1, {'forced': ['a'], 'until': 'soak'}), (
            upgrade.begun(Step.STAGE), upgrade.details(Step.STAGE)))
        self.assertIs(Step.SOAK, upgrade.until)
        self.assertFalse(upgrade.stopped)

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
                        anchor = (self.place / 'anchor.json'
                                  ).read_bytes()
                    if number:
                        writer.begin(list(Step)[number])
                    else:
                        writer.open(Kind.UPGRADE, '1', '2')
            (self.place / 'anchor.json').write_bytes(anchor)
            with self.journal.writer() as writer:
                self.assertEqual(line + 1, len(writer.unfinished.records))
                writer.close(Outcome.ABANDONED)
            self.assertEqual(line + 2,
                             len(self.journal.history()[0].records))


    def unacknowledged(self, line: int) -> bytes:
        """Have the last of some lines written, and the power fail then."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.write_upgrade('1.1.0')
        with self.journal.writer() as writer:
            for number in range(line + 1):
                anchor = (self.place / 'anchor.json').read_bytes()
                if number:
                    writer.begin(list(Step)[number])
                else:
                    writer.open(Kind.UPGRADE, '1', '2')
        (self.place / 'anchor.json').write_bytes(anchor)
        return self.file(2).read_bytes().splitlines(True)[-1]

    def test_the_end_of_a_line(self) -> None:
        """The page with its end was written, that with its beginning not."""
        for line in range(3):
            size = len(self.unacknowledged(line))
            for lost in (1, size // 2, size - 2):
                whole = self.unacknowledged(line)
                before = self.file(2).read_bytes().removesuffix(whole)
                self.file(2).write_bytes(
                    before + bytes(lost) + whole[lost:])
                self.assertEqual([4, line][:1 + bool(line)], [
                    len(each.records) for each in self.journal.history()])
                with self.journal.writer() as writer:
                    if line:
                        self.assertEqual(before, self.file(2).read_bytes())
                    else:
                        self.assertFalse(self.file(2).exists())
                        writer.open(Kind.UPGRADE, '1', '2')
                    writer.close(Outcome.ABANDONED)
                self.assertEqual([4, max(line, 1) + 1], [
                    len(each.records) for each in self.journal.history()])

    def test_the_end_of_a_line_that_counts(self) -> None:
        """No crash leaves that of one that was acknowledged."""
        for line in range(3):
            whole = self.unacknowledged(line)
            self.open()
            data = self.file(2).read_bytes()
            self.file(2).write_bytes(data.removesuffix(whole)
                                     + bytes(5) + whole[5:])
            self.assertBad(f'line {line + 1} of upgrade 2 is another')

    def test_a_line_ahead_that_is_not_ours(self) -> None:
        """It was not torn, but put there."""
        for name, value in (('previous', '0' * 64), ('node', 'another'),
                            ('format', 2), ('event', 'eaten')):
            for line in range(3):
                whole = self.unacknowledged(line)
                data = self.file(2).read_bytes()
                self.file(2).write_bytes(
                    data.removesuffix(whole) + json.dumps(
                        {**json.loads(whole), name: value}).encode() + b'\n')
                self.assertBad('does not belong to this journal')

    def test_torn_and_without_anchor(self) -> None:
        """There always is one before the first line."""
        with self.journal.writer() as writer:
            writer.open(Kind.UPGRADE, '1', '2')
        data = self.file().read_bytes()
        self.file().write_bytes(bytes(5) + data[5:])
        os.unlink(self.place / 'anchor.json')
        self.assertBad('does not belong to this journal')


class FullTest(JournalCase):
    """A disk that is full, or fails, at every point, for some time."""

    #: What takes space.
    TAKING = ('create', 'write_at', 'mkdir')

    def setUp(self) -> None:
        super().setUp()
        self.number = errno.ENOSPC
        #: After how many changes it fails; None for never.
        self.left: int | None = None
        self.passed = 0
        for name in steps.CHANGES:
            self.patch(fsio, name, functools.partial(
                self.change, name, getattr(fsio, name)))

    def change(self, name: str, real: Callable[..., object], *args: object,
               ) -> object:
        self.passed += 1
        if self.left is not None and self.passed > self.left and (
                self.number == errno.EIO or name in self.TAKING):
            if name == 'write_at':
                fd, data, offset = args
                real(fd, memoryview(data)[:20], offset)
            raise OSError(self.number, os.strerror(self.number))
        # Nothing here outlives the machine.
        return None if 'sync' in name else real(*args)

    def write(self, writer: journal.Writer) -> None:
        writer.begin(Step.SOAK)
        writer.done(Step.SOAK, text='x' * 3000)

    def known(self) -> int:
        """Return how many lines the last upgrade has, for a reader."""
        return len(self.journal.history()[-1].records)

    def fail_at(self, point: int) -> bool:
        """Fail while lines are written, and go on; tell whether it did."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.write_upgrade()
        with self.journal.writer() as writer:
            upgrade = writer.open(Kind.UPGRADE, '1.1.0', '1.2.0')
            self.left, self.passed = point, 0
            try:
                self.write(writer)
            except exceptions.JournalFull as error:
                self.assertIn(os.strerror(self.number), str(error))
            else:
                return False
            finally:
                self.left = None
            lines = len(upgrade.records)
            self.assertIn(self.known(), (lines, lines + 1))
            self.left = 0
            self.assertRaises(exceptions.JournalFull, self.write, writer)
            self.left = None
            self.assertIn(self.known(), (lines, lines + 1))
            self.write(writer)
            self.assertEqual(lines + 2, self.known())
        # Another process sees the same.
        with self.journal.writer() as writer:
            self.assertEqual(lines + 2, len(writer.unfinished.records))
        return True

    def test_every_point(self) -> None:
        for self.number in (errno.ENOSPC, errno.EIO):
            failures = 0
            while self.fail_at(failures):
                failures += 1
            self.assertGreater(failures, 10)

    def test_another_process_goes_on(self) -> None:
        """With what the disk has when it fails there."""
        for self.number in (errno.ENOSPC, errno.EIO):
            point, failed = 0, True
            while failed:
                shutil.rmtree(self.place, ignore_errors=True)
                with self.journal.writer() as writer:
                    writer.open(Kind.UPGRADE, '1.1.0', '1.2.0')
                    self.left, self.passed = point, 0
                    try:
                        self.write(writer)
                        failed = False
                    except exceptions.JournalFull:
                        point += 1
                self.left = None
                with self.journal.writer() as writer:
                    self.write(writer)
                    writer.close(Outcome.COMMITTED)
                self.open()
            self.assertGreater(point, 10)

    def test_the_first_line(self) -> None:
        for self.number in (errno.ENOSPC, errno.EIO):
            for point in range(12):
                shutil.rmtree(self.place, ignore_errors=True)
                self.write_upgrade()
                with self.journal.writer() as writer:
                    self.left, self.passed = point, 0
                    with contextlib.suppress(exceptions.JournalFull):
                        writer.open(Kind.UPGRADE, '1.1.0', '1.2.0')
                    self.left = None
                    if writer.unfinished is None:
                        writer.open(Kind.UPGRADE, '1.1.0', '1.2.0')
                    self.write(writer)
                self.assertEqual([4, 3], [
                    len(each.records) for each in self.journal.history()])

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Have a disk that is full but for what is kept for a rollback.

        A real one, if this process may mount one.
        """
        kept = self.place / 'journal' / 'reserve'
        ballast = self.place / 'ballast'
        if self.place.is_mount():
            with ballast.open('wb', buffering=0) as file, \
                    contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
            ballast.unlink()
            return
        for name in self.TAKING:
            self.patch(fsio, name, functools.partial(
                _unless, kept, getattr(fsio, name)))
        yield

    def mount(self) -> None:
        """Have a disk of its own, if this process may."""
        self.place.mkdir()
        done = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=256k,mode=700', 'none',
             self.place], capture_output=True)
        if done.returncode == 0:
            self.addCleanup(subprocess.run, ['umount', self.place],
                            check=True)

    def test_a_rollback_is_written(self) -> None:
        self.mount()
        with self.journal.writer() as writer:
            writer.open(Kind.UPGRADE, '1.0.0', '1.1.0')
            with self.full():
                error = self.assertRaises(
                    exceptions.JournalFull, writer.begin, Step.SOAK,
                    text='x' * 9000)
                self.assertIn('No space left', str(error))
                writer.begin(Step.ROLLBACK)
                writer.done(Step.ROLLBACK, text='x' * 9000)
                writer.close(Outcome.ROLLED_BACK)
        self.write_upgrade()
        self.assertEqual([Outcome.ROLLED_BACK, Outcome.COMMITTED], [
            each.outcome for each in self.journal.history()])

    def test_another_process_rolls_back(self) -> None:
        self.mount()
        with self.journal.writer() as writer:
            writer.open(Kind.UPGRADE, '1.0.0', '1.1.0')
        anchor = self.place / 'anchor.json'
        before = anchor.read_bytes()
        with self.journal.writer() as writer:
            writer.begin(Step.SOAK)
        # As a crash leaves it, between the line and the anchor.
        anchor.write_bytes(before)
        with self.full(), self.journal.writer() as writer:
            writer.begin(Step.ROLLBACK)
            writer.close(Outcome.ROLLED_BACK)
        self.assertEqual(4, self.known())


def _unless(kept: Path, real: Callable[..., object], *args: object) -> object:
    """Do something that takes space, unless what is kept is there yet."""
    if kept.exists():
        raise OSError(errno.ENOSPC, 'No space left on device')
    return real(*args)


class ReplayTest(JournalCase):

    def test_older(self) -> None:
        self.write_upgrade()
        old = self.root / 'old'
        shutil.copytree(self.place / 'journal', old)
        self.write_upgrade('1.2.0')
        # Its files without the anchor, and the anchor without its files.
        self.file(2).unlink()
        self.assertBad('it is an old one')
        # And all of it, as it was.
        shutil.rmtree(self.place / 'journal')
        shutil.copytree(old, self.place / 'journal')
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
        path = self.place / 'anchor.json'
        record = json.loads(path.read_bytes())
        record['node'] = 'another'
        path.write_text(json.dumps(record))
        self.assertBad('of another machine')

    def test_of_an_earlier_updater(self) -> None:
        """It had the anchor among the files."""
        self.write_upgrade()
        old = self.place / 'journal/anchor.json'
        (self.place / 'anchor.json').rename(old)
        self.assertEqual(1, len(self.journal.history()))
        shutil.copytree(self.place / 'journal', self.root / 'old')
        self.write_upgrade('1.2.0')
        self.assertFalse(old.exists())
        self.assertEqual(2, len(self.journal.history()))
        shutil.rmtree(self.place / 'journal')
        shutil.copytree(self.root / 'old', self.place / 'journal')
        self.assertBad('it is an old one')

    def test_without_anchor(self) -> None:
        self.write_upgrade()
        os.unlink(self.place / 'anchor.json')
        self.assertBad()

    def test_anchor_is_damaged(self) -> None:
        self.write_upgrade()
        for text in ('', '[]', '{"format": 2}', '{"format": 1}',
                     '{"format": 1, "node": "", "who": 1}'):
            (self.place / 'anchor.json').write_text(text)
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
