"""One reader, several consumers side by side, in bounded memory.

The bytes of an image are read once, into a few reusable buffers, and every
buffer is handed to several lanes: one per digest, one per copy.  Each lane
is a thread that does its jobs in order.  A buffer is used again when the last
lane is done with it; so the slowest lane sets the pace, and the number of
buffers bounds the memory.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
import mmap
import threading
import time

from easystack_image import exceptions
from easystack_image.blockstore import engine

#: How much is read and written at once, in bytes.
CHUNK_SIZE = 4 * 1024 * 1024
#: How many buffers a transfer has: enough for reading, hashing and writing
#: to overlap.
BUFFERS = 6


class Chunk:
    """A buffer with a piece of the image in it, shared by several lanes."""

    def __init__(self, pool: BufferPool, buffer: mmap.mmap) -> None:
        self._pool = pool
        self._users = 1
        self.buffer: mmap.mmap | None = buffer
        self.view = memoryview(buffer)
        #: Where the piece begins in the image, in bytes.
        self.offset = 0
        #: How long the piece is, in bytes.
        self.length = 0

    @property
    def data(self) -> memoryview:
        """The piece itself."""
        return self.view[:self.length]

    def retain(self) -> None:
        """Count one more user."""
        with self._pool.condition:
            self._users += 1

    def release(self) -> None:
        """Count one user less; after the last one the buffer is free."""
        with self._pool.condition:
            self._users -= 1
            if not self._users and self.buffer is not None:
                self._pool.give_back(self.buffer)
                self.buffer = None


class BufferPool:
    """A few buffers, page-aligned as O_DIRECT wants them."""

    def __init__(self, count: int = BUFFERS, size: int = CHUNK_SIZE) -> None:
        """Make room for ``count`` buffers of ``size`` bytes each."""
        self.size = size
        self.condition = threading.Condition()
        self._missing = count
        self._free: list[mmap.mmap] = []

    def acquire(self, timeout: float) -> Chunk | None:
        """Return a free buffer, or None if none is free in time (seconds)."""
        with self.condition:
            if not self._free and not self._missing:
                self.condition.wait(timeout)
            if self._free:
                return Chunk(self, self._free.pop())
            if self._missing:
                self._missing -= 1
                return Chunk(self, mmap.mmap(-1, self.size))
        return None

    def give_back(self, buffer: mmap.mmap) -> None:
        """Take a buffer back; call with the condition held."""
        self._free.append(buffer)
        self.condition.notify_all()

    def replace(self) -> None:
        """Make up for a buffer that a hung thread will not give back."""
        with self.condition:
            self._missing += 1
            self.condition.notify_all()

    def poke(self) -> None:
        """Wake up who waits for a buffer, to look at the lanes again."""
        with self.condition:
            self.condition.notify_all()


class Lane:
    """A thread that does jobs in order, and stops at the first error.

    :param name: of the thread
    :param pool: of the chunks that it will be given
    :param timeout: seconds that one job may take, or None if a job cannot
        hang
    """

    def __init__(self, name: str, pool: BufferPool,
                 timeout: float | None = None) -> None:
        self.name = name
        self.timeout = timeout
        #: What a job raised; jobs that come later are not done.
        self.error: BaseException | None = None
        #: Whether the lane was left behind, in the middle of a job.
        self.abandoned = False
        #: Called by the thread of a lane that was left behind, if it gets
        #: through its job after all: to let go of what it holds.
        self.afterwards: Callable[[], object] | None = None
        self._pool = pool
        self._jobs: collections.deque[tuple[Callable[[], object],
                                            Chunk | None]] = \
            collections.deque()
        self._condition = threading.Condition()
        self._busy_since: float | None = None
        self._busy_chunk: Chunk | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name,
                                        daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether no job failed or hung so far."""
        return self.error is None and not self.abandoned

    def submit(self, job: Callable[[], object],
               chunk: Chunk | None = None) -> None:
        """Add a job; ``chunk`` is kept until it is done."""
        if chunk is not None:
            chunk.retain()
        with self._condition:
            if self.alive and not self._closing:
                self._jobs.append((job, chunk))
                self._condition.notify_all()
                return
        if chunk is not None:
            chunk.release()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._jobs and not self._closing:
                    self._condition.wait()
                if not self._jobs:
                    return
                job, chunk = self._jobs.popleft()
                self._busy_since = time.monotonic()
                self._busy_chunk = chunk
            try:
                job()
            except BaseException as error:
                self._finish(error)
            else:
                self._finish(None)
            # Not to keep the last job's objects alive while waiting.
            del job, chunk
            if self.abandoned:
                if self.afterwards is not None:
                    self.afterwards()
                return

    def _finish(self, error: BaseException | None) -> None:
        with self._condition:
            chunk, self._busy_chunk = self._busy_chunk, None
            self._busy_since = None
            dropped = [chunk]
            if error is not None and self.error is None:
                self.error = error
                dropped += [chunk for _, chunk in self._jobs]
                self._jobs.clear()
            self._condition.notify_all()
        _release(dropped)
        self._pool.poke()

    def expired(self) -> bool:
        """Tell whether the present job has taken too long."""
        return self.remaining() <= 0

    def remaining(self) -> float:
        """Return the seconds that the present job has left."""
        with self._condition:
            since = self._busy_since
        if since is None or self.timeout is None:
            return float('inf')
        return since + self.timeout - time.monotonic()

    def abandon(self) -> None:
        """Leave the lane behind: its present job hangs.

        The job's buffer stays with the hung thread, and the pool gets
        another one in its place.
        """
        with self._condition:
            if not self.expired():
                # It came back at the last moment.
                return
            self.abandoned = True
            lost, self._busy_chunk = self._busy_chunk, None
            dropped = [chunk for _, chunk in self._jobs]
            self._jobs.clear()
            self._closing = True
            self._condition.notify_all()
        if lost is not None:
            self._pool.replace()
        _release(dropped)

    def idle(self) -> bool:
        """Tell whether nothing is being done, nor waits to be."""
        with self._condition:
            return not self._jobs and self._busy_since is None

    def cancel(self) -> None:
        """Do none of the jobs that wait; end the thread after the present."""
        with self._condition:
            dropped = [chunk for _, chunk in self._jobs]
            self._jobs.clear()
            self._closing = True
            self._condition.notify_all()
        _release(dropped)

    def close(self) -> None:
        """End the thread once its jobs are done."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def join(self) -> None:
        """Wait for the thread to end, unless it was left behind."""
        self.close()
        while not self.abandoned and self._thread.is_alive():
            self._thread.join(min(self.remaining(), 1.0))
            if self.expired():
                self.abandon()


def _release(chunks: Iterable[Chunk | None]) -> None:
    for chunk in chunks:
        if chunk is not None:
            chunk.release()


def leave_hung(lanes: Iterable[Lane]) -> None:
    """Leave behind every lane whose present job has taken too long."""
    for lane in lanes:
        if not lane.abandoned and lane.expired():
            lane.abandon()


def next_buffer(pool: BufferPool, lanes: Sequence[Lane]) -> Chunk:
    """Wait for a free buffer, leaving behind the lanes that hold it up."""
    while True:
        patience = min((lane.remaining() for lane in lanes
                        if not lane.abandoned), default=1.0)
        chunk = pool.acquire(min(max(patience, 0.001), 1.0))
        if chunk is not None:
            return chunk
        leave_hung(lanes)


def fill(chunk: Chunk, source: engine.Source, size: int) -> bool:
    """Fill a chunk; return whether the source may have more.

    :param size: how much to read at most, in bytes
    :raises easystack_image.exceptions.InvalidRequest: if the source gives
        more than it is asked for
    """
    while chunk.length < size:
        data = source.read(size - chunk.length)
        if not data:
            return False
        if len(data) > size - chunk.length:
            raise exceptions.InvalidRequest(
                f'the source gave {len(data)} bytes where at most '
                f'{size - chunk.length} were asked for')
        chunk.view[chunk.length:chunk.length + len(data)] = data
        chunk.length += len(data)
    return True


def settle(lanes: Sequence[Lane]) -> None:
    """Wait until every lane is idle, failed or left behind."""
    for lane in lanes:
        while not lane.abandoned and not lane.idle():
            with lane._condition:
                if not lane.idle():
                    lane._condition.wait(min(max(lane.remaining(), 0.001),
                                             1.0))
            leave_hung(lanes)
