"""Zeros are holes on disk, and cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import io
import os
from pathlib import Path
import uuid

from tests.faults import base

MIB = base.MIB
#: Blocks of 1 MiB: data and zeros, and a short one of zeros at the end.
PATTERN = 'd0dd00000d00d0000000d000'
DATA = b''.join(
    base.content(MIB, seed) if kind == 'd' else bytes(MIB)
    for seed, kind in enumerate(PATTERN, 100)) + bytes(4321)
FULL = PATTERN.count('d') * MIB
#: Directories, the manifest, and what the file system needs to find it all.
EXTRA = MIB // 4


class Zeros:
    """A source of zeros."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Return zeros."""
        size = min(size, self._left)
        self._left -= size
        return bytes(size)


def data_files(device: base.Device) -> Iterator[Path]:
    """Yield the data file of each copy on a device."""
    return device.inside.glob('images/*/*/data')


class TestHoles(base.TestCase):

    def check_sparse(self, device: base.Device, size: int,
                     full: int) -> None:
        """See that the only copy on a device has no blocks for its zeros."""
        (path,) = data_files(device)
        status = path.stat()
        self.assertEqual(size, status.st_size)
        self.assertLess(status.st_blocks * 512, full + EXTRA)
        self.assertGreaterEqual(status.st_blocks * 512, full)

    def check_upload(self, **options: object) -> None:
        fuse = self.fuse()
        client = self.client_on(*self.loops(2), fuse, **options)
        before = fuse.written()
        image_id, uri = self.upload(client, DATA)
        for device in self.devices:
            self.check_sparse(device, len(DATA), FULL)
        # Zeros were not even handed to the file system.
        self.assertLess(fuse.written() - before, FULL + EXTRA)
        self.assertGreaterEqual(fuse.written() - before, FULL)
        self.check_image(client, uri, DATA)
        self.check_copies(client.engine, image_id, good=3)

    def test_upload(self) -> None:
        self.check_upload()

    def test_upload_through_the_page_cache(self) -> None:
        self.check_upload(direct_io=False)

    def test_holes_are_where_the_zeros_are(self) -> None:
        client = self.client_on(*self.loops())
        self.upload(client, DATA)
        for device in self.devices:
            (path,) = data_files(device)
            with path.open('rb') as file:
                for block, kind in enumerate(PATTERN):
                    begin = os.lseek(file.fileno(), block * MIB,
                                     os.SEEK_HOLE)
                    self.assertEqual(kind == '0', begin == block * MIB,
                                     block)

    def test_repair_keeps_them(self) -> None:
        client = self.client_on(*self.loops())
        image_id, uri = self.upload(client, DATA)
        (path,) = data_files(self.devices[1])
        with path.open('r+b') as file:
            file.seek(MIB // 2)
            file.write(b'damaged')
        client.engine.repair(image_id)
        self.check_copies(client.engine, image_id, good=3)
        for device in self.devices:
            self.check_sparse(device, len(DATA), FULL)
        self.check_image(client, uri, DATA)

    def test_damage_in_a_hole_is_noticed(self) -> None:
        client = self.client_on(*self.loops())
        image_id, uri = self.upload(
            client, DATA, image_id=self.image_for(self.devices[1]))
        (path,) = data_files(self.devices[1])
        with path.open('r+b') as file:
            file.seek(PATTERN.index('0') * MIB + 77)
            file.write(b'\1')
        self.check_image(client, uri, DATA)
        self.check_copies(client.engine, image_id, good=2)

    def test_nothing_but_zeros(self) -> None:
        # More than there is room for on all devices together.
        size = 800 * MIB + 4321
        client = self.client_on(*self.loops())
        free = [device.free() for device in self.devices]
        image_id = str(uuid.uuid4())
        client.engine.write(image_id, Zeros(size), size)
        for device, before in zip(self.devices, free, strict=True):
            self.check_sparse(device, size, 0)
            self.assertLess(before - device.free(), EXTRA)
        self.check_zeros(client, image_id, size)

    def check_zeros(self, client: base.Client, image_id: str,
                      size: int) -> None:
        """See that zeros are handed out, as many as there should be."""
        block = bytes(MIB)
        count = 0
        with contextlib.closing(client.engine.open(
                image_id, size - 64 * MIB)) as reader:
            for piece in reader:
                self.assertTrue(block.startswith(piece))
                count += len(piece)
        self.assertEqual(64 * MIB, count)

    def test_no_byte_at_all(self) -> None:
        client = self.client_on(*self.loops())
        image_id = str(uuid.uuid4())
        client.engine.write(image_id, io.BytesIO(b''), 0)
        for device in self.devices:
            self.check_sparse(device, 0, 0)
        self.check_copies(client.engine, image_id, good=3)
