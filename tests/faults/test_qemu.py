"""The copy of an image is a plain file, which qemu-img opens in place."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults import base
from tests.faults import workspace

MIB = base.MIB
#: What the guest would see: data, and much that was never written.
DISK = b''.join([base.content(3 * MIB, seed=10), bytes(24 * MIB),
                 base.content(2 * MIB, seed=11), bytes(3 * MIB)])


def info(path: Path, kind: str) -> dict[str, object]:
    """Return what qemu-img says of an image."""
    answer: dict[str, object] = json.loads(workspace.run(
        'qemu-img', 'info', '--output=json', '-f', kind, path))
    return answer


class TestQemu(base.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.raw = self.space.memory / 'disk.raw'
        self.raw.write_bytes(DISK)
        self.qcow2 = self.space.memory / 'disk.qcow2'
        workspace.run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                      self.raw, self.qcow2)

    def store(self, path: Path) -> list[Path]:
        """Store an image; return the files of its copies."""
        self.client_ = self.client_on(*self.loops())
        self.image_id, self.uri = self.upload(self.client_,
                                              path.read_bytes())
        copies = [Path(copy.path) for copy in
                  self.client_.engine.list_copies(self.image_id)]
        self.assertEqual(3, len(copies))
        return copies

    def test_qcow2(self) -> None:
        for copy in self.store(self.qcow2):
            check = json.loads(workspace.run(
                'qemu-img', 'check', '--output=json', '-f', 'qcow2', copy))
            self.assertEqual(0, check['check-errors'])
            self.assertNotIn('corruptions', check)
            self.assertNotIn('leaks', check)
            told = info(copy, 'qcow2')
            self.assertEqual(len(DISK), told['virtual-size'])
            self.assertNotIn('backing-filename', told)
            # Fails unless each sector is the same.
            workspace.run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw',
                          copy, self.raw)

    def test_raw(self) -> None:
        for copy in self.store(self.raw):
            told = info(copy, 'raw')
            self.assertEqual(len(DISK), told['virtual-size'])
            # What was never written takes no room.
            self.assertLess(told['actual-size'], 6 * MIB)
            workspace.run('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2',
                          copy, self.qcow2)

    def test_damage_that_qemu_does_not_see(self) -> None:
        # A flipped bit in a guest's data: good QCOW2, and the wrong image.
        copies = self.store(self.qcow2)
        with copies[0].open('r+b') as file:
            file.seek(2 * MIB)
            byte = file.read(1)
            file.seek(2 * MIB)
            file.write(bytes([byte[0] ^ 1]))
        workspace.run('qemu-img', 'check', '-f', 'qcow2', copies[0])
        self.check_image(self.client_, self.uri, self.qcow2.read_bytes())
        self.check_copies(self.client_.engine, self.image_id, good=2)
        self.client_.engine.repair(self.image_id)
        for copy in copies:
            workspace.run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw',
                          copy, self.raw)
