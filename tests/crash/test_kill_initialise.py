"""A process is killed at every step of the preparation of a device."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import tempfile

from easystack_image import exceptions
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import provision
from tests.crash import base
from tests.crash import steps

#: What a whole device has, by directory.
WHOLE = {
    '': sorted([*device_module.DIRECTORIES, device_module.IDENTITY]),
    **{name: list(device_module.SHARDS)
       if name in device_module.SHARDED else []
       for name in device_module.DIRECTORIES}}


class TestInitialise(base.TestCase):
    """A fourth device joins a set.

    Until it is whole it is no device; and calling again makes it one, of the
    same set.
    """

    def setUp(self) -> None:
        super().setUp()
        self.preparations = self.worker()
        self.disk = os.path.join(self.memory(), 'disk3')
        os.mkdir(self.disk)
        self.configured = [*self.devices.paths, self.disk]
        self.store_id = self.restart().store_id

    def memory(self) -> str:
        """Return a directory in memory, if there is such a place.

        Half a million directories are made here.  What a process had done
        before it was killed is there on any file system.
        """
        place = '/dev/shm'  # noqa: S108
        if not os.access(place, os.W_OK):
            return str(self.temporary_directory())
        path = tempfile.mkdtemp(prefix='easystack-crash-', dir=place)
        self.addCleanup(shutil.rmtree, path)
        return path

    def kill(self, cut: steps.Cut) -> base.Run:
        # A change to a device that is prepared already would be an error.
        return self.preparations.run('initialise', [self.disk], cut,
                                     configured=self.configured, brief=True)

    def begin_anew(self) -> None:
        shutil.rmtree(self.disk)
        os.mkdir(self.disk)

    def attach(self) -> None:
        """Use it as the engine does."""
        device_module.Device(self.disk, 1.0).attach(self.store_id).close()

    def judge(self, run: base.Run) -> str:
        whole = Path(self.disk, device_module.IDENTITY).exists()
        if whole:
            self.check_tree()
            self.assertEqual([], provision.initialise(self.configured))
        else:
            self.assertEqual([], run.acknowledged)
            self.assertRaises(exceptions.DeviceUnavailable, self.attach)
            self.assertEqual([self.disk],
                             provision.initialise(self.configured))
            self.check_tree()
        self.attach()
        return ('acknowledged' if run.acknowledged else
                'whole' if whole else 'nothing')

    def check_tree(self) -> None:
        for name in ['', *device_module.DIRECTORIES]:
            self.assertEqual(WHOLE[name], sorted(os.listdir(
                os.path.join(self.disk, name))))

    def test_every_step(self) -> None:
        # One thread does it all, so that after a step is before the next.
        runs = self.cuts(self.kill, ['behind'], [0], ['before', 'middle'])
        seen = self.judge_all(runs, self.judge)
        self.assertEqual({'acknowledged', 'whole', 'nothing'}, set(seen))
        self.assertGreater(seen['nothing'], sum(map(len, WHOLE.values())))
