"""Reading an image from the pool, verified.

A bounded number of reads are under way ahead of the consumer; what they bring
is handed out in order, each block compared with its checksum before.  Ceph
itself turns to another copy where an OSD is lost or finds its copy bad; a
block that is bad even so is read once more, and then from the other copies,
before it is given up.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
import os
import threading
from typing import Any

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import images
from easystack_image.blockstore.ceph import mending
from easystack_image.blockstore.local import checksums
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import timed

BLOCK_SIZE = manifest_module.BLOCK_SIZE
#: How much one read asks for, in bytes: whole blocks.  Longer reads are no
#: faster, and librados' buffers for them take several times as much memory.
READ_SIZE = BLOCK_SIZE
#: How long a piece of zeros is at most, in bytes, and how many of them may
#: wait for the consumer: they share their memory.
ZERO_SIZE = pipeline.CHUNK_SIZE
ZERO_PIECES = 64


class _Piece:
    """A read that is under way.

    :param begin: where it begins in the image, in bytes
    """

    def __init__(self, image: Any, begin: int, length: int) -> None:
        self.begin = begin
        self.length = length
        self.data = b''
        self.result = 0
        #: Whether it is right without being verified.
        self.known = False
        self._image = image
        self._done = threading.Event()

    def submit(self) -> None:
        """Begin to read."""
        self._image.aio_read(self.begin, self.length, self._arrive)

    def be_zeros(self) -> None:
        """Bring zeros, without reading."""
        self.known = True
        self.data = checksums.zeros(self.length)
        self._done.set()

    def _arrive(self, completion: Any, data: bytes | None) -> None:
        """Take what came; called by a thread of librbd."""
        self.result = completion.get_return_value()
        self.data = data or b''
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Wait for it; return whether it came."""
        return timed.Patience(seconds).wait(self._done.wait)


class CephReader(engine.Reader):
    """See :class:`easystack_image.blockstore.engine.Reader`.

    :param found: the image; closed by :meth:`close`
    :param report: called when a block is bad
    :param rescue: returns a block from another copy than Ceph reads, or None
    """

    def __init__(self, found: images.Found, offset: int, length: int | None,
                 report: Callable[[], object] = lambda: None,
                 rescue: Callable[[images.Found, int], bytes | None] =
                 lambda found, block: None) -> None:
        self.info = found.info()
        begin = min(offset, self.info.size)
        end = (self.info.size if length is None
               else min(begin + length, self.info.size))
        self.length = end - begin
        self._found = found
        self._cluster = found.cluster
        self._report = report
        self._rescue = rescue
        #: The block for which there is no good copy.
        self.bad_block: int | None = None
        self._position = begin
        self._end = end
        #: Where the next read begins, and where the last one ends: at the
        #: bounds of blocks.
        self._ahead = begin - begin % BLOCK_SIZE
        self._stop = min(-(-end // BLOCK_SIZE) * BLOCK_SIZE, self.info.size)
        #: How many pieces there are that had to be read.
        self._reading = 0
        self._pieces: collections.deque[_Piece] = collections.deque()
        self._ready: collections.deque[bytes] = collections.deque()
        self._failure: exceptions.BlockStoreError | None = None
        self._closed = False
        self._pid = os.getpid()

    def prefetch(self) -> None:
        """Read and verify the first bytes now; raises as ``next``."""
        if self.length:
            self._advance()
            if not self._ready and self._failure is not None:
                raise self._failure

    def __next__(self) -> bytes:
        if not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._closed or self._position >= self._end:
                self.close()
                raise StopIteration
            self._advance()
            if not self._ready:
                self.close()
                raise self._failure or StopIteration
        return self._ready.popleft()

    def _advance(self) -> None:
        """Make ready what comes next, up to the first bad block."""
        try:
            self._fill()
            piece = self._pieces[0]
            data = self._wait(piece)
            self._pieces.popleft()
            good = piece.length
            if not piece.known:
                self._reading -= 1
                good = self._verify(piece.begin, data)
            if good < piece.length:
                data = self._again(piece, data, good)
            self._hand_out(piece.begin, data)
            if self._position >= self._end:
                self._be_sure()
            if self._failure is not None:
                self.close()
        except exceptions.BlockStoreError as error:
            self._failure = error
            self.close()

    def _fill(self) -> None:
        """Begin as many reads as may be under way."""
        depth = self._cluster.settings.queue_depth
        # Zeros cost nothing, so reads go on beyond them.
        while (self._ahead < self._stop and self._reading < depth
               and len(self._pieces) < depth + ZERO_PIECES):
            stop, zero = self._next()
            piece = _Piece(self._found.image, self._ahead,
                           stop - self._ahead)
            if zero:
                piece.be_zeros()
            else:
                self._submit(piece)
                self._reading += 1
            self._pieces.append(piece)
            self._ahead = stop

    def _next(self) -> tuple[int, bool]:
        """Return where the next piece ends, and whether it is all zeros.

        All blocks of it are, or none.
        """
        zero = self._found.zeros.zero
        kind = zero(self._ahead // BLOCK_SIZE)
        most = min(self._ahead + (ZERO_SIZE if kind else READ_SIZE),
                   self._stop)
        stop = self._ahead + BLOCK_SIZE
        while stop < most and zero(stop // BLOCK_SIZE) == kind:
            stop += BLOCK_SIZE
        return min(stop, most), kind

    def _submit(self, piece: _Piece) -> None:
        try:
            piece.submit()
        except bindings.rbd().Error as error:
            raise self._unavailable(
                self._cluster.failure(error)) from error

    def _wait(self, piece: _Piece) -> bytes:
        if not piece.wait(self._cluster.limit):
            raise self._unavailable(exceptions.DeviceTimeout(
                self._cluster.name,
                f'did not answer within {self._cluster.limit:g} s'))
        if piece.result < 0:
            raise self._unavailable(self._cluster.failure(piece.result))
        return piece.data

    def _unavailable(self, error: exceptions.DeviceError,
                     ) -> exceptions.ImageUnavailable:
        return exceptions.ImageUnavailable(
            f'image {self.info.image_id} cannot be read: {error}')

    def _verify(self, begin: int, data: bytes) -> int:
        """Return how many of the bytes are good, up to the first bad block."""
        manifest = self._found.manifest
        if manifest is None:
            return len(data)
        view = memoryview(data)
        for at in range(0, len(data), BLOCK_SIZE):
            block = (begin + at) // BLOCK_SIZE
            piece = view[at:at + BLOCK_SIZE]
            if not mending.good(manifest, block, piece):
                return at
        return len(data)

    def _again(self, piece: _Piece, data: bytes, good: int) -> bytes:
        """Read a bad block, and what is behind it, once more.

        Return all that is good before the first block that stays bad.
        """
        begin = piece.begin + good
        again = _Piece(self._found.image, begin, piece.length - good)
        self._submit(again)
        more = self._wait(again)
        fine = self._verify(begin, more)
        while fine < again.length:
            block = (begin + fine) // BLOCK_SIZE
            saved = self._rescue(self._found, block)
            if saved is None:
                self._failure = self._bad(block)
                break
            self._report()
            more = more[:fine] + saved + more[fine + len(saved):]
            fine = self._verify(begin, more)
        return data[:good] + more[:fine]

    def _bad(self, block: int) -> exceptions.BlockStoreError:
        """Return the error that a block is bad."""
        image_id = self.info.image_id
        self.bad_block = block
        try:
            with images.found(self._cluster, image_id, self.info.generation):
                pass
        except exceptions.ImageNotFound:
            return exceptions.ImageUnavailable(
                f'image {image_id} was deleted while it was read')
        except exceptions.DeviceError as error:
            return self._unavailable(error)
        self._report()
        return exceptions.DamagedImage(
            f'image {image_id}: block {block} (of {BLOCK_SIZE} bytes) does '
            'not match its checksum, whichever copy Ceph reads: restore the '
            'image from a backup')

    def _hand_out(self, begin: int, data: bytes) -> None:
        """Make ready what was asked for of verified bytes."""
        skip = self._position - begin
        if skip > 0 or len(data) > self._end - begin:
            data = data[max(skip, 0):self._end - begin]
        if data:
            self._position += len(data)
            self._ready.append(data)

    def _be_sure(self) -> None:
        """See that what cannot be verified was there to the end.

        What is removed reads as zeros.
        """
        if self._found.manifest is None:
            try:
                with images.found(self._cluster, self.info.image_id,
                                  self.info.generation):
                    pass
            except exceptions.ImageNotFound as error:
                self._ready.clear()
                raise exceptions.ImageUnavailable(
                    f'image {self.info.image_id} was deleted while it was '
                    'read') from error
            except exceptions.DeviceError as error:
                self._ready.clear()
                raise self._unavailable(error) from error

    def close(self) -> None:
        """Release the RBD image; may be called again."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return
        for piece in self._pieces:
            piece.wait(self._cluster.limit)
        self._pieces.clear()
        images.close(self._found)

    def __del__(self) -> None:
        if not getattr(self, '_closed', True):
            self.close()
