"""An image that is larger than this machine's memory."""

from __future__ import annotations

import time
import uuid

import crc32c
import psutil

from easystack_image.blockstore.local import manifest
from tests.crash import base


class TestLargerThanMemory(base.TestCase):
    """Reading costs no memory, neither real nor promised."""

    def test_read(self) -> None:
        memory = psutil.virtual_memory().total + psutil.swap_memory().total
        blocks = memory // base.BLOCK + 1024
        engine = self.restart()
        self.put_zeros(engine.store_id, blocks)
        self.assertEqual(base.GOOD, [
            copy.state.value for copy in engine.list_copies(self.image_id)])
        end = blocks * base.BLOCK
        for offset in (0, end // 2 - 1500, end - 3000):
            self.assertEqual(bytes(3000), b''.join(
                engine.open(self.image_id, offset, 3000)))
        self.assertEqual([], self.devices.in_directory('repair'))

    def put_zeros(self, store_id: str, blocks: int) -> None:
        """Put an image in place that is one hole; writing it would last."""
        checksum = crc32c.crc32c(bytes(base.BLOCK)).to_bytes(4, 'little')
        sealed = manifest.pack(manifest.Manifest(
            image_id=self.image_id, generation=str(uuid.uuid4()),
            store_id=store_id, size=blocks * base.BLOCK,
            created_at=time.time(), md5=bytes(16), algorithm='sha512',
            multihash=bytes(64), checksums=checksum * blocks))
        for device in range(base.COPIES):
            copy = self.devices.copy(self.image_id, device)
            copy.mkdir()
            (copy / 'manifest').write_bytes(sealed)
            with open(copy / 'data', 'wb') as file:
                file.truncate(blocks * base.BLOCK)
