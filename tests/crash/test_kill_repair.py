"""A process is killed at every step of a repair."""

from __future__ import annotations

import os
from pathlib import Path
import shutil

from easystack_image.blockstore import engine as contract
from tests.crash import base
from tests.crash import steps


class RepairCase(base.TestCase):
    """An image of which one copy is good, one damaged and one missing.

    The good copy stays; the damaged one is there or in quarantine, whatever
    happens, and never counts as good; and a repair afterwards makes all
    copies good.
    """

    def setUp(self) -> None:
        super().setUp()
        self.repairs = self.worker()
        self.generation = self.write(
            self.restart(), self.image_id, base.DATA).generation
        good, damaged, missing = (
            self.devices.copy(self.image_id, device) for device in range(3))
        self.good = good
        shutil.rmtree(missing)
        self.damaged = bytearray(base.DATA)
        self.damaged[base.BLOCK + 1000] ^= 0x40
        (damaged / 'data').write_bytes(self.damaged)
        self.baseline = self.devices.tree()

    def kill(self, cut: steps.Cut) -> base.Run:
        return self.repairs.run('repair', self.devices.paths, cut,
                                image_id=self.image_id)

    def damaged_copies(self) -> list[str]:
        """Return where the damaged copy lies."""
        directories = [str(self.devices.copy(self.image_id, 1)),
                       *self.devices.in_directory('quarantine')]
        return [path for path in directories if os.path.exists(path)
                and Path(path, 'data').read_bytes() == self.damaged]

    def judge(self, run: base.Run) -> str:
        # Even before anything is swept.
        self.assertEqual(base.DATA, (self.good / 'data').read_bytes())
        self.assertEqual(1, len(self.damaged_copies()))
        engine = self.restart()
        self.check_earlier(engine)
        self.assertEqual([], self.devices.in_directory('tmp'))
        states = [copy.state for copy in
                  engine.list_copies(self.image_id, verify=True)]
        good = states.count(contract.CopyState.GOOD)
        committed = {step.device for step in run.steps
                     if step.commits and step.ended}
        self.assertGreaterEqual(good, 1 + len(committed))
        self.assertEqual(self.generation, self.check_whole(
            engine, self.image_id, base.DATA, good))
        if run.acknowledged:
            self.assertEqual([base.GOOD], run.acknowledged)
            self.assertEqual(3, good)
        engine.repair(self.image_id)
        self.assertEqual(self.generation, self.check_whole(
            engine, self.image_id, base.DATA))
        self.check_swept(quarantined=1)
        where = self.damaged_copies()
        self.assertEqual(1, len(where))
        self.assertIn('/quarantine/', where[0])
        engine.delete(self.image_id)
        self.check_gone(engine, self.image_id, self.generation)
        self.check_swept(quarantined=1)
        return 'acknowledged' if run.acknowledged else f'{good} good'

    def enumerate_steps(self, others: str) -> None:
        seen = self.judge_all(self.cuts(self.kill, [others]), self.judge)
        self.assertLessEqual({'acknowledged', '1 good', '3 good'}, set(seen))


class TestOthersBehind(RepairCase):

    def test_every_step(self) -> None:
        self.enumerate_steps('behind')


class TestOthersAhead(RepairCase):

    def test_every_step(self) -> None:
        self.enumerate_steps('ahead')
