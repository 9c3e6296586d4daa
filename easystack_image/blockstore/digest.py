"""Several digests of one stream, side by side.

hashlib releases the interpreter's lock for large buffers, so md5 and the
multihash, each in a lane of its own, take as long as the slower one alone.
"""

from __future__ import annotations

from collections.abc import Callable
import hashlib
from typing import TYPE_CHECKING

from easystack_image import exceptions
from easystack_image.blockstore import pipeline

if TYPE_CHECKING:
    from hashlib import _Hash


class DigestLane(pipeline.Lane):
    """A digest that follows the chunks of a transfer."""

    def __init__(self, algorithm: str, pool: pipeline.BufferPool) -> None:
        """Begin a digest.

        :param algorithm: a name that hashlib knows
        """
        super().__init__(f'digest-{algorithm}', pool)
        # Image checksums guard against accidents, md5 at least; so FIPS
        # mode need not forbid it.
        self._hash: _Hash = hashlib.new(algorithm, usedforsecurity=False)

    def feed(self, chunk: pipeline.Chunk) -> None:
        """Add a chunk to the digest, later."""
        self.submit(lambda: self._hash.update(chunk.data), chunk)

    def digest(self) -> bytes:
        """Return the digest; call it when the lane has settled."""
        return self._hash.digest()


class SinkLane(pipeline.Lane):
    """A callable that is given every chunk in order."""

    def __init__(self, sink: Callable[[memoryview], object],
                 pool: pipeline.BufferPool) -> None:
        """Begin to serve ``sink``; what it raises is in ``error``."""
        super().__init__('sink', pool)
        self._sink = sink

    def feed(self, chunk: pipeline.Chunk) -> None:
        """Hand a chunk to the sink, later."""
        self.submit(lambda: self._sink(chunk.data), chunk)


class Followers:
    """Whatever follows the bytes of a new image, besides its copies.

    Its digests, a sink if there is one, and its size.

    :param pool: of the chunks
    :param size: what was declared, in bytes, or None
    :param algorithm: of the second digest
    :param sink: given every chunk in order, or None
    """

    def __init__(self, pool: pipeline.BufferPool, size: int | None,
                 algorithm: str,
                 sink: Callable[[memoryview], object] | None) -> None:
        self.md5 = DigestLane('md5', pool)
        self.multihash = DigestLane(algorithm, pool)
        self._size = size
        self._lanes: list[DigestLane | SinkLane] = [self.md5, self.multihash]
        if sink is not None:
            self._lanes.append(SinkLane(sink, pool))

    def feed(self, chunk: pipeline.Chunk) -> None:
        """Hand a chunk to all of them.

        :raises easystack_image.exceptions.SizeMismatch: if it goes past the
            size declared
        :raises BaseException: what the sink raised
        """
        end = chunk.offset + chunk.length
        if self._size is not None and end > self._size:
            raise exceptions.SizeMismatch(
                f'the source goes on past the {self._size} bytes declared')
        self._check()
        for lane in self._lanes:
            lane.feed(chunk)

    def finish(self, received: int) -> None:
        """Wait for all of them.

        :param received: how many bytes there were
        :raises easystack_image.exceptions.SizeMismatch: if they are fewer
            than declared
        :raises BaseException: what the sink raised
        """
        if self._size is not None and received != self._size:
            raise exceptions.SizeMismatch(
                f'the source ended after {received} bytes, {self._size} were '
                'declared')
        pipeline.settle(self._lanes)
        self._check()

    def _check(self) -> None:
        for lane in self._lanes:
            if lane.error is not None:
                raise lane.error

    def close(self) -> None:
        """End the threads."""
        for lane in self._lanes:
            lane.cancel()
        for lane in self._lanes:
            lane.join()
