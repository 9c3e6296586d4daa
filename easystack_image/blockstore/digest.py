"""Several digests of one stream, side by side.

hashlib releases the interpreter's lock for large buffers, so md5 and the
multihash, each in a lane of its own, take as long as the slower one alone.
"""

from __future__ import annotations

from collections.abc import Callable
import hashlib
from typing import TYPE_CHECKING

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
