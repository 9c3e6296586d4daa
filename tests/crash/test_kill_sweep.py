"""A process is killed at every step of sweeping up after crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.crash import base
from tests.crash import steps


class SweepCase(base.TestCase):
    """Three processes were killed, and then the one that sweeps is.

    They were killed in the middle of an upload, between the first and the
    second copy's renaming of another upload, and while they removed the
    copies of a deleted image.  However the sweep is cut short: in the end
    nothing is left of the first upload, the second one is whole in all
    copies, and the deleted image is gone.
    """

    def setUp(self) -> None:
        super().setUp()
        self.sweeps = self.worker()
        self.committed = base.new_id(0xc0)
        self.deleted = base.new_id(0xde)
        self.generation = self.write(self.restart(), self.deleted,
                                     base.DATA).generation
        self.baseline = self.devices.tree()
        self.crash_all()
        self.leftovers = [
            *self.devices.in_directory('tmp'),
            *(str(self.devices.root / name) for name in
              self.devices.named(self.deleted, ['deleted']))]
        self.baseline = self.devices.tree()

    def crash_all(self) -> None:
        """Kill the three at once: a later one would sweep up the others."""
        jobs: list[tuple[dict[str, Any], Callable[[base.Step], bool]]] = [
            (self.upload_job(self.image_id),
             lambda step: step.name == 'write_at'),
            (self.upload_job(self.committed), lambda step: step.commits),
            ({'kind': 'delete', 'image_id': self.deleted,
              'generation': self.generation},
             lambda step: step.place.startswith('tmp/trash'))]
        cuts = []
        for job, kind in jobs:
            run = self.sweeps.run(devices=self.devices.paths, **job)
            number = next(step.number for step in run.on(0) if kind(step))
            cuts.append(steps.Cut(0, number, 'after', freeze=True))
            self.devices.restore(self.baseline)
        workers = [self.worker() for _ in jobs]
        for worker, (job, _), cut in zip(workers, jobs, cuts, strict=True):
            worker.begin(devices=self.devices.paths, cut=cut, **job)
            self.assertTrue(worker.wait_until_frozen())
        for worker in workers:
            worker.kill()

    def kill(self, cut: steps.Cut) -> base.Run:
        return self.sweeps.run(
            'serve', self.devices.paths, cut, image_id=self.earlier,
            leftovers=self.leftovers, options={'self_repair': True})

    def judge(self, run: base.Run) -> str:
        engine = self.restart()
        self.assertEqual([], self.devices.in_directory('tmp'))
        self.check_earlier(engine)
        self.check_whole(engine, self.committed, base.DATA)
        self.check_gone(engine, self.image_id)
        self.check_no_trace(self.image_id)
        self.check_gone(engine, self.deleted, self.generation)
        self.sweep_all(lambda: not self.devices.named(
            self.deleted, ['deleted']))
        self.check_gone(engine, self.deleted, self.generation)
        self.check_swept()
        return 'finished' if run.acknowledged else 'cut short'

    def enumerate_steps(self, others: str) -> None:
        # All that the three crashes can leave is there.
        self.assertLessEqual(3 + 2 + 3, len(self.leftovers))
        seen = self.judge_all(self.cuts(self.kill, [others]), self.judge)
        self.assertLessEqual(base.COPIES, seen['finished'])
        self.assertLess(40, seen['cut short'])


class TestOthersBehind(SweepCase):

    def test_every_step(self) -> None:
        self.enumerate_steps('behind')


class TestOthersAhead(SweepCase):

    def test_every_step(self) -> None:
        self.enumerate_steps('ahead')
