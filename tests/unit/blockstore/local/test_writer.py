"""One copy, from its first byte to its place."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import writer
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local.base import MIB

GENERATION = '123e4567-e89b-12d3-a456-426614174000'
SECTOR = 4096


class WriterTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()
        self.pool = pipeline.BufferPool()
        self.device = self.devices[0]

    def writer(self, direct: bool = True) -> writer.CopyWriter:
        """Return a copy, begun."""
        attached = device_module.Device(self.device, 60).attach()
        made = writer.CopyWriter(
            attached, layout.Upload(self.image, GENERATION), direct)
        self.addCleanup(made.close)
        made.begin()
        return made

    def chunk(self, data: bytes, offset: int = 0) -> pipeline.Chunk:
        """Return a chunk with data in it."""
        chunk = self.pool.acquire(0)
        assert chunk is not None
        # What an earlier piece may have left behind the new one.
        chunk.view[:len(data) + SECTOR] = b'!' * (len(data) + SECTOR)
        chunk.view[:len(data)] = data
        chunk.offset, chunk.length = offset, len(data)
        return chunk

    def file(self, name: str = layout.DATA) -> str:
        """Return the path of a file of the only upload in tmp."""
        directory, = self.names(self.device, layout.TMP)
        return f'{self.device}/{layout.TMP}/{directory}/{name}'

    def flags(self) -> int:
        """Return how the data file is open."""
        fd, = (int(name) for name, target in
               base.contract_base.open_files().items()
               if target.endswith('/data'))
        return fcntl.fcntl(fd, fcntl.F_GETFL)


class WriteTest(WriterTest):

    def test_whole_life(self) -> None:
        for direct in (True, False):
            with base.nothing_left_behind():
                copy = self.writer(direct)
                self.assertEqual(self.device, copy.path)
                data = base.noise(MIB + 5)
                copy.write(self.chunk(data), [(0, len(data))])
                copy.seal(len(data), b'the manifest')
                self.assertEqual([], self.names(
                    self.device, layout.images_directory(self.image)))
                self.assertFalse(copy.committed)
                copy.commit()
                self.assertTrue(copy.committed)
                copy.close()
                copy.close()
            self.assertTrue(self.lab.content(self.device, self.image)
                            == data)
            with open(self.lab.place(self.device, self.image, 'manifest'),
                      'rb') as file:
                self.assertEqual(b'the manifest', file.read())
            self.assertEqual([], self.names(self.device, layout.TMP))
            self.lab.drop(self.device, self.image)

    def test_every_tail(self) -> None:
        # What O_DIRECT writes behind the end is cut off.
        for size in (0, 1, SECTOR - 1, SECTOR, SECTOR + 1, MIB - 1):
            copy = self.writer()
            data = base.noise(size)
            copy.write(self.chunk(data), [(0, size)] if size else [])
            copy.seal(size, b'')
            copy.commit()
            copy.close()
            self.assertTrue(self.lab.content(self.device, self.image)
                            == data, size)
            self.lab.drop(self.device, self.image)

    def test_chunks_one_after_the_other(self) -> None:
        copy = self.writer()
        data = base.noise(3 * pipeline.CHUNK_SIZE + 7)
        for begin in range(0, len(data), pipeline.CHUNK_SIZE):
            piece = data[begin:begin + pipeline.CHUNK_SIZE]
            chunk = self.pool.acquire(0)
            chunk.view[:len(piece)] = piece
            chunk.offset, chunk.length = begin, len(piece)
            copy.write(chunk, [(0, len(piece))])
            chunk.release()
        copy.seal(len(data), b'')
        copy.commit()
        self.assertTrue(self.lab.content(self.device, self.image) == data)

    def test_zeros_are_holes(self) -> None:
        for direct in (True, False):
            copy = self.writer(direct)
            data = bytes(MIB) + b'x' * MIB + bytes(MIB + 5)
            copy.write(self.chunk(data), [(MIB, 2 * MIB)])
            copy.seal(len(data), b'')
            self.assertLess(os.stat(self.file()).st_blocks * 512, 1.5 * MIB)
            copy.commit()
            copy.close()
            self.assertTrue(self.lab.content(self.device, self.image)
                            == data)
            self.lab.drop(self.device, self.image)

    def test_nothing_but_zeros(self) -> None:
        copy = self.writer()
        copy.write(self.chunk(bytes(3 * MIB)), [])
        copy.seal(3 * MIB, b'')
        self.assertEqual(3 * MIB, os.path.getsize(self.file()))
        self.assertLess(os.stat(self.file()).st_blocks * 512, MIB)

    def test_without_direct_io_it_is_synced_now_and_then(self) -> None:
        self.patch(writer, 'SYNC_EVERY', 2 * MIB)
        synced: list[int] = []
        real = fsio.fsync
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.fsync',
            lambda fd: synced.append(fd) or real(fd)))
        for direct, expected in ((True, 0), (False, 2)):
            synced.clear()
            copy = self.writer(direct)
            for number in range(5):
                chunk = self.chunk(b'x' * MIB, number * MIB)
                copy.write(chunk, [(0, MIB)])
                chunk.release()
            self.assertEqual(expected, len(synced))
            copy.abort()


class DirectTest(WriterTest):

    def test_past_the_page_cache_if_it_can_be(self) -> None:
        copy = self.writer(True)
        self.assertTrue(self.flags() & os.O_DIRECT)
        copy.close()
        self.writer(False)
        self.assertFalse(self.flags() & os.O_DIRECT)

    def test_file_system_that_opens_no_file_like_that(self) -> None:
        # tmpfs of older kernels: the file is created all the same.
        real = fsio.create

        def create(name: str, dir_fd: int, flags: int = 0) -> int:
            fd = real(name, dir_fd)
            if flags & os.O_DIRECT:
                os.close(fd)
                raise OSError(errno.EINVAL, 'Invalid argument')
            return fd

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.create', create))
        copy = self.writer(True)
        copy.write(self.chunk(b'data'), [(0, 4)])
        copy.seal(4, b'')
        copy.commit()
        self.assertEqual(b'data', self.lab.content(self.device, self.image))

    def test_file_system_that_writes_no_file_like_that(self) -> None:
        real = fsio.write_at

        def write_at(fd: int, data: Any, offset: int) -> None:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, 'Invalid argument')
            real(fd, data, offset)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.write_at', write_at))
        copy = self.writer(True)
        data = base.noise(MIB + 3)
        copy.write(self.chunk(data), [(0, MIB), (MIB, MIB + 3)])
        self.assertFalse(self.flags() & os.O_DIRECT)
        copy.seal(len(data), b'')
        copy.commit()
        self.assertTrue(self.lab.content(self.device, self.image) == data)

    def test_other_errors_are_errors(self) -> None:
        self.lab.fill(self.device)
        copy = self.writer(True)
        error = self.assertRaises(OSError, copy.write, self.chunk(b'data'),
                                  [(0, 4)])
        self.assertEqual(errno.ENOSPC, error.errno)

        def create(name: str, dir_fd: int, flags: int = 0) -> int:
            raise OSError(errno.EROFS, 'Read-only file system')

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.create', create))
        error = self.assertRaises(OSError, self.writer)
        self.assertEqual(errno.EROFS, error.errno)


class CommitTest(WriterTest):

    def test_takes_no_place_that_is_taken(self) -> None:
        for _ in range(2):
            copy = self.writer()
            copy.write(self.chunk(b'data'), [(0, 4)])
            copy.seal(4, b'')
            last = copy
            if not self.names(self.device, layout.images_directory(
                    self.image)):
                copy.commit()
        error = self.assertRaises(OSError, last.commit)
        self.assertIn(error.errno, (errno.ENOTEMPTY, errno.EEXIST))
        self.assertFalse(last.committed)
        last.abort()
        self.assertEqual(b'data', self.lab.content(self.device, self.image))
        self.assertEqual([], self.names(self.device, layout.TMP))

    def test_not_on_a_disk_that_was_unmounted(self) -> None:
        copy = self.writer()
        copy.seal(0, b'')
        self.lab.take_away(self.device)
        self.assertRaises(exceptions.DeviceUnavailable, copy.commit)
        self.assertFalse(copy.committed)
        with base.nothing_left_behind():
            pass
        # It can be removed even so: we still hold the directory.
        copy.abort()
        self.assertEqual([], self.names(self.device, layout.TMP))

    def test_locked_until_it_is_closed(self) -> None:
        # Or a sweep would take it for a leftover.
        copy = self.writer()
        copy.seal(0, b'')
        with open(self.file(), 'rb') as file:
            self.assertRaises(BlockingIOError, fcntl.flock, file,
                              fcntl.LOCK_EX | fcntl.LOCK_NB)
            copy.close()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class AbortTest(WriterTest):

    def test_at_every_stage(self) -> None:
        for stage in range(4):
            with base.nothing_left_behind():
                attached = device_module.Device(self.device, 60).attach()
                copy = writer.CopyWriter(
                    attached, layout.Upload(self.image, GENERATION), True)
                if stage > 0:
                    copy.begin()
                if stage > 1:
                    copy.write(self.chunk(b'data'), [(0, 4)])
                if stage > 2:
                    copy.seal(4, b'')
                copy.abort()
                del attached, copy
            self.assertEqual([], self.lab.leftovers())

    def test_what_is_committed_stays(self) -> None:
        copy = self.writer()
        copy.seal(0, b'')
        copy.commit()
        copy.abort()
        self.assertEqual(b'', self.lab.content(self.device, self.image))

    def test_what_cannot_be_removed_is_left_to_a_sweep(self) -> None:
        copy = self.writer()

        def unlink(name: str, dir_fd: int) -> None:
            raise OSError(errno.EIO, 'Input/output error')

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.unlink', unlink))
        copy.abort()
        self.assertIn('Input/output error', self.log.output)
        self.assertIn(self.device, self.log.output)
        # It is not locked any more.
        with open(self.file(), 'rb') as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_begun_only_in_part(self) -> None:
        os.rmdir(f'{self.device}/{layout.TMP}')
        self.addCleanup(os.mkdir, f'{self.device}/{layout.TMP}')
        attached = device_module.Device(self.device, 60).attach()
        copy = writer.CopyWriter(
            attached, layout.Upload(self.image, GENERATION), True)
        self.assertRaises(FileNotFoundError, copy.begin)
        with base.nothing_left_behind():
            pass
        copy.abort()
        self.assertEqual(-1, attached.fd)


class ErrorTest(base.LabTest):

    def test_as_device_error(self) -> None:
        damaged = exceptions.DamagedCopy('/disk', 'bad')
        for error, kind, reason, number in (
                (damaged, exceptions.DamagedCopy, 'bad', None),
                (TimeoutError('no answer'), exceptions.DeviceTimeout,
                 'no answer', None),
                (TimeoutError(110, 'timed out'), exceptions.DeviceError,
                 'timed out', 110),
                (OSError(28, 'full'), exceptions.DeviceError, 'full', 28),
                (OSError('odd'), exceptions.DeviceError, 'odd', None),
                (ValueError('x'), exceptions.DeviceError, 'ValueError: x',
                 None),
                (KeyboardInterrupt(), exceptions.DeviceError,
                 'KeyboardInterrupt: ', None)):
            made = writer.as_device_error('/disk', error)
            self.assertIs(kind, type(made))
            self.assertEqual(('/disk', reason, number),
                             (made.device, made.reason, made.errno))
