"""What the page cache holds of a file."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import fixtures
import testtools

from easystack_image.blockstore.local import residency

PAGES = 64


class ResidencyTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.useFixture(fixtures.TempDir()).path) / 'file'
        self.path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE + 5))
        self.fd = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, self.fd)

    def drop(self) -> None:
        """Take the file out of the page cache."""
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def test_what_was_read_is_cached(self) -> None:
        self.path.read_bytes()
        size = self.path.stat().st_size
        self.assertTrue(residency.cached(self.fd, 0, size))
        self.assertTrue(residency.cached(self.fd, PAGES * mmap.PAGESIZE, 5))
        self.assertTrue(residency.cached(self.fd, mmap.PAGESIZE, 1))

    def test_what_was_dropped_is_not(self) -> None:
        self.drop()
        if residency.cached(self.fd, 0, mmap.PAGESIZE):
            self.skipTest('this file system lies in memory')
        # A single page that is missing counts.
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(self.fd, 1, 0)
        self.assertTrue(residency.cached(self.fd, 0, 1))
        self.assertFalse(residency.cached(self.fd, 0, PAGES * mmap.PAGESIZE))

    def test_empty_file(self) -> None:
        self.path.write_bytes(b'')
        self.assertFalse(residency.cached(self.fd, 0, 0))
        self.assertFalse(residency.cached(self.fd, 0, 1))

    def test_outlives_what_it_was_asked_about(self) -> None:
        """Truncated, the file must not end this process (SIGBUS)."""
        os.truncate(self.path, 0)
        self.assertFalse(residency.cached(self.fd, 0, PAGES * mmap.PAGESIZE))

    def test_reading(self) -> None:
        data = self.path.read_bytes()
        for offset, length in ((0, len(data)), (3, 1), (5, mmap.PAGESIZE),
                               (len(data) - 5, 5)):
            self.assertEqual(data[offset:offset + length],
                             self.read(offset, length))

    def read(self, offset: int, length: int) -> bytes | None:
        try:
            return residency.read(self.fd, offset, length)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self.skipTest('this file system can only wait')

    def test_reading_what_is_not_there(self) -> None:
        self.drop()
        if residency.cached(self.fd, 0, mmap.PAGESIZE):
            self.skipTest('this file system lies in memory')
        # Only what is asked for is read.
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(self.fd, 1, 0)
        self.assertIsNone(self.read(0, PAGES * mmap.PAGESIZE))

    def test_reading_past_the_end(self) -> None:
        size = self.path.stat().st_size
        self.assertIsNone(self.read(0, size + 1))
        self.assertIsNone(self.read(size, 1))

    def test_errors_are_told(self) -> None:
        ours, theirs = os.pipe()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        error = self.assertRaises(OSError, residency.read, ours, 0, 1)
        self.assertEqual(errno.ESPIPE, error.errno)
