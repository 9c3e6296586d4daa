"""Lanes and buffers: order, errors, hung jobs, and where buffers go."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time
from typing import Any
import weakref

import hypothesis
from hypothesis import strategies
import testtools

from easystack_image.blockstore import pipeline
from tests.contract import base
from tests.unit.blockstore import examples

AMPLE = 60.0
#: How long a job may take that never ends, in seconds.
SHORT = 0.05


class PipelineTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.release = threading.Event()
        self.pool = pipeline.BufferPool(count=3, size=4096)
        self.lanes: list[pipeline.Lane] = []
        self.addCleanup(self._end)

    def _end(self) -> None:
        self.release.set()
        for lane in self.lanes:
            lane.cancel()
            lane.join()

    def lane(self, timeout: float | None = None) -> pipeline.Lane:
        """Return a new lane."""
        lane = pipeline.Lane('test', self.pool, timeout)
        self.lanes.append(lane)
        return lane

    def hung(self, lane: pipeline.Lane,
             chunk: pipeline.Chunk | None = None) -> None:
        """Give a lane a job that hangs, and wait until it does."""
        begun = threading.Event()

        def hang() -> None:
            begun.set()
            self.release.wait()

        lane.submit(hang, chunk)
        self.assertTrue(begun.wait(AMPLE))

    def chunk(self) -> pipeline.Chunk:
        """Return a chunk, where there must be one at once."""
        chunk = self.pool.acquire(0)
        assert chunk is not None
        return chunk

    def free(self) -> int:
        """Return how many buffers can be had at once; they stay taken."""
        count = 0
        while self.pool.acquire(0) is not None:
            count += 1
        return count


class PoolTest(PipelineTest):

    def test_hands_out_so_many(self) -> None:
        self.assertEqual(3, self.free())
        begin = time.monotonic()
        self.assertIsNone(self.pool.acquire(0.05))
        self.assertGreaterEqual(time.monotonic() - begin, 0.04)

    def test_makes_buffers_only_when_they_are_needed(self) -> None:
        # A small image must not take the memory of a large one.
        seen = set()
        for _ in range(10):
            chunk = self.chunk()
            seen.add(id(chunk.buffer))
            chunk.release()
        self.assertEqual(1, len(seen))

    def test_buffers_are_page_aligned(self) -> None:
        # O_DIRECT takes no others; anonymous memory maps always are.
        chunk = self.chunk()
        self.assertEqual('mmap', type(chunk.buffer).__name__)
        self.assertEqual(4096, len(chunk.view))
        chunk.length = 5
        chunk.view[:5] = b'hello'
        self.assertEqual(b'hello', bytes(chunk.data))

    def test_last_user_frees(self) -> None:
        chunks = [self.chunk() for _ in range(3)]
        chunks[0].retain()
        chunks[0].release()
        self.assertEqual(0, self.free())
        chunks[0].release()
        self.assertEqual(1, self.free())

    def test_freed_once_only(self) -> None:
        chunk = self.chunk()
        chunk.release()
        chunk.release()
        self.assertEqual(3, self.free())

    def test_waits_for_one_to_be_freed(self) -> None:
        chunks = [self.chunk() for _ in range(3)]
        timer = threading.Timer(0.05, chunks[1].release)
        timer.start()
        self.addCleanup(timer.join)
        self.assertIsNotNone(self.pool.acquire(AMPLE))

    def test_replace(self) -> None:
        self.assertEqual(3, self.free())
        self.pool.replace()
        self.assertEqual(1, self.free())

    def test_poke_wakes_whoever_waits(self) -> None:
        self.free()
        timer = threading.Timer(0.05, self.pool.poke)
        timer.start()
        self.addCleanup(timer.join)
        begin = time.monotonic()
        self.assertIsNone(self.pool.acquire(AMPLE))
        self.assertLess(time.monotonic() - begin, AMPLE / 2)

    @hypothesis.given(strategies.lists(
        strategies.sampled_from(['acquire', 'retain', 'release', 'replace']),
        max_size=40))
    @examples(150)
    def test_against_a_model(self, steps: list[str]) -> None:
        pool = pipeline.BufferPool(count=3, size=16)
        room, users = 3, dict[int, int]()
        chunks: list[pipeline.Chunk] = []
        for step in steps:
            if step == 'acquire':
                chunk = pool.acquire(0)
                self.assertEqual(room > 0, chunk is not None)
                if chunk is not None:
                    room -= 1
                    chunks.append(chunk)
                    users[id(chunk)] = 1
            elif step == 'replace':
                pool.replace()
                room += 1
            elif chunks:
                chunk = chunks[len(chunks) // 2]
                getattr(chunk, step)()
                users[id(chunk)] += 1 if step == 'retain' else -1
                if not users[id(chunk)]:
                    room += 1
                    chunks.remove(chunk)
        held = [id(chunk.buffer) for chunk in chunks]
        self.assertEqual(len(held), len(set(held)))


class LaneTest(PipelineTest):

    def test_order(self) -> None:
        lane, done = self.lane(), []
        for number in range(200):
            lane.submit(lambda number=number: done.append(number))
        pipeline.settle([lane])
        self.assertEqual(list(range(200)), done)
        self.assertTrue(lane.alive)
        self.assertTrue(lane.idle())

    def test_one_thread_of_its_own(self) -> None:
        lane = self.lane()
        threads = set()
        for _ in range(5):
            lane.submit(lambda: threads.add(threading.current_thread()))
        pipeline.settle([lane])
        thread, = threads
        self.assertTrue(thread.daemon)
        self.assertEqual('test', thread.name)

    def test_first_error_stops_it(self) -> None:
        for error in (OSError(28, 'full'), KeyboardInterrupt(),
                      SystemExit()):
            lane, done = self.lane(), []
            errors = iter([error, ValueError('a second one')])

            def fail(errors: Any = errors) -> None:
                raise next(errors)

            lane.submit(lambda done=done: done.append(1))
            lane.submit(fail)
            lane.submit(fail)
            lane.submit(lambda done=done: done.append(2))
            pipeline.settle([lane])
            lane.submit(lambda done=done: done.append(3))
            pipeline.settle([lane])
            self.assertEqual([1], done)
            self.assertIs(error, lane.error)
            self.assertFalse(lane.alive)
            self.assertFalse(lane.abandoned)

    def test_error_frees_the_buffers_that_wait(self) -> None:
        lane = self.lane()
        chunks = [self.chunk() for _ in range(3)]
        self.hung(lane, chunks[0])
        lane.submit(lambda: 1 / 0)
        for chunk in chunks:
            lane.submit(lambda: None, chunk)
            chunk.release()
        self.assertEqual(0, self.free())
        self.release.set()
        pipeline.settle([lane])
        self.assertIsInstance(lane.error, ZeroDivisionError)
        self.assertEqual(3, self.free())
        # Nor does it keep one that comes later.
        self.pool.replace()
        late = self.chunk()
        lane.submit(lambda: None, late)
        late.release()
        self.assertEqual(1, self.free())

    def test_buffer_is_kept_as_long_as_a_lane_needs_it(self) -> None:
        quick, slow = self.lane(), self.lane()
        chunk = self.chunk()
        quick.submit(lambda: None, chunk)
        self.hung(slow, chunk)
        chunk.release()
        pipeline.settle([quick])
        self.assertEqual(2, self.free())
        self.release.set()
        pipeline.settle([slow])
        self.assertEqual(1, self.free())

    def test_cancel(self) -> None:
        lane, done = self.lane(), []
        chunk = self.chunk()
        self.hung(lane)
        lane.submit(lambda: done.append(1), chunk)
        chunk.release()
        lane.cancel()
        # What waited is free at once, what is being done goes on.
        self.assertEqual(3, self.free())
        self.assertFalse(lane.idle())
        lane.submit(lambda: done.append(2))
        self.release.set()
        lane.join()
        self.assertEqual([], done)
        self.assertTrue(lane.alive)

    def test_close_finishes_what_waits(self) -> None:
        lane, done = self.lane(), []
        self.hung(lane)
        lane.submit(lambda: done.append(1))
        lane.close()
        lane.submit(lambda: done.append(2))
        self.release.set()
        lane.join()
        self.assertEqual([1], done)

    def test_thread_ends(self) -> None:
        with base.nothing_left_behind():
            for end in (pipeline.Lane.close, pipeline.Lane.cancel,
                        pipeline.Lane.join):
                for jobs in ([], [lambda: None], [lambda: 1 / 0]):
                    lane = self.lane()
                    for job in jobs:
                        lane.submit(job)
                    end(lane)

    def test_keeps_no_job_alive(self) -> None:
        # A job may hold on to a buffer, or to much more.
        class Job:
            def __call__(self) -> None:
                pass

        lane, job = self.lane(), Job()
        reference = weakref.ref(job)
        lane.submit(job)
        del job
        pipeline.settle([lane])
        base.eventually(lambda: reference() is None, 'the job is forgotten')


class HungTest(PipelineTest):

    def test_in_time(self) -> None:
        lane = self.lane(AMPLE)
        self.assertEqual(float('inf'), lane.remaining())
        self.hung(lane)
        self.assertTrue(0 < lane.remaining() <= AMPLE)
        self.assertFalse(lane.expired())
        lane.abandon()
        self.assertFalse(lane.abandoned)
        self.release.set()
        pipeline.settle([lane])
        self.assertEqual(float('inf'), lane.remaining())

    def test_without_a_limit(self) -> None:
        lane = self.lane(None)
        self.hung(lane)
        self.assertEqual(float('inf'), lane.remaining())
        pipeline.leave_hung([lane])
        self.assertFalse(lane.abandoned)

    def test_limit_is_per_job(self) -> None:
        # Each takes less than it may, all of them together more.
        lane = self.lane(1.0)
        for _ in range(30):
            lane.submit(lambda: time.sleep(0.05))
        pipeline.settle([lane])
        self.assertTrue(lane.alive)

    def test_settle_leaves_it_behind(self) -> None:
        lane, other, done = self.lane(SHORT), self.lane(SHORT), []
        self.hung(lane)
        lane.submit(lambda: done.append(1))
        other.submit(lambda: done.append(2))
        pipeline.settle([lane, other])
        self.assertTrue(lane.abandoned)
        self.assertFalse(lane.alive)
        self.assertIsNone(lane.error)
        self.assertTrue(other.alive)
        self.assertEqual([2], done)
        lane.submit(lambda: done.append(3))
        self.release.set()
        lane.join()
        self.assertEqual([2], done)

    def test_join_leaves_it_behind(self) -> None:
        lane = self.lane(SHORT)
        self.hung(lane)
        begin = time.monotonic()
        lane.cancel()
        lane.join()
        self.assertTrue(lane.abandoned)
        self.assertLess(time.monotonic() - begin, AMPLE / 2)

    def test_next_buffer_leaves_it_behind(self) -> None:
        lane, other = self.lane(SHORT), self.lane(AMPLE)
        chunks = [self.chunk() for _ in range(3)]
        self.hung(lane, chunks[0])
        for chunk in chunks:
            lane.submit(lambda: None, chunk)
            other.submit(lambda: None, chunk)
            chunk.release()
        # One is lost to the hung job; another is made for it.
        for _ in range(3):
            self.assertIsNotNone(
                pipeline.next_buffer(self.pool, [lane, other]))
        self.assertTrue(lane.abandoned)
        self.assertTrue(other.alive)
        self.assertEqual(0, self.free())

    def test_next_buffer_waits_for_slow_lanes(self) -> None:
        lane = self.lane(AMPLE)
        for _ in range(3):
            chunk = self.chunk()
            lane.submit(lambda: time.sleep(0.01), chunk)
            chunk.release()
        chunk = pipeline.next_buffer(self.pool, [lane])
        self.assertIsNotNone(chunk.buffer)
        self.assertTrue(lane.alive)

    def test_next_buffer_without_lanes(self) -> None:
        self.assertIsNotNone(pipeline.next_buffer(self.pool, []))

    def test_buffer_of_a_hung_job_is_never_used_again(self) -> None:
        # The hung system call may still read from it, or write to it.
        lane = self.lane(SHORT)
        chunk = self.chunk()
        buffer = chunk.buffer
        self.hung(lane, chunk)
        chunk.release()
        pipeline.settle([lane])
        taken = [self.chunk() for _ in range(3)]
        self.assertTrue(all(each.buffer is not buffer for each in taken))
        self.release.set()
        base.eventually(lambda: not lane._thread.is_alive(), 'its end')
        self.assertEqual(0, self.free())

    def test_afterwards(self) -> None:
        lane, called = self.lane(SHORT), threading.Event()
        lane.afterwards = called.set
        self.hung(lane)
        pipeline.settle([lane])
        self.assertFalse(called.is_set())
        self.release.set()
        self.assertTrue(called.wait(AMPLE))

    def test_afterwards_is_for_hung_lanes_only(self) -> None:
        for job in (lambda: None, lambda: 1 / 0):
            lane, called = self.lane(AMPLE), threading.Event()
            lane.afterwards = called.set
            lane.submit(job)
            lane.join()
            self.assertFalse(called.is_set())

    def test_error_of_a_hung_job(self) -> None:
        lane, called = self.lane(SHORT), threading.Event()
        lane.afterwards = called.set
        begun = threading.Event()

        def fail_late() -> None:
            begun.set()
            self.release.wait()
            raise OSError(5, 'too late')

        lane.submit(fail_late)
        self.assertTrue(begun.wait(AMPLE))
        pipeline.settle([lane])
        self.release.set()
        self.assertTrue(called.wait(AMPLE))
        self.assertTrue(lane.abandoned)

    def test_leaves_no_thread(self) -> None:
        with base.nothing_left_behind():
            lane = self.lane(SHORT)
            self.hung(lane)
            pipeline.settle([lane])
            lane.join()
            self.release.set()


class TransferTest(PipelineTest):
    """All of it together, as a transfer does it."""

    @hypothesis.given(strategies.lists(
        strategies.tuples(strategies.integers(0, 12), strategies.booleans()),
        min_size=1, max_size=4), strategies.integers(0, 12))
    @examples(40)
    def test_lanes_that_fail(self, plans: list[tuple[int, bool]],
                             count: int) -> None:
        pool = pipeline.BufferPool(count=2, size=64)
        seen: list[list[bytes]] = [[] for _ in plans]

        def job(number: int, chunk: pipeline.Chunk) -> Callable[[], None]:
            def take() -> None:
                stop, fails = plans[number]
                if fails and len(seen[number]) == stop:
                    raise OSError(28, 'full')
                seen[number].append(bytes(chunk.data))
            return take

        lanes = [pipeline.Lane(f'{number}', pool, AMPLE)
                 for number in range(len(plans))]
        sent = []
        for piece in range(count):
            chunk = pipeline.next_buffer(pool, lanes)
            chunk.length = piece + 1
            chunk.view[:chunk.length] = bytes([piece]) * chunk.length
            sent.append(bytes(chunk.data))
            for number, lane in enumerate(lanes):
                lane.submit(job(number, chunk), chunk)
            chunk.release()
        pipeline.settle(lanes)
        for (stop, fails), lane, got in zip(plans, lanes, seen, strict=True):
            failed = fails and stop < count
            self.assertEqual(failed, lane.error is not None)
            self.assertEqual(sent[:stop] if failed else sent, got)
            lane.join()
        self.assertIsNotNone(pool.acquire(0))
        self.assertIsNotNone(pool.acquire(0))
        self.assertIsNone(pool.acquire(0))
