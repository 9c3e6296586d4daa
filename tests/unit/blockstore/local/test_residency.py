"""What the page cache holds of a file."""

from __future__ import annotations

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
