"""Reading an image from its copies, verified.

Every block is compared with its checksum before its bytes are handed out.
What is in the page cache is read by the consumer's own thread, which never
waits for a disk (see residency.py).  From there on where it is not, a thread
reads ahead of the consumer, a batch of blocks at a time.  If a batch does not
come in time, or a block is bad, the next copy takes over at the same block.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
import contextlib
import errno
import logging
import os
import queue
import threading
import time

import crc32c

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore.local import fleet
from easystack_image.blockstore.local import manifest as manifest_module
from easystack_image.blockstore.local import residency
from easystack_image.blockstore.local import timed

LOG = logging.getLogger(__name__)

#: How many blocks are read at once: fewer cost more hand-overs between
#: threads, more do not stay in the processor's cache.
BATCH = 4
#: For how many blocks at once it is asked whether they are cached: that
#: costs hardly more than for one.
LOOK = 8
#: For how many seconds the answer holds.
FRESH = 1.0
#: How many batches may wait for the consumer.
BATCHES = 3


class CopyFile:
    """The data of one copy, open for reading.

    :param data: the descriptor; the copy closes it, and later if a read
        hangs
    :param on_disk: whether what is in the page cache can be read without
        asking anybody
    """

    def __init__(self, path: str, data: int,
                 manifest: manifest_module.Manifest,
                 on_disk: bool = False) -> None:
        #: The path of the device.
        self.path = path
        self.manifest = manifest
        #: Blocks that were found bad in this copy.
        self.bad: set[int] = set()
        #: Whether the device hangs, so that nothing more can be had.
        self.hung = False
        #: The descriptor of the data file.
        self.descriptor = data
        self._on_disk = on_disk
        self._users = 1
        self._lock = threading.Lock()

    def read(self, block: int) -> bytes:
        """Return a block, verified.

        :raises OSError: if it cannot be read, or is not what it was
        """
        length = self.manifest.block_length(block)
        begin = block * self.manifest.block_size
        data = os.pread(self.descriptor, length, begin)
        while 0 < len(data) < length:
            # A signal, or a file system that gives less at a time.
            more = os.pread(self.descriptor, length - len(data),
                            begin + len(data))
            if not more:
                break
            data += more
        self._verify(data, block, length)
        return data

    def read_now(self, block: int) -> bytes | None:
        """Return a block, verified, if that takes no waiting for the disk.

        :raises OSError: if it is not what it was
        """
        length = self.manifest.block_length(block)
        try:
            data = residency.read(self.descriptor,
                                  block * self.manifest.block_size, length)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            # Nor for any other block.
            self._on_disk = False
            return None
        if data is not None:
            self._verify(data, block, length)
        return data

    def cached(self, first: int, last: int) -> bool:
        """Tell whether blocks can be read without waiting for the disk.

        :param last: the block before which to stop
        """
        begin = first * self.manifest.block_size
        end = min(last * self.manifest.block_size, self.manifest.size)
        return self._on_disk and residency.cached(self.descriptor, begin,
                                                  end - begin)

    def _verify(self, data: bytes, block: int, length: int) -> None:
        if len(data) != length:
            raise OSError(f'block {block} has {len(data)} bytes, not '
                          f'{length}')
        if crc32c.crc32c(data) != self.manifest.checksum(block):
            raise OSError(f'block {block} does not match its checksum')

    def use(self) -> None:
        """Count one more user of the descriptor."""
        with self._lock:
            self._users += 1

    def close(self) -> None:
        """Count one user less; after the last the descriptor is closed."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            os.close(self.descriptor)


class ReadAhead:
    """A thread that reads the blocks of one copy in order, ahead of us."""

    def __init__(self, copy: CopyFile, first: int, last: int,
                 fresh: bool = False) -> None:
        """Begin to read.

        :param first: the first block
        :param last: the block before which to stop
        :param fresh: whether to read from the disk what the page cache has:
            that may be better than what the disk does
        """
        self.copy = copy
        self.next_block = first
        self._last = last
        self._fresh = fresh
        self._batch: collections.deque[bytes] = collections.deque()
        self._results: queue.SimpleQueue[list[bytes] | OSError] = \
            queue.SimpleQueue()
        self._error: OSError | None = None
        self._credits = threading.Semaphore(BATCHES)
        self._stopped = False
        copy.use()
        if last - first > BATCH:
            # The kernel reads further ahead then.
            os.posix_fadvise(copy.descriptor, 0, 0,
                             os.POSIX_FADV_SEQUENTIAL)
        self._thread = threading.Thread(target=self._run, args=[first],
                                        name='read-ahead', daemon=True)
        self._thread.start()

    def _run(self, block: int) -> None:
        # One block first: whoever waits for it waits for less.
        count = 1
        try:
            if self._fresh:
                os.posix_fadvise(self.copy.descriptor, 0, 0,
                                 os.POSIX_FADV_DONTNEED)
            while block < self._last:
                self._credits.acquire()
                if self._stopped:
                    return
                block = self._read(block, min(block + count, self._last))
                count = BATCH
        except OSError as error:
            self._results.put(error)
        finally:
            self.copy.close()

    def _read(self, first: int, last: int) -> int:
        """Read a batch, as much of it as is good."""
        batch: list[bytes] = []
        try:
            for block in range(first, last):
                batch.append(self.copy.read(block))
        finally:
            if batch:
                self._results.put(batch)
        return last

    def take(self, timeout: float) -> bytes:
        """Return the next block.

        :param timeout: seconds to wait for it
        :raises TimeoutError: if it did not come in time
        :raises OSError: if it is bad; nothing comes after it
        """
        if not self._batch:
            if not timed.Patience(timeout).wait(self._arrived):
                raise TimeoutError(f'no answer within {timeout:g} s')
            self._credits.release()
            if self._error is not None:
                raise self._error
        self.next_block += 1
        return self._batch.popleft()

    def _arrived(self, timeout: float) -> bool:
        """Wait for a batch, or an error; tell whether it came."""
        try:
            result = self._results.get(timeout=timeout)
        except queue.Empty:
            return False
        if isinstance(result, OSError):
            self._error = result
        else:
            self._batch.extend(result)
        return True

    def stop(self, patience: float) -> None:
        """End the thread.

        :param patience: seconds to wait for it; one that hangs ends, and
            closes its file, when its disk lets it
        """
        self._stopped = True
        self._credits.release()
        self._thread.join(patience)


class LocalReader(engine.Reader):
    """See :class:`easystack_image.blockstore.engine.Reader`.

    :param copies: the copies to read from, best first; closed by
        :meth:`close`
    :param timeout: seconds that a block may take
    :param report: called with (device path, reason, hung) for each fault
    """

    def __init__(self, info: engine.ImageInfo, copies: Sequence[CopyFile],
                 offset: int, length: int | None, timeout: float,
                 report: Callable[[str, str, bool], None]) -> None:
        self.info = info
        begin = min(offset, info.size)
        end = info.size if length is None else min(begin + length, info.size)
        self.length = end - begin
        self._position = begin
        self._end = end
        self._copies = list(copies)
        self._timeout = timeout
        self._report = report
        self.block_size = copies[0].manifest.block_size
        self._last = -(-end // self.block_size)
        self._ahead: ReadAhead | None = None
        #: The copy that is read from, and the block up to which it is cached.
        self._current = self._copies[0]
        self._cached_until = 0
        self._cached_at = 0.0
        self._first: bytes | None = None
        self._failure: exceptions.DamagedImage | None = None
        self._closed = False

    def prefetch(self) -> None:
        """Read and verify the first bytes now.

        :raises easystack_image.exceptions.DamagedImage: if no copy has them
        """
        if self.length:
            self._first = self._read()

    def __next__(self) -> bytes:
        if self._first is not None:
            data, self._first = self._first, None
            return data
        if self._failure is not None:
            raise self._failure
        if self._closed or self._position >= self._end:
            self.close()
            raise StopIteration
        return self._read()

    def _read(self) -> bytes:
        """Return what comes next, up to the end of a block."""
        block, skip = divmod(self._position, self.block_size)
        data = self._block(block)
        if skip or len(data) > self._end - self._position + skip:
            data = data[skip:skip + self._end - self._position]
        self._position += len(data)
        return data

    def _block(self, block: int) -> bytes:
        """Return a block, from the first copy that has it."""
        if (block < self._cached_until and not self._current.bad
                and time.monotonic() < self._cached_at + FRESH):
            # The usual case, made cheap.
            with contextlib.suppress(OSError):
                data = self._current.read_now(block)
                if data is not None:
                    return data
        reasons: list[str] = []
        for copy in self._candidates(block):
            found = self._try(copy, block, reasons)
            if found is not None:
                return found
        self.close()
        self._failure = exceptions.DamagedImage(
            f'image {self.info.image_id}: no copy has a good block {block} '
            f'({"; ".join(reasons) or "all copies were given up"})')
        raise self._failure

    def _candidates(self, block: int) -> list[CopyFile]:
        """Return the copies to try: those without a known fault first.

        The sort is stable, so that reading stays with one copy.
        """
        usable = [copy for copy in self._copies
                  if not copy.hung and block not in copy.bad]
        return sorted(usable, key=lambda copy: bool(copy.bad))

    def _try(self, copy: CopyFile, block: int,
             reasons: list[str]) -> bytes | None:
        ahead = self._ahead
        if ahead is not None and (ahead.copy is not copy
                                  or ahead.next_block != block):
            self._stop_ahead()
        self._current = copy
        self._cached_until = 0
        try:
            if self._ahead is None and self._look(copy, block):
                data = copy.read_now(block)
                if data is not None:
                    return data
                self._cached_until = 0
            if self._ahead is None:
                self._ahead = ReadAhead(copy, block, self._last)
            return self._ahead.take(self._timeout)
        except OSError as error:
            hung = isinstance(error, TimeoutError) and error.errno is None
            reason = error.strerror or str(error)
            copy.hung = hung
            copy.bad.add(block)
            self._stop_ahead()
            reasons.append(f'{copy.path}: {reason}')
            LOG.error('Image %(image)s: copy on %(path)s: %(reason)s; going '
                      'on from another copy',
                      {'image': self.info.image_id, 'path': copy.path,
                       'reason': reason})
            self._report(copy.path, reason, hung)
            return None

    def _look(self, copy: CopyFile, block: int) -> bool:
        """Tell whether a block is cached; remember it of the next ones."""
        until = min(block + LOOK, self._last)
        if copy.cached(block, until):
            self._cached_until, self._cached_at = until, time.monotonic()
            return True
        return copy.cached(block, block + 1)

    def _stop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.stop(0.0 if ahead.copy.hung else 1.0)

    def close(self) -> None:
        """Release threads and files; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._stop_ahead()
        for copy in self._copies:
            copy.close()

    def __del__(self) -> None:
        if not getattr(self, '_closed', True):
            self.close()


def open_copies(findings: Sequence[fleet.Finding]) -> list[CopyFile]:
    """Return the copies that were found, ready to read.

    They take over the data files of the findings.
    """
    copies = []
    for finding in findings:
        copies.append(CopyFile(finding.path, finding.data,
                               finding.described(), finding.on_disk))
        finding.data = -1
    return copies
