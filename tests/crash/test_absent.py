"""A device is away when the engine starts after a crash, and returns later."""

from __future__ import annotations

import functools

from easystack_image import exceptions
from tests.crash import base
from tests.crash import steps

OTHER_DATA = base.content(777, -base.BLOCK, 4096, seed=3)


class AbsentCase(base.TestCase):
    """One device is away while the others are started."""

    #: Which device is away, counted from the one of the cut.
    offset = 0

    def setUp(self) -> None:
        super().setUp()
        self.processes = self.worker()

    def away(self, run: base.Run) -> int:
        assert run.cut is not None
        return (run.cut.device + self.offset) % base.COPIES

    def places(self) -> int:
        """Return how many copies of the image are in their places."""
        return sum(self.devices.copy(self.image_id, device).exists()
                   for device in range(base.COPIES))


class UploadCase(AbsentCase):

    def kill(self, cut: steps.Cut) -> base.Run:
        return self.processes.run(devices=self.devices.paths, cut=cut,
                                  **self.upload_job(self.image_id))

    def start_without(self, run: base.Run) -> bool:
        """Start with a device away; return whether the image is there.

        It is there, whole, on all devices that are, if the upload is known
        to have been committed; else it is not served, but who asks is told
        that it may be on the device that is away.
        """
        with self.devices.without(self.away(run)):
            known = self.places() > 0
            engine = self.restart()
            self.check_earlier(engine, base.COPIES - 1)
            if known:
                self.check_whole(engine, self.image_id, base.DATA,
                                 base.COPIES - 1)
            else:
                for ask in (engine.info, engine.open, engine.list_copies):
                    self.assertRaises(exceptions.ImageUnavailable, ask,
                                      self.image_id)
            self.while_away(engine, known)
        return known

    def while_away(self, engine: base.Engine, known: bool) -> None:
        """Do something more before the device returns."""


class ForgottenUploadCase(UploadCase):
    """Nothing more happens before the device returns."""

    def judge(self, run: base.Run) -> str:
        known = self.start_without(run)
        committed = self.places() > 0
        engine = self.restart()
        self.check_swept()
        self.check_earlier(engine)
        if not committed:
            self.assertEqual([], run.acknowledged)
            self.check_gone(engine, self.image_id)
            self.check_no_trace(self.image_id)
            return 'nothing'
        self.check_whole(engine, self.image_id, base.DATA)
        return 'there' if known else 'returned'

    def enumerate_steps(self) -> set[str]:
        return set(self.judge_all(self.cuts(
            self.kill, moments=['after']), self.judge))


class TestUploadThere(ForgottenUploadCase):
    """The device that is away is the first that has a copy."""

    def test_every_step(self) -> None:
        self.assertEqual({'nothing', 'returned', 'there'},
                         self.enumerate_steps())


class TestUploadElsewhere(ForgottenUploadCase):
    """The device that is away is another one."""

    offset = 1

    def test_every_step(self) -> None:
        self.assertLessEqual({'nothing', 'there'}, self.enumerate_steps())


class TestUploadReplaced(UploadCase):
    """While the device is away, the image is uploaded again.

    That upload was acknowledged; the earlier one was not, so the device must
    not bring it back, neither at once nor after the image was deleted.
    """

    def while_away(self, engine: base.Engine, known: bool) -> None:
        if not known:
            self.generation = self.write(engine, self.image_id,
                                         OTHER_DATA).generation

    def judge_return(self, run: base.Run) -> str:
        known = self.start_without(run)
        old = self.devices.copy(self.image_id, self.away(run)).exists()
        if known:
            return 'there'
        engine = self.restart()
        self.assertEqual([], self.devices.in_directory('tmp'))
        self.assertEqual(self.generation, self.check_whole(
            engine, self.image_id, OTHER_DATA, base.COPIES - 1))
        engine.repair(self.image_id)
        self.assertEqual(self.generation, self.check_whole(
            engine, self.image_id, OTHER_DATA))
        self.check_swept(quarantined=old)
        engine.delete(self.image_id)
        self.check_gone(engine, self.image_id, self.generation)
        self.check_no_trace(self.image_id + '/')
        return 'replaced' if old else 'nothing'

    def judge_deletion(self, run: base.Run) -> str:
        known = self.start_without(run)
        old = self.devices.copy(self.image_id, self.away(run)).exists()
        if known:
            return 'there'
        engine = self.restart()
        engine.delete(self.image_id, self.generation)
        self.check_gone(engine, self.image_id, self.generation)
        return 'replaced' if old else 'nothing'

    def enumerate_steps(self, judge: base.Judge) -> None:
        seen = self.judge_all(self.cuts(
            self.kill, ['behind'], [0], ['after']), judge)
        self.assertEqual({'there', 'replaced', 'nothing'}, set(seen))

    def test_repaired(self) -> None:
        self.enumerate_steps(self.judge_return)

    def test_deleted(self) -> None:
        self.enumerate_steps(self.judge_deletion)


class DeletionCase(AbsentCase):
    """While a device is away, an image is deleted again, or not."""

    again = False

    def setUp(self) -> None:
        super().setUp()
        self.generation = self.write(
            self.restart(), self.image_id, base.DATA).generation
        self.baseline = self.devices.tree()

    def kill(self, cut: steps.Cut) -> base.Run:
        return self.processes.run(
            'delete', self.devices.paths, cut, image_id=self.image_id,
            generation=self.generation)

    def marked(self) -> bool:
        """Tell whether a device that is there knows of the deletion."""
        return bool(self.devices.in_directory(
            f'deleted/{self.image_id[:2]}'))

    def start_without(self, run: base.Run) -> bool:
        """Start with a device away; return whether the image is gone."""
        with self.devices.without(self.away(run)):
            gone = self.marked()
            engine = self.restart()
            self.check_earlier(engine, base.COPIES - 1)
            if not gone:
                self.check_whole(engine, self.image_id, base.DATA,
                                 base.COPIES - 1)
            if self.again:
                delete = functools.partial(engine.delete, self.image_id,
                                           self.generation)
                if gone:
                    self.assertRaises(exceptions.ImageNotFound, delete)
                else:
                    delete()
            if gone or self.again:
                for ask in (engine.info, engine.open):
                    self.assertRaises(exceptions.ImageNotFound, ask,
                                      self.image_id,
                                      generation=self.generation)
        return gone

    def judge(self, run: base.Run) -> str:
        gone = self.start_without(run)
        marked = self.marked()
        engine = self.restart()
        self.check_earlier(engine)
        if not marked:
            self.assertFalse(self.again)
            self.check_whole(engine, self.image_id, base.DATA)
            return 'there'
        self.check_gone(engine, self.image_id, self.generation)
        self.sweep_all(lambda: not self.devices.named(
            self.image_id, ['deleted']))
        self.check_gone(engine, self.image_id, self.generation)
        self.check_swept()
        return 'gone' if gone else 'returned'

    def enumerate_steps(self) -> set[str]:
        return set(self.judge_all(self.cuts(
            self.kill, ['behind'], moments=['before', 'after']), self.judge))


class TestDeletionThere(DeletionCase):
    """The device that is away is the first that knows of it."""

    def test_every_step(self) -> None:
        self.assertEqual({'there', 'gone', 'returned'},
                         self.enumerate_steps())


class TestDeletionElsewhere(DeletionCase):
    """The device that is away is another one."""

    offset = 1

    def test_every_step(self) -> None:
        self.assertLessEqual({'there', 'gone'}, self.enumerate_steps())


class TestDeletionAgain(DeletionCase):
    """The device that is away has the only mark, and then another is made."""

    again = True

    def test_every_step(self) -> None:
        self.assertLessEqual({'gone', 'returned'}, self.enumerate_steps())
