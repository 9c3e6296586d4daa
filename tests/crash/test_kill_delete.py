"""A process is killed at every step of a deletion."""

from __future__ import annotations

from easystack_image import exceptions
from tests.crash import base
from tests.crash import steps


class DeleteCase(base.TestCase):
    """What holds after a deletion was killed and the engine started again.

    * Acknowledged, or killed after the first mark was made: the image is
      gone, and what is left of its copies goes, be it by calling delete again
      or by sweeping.
    * Killed before: the image has all its copies, and is gone after calling
      delete again.

    Never it is served from fewer copies than it had.
    """

    def setUp(self) -> None:
        super().setUp()
        self.deletions = self.worker()
        self.generation = self.write(
            self.restart(), self.image_id, base.DATA).generation
        self.baseline = self.devices.tree()

    def kill(self, cut: steps.Cut) -> base.Run:
        return self.deletions.run(
            'delete', self.devices.paths, cut, image_id=self.image_id,
            generation=self.generation)

    def judge(self, run: base.Run) -> str:
        engine = self.restart()
        self.check_earlier(engine)
        self.check_swept()
        gone = bool(self.devices.in_directory(
            f'deleted/{self.image_id[:2]}'))
        if run.ended(lambda step: step.marks):
            self.assertTrue(gone)
        elif not run.begun(lambda step: step.marks):
            self.assertFalse(gone)
        if not gone:
            self.assertEqual([], run.acknowledged)
            self.assertEqual(self.generation, self.check_whole(
                engine, self.image_id, base.DATA))
            engine.delete(self.image_id, self.generation)
        elif run.acknowledged:
            self.check_no_trace(self.image_id)
        else:
            self.check_gone(engine, self.image_id, self.generation)
            self.remove_rest(run)
        self.check_gone(engine, self.image_id, self.generation)
        self.check_no_trace(self.image_id)
        self.check_swept()
        self.write(engine, self.image_id, base.DATA)
        self.check_whole(engine, self.image_id, base.DATA)
        return ('acknowledged' if run.acknowledged else
                'gone' if gone else 'there')

    def remove_rest(self, run: base.Run) -> None:
        """Get rid of the rest, in one way or the other."""
        assert run.cut is not None
        if run.cut.moment == 'before':
            self.assertRaises(exceptions.ImageNotFound,
                              self.restart().delete, self.image_id,
                              self.generation)
        else:
            self.sweep_all(lambda: not self.devices.named(
                self.image_id, ['deleted']))

    def enumerate_steps(self, others: str, outcomes: set[str]) -> None:
        seen = self.judge_all(self.cuts(self.kill, [others]), self.judge)
        # On a busy machine the others are not always where they should be;
        # every single outcome was judged already.
        self.assertLessEqual(outcomes, set(seen))


class TestOthersBehind(DeleteCase):

    def test_every_step(self) -> None:
        self.enumerate_steps('behind', {'acknowledged', 'gone', 'there'})


class TestOthersAhead(DeleteCase):

    def test_every_step(self) -> None:
        # Some other device has its mark before the first step.
        self.enumerate_steps('ahead', {'acknowledged', 'gone'})
