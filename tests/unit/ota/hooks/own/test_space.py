"""Room for a release."""

from __future__ import annotations

from collections import namedtuple
import shutil

from easystack_image import exceptions
from easystack_image.ota.hooks.own import space
from tests.unit.ota.hooks import base

MIB = 1024 * 1024
Usage = namedtuple('Usage', 'total used free')


class DiskSpaceTest(base.HookCase):

    def check(self, **others: object) -> str | None:
        return space.DiskSpace().run(
            self.context('at-preflight', **others))

    def free(self, size: int) -> None:
        """Have every file system have so much room."""
        self.patch(shutil, 'disk_usage', lambda path: Usage(0, 0, size))

    def test_real(self) -> None:
        self.assertIsNone(self.check(archive_bytes=1))
        error = self.assertRaises(exceptions.HookFailed, self.check,
                                  archive_bytes=1 << 60)
        for word in (str(self.root), 'MiB', 'make room'):
            self.assertIn(word, str(error))

    def test_one_file_system(self) -> None:
        """What is needed in both directories counts together."""
        needed = 10 * MIB * (space.SLOT + 1) + space.RESERVE
        self.free(needed)
        self.assertIsNone(self.check(archive_bytes=10 * MIB))
        self.free(needed - 1)
        self.assertRaises(exceptions.HookFailed, self.check,
                          archive_bytes=10 * MIB)

    def test_nothing_to_build(self) -> None:
        self.free(0)
        self.assertIsNone(self.check(archive_bytes=1, slot=str(self.root)))
        self.assertIn('not known', self.check() or '')
