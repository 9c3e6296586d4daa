"""Several copies at once, and devices that drop out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import sweep
from easystack_image.blockstore.local import transfer
from tests.contract import local
from tests.contract import sources
from tests.unit.blockstore.local import base

GENERATION = '123e4567-e89b-12d3-a456-426614174000'


class TransferTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()

    def transfer(self, timeout: float = 60, min_copies: int = 2,
                 ) -> transfer.Transfer:
        """Return a transfer that has not begun."""
        made = transfer.Transfer(layout.Upload(self.image, GENERATION),
                                 timeout, min_copies, True)
        self.addCleanup(made.end)
        return made

    def attached(self) -> list[device_module.Attached]:
        """Return all devices, held open."""
        return [device_module.Device(path, 60).attach()
                for path in self.devices]

    def spoil(self, device: str) -> None:
        """Make a device refuse new copies."""
        os.rmdir(f'{device}/{layout.TMP}')
        self.addCleanup(os.mkdir, f'{device}/{layout.TMP}')

    def paths(self, made: transfer.Transfer) -> list[str]:
        """Return the devices that are still in it."""
        return [lane.path for lane in made.alive()]


class BeginTest(TransferTest):

    def test_first_devices(self) -> None:
        with base.nothing_left_behind():
            made = self.transfer()
            made.begin(self.attached(), 3)
            self.assertEqual(self.devices[:3], self.paths(made))
            made.end()
        self.assertEqual([], self.lab.leftovers())

    def test_next_device_stands_in(self) -> None:
        self.spoil(self.devices[1])
        with base.nothing_left_behind():
            made = self.transfer()
            made.begin(self.attached(), 3)
            self.assertEqual(
                [self.devices[0], self.devices[2], self.devices[3]],
                self.paths(made))
            self.assertEqual([self.devices[1]],
                             [failure.device for failure in made.failures])
            made.end()

    def test_as_many_as_can_be(self) -> None:
        for device in self.devices[:2]:
            self.spoil(device)
        made = self.transfer()
        made.begin(self.attached(), 3)
        self.assertEqual(self.devices[2:], self.paths(made))

    def test_too_few(self) -> None:
        for device in self.devices[:3]:
            self.spoil(device)
        with base.nothing_left_behind():
            made = self.transfer()
            error = self.assertRaises(exceptions.NotEnoughCopies, made.begin,
                                      self.attached(), 3)
            self.assertEqual(self.devices[:3],
                             [cause.device for cause in error.causes])
            made.end()
        for device in self.devices[:3]:
            self.assertIn(device, str(error))

    def test_none(self) -> None:
        self.assertRaises(exceptions.NotEnoughCopies, self.transfer().begin,
                          [], 3)

    def test_hung_device(self) -> None:
        # A sweep that hangs in the midst of it, or the disk itself.
        with base.nothing_left_behind():
            with contextlib.closing(device_module.Device(
                    self.devices[0], 60).attach()) as attached, \
                    attached.directory(layout.TMP) as tmp:
                fcntl.flock(tmp, fcntl.LOCK_EX)
                made = self.transfer(base.SHORT)
                begin = time.monotonic()
                made.begin(self.attached(), 3)
                self.assertGreaterEqual(time.monotonic() - begin, base.SHORT)
            self.assertEqual(self.devices[1:], self.paths(made))
            failure, = made.failures
            self.assertIsInstance(failure, exceptions.DeviceTimeout)
            self.assertEqual(self.devices[0], failure.device)
            # Woken up, the thread goes on to the end of its job.
            made.end()


class PumpTest(TransferTest):

    def begun(self, **kwargs: object) -> transfer.Transfer:
        made = self.transfer(**kwargs)
        made.begin(self.attached(), 3)
        return made

    def finish(self, made: transfer.Transfer, data: bytes,
               checksums: bytes) -> None:
        """Seal and commit, and check what lies there then."""
        self.assertEqual(local.describe(self.image, data).checksums,
                         checksums)
        made.seal(len(data), b'the manifest')
        paths = self.paths(made)
        self.assertEqual(paths, [lane.path for lane in made.commit()])
        made.end()
        self.assertEqual(paths, self.lab.holders(self.image))
        for path in paths:
            self.assertTrue(self.lab.content(path, self.image) == data)
        self.assertEqual([], self.lab.leftovers())

    def test_all_go_well(self) -> None:
        data = base.noise(2 * pipeline.CHUNK_SIZE + 3)
        seen = []
        with base.nothing_left_behind():
            made = self.begun()
            size, checksums = made.pump(
                base.Source(data, most=100_000), lambda chunk: seen.append(
                    (chunk.offset, chunk.length)))
            self.assertEqual(len(data), size)
            self.finish(made, data, checksums)
        self.assertEqual([(0, pipeline.CHUNK_SIZE),
                          (pipeline.CHUNK_SIZE, pipeline.CHUNK_SIZE),
                          (2 * pipeline.CHUNK_SIZE, 3)], seen)

    def test_one_fails(self) -> None:
        data = base.noise(3 * pipeline.CHUNK_SIZE)
        with base.nothing_left_behind():
            made = self.begun()
            size, checksums = made.pump(base.Source(
                data, at=pipeline.CHUNK_SIZE,
                action=lambda: self.lab.fill(self.devices[1])),
                lambda chunk: None)
            made.settle()
            self.assertEqual([self.devices[0], self.devices[2]],
                             self.paths(made))
            self.assertEqual(28, made.failures[0].errno)
            self.finish(made, data, checksums)

    def test_too_many_fail(self) -> None:
        data = base.noise(20 * pipeline.CHUNK_SIZE)
        source = base.Source(
            data, at=pipeline.CHUNK_SIZE, action=lambda: [
                self.lab.fill(device) for device in self.devices[:2]])
        with base.nothing_left_behind():
            made = self.begun()
            error = self.assertRaises(exceptions.NotEnoughCopies, made.pump,
                                      source, lambda chunk: None)
            made.end()
        self.assertEqual(set(self.devices[:2]),
                         {cause.device for cause in error.causes})
        # Not read to its end for nothing.
        self.assertLess(source.position, len(data))
        self.assertEqual([], self.lab.leftovers())

    def test_one_hangs_and_comes_back_later(self) -> None:
        data = base.noise(10 * pipeline.CHUNK_SIZE)
        release, reached = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        real = fsio.write_at

        def write_at(fd: int, view: memoryview, offset: int) -> None:
            path = os.readlink(f'/proc/self/fd/{fd}')
            if path.startswith(self.devices[2]) and offset:
                reached.set()
                release.wait()
            real(fd, view, offset)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.write_at', write_at))
        with base.nothing_left_behind():
            made = self.begun(timeout=base.SHORT)
            size, checksums = made.pump(base.Source(data), lambda chunk: None)
            self.assertTrue(reached.is_set())
            made.seal(size, b'the manifest')
            self.assertEqual(self.devices[:2], self.paths(made))
            self.assertIsInstance(made.failures[0], exceptions.DeviceTimeout)
            made.commit()
            made.end()
            # It keeps its files as long as it hangs.
            self.assertTrue(any(
                target.startswith(self.devices[2]) for target in
                base.contract_base.open_files().values()))
            release.set()
        for path in self.devices[:2]:
            self.assertTrue(self.lab.content(path, self.image) == data)
        # What it left is for a sweep, which may take it now.
        self.assertEqual(1, len(self.names(self.devices[2], layout.TMP)))
        sweep.Sweeper(self.fleet(), 3).sweep_uploads()
        self.assertEqual([], self.lab.leftovers())

    def test_memory_is_bounded(self) -> None:
        made = self.begun()
        buffers = set()
        made.pump(base.Source(base.noise(12 * pipeline.CHUNK_SIZE)),
                  lambda chunk: buffers.add(id(chunk.buffer)))
        self.assertLessEqual(len(buffers), pipeline.BUFFERS)
        self.assertLess(pipeline.BUFFERS * pipeline.CHUNK_SIZE,
                        64 * base.MIB)

    def test_whoever_watches_may_stop_it(self) -> None:
        def stop(chunk: pipeline.Chunk) -> None:
            raise KeyboardInterrupt

        with base.nothing_left_behind():
            made = self.begun()
            try:
                made.pump(base.Source(b'data'), stop)
            except KeyboardInterrupt:
                made.end()
            else:
                self.fail('not stopped')
        self.assertEqual([], self.lab.leftovers())

    def test_source_that_gives_too_much(self) -> None:
        made = self.begun()
        error = self.assertRaises(
            exceptions.InvalidRequest, made.pump,
            sources.Greedy(base.noise(2 * pipeline.CHUNK_SIZE)),
            lambda chunk: None)
        self.assertIn(str(pipeline.CHUNK_SIZE + 1), str(error))


class CommitTest(TransferTest):

    def test_one_cannot(self) -> None:
        made = self.transfer()
        made.begin(self.attached(), 3)
        made.pump(base.Source(b'data'), lambda chunk: None)
        made.seal(4, b'the manifest')
        self.lab.take_away(self.devices[0])
        with base.nothing_left_behind():
            pass
        self.assertEqual(self.devices[1:3],
                         [lane.path for lane in made.commit()])
        made.end()
        self.assertIsInstance(made.failures[0], exceptions.DeviceUnavailable)
        self.lab.bring_back(self.devices[0])
        self.assertEqual(self.devices[1:3], self.lab.holders(self.image))
        self.assertEqual([], self.lab.leftovers())

    def test_failed_after_its_rename(self) -> None:
        # It may be durable or not; it does not count.
        made = self.transfer()
        made.begin(self.attached(), 3)
        made.pump(base.Source(b'data'), lambda chunk: None)
        made.seal(4, b'the manifest')
        real = fsio.fsync
        place = os.path.join(self.devices[1],
                             layout.images_directory(self.image))

        def fsync(fd: int) -> None:
            if os.readlink(f'/proc/self/fd/{fd}') == place:
                raise OSError(5, 'Input/output error')
            real(fd)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.fsync', fsync))
        self.assertEqual([self.devices[0], self.devices[2]],
                         [lane.path for lane in made.commit()])
        made.end()
        self.assertEqual(5, made.failures[0].errno)

    def test_seal_that_fails(self) -> None:
        made = self.transfer()
        made.begin(self.attached(), 3)
        made.pump(base.Source(b''), lambda chunk: None)
        for device in self.devices[1:3]:
            self.lab.fill(device)
        error = self.assertRaises(exceptions.NotEnoughCopies, made.seal, 0,
                                  b'the manifest')
        self.assertEqual(2, len(error.causes))
        made.end()
        self.assertEqual([], self.lab.leftovers())
