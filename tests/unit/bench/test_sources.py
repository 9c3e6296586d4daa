"""The image data, and the comparison of what comes back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fixtures
import testtools

from tests.bench import results
from tests.bench import sources

SIZE = 40 * results.MIB
RUN = sources.ZERO_RUN


class SourcesTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.useFixture(fixtures.TempDir()).path)

    def prepare(self, data: str) -> tuple[sources.Source, bytes]:
        source = sources.prepare(self.directory, data, SIZE)
        content = source.path.read_bytes()
        self.assertEqual(SIZE, len(content))
        self.assertEqual(SIZE, source.size)
        self.assertEqual(hashlib.md5(content, usedforsecurity=False)
                         .hexdigest(), source.md5)
        self.assertEqual(hashlib.sha512(content).hexdigest(), source.sha512)
        return source, content

    def test_random(self) -> None:
        _, content = self.prepare('random')
        self.assertNotIn(bytes(64), content)

    def test_half_zero(self) -> None:
        _, content = self.prepare('half-zero')
        self.assertNotIn(bytes(64), content[:RUN])
        self.assertEqual(bytes(RUN), content[RUN:2 * RUN])
        self.assertNotIn(bytes(64), content[2 * RUN:])

    def test_source_and_page_cache_fit_or_the_disk_is_taken(self) -> None:
        huge = 1 << 60
        self.assertEqual(self.directory,
                         sources.choose_directory(huge, self.directory))


class CompareTest(testtools.TestCase):

    content = bytes(range(256)) * 100

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.useFixture(fixtures.TempDir()).path, 'image')
        self.path.write_bytes(self.content)

    def compare(self, content: bytes, chunk: int = 1000) -> None:
        sources.compare((content[begin:begin + chunk] for begin in
                         range(0, len(content), chunk)), self.path)

    def test_same(self) -> None:
        self.compare(self.content)
        self.compare(self.content, chunk=1)

    def test_one_bit(self) -> None:
        for position in (0, 12345, len(self.content) - 1):
            wrong = bytearray(self.content)
            wrong[position] ^= 1
            self.assertRaises(sources.WrongBytes, self.compare, bytes(wrong))

    def test_count_of_bytes(self) -> None:
        sources.check_length(5, 5)
        for returned in (0, 4, 6):
            self.assertRaises(sources.WrongBytes, sources.check_length,
                              returned, 5)

    def test_other_length(self) -> None:
        self.assertRaises(sources.WrongBytes, self.compare, b'')
        self.assertRaises(sources.WrongBytes, self.compare,
                          self.content[:-1])
        self.assertRaises(sources.WrongBytes, self.compare,
                          self.content + b'x')
