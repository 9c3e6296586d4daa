"""How much memory a transfer takes."""

from __future__ import annotations

import json
import sys
from typing import Any
import uuid

from testtools import content as attachments

from tests.faults import base
from tests.functional import processes

MIB = base.MIB
SMALL = 256 * MIB
LARGE = 1024 * MIB
#: What a transfer may take above what the idle process has.
MOST = 64 * MIB
#: How much more it may take for the large image: 4 bytes per block, and what
#: the allocator does.
SPREAD = 8 * MIB


class TestMemory(base.TestCase):

    def transfer(self, what: str, size: int, image_id: str) -> int:
        """Do a transfer in a process of its own; return its memory."""
        output = processes.check(
            [sys.executable, '-m', 'tests.faults.transfer', what, str(size),
             image_id, *(device.path for device in self.devices)], 200)
        result: dict[str, Any] = json.loads(output)
        self.assertTrue(result['good'])
        above_idle = int(result['above_idle'])
        self.addDetail(f'{what} of {size >> 20} MiB', attachments.text_content(
            f'{above_idle / MIB:.1f} MiB above idle'))
        return above_idle

    def test_it_is_bounded_and_does_not_depend_on_the_size(self) -> None:
        # On a disk: in memory it would take thrice the room of the images.
        self.prepare([self.loop(1400 * MIB, directory=self.space.root)
                      for _ in range(3)])
        used: dict[str, list[int]] = {'upload': [], 'download': []}
        for size in (SMALL, LARGE):
            image_id = str(uuid.uuid4())
            for what, amounts in used.items():
                amounts.append(self.transfer(what, size, image_id))
        for what, (small, large) in used.items():
            self.assertLessEqual(large, MOST, what)
            self.assertLessEqual(small, MOST, what)
            self.assertLess(abs(large - small), SPREAD, what)
