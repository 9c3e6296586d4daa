"""Writing several copies at once, from one reader.

A device that fails or hangs is left behind; the others go on while they are
enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import functools
import logging

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.local import checksums
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import timed
from easystack_image.blockstore.local import writer

LOG = logging.getLogger(__name__)

#: Called with the path of a device that hangs; returns what to call when it
#: does no more.
Hang = Callable[[str], Callable[[], object]]


def _note_nothing(path: str) -> Callable[[], object]:
    return lambda: None


class CopyLane(pipeline.Lane):
    """The lane in which one copy is written."""

    def __init__(self, copy: writer.CopyWriter, pool: pipeline.BufferPool,
                 timeout: float, hang: Hang) -> None:
        """Begin the copy.

        :param timeout: seconds that one operation on the device may take
        :param hang: called if the device takes longer
        """
        super().__init__('copy', pool, timeout)
        self.copy = copy
        self._hang = hang
        self._ended: Callable[[], object] | None = None
        self.afterwards = self._let_go
        self.submit(copy.begin)

    def abandon(self) -> None:
        """Leave the lane behind, and note that its device hangs."""
        with self._condition:
            super().abandon()
            self._note_hang()

    def _note_hang(self) -> None:
        if self.abandoned and self._ended is None:
            self._ended = self._hang(self.path)

    def _let_go(self) -> None:
        self.copy.close()
        if self._ended is not None:
            self._ended()

    @property
    def path(self) -> str:
        """The path of the device."""
        return self.copy.path

    def feed(self, chunk: pipeline.Chunk,
             runs: list[tuple[int, int]]) -> None:
        """Write a chunk, later."""
        self.submit(lambda: self.copy.write(chunk, runs), chunk)

    def failure(self) -> exceptions.DeviceError:
        """Return why the lane is not alive any more."""
        if self.error is not None:
            return writer.as_device_error(self.path, self.error)
        return exceptions.DeviceTimeout(
            self.path, f'did not answer within {self.timeout:g} s')


class Transfer:
    """The copies of one upload that are being written.

    :param upload: which upload of which image
    :param timeout: seconds that one operation on a device may take
    :param min_copies: how many copies are the least
    """

    def __init__(self, upload: layout.Upload, timeout: float,
                 min_copies: int, direct_io: bool,
                 hang: Hang = _note_nothing) -> None:
        self.upload = upload
        self.pool = pipeline.BufferPool()
        self.lanes: list[CopyLane] = []
        self.failures: list[exceptions.DeviceError] = []
        self._timeout = timeout
        self._min_copies = min_copies
        self._direct_io = direct_io
        self._hang = hang

    def begin(self, devices: Iterable[device_module.Attached],
              copies: int) -> None:
        """Begin ``copies`` copies on the first devices that can take them.

        Takes over all of ``devices``, best first.

        :raises easystack_image.exceptions.NotEnoughCopies: if too few can
        """
        waiting = list(devices)
        try:
            while waiting and len(self.alive()) < copies:
                wanted = copies - len(self.alive())
                for _ in range(min(wanted, len(waiting))):
                    self._add(waiting.pop(0))
                pipeline.settle(self.lanes)
                self._drop_dead()
        finally:
            for attached in waiting:
                attached.close()
        self._check()

    def _add(self, attached: device_module.Attached) -> None:
        copy = writer.CopyWriter(attached, self.upload, self._direct_io)
        self.lanes.append(CopyLane(copy, self.pool, self._timeout,
                                   self._hang))

    def alive(self) -> list[CopyLane]:
        """Return the lanes that go on."""
        return [lane for lane in self.lanes if lane.alive]

    def _drop_dead(self) -> None:
        """Note the lanes that failed, and release what they hold."""
        # Decided once: a lane that fails from now on is dropped the next
        # time, or nobody would end it.
        dead = [lane for lane in self.lanes if not lane.alive]
        for lane in dead:
            failure = lane.failure()
            self.failures.append(failure)
            LOG.error('Image %(image)s: its copy on %(failure)s',
                      {'image': self.upload.image_id,
                       'failure': failure})
        _abort(dead, self._timeout)
        self.lanes = [lane for lane in self.lanes if lane not in dead]

    def _check(self) -> None:
        if len(self.lanes) < self._min_copies:
            raise exceptions.NotEnoughCopies(
                f'image {self.upload.image_id}: {len(self.lanes)} of at '
                f'least {self._min_copies} copies can be written',
                self.failures)

    def settle(self) -> None:
        """Wait for all lanes; leave behind those that fail.

        :raises easystack_image.exceptions.NotEnoughCopies: if too few remain
        """
        pipeline.settle(self.lanes)
        self._drop_dead()
        self._check()

    def pump(self, source: engine.Source,
             each: Callable[[pipeline.Chunk], object]) -> tuple[int, bytes]:
        """Read a source to its end into all copies.

        :param each: called with every chunk before the copies get it
        :returns: the size in bytes, and the checksums of the blocks as a
            manifest has them
        :raises easystack_image.exceptions.NotEnoughCopies: as soon as too
            few copies remain
        """
        table = checksums.Checksums()
        size, more = 0, True
        while more:
            chunk = pipeline.next_buffer(self.pool, self.lanes)
            try:
                chunk.offset = size
                more = pipeline.fill(chunk, source, self.pool.size)
                size += chunk.length
                each(chunk)
                self._feed(chunk, table)
            finally:
                chunk.release()
        return size, table.pack()

    def _feed(self, chunk: pipeline.Chunk,
              table: checksums.Checksums) -> None:
        runs = table.add(chunk.data)
        if not all(lane.alive for lane in self.lanes):
            self._drop_dead()
            self._check()
        for lane in self.lanes:
            lane.feed(chunk, runs)

    def seal(self, size: int, manifest: bytes) -> None:
        """Make all copies durable, and ready for :meth:`commit`."""
        for lane in self.lanes:
            lane.submit(functools.partial(lane.copy.seal, size, manifest))
        self.settle()

    def commit(self, first: Mapping[str, Callable[[], None]] | None = None,
               ) -> list[CopyLane]:
        """Move the copies to their places; return the lanes that did.

        A lane that failed after its rename counts as failed.

        :param first: by device path, what is to be done just before, to
            clear the place.  Those devices come after the others and one by
            one, so that not all copies are out of their places at once.
        """
        first = first or {}
        for lane in self.lanes:
            if lane.path not in first:
                lane.submit(lane.copy.commit)
        pipeline.settle(self.lanes)
        for lane in self.lanes:
            if lane.path in first:
                lane.submit(first[lane.path])
                lane.submit(lane.copy.commit)
                pipeline.settle([lane])
        self._drop_dead()
        return self.lanes

    def end(self) -> None:
        """End all threads; remove what is not in its place by now."""
        _abort(self.lanes, self._timeout)
        self.lanes = []


def _abort(lanes: Iterable[CopyLane], timeout: float) -> None:
    """Remove unfinished copies and end the lanes, within the time limit."""
    lanes = list(lanes)
    for lane in lanes:
        lane.cancel()
    for lane in lanes:
        lane.join()
    # What hangs keeps its files until it comes back (Lane.afterwards).
    timed.gather({number: lane.copy.abort for number, lane in enumerate(lanes)
                  if not lane.abandoned}, timeout, 'copy-abort')
