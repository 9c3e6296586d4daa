"""Digests and sinks that follow a stream."""

from __future__ import annotations

import hashlib

import testtools

from easystack_image.blockstore import digest
from easystack_image.blockstore import pipeline
from tests.contract import sources


class LaneTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.pool = pipeline.BufferPool(count=2, size=4096)

    def feed(self, lanes: list[digest.DigestLane | digest.SinkLane],
             data: bytes) -> None:
        """Give data to lanes as a transfer does."""
        for lane in lanes:
            self.addCleanup(lane.join)
        for begin in range(0, len(data), self.pool.size):
            chunk = pipeline.next_buffer(self.pool, lanes)
            chunk.length = len(data[begin:begin + self.pool.size])
            chunk.view[:chunk.length] = data[begin:begin + chunk.length]
            for lane in lanes:
                lane.feed(chunk)
            chunk.release()
        pipeline.settle(lanes)

    def test_digests(self) -> None:
        for size in (0, 1, 4095, 4096, 4097, 50_000):
            data = sources.noise(size)
            lanes = [digest.DigestLane(name, self.pool)
                     for name in ('md5', 'sha256', 'sha512')]
            self.feed(lanes, data)
            self.assertEqual(
                [hashlib.new(name, data).digest()
                 for name in ('md5', 'sha256', 'sha512')],
                [lane.digest() for lane in lanes])

    def test_unknown_algorithm(self) -> None:
        self.assertRaises(ValueError, digest.DigestLane, 'sha513', self.pool)

    def test_sink(self) -> None:
        sink, data = sources.Sink(), sources.noise(50_001)
        self.feed([digest.SinkLane(sink, self.pool)], data)
        self.assertEqual(data, bytes(sink.data))
        self.assertEqual({memoryview}, sink.types)

    def test_sink_that_fails(self) -> None:
        error = KeyboardInterrupt()

        def fail() -> None:
            raise error

        lane = digest.SinkLane(sources.Sink(9000, fail), self.pool)
        other = digest.DigestLane('md5', self.pool)
        data = sources.noise(50_001)
        self.feed([lane, other], data)
        self.assertIs(error, lane.error)
        # The other lane is none the worse for it.
        self.assertEqual(hashlib.md5(data).digest(),  # noqa: S324
                         other.digest())
