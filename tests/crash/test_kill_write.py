"""A process is killed at every step of an upload."""

from __future__ import annotations

from tests.crash import base
from tests.crash import steps


class WriteCase(base.TestCase):
    """What holds after an upload was killed and the engine started again.

    * Acknowledged: whole in all copies (the engine completes those that were
      ready), byte by byte.
    * Killed before the first copy was renamed to its place: nothing is left
      of it, and it can be uploaded again.
    * Killed between that and the acknowledgement: it is there, whole, in all
      copies.  That is right, although nobody was told so: from the outside
      it is an acknowledgement that got lost on its way, which no order of
      steps can rule out.  Glance cannot serve it, because it gets the
      image's location only with the acknowledgement; and the image can be
      deleted, and uploaded again.

    In no case anything else lies about on the devices, and an image that was
    acknowledged earlier has all its copies.
    """

    def kill(self, cut: steps.Cut) -> base.Run:
        return self.uploads.run(devices=self.devices.paths, cut=cut,
                                **self.upload_job(self.image_id))

    def setUp(self) -> None:
        super().setUp()
        self.uploads = self.worker()

    def judge(self, run: base.Run) -> str:
        engine = self.restart()
        self.check_swept()
        self.check_earlier(engine)
        committed = run.begun(lambda step: step.commits)
        if run.acknowledged or run.ended(lambda step: step.commits):
            there = True
        elif committed:
            # It was being renamed when the kill came: before or after.
            there = bool(self.devices.named(self.image_id))
        else:
            there = False
        if there:
            generation = self.check_whole(engine, self.image_id, base.DATA)
            self.assertIn(run.acknowledged, ([], [generation]))
            engine.delete(self.image_id, generation)
            self.check_gone(engine, self.image_id, generation)
        else:
            self.check_gone(engine, self.image_id)
        self.check_no_trace(self.image_id)
        self.write(engine, self.image_id, base.DATA)
        self.check_whole(engine, self.image_id, base.DATA)
        self.check_swept()
        return ('acknowledged' if run.acknowledged else
                'there' if there else 'nothing')

    def enumerate_steps(self, others: str) -> None:
        seen = self.judge_all(self.cuts(self.kill, [others]), self.judge)
        self.assertEqual({'acknowledged', 'there', 'nothing'}, set(seen))


class TestOthersBehind(WriteCase):

    def test_every_step(self) -> None:
        self.enumerate_steps('behind')


class TestOthersAhead(WriteCase):

    def test_every_step(self) -> None:
        self.enumerate_steps('ahead')
