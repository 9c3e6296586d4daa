"""What is done to the directory of an instance, whoever it belongs to."""

from __future__ import annotations

import os
from pathlib import Path

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warmth


class DirectoryTest(testtools.TestCase):
    """The user of the service cannot lead root elsewhere."""

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.place = layout.Place(self.root / 'a')
        self.place.path.mkdir()
        self.other = self.root / 'other'
        self.instance = instance_module.Instance(self.place, 1)

    def test_gate(self) -> None:
        self.place.gate.symlink_to(self.other)
        self.assertRaises(OSError, self.instance.serve, 1)
        self.assertFalse(self.other.exists())

    def test_leaving(self) -> None:
        self.place.leaving.symlink_to(self.other)
        self.assertRaises(OSError, self.instance.leave)
        self.assertFalse(self.other.exists())

    def test_fifo(self) -> None:
        self.other.write_text('data')
        self.place.fifo.symlink_to(self.other)
        self.assertRaises(OSError, self.instance.leave)
        self.place.fifo.unlink()
        os.link(self.other, self.place.fifo)
        self.assertRaises(exceptions.InstanceError, self.instance.leave)
        self.assertEqual('data', self.other.read_text())

    def test_warm(self) -> None:
        self.other.write_text('data')
        self.place.warm.with_suffix('.new').symlink_to(self.other)
        warmth.ask(self.place, [warmth.Request('/', {'X-Auth-Token': 't'})])
        self.assertEqual('data', self.other.read_text())
        self.assertEqual(0o600, self.place.warm.stat().st_mode & 0o777)

    def test_dead(self) -> None:
        error = self.assertRaises(exceptions.InstanceError,
                                  self.instance.leave)
        self.assertIn('does not run', str(error))
