"""Reading from several copies, some of them bad, late or gone."""

from __future__ import annotations

from collections.abc import Callable
import errno
import os
import threading
import time
from typing import Any

import fixtures
import hypothesis
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import copying
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import reader
from tests.contract import local
from tests.unit.blockstore import examples
from tests.unit.blockstore.local import base

IMAGE = 'acd9ad0a-e692-40b7-9ba7-6fe6b94be08f'
BLOCK = 64


class ReaderTest(testtools.TestCase):
    """Copies of an image with small blocks, in files of a temporary folder."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger())
        self.home = self.useFixture(fixtures.TempDir()).path
        self.reports: list[tuple[str, str, bool]] = []
        self.files = 0

    def image(self, data: bytes) -> manifest_module.Manifest:
        """Describe the image that the copies are of."""
        self.data = data
        self.manifest = local.describe(IMAGE, data, block_size=BLOCK)
        return self.manifest

    def copy(self, damage: Any = (), content: bytes | None = None,
             ) -> reader.CopyFile:
        """Return a copy in which some bytes are not what they were.

        :param damage: the offsets of the bytes
        """
        self.files += 1
        path = f'{self.home}/{self.files}'
        with open(path, 'wb') as file:
            file.write(self.data if content is None else content)
        for offset in damage:
            local.flip(path, offset)
        return reader.CopyFile(path, os.open(path, os.O_RDONLY),
                               self.manifest)

    def reader(self, copies: list[reader.CopyFile], offset: int = 0,
               length: int | None = None, timeout: float = 60,
               ) -> reader.LocalReader:
        """Return a reader that notes what it reports."""
        return reader.LocalReader(
            copying.info_of(self.manifest), copies, offset, length, timeout,
            lambda *report: self.reports.append(report))

    def faults(self) -> list[tuple[str, bool]]:
        """Return which copies were reported, and whether they hang."""
        return [(os.path.basename(path), hung)
                for path, _, hung in self.reports]


class RangeTest(ReaderTest):

    @hypothesis.given(strategies.integers(0, 5 * BLOCK + 1), strategies.data())
    @examples(150)
    def test_any(self, size: int, data: Any) -> None:
        self.image(base.noise(size))
        offset = data.draw(strategies.integers(0, size + 3))
        length = data.draw(strategies.one_of(
            strategies.none(), strategies.integers(0, size + 3)))
        made = self.reader([self.copy()], offset, length)
        expected = self.data[offset:None if length is None
                             else offset + length]
        self.assertEqual(len(expected), made.length)
        if data.draw(strategies.booleans()):
            made.prefetch()
        pieces = list(made)
        self.assertEqual(expected, b''.join(pieces))
        self.assertNotIn(b'', pieces)
        # Ranges read only the blocks that they touch.
        first, last = offset // BLOCK, (offset + len(expected) - 1) // BLOCK
        self.assertEqual(last - first + 1 if expected else 0, len(pieces))
        made.close()

    def test_only_the_blocks_it_touches_are_read(self) -> None:
        self.image(base.noise(100 * BLOCK))
        read: list[int] = []
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            read.append(offset // BLOCK)
            return real(fd, length, offset)

        self.useFixture(fixtures.MonkeyPatch('os.pread', pread))
        made = self.reader([self.copy()], 40 * BLOCK + 5, 2 * BLOCK)
        self.assertEqual(self.data[40 * BLOCK + 5:][:2 * BLOCK],
                         b''.join(made))
        made.close()
        self.assertEqual([40, 41, 42], read)

    def test_reads_no_further_ahead_than_that(self) -> None:
        self.image(base.noise(100 * BLOCK))
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.residency.cached',
            lambda fd, offset, length: False))
        read: list[int] = []
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            read.append(offset // BLOCK)
            return real(fd, length, offset)

        self.useFixture(fixtures.MonkeyPatch('os.pread', pread))
        made = self.reader([self.copy()])
        for number in range(20):
            next(made)
            # Nobody takes what it reads, so it must come to a stop.
            base.eventually(lambda least=number + 4: len(read) > least,
                            'it reads ahead')
            # Time to go wrong in.
            time.sleep(0.01)
            self.assertLessEqual(
                len(read), number + 1 + (reader.BATCHES + 1) * reader.BATCH)
        made.close()


class FailoverTest(ReaderTest):

    @hypothesis.given(
        strategies.integers(1, 8 * BLOCK),
        strategies.lists(strategies.sets(strategies.integers(0, 7)),
                         min_size=1, max_size=4),
        strategies.data())
    @examples(200)
    def test_against_a_model(self, size: int, plans: list[set[int]],
                             data: Any) -> None:
        self.image(base.noise(size))
        self.reports.clear()
        blocks = -(-size // BLOCK)
        copies = [self.copy(sorted(
            block * BLOCK + (size + block) % self.manifest.block_length(block)
            for block in plan if block < blocks)) for plan in plans]
        offset = data.draw(strategies.integers(0, size - 1))
        lost = [block for block in range(offset // BLOCK, blocks)
                if all(block in plan for plan in plans)]
        end = lost[0] * BLOCK if lost else size
        made = self.reader(copies, offset)
        read = bytearray()
        try:
            for piece in made:
                read += piece
        except exceptions.DamagedImage as error:
            self.assertTrue(lost)
            self.assertIn(f'block {lost[0]} ', str(error))
            self.assertRaises(exceptions.DamagedImage, next, made)
        else:
            self.assertEqual([], lost)
            self.assertRaises(StopIteration, next, made)
        self.assertEqual(self.data[offset:max(end, offset)], bytes(read))
        made.close()
        # Each copy is tried at most once per block, and no wrong one named.
        self.assertEqual(len(self.reports), len({
            (path, reason) for path, reason, _ in self.reports}))
        for path, _, hung in self.reports:
            self.assertFalse(hung)
            self.assertTrue(plans[[each.path for each in copies].index(path)])

    def test_copy_without_a_known_fault_is_preferred(self) -> None:
        self.image(base.noise(6 * BLOCK))
        made = self.reader([self.copy([0]), self.copy(), self.copy()])
        self.assertEqual(self.data, b''.join(made))
        self.assertEqual([('1', False)], self.faults())

    def test_each_block_from_another_copy(self) -> None:
        self.image(base.noise(6 * BLOCK))
        copies = [self.copy([block * BLOCK for block in range(6)
                             if block % 3 != number])
                  for number in range(3)]
        made = self.reader(copies)
        self.assertEqual(self.data, b''.join(made))
        self.assertLessEqual(
            {(path, False) for path in '123'}, set(self.faults()))

    def test_cut_off(self) -> None:
        self.image(base.noise(5 * BLOCK))
        for length in (0, 1, 2 * BLOCK, 5 * BLOCK - 1):
            self.reports.clear()
            made = self.reader([self.copy(content=self.data[:length]),
                                self.copy()])
            self.assertEqual(self.data, b''.join(made))
            self.assertEqual(1, len(self.reports))
            self.assertIn('bytes, not', self.reports[0][1])

    def test_cut_off_while_it_is_read(self) -> None:
        self.image(base.noise(40 * BLOCK))
        copies = [self.copy(), self.copy()]
        made = self.reader(copies)
        read = next(made)
        os.truncate(copies[0].path, 0)
        read += b''.join(made)
        self.assertEqual(self.data, read)

    def test_errors_of_the_disk(self) -> None:
        self.image(base.noise(5 * BLOCK))
        copies = [self.copy(), self.copy()]
        real = os.pread
        for number in (errno.EIO, errno.ETIMEDOUT, errno.ESTALE):
            self.reports.clear()

            def pread(fd: int, length: int, offset: int,
                      number: int = number) -> bytes:
                if fd == copies[0].descriptor and offset >= 2 * BLOCK:
                    raise OSError(number, os.strerror(number))
                return real(fd, length, offset)

            self.useFixture(fixtures.MonkeyPatch('os.pread', pread))
            for copy in copies:
                copy.use()
                copy.bad.clear()
            made = self.reader(copies)
            self.assertEqual(self.data, b''.join(made))
            made.close()
            # It answered, if only with an error.
            self.assertEqual(
                [(copies[0].path, os.strerror(number), False)],
                self.reports)
        for copy in copies:
            copy.close()

    def test_short_reads(self) -> None:
        self.image(base.noise(5 * BLOCK + 3))
        real = os.pread
        self.useFixture(fixtures.MonkeyPatch(
            'os.pread', lambda fd, length, offset:
            real(fd, min(length, 7), offset)))
        made = self.reader([self.copy()])
        self.assertEqual(self.data, b''.join(made))
        self.assertEqual([], self.reports)

    def test_all_given_up(self) -> None:
        self.image(base.noise(2 * BLOCK))
        copies = [self.copy(), self.copy()]
        made = self.reader(copies)
        for copy in copies:
            copy.hung = True
        error = self.assertRaises(exceptions.DamagedImage, made.prefetch)
        self.assertIn(IMAGE, str(error))
        self.assertIn('given up', str(error))

    def test_prefetch(self) -> None:
        self.image(base.noise(2 * BLOCK))
        with base.nothing_left_behind():
            made = self.reader([self.copy([0]), self.copy([5])])
            self.assertRaises(exceptions.DamagedImage, made.prefetch)
            made.close()
            made = self.reader([self.copy([0]), self.copy([5])], BLOCK)
            made.prefetch()
            self.assertEqual(self.data[BLOCK:], next(made))
            made.close()


class HungTest(ReaderTest):
    """A copy whose disk does not answer; none does so on demand."""

    def setUp(self) -> None:
        super().setUp()
        self.release = threading.Event()
        self.addCleanup(self.release.set)
        #: Descriptors, and the offsets from which on reading them hangs.
        self.hangs: dict[int, int] = {}
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            if offset >= self.hangs.get(fd, 1 << 62):
                self.release.wait()
            return real(fd, length, offset)

        self.useFixture(fixtures.MonkeyPatch('os.pread', pread))
        # What hangs is not in the page cache.
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.residency.cached',
            lambda fd, offset, length: False))

    def test_next_copy_takes_over(self) -> None:
        self.image(base.noise(20 * BLOCK))
        for begin in (0, 7):
            self.reports.clear()
            self.release.clear()
            with base.nothing_left_behind():
                copies = [self.copy(), self.copy()]
                self.hangs[copies[0].descriptor] = begin * BLOCK
                made = self.reader(copies, timeout=1)
                self.assertEqual(self.data, b''.join(made))
                made.close()
                self.assertEqual([(copies[0].path, 'no answer within 1 s',
                                   True)], self.reports)
                self.assertTrue(copies[0].hung)
                # The descriptor belongs to the hung thread now; nobody may
                # be given its number meanwhile.
                os.fstat(copies[0].descriptor)
                self.release.set()
            self.hangs.clear()

    def test_every_copy_hangs(self) -> None:
        self.image(base.noise(3 * BLOCK))
        with base.nothing_left_behind():
            copies = [self.copy(), self.copy()]
            for copy in copies:
                self.hangs[copy.descriptor] = BLOCK
            made = self.reader(copies, timeout=1)
            self.assertEqual(self.data[:BLOCK], next(made))
            begin = time.monotonic()
            self.assertRaises(exceptions.DamagedImage, list, made)
            self.assertGreaterEqual(time.monotonic() - begin, 2)
            # It is not waited for once more.
            begin = time.monotonic()
            self.assertRaises(exceptions.DamagedImage, list, made)
            self.assertLess(time.monotonic() - begin, 1)
            self.release.set()

    def test_closing_waits_for_no_disk(self) -> None:
        self.image(base.noise(20 * BLOCK))
        with base.nothing_left_behind():
            copies = [self.copy()]
            self.hangs[copies[0].descriptor] = 5 * BLOCK
            made = self.reader(copies)
            next(made)
            begin = time.monotonic()
            made.close()
            self.assertLess(time.monotonic() - begin, 30)
            self.release.set()


class CachedTest(ReaderTest):
    """Copies on a disk, in the page cache or just dropped from it."""

    def setUp(self) -> None:
        super().setUp()
        #: Which thread read from where, by waiting.
        self.waited: list[tuple[str, int]] = []
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            self.waited.append((threading.current_thread().name,
                                offset // BLOCK))
            return real(fd, length, offset)

        self.useFixture(fixtures.MonkeyPatch('os.pread', pread))

    def copy(self, damage: Any = (), content: bytes | None = None,
             ) -> reader.CopyFile:
        made = super().copy(damage, content)
        return reader.CopyFile(made.path, made.descriptor, made.manifest,
                               on_disk=True)

    def cached(self, answers: Callable[[int], bool]) -> None:
        """Say what is in the page cache, by the offset of its beginning."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.residency.cached',
            lambda fd, offset, length: answers(offset)))

    def later(self, read: Callable[..., bytes | None]) -> None:
        """Say what is still there when it is read."""
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.residency.read', read))

    def test_all_of_it(self) -> None:
        self.image(base.noise(20 * BLOCK + 3))
        self.cached(lambda offset: True)
        copy = self.copy()
        try:
            copy.read_now(0)
        except OSError:
            self.skipTest('this file system can only wait')
        self.assertEqual(self.data, b''.join(self.reader([copy])))
        self.assertEqual([], self.waited)

    def test_what_goes_in_between(self) -> None:
        """Who wants it never waits for it, whatever was said before."""
        self.image(base.noise(20 * BLOCK))
        self.cached(lambda offset: True)
        self.later(lambda fd, offset, length: None if offset >= 5 * BLOCK
                   else self.data[offset:offset + length])
        self.assertEqual(self.data, b''.join(self.reader([self.copy()])))
        self.assertEqual([('read-ahead', block) for block in range(5, 20)],
                         self.waited)
        self.assertEqual([], self.reports)

    def test_a_disk_that_hangs_in_between(self) -> None:
        self.image(base.noise(20 * BLOCK))
        self.cached(lambda offset: True)
        self.later(lambda fd, offset, length: None)
        release = threading.Event()
        self.addCleanup(release.set)
        copies = [self.copy(), self.copy()]
        hanging = copies[0].descriptor
        real = os.pread

        def pread(fd: int, length: int, offset: int) -> bytes:
            if fd == hanging:
                # It fails, rather than hang, where the old mistake is.
                release.wait(20)
            return real(fd, length, offset)

        with base.nothing_left_behind():
            self.useFixture(fixtures.MonkeyPatch('os.pread', pread))
            self.assertEqual(self.data, b''.join(self.reader(
                copies, timeout=1)))
            release.set()
        self.assertEqual([('1', True)], self.faults())

    def test_where_reading_can_only_wait(self) -> None:
        self.image(base.noise(20 * BLOCK))
        self.cached(lambda offset: True)
        asked = []

        def read(fd: int, offset: int, length: int) -> bytes | None:
            asked.append(offset)
            raise OSError(errno.EOPNOTSUPP, 'it cannot')

        self.later(read)
        copy = self.copy()
        self.assertEqual(self.data, b''.join(self.reader([copy])))
        self.assertEqual({'read-ahead'}, {name for name, _ in self.waited})
        self.assertEqual([0], asked)
        self.assertEqual([], self.reports)
        self.assertFalse(copy.cached(0, 1))

    def test_a_bad_block(self) -> None:
        self.image(base.noise(20 * BLOCK))
        self.cached(lambda offset: True)
        copies = [self.copy([12 * BLOCK]), self.copy()]
        self.assertEqual(self.data, b''.join(self.reader(copies)))
        self.assertEqual([('1', False)], self.faults())


class CloseTest(ReaderTest):

    def test_ends_everything(self) -> None:
        self.image(base.noise(50 * BLOCK))
        for count in (0, 1, 30, 50):
            with base.nothing_left_behind():
                made = self.reader([self.copy(), self.copy()])
                for _ in range(count):
                    next(made)
                made.close()
                made.close()

    def test_forgotten(self) -> None:
        self.image(base.noise(50 * BLOCK))
        with base.nothing_left_behind():
            made = self.reader([self.copy(), self.copy()])
            next(made)
            del made

    def test_half_made(self) -> None:
        # As it is when its constructor fails.
        made = reader.LocalReader.__new__(reader.LocalReader)
        made.__del__()

    def test_at_its_end_it_closes_by_itself(self) -> None:
        self.image(base.noise(3 * BLOCK))
        with base.nothing_left_behind():
            made = self.reader([self.copy()])
            self.assertEqual(3, len(list(made)))
            self.assertRaises(StopIteration, next, made)

    def test_after_damage_it_closes_by_itself(self) -> None:
        self.image(base.noise(3 * BLOCK))
        with base.nothing_left_behind():
            made = self.reader([self.copy([BLOCK])])
            self.assertRaises(exceptions.DamagedImage, list, made)

    def test_is_what_the_contract_says(self) -> None:
        self.image(b'x')
        made = self.reader([self.copy()])
        self.assertIsInstance(made, engine_module.Reader)
        self.assertEqual(IMAGE, made.info.image_id)
        self.assertEqual(1, made.length)


class CopyFileTest(ReaderTest):

    def test_read(self) -> None:
        self.image(base.noise(2 * BLOCK + 5))
        copy = self.copy([BLOCK + 9])
        self.assertEqual(self.data[:BLOCK], copy.read(0))
        error = self.assertRaises(OSError, copy.read, 1)
        self.assertIn('block 1 does not match its checksum', str(error))
        self.assertEqual(self.data[2 * BLOCK:], copy.read(2))
        copy.close()

    def test_closed_by_its_last_user(self) -> None:
        self.image(base.noise(BLOCK))
        copy = self.copy()
        copy.use()
        copy.close()
        self.assertEqual(self.data, copy.read(0))
        copy.close()
        self.assertRaises(OSError, copy.read, 0)

    def test_open_copies_take_over(self) -> None:
        class Finding:
            path, data, on_disk = '/disk', 5, True

            def described(self) -> str:
                return 'manifest'

        finding = Finding()
        copy, = reader.open_copies([finding])
        self.assertEqual(('/disk', 5, 'manifest'),
                         (copy.path, copy.descriptor, copy.manifest))
        self.assertEqual(-1, finding.data)


class ReadAheadTest(ReaderTest):

    def test_hands_out_what_is_good_before_what_is_bad(self) -> None:
        self.image(base.noise(10 * BLOCK))
        for bad in range(10):
            with base.nothing_left_behind():
                copy = self.copy([bad * BLOCK])
                ahead = reader.ReadAhead(copy, 0, 10)
                read = b''.join(ahead.take(60) for _ in range(bad))
                self.assertEqual(self.data[:bad * BLOCK], read)
                self.assertEqual(bad, ahead.next_block)
                self.assertRaises(OSError, ahead.take, 60)
                ahead.stop(60)
                copy.close()

    def test_part_of_an_image(self) -> None:
        self.image(base.noise(10 * BLOCK))
        with base.nothing_left_behind():
            copy = self.copy()
            ahead = reader.ReadAhead(copy, 3, 5)
            self.assertEqual(self.data[3 * BLOCK:5 * BLOCK],
                             ahead.take(60) + ahead.take(60))
            self.assertRaises(TimeoutError, ahead.take, 0.01)
            ahead.stop(60)
            copy.close()

    def test_nothing(self) -> None:
        self.image(b'')
        with base.nothing_left_behind():
            copy = self.copy()
            reader.ReadAhead(copy, 0, 0).stop(60)
            copy.close()
