"""Image data that are judged while they pass by."""

from __future__ import annotations

import functools
import hashlib
import io
import random

import testtools

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import inspection
from easystack_image.content import rules
from easystack_image.content import stream
from tests.corpus import formats

RAW = declaration.Declaration('raw')
HEAD = inspection.HEAD_SIZE


class Source:
    """Bytes that remember how they were asked for."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.asked: list[int] = []

    def read(self, size: int = -1, /) -> bytes:
        self.asked.append(size)
        return self._file.read(size)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


class StreamTest(testtools.TestCase):

    def judged(self, data: bytes, size: int | None = None,
               declared: declaration.Declaration = RAW,
               allowed: rules.Rules | None = None) -> stream.Stream:
        self.source = Source(data)
        made = stream.Stream(self.source, allowed or rules.Rules(), size)
        made.look()
        made.judge(declared)
        return made

    def test_volume_backed(self) -> None:
        """A server's snapshot whose data are in volumes has none here."""
        mapped = declaration.of_image({
            'disk_format': 'qcow2', 'container_format': 'bare',
            'block_device_mapping': '[{"snapshot_id": "x"}]'})
        for size in (None, 0):
            self.assertEqual(b'', self.judged(b'', size, mapped).read(10))
        self.assertRaises(exceptions.ContentError, self.judged,
                          content(100), 100, mapped)
        self.assertRaises(exceptions.ContentError, self.judged, b'', 0,
                          declaration.Declaration('qcow2'))
        passing = self.judged(b'', None, mapped)
        self.source._file = io.BytesIO(b'more')
        self.assertRaises(exceptions.ContentTooLarge, passing.read, 10)

    def test_every_byte_passes(self) -> None:
        for length in (1, 511, HEAD - 1, HEAD, HEAD + 1, 3 * HEAD + 7):
            data = content(length)
            for piece in (1 << 12, 1 << 16, (1 << 20) + 1, 1 << 23, -1):
                for size in (None, length):
                    passing = self.judged(data, size)
                    pieces = list(iter(functools.partial(
                        passing.read, piece), b''))
                    self.assertEqual(data, b''.join(pieces))
                    # Only the last may be shorter than asked for.
                    self.assertEqual({piece}, {
                        len(each) for each in pieces[:-1]} or {piece})

    def test_never_reads_past_the_end(self) -> None:
        """What is behind it may never come."""
        passing = self.judged(b'x' * 5000, 4000)
        self.assertLessEqual(sum(self.source.asked), 4000)
        self.assertEqual(b'x' * 4000, passing.read(4000))
        self.assertEqual(4000, sum(self.source.asked))

    def test_out_of_the_way(self) -> None:
        """Behind the beginning, what is asked for is what is asked for."""
        passing = self.judged(content(4 * HEAD))
        passing.read(HEAD)
        self.source.asked.clear()
        for size in (HEAD, 4096, 1):
            passing.read(size)
        self.assertEqual([HEAD, 4096, 1], self.source.asked)

    def test_refused_before_more_is_read(self) -> None:
        data = formats.qcow2() + bytes(10 * HEAD)
        self.assertRaises(exceptions.ContentRefused, self.judged, data)
        self.assertLessEqual(sum(self.source.asked), HEAD)

    def test_too_much_of_it(self) -> None:
        allowed = rules.Rules(max_virtual_size=2 * HEAD)
        passing = self.judged(bytes(2 * HEAD), allowed=allowed)
        self.assertEqual(2 * HEAD, len(passing.read(-1)))
        passing = self.judged(bytes(2 * HEAD + 1), allowed=allowed)
        passing.read(2 * HEAD)
        self.assertRaises(exceptions.ContentTooLarge, passing.read, 1)
        self.assertRaises(exceptions.ContentTooLarge, self.judged,
                          bytes(2 * HEAD + 1), 2 * HEAD + 1, RAW, allowed)

    def test_qcow2_may_have_more_bytes_than_its_disk(self) -> None:
        data = formats.qcow2(size=512, l1_entries=1) + bytes(HEAD)
        passing = self.judged(data, None, declaration.Declaration('qcow2'),
                              rules.Rules(max_virtual_size=512))
        self.assertEqual(data, passing.read(-1))

    def test_checksum(self) -> None:
        for algorithm in declaration.HASHES:
            for length in (1, 2, HEAD, 2 * HEAD + 3):
                data = content(length)
                digest = hashlib.new(algorithm, data).hexdigest()
                wrong = hashlib.new(algorithm, data + b'x').hexdigest()
                for size in (None, length):
                    self.check_digest(data, size, algorithm, digest, wrong)

    def check_digest(self, data: bytes, size: int | None, algorithm: str,
                     digest: str, wrong: str) -> None:
        good = declaration.Declaration(
            'raw', expected_hash=(algorithm, digest))
        passing = self.judged(data, size, good)
        self.assertEqual(data, b''.join(
            iter(lambda: passing.read(1 << 16), b'')))
        self.assertEqual(b'', passing.read(1))
        passing = self.judged(data, size, declaration.Declaration(
            'raw', expected_hash=(algorithm, wrong)))
        self.assertRaises(exceptions.ChecksumMismatch, list,
                          iter(lambda: passing.read(1 << 16), b''))

    def test_announced_checksums(self) -> None:
        digest = hashlib.sha256(b'').hexdigest()
        self.assertEqual(('sha256', digest), declaration.parse_hash(
            f' SHA256:{digest.upper()} '))
        for text in ('', 'sha256', 'sha256:', f'md5:{digest[:32]}', digest,
                     f'sha256:{digest}0', f'sha512:{digest}',
                     f'sha256:{digest[:-1]}g'):
            self.assertRaises(exceptions.ContentRefused,
                              declaration.parse_hash, text)
