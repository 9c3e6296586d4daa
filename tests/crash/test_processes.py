"""Several processes at once, of which one stops and the others go on."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import shutil
import time
from typing import Any

from easystack_image import exceptions
from tests.crash import base
from tests.crash import steps


class FrozenCase(base.TestCase):
    """A process stands still at a step, while another one starts and sweeps.

    What the first one is about belongs to it, however long it takes; so when
    it goes on, it finishes as if nothing had been.
    """

    #: Seconds that an operation of the other process may take: less than the
    #: first one stands still, if that one holds a lock.
    TIMEOUT = 0.5

    def setUp(self) -> None:
        super().setUp()
        self.processes = self.worker()

    def job(self) -> dict[str, Any]:
        """Return what the process does that is stopped."""
        return self.upload_job(self.image_id)

    def check_untouched(self) -> None:
        """Sweep; see that what the frozen process made stays as it is."""
        before = self.settled()
        self.restart(io_timeout=self.TIMEOUT)
        self.assertEqual(before, self.stamps())

    def settled(self) -> dict[str, tuple[int, ...]]:
        """Return the stamps once they change no more.

        What the kernel was at when the process was stopped, it ends.
        """
        before = self.stamps()
        for _ in range(100):
            time.sleep(0.05)
            after = self.stamps()
            if after == before:
                break
            before = after
        return before

    def stamps(self) -> dict[str, tuple[int, ...]]:
        return {path: node.stamp for path, node in
                self.devices.tree().items() if '/locks/' not in path}

    def freeze(self, cut: steps.Cut) -> base.Run:
        """Stop at a cut, have the other process sweep, go on."""
        cut = dataclasses.replace(cut, freeze=True)
        self.processes.begin(devices=self.devices.paths, cut=cut,
                             **self.job())
        if self.processes.wait_until_frozen():
            try:
                self.check_untouched()
            finally:
                self.processes.thaw()
        return self.processes.finish()

    def judge(self, run: base.Run) -> str:
        self.assertEqual(1, len(run.acknowledged))
        engine = self.restart()
        self.check_swept()
        self.check_earlier(engine)
        self.check_whole(engine, self.image_id, base.DATA)
        return 'frozen' if run.stopped else 'not'

    def enumerate_steps(self, devices: Iterable[int],
                        *others: str) -> None:
        seen = self.judge_all(self.cuts(self.freeze, others, devices),
                              self.judge)
        self.assertEqual({'frozen', 'not'}, set(seen))


class TestFrozenUpload(FrozenCase):

    def test_every_step(self) -> None:
        self.enumerate_steps([0], 'behind', 'ahead')


class TestFrozenRepair(FrozenCase):

    def setUp(self) -> None:
        super().setUp()
        self.write(self.restart(), self.image_id, base.DATA)
        copies = [self.devices.copy(self.image_id, device)
                  for device in range(base.COPIES)]
        shutil.rmtree(copies[1])
        (copies[2] / 'data').write_bytes(base.DATA[::-1])
        self.baseline = self.devices.tree()

    def job(self) -> dict[str, Any]:
        return {'kind': 'repair', 'image_id': self.image_id}

    def check_swept(self, quarantined: int = 0) -> None:
        super().check_swept(quarantined=1)

    def test_every_step(self) -> None:
        self.enumerate_steps([1, 2], 'behind')


class TestFrozenDeletion(FrozenCase):
    """The lock is the frozen process's, and so is the rest of the work.

    As soon as the image is marked as deleted, it is gone for everybody.
    """

    def setUp(self) -> None:
        super().setUp()
        self.generation = self.write(
            self.restart(), self.image_id, base.DATA).generation
        self.baseline = self.devices.tree()

    def job(self) -> dict[str, Any]:
        return {'kind': 'delete', 'image_id': self.image_id,
                'generation': self.generation}

    def check_untouched(self) -> None:
        engine = self.restart(io_timeout=self.TIMEOUT)
        self.check_earlier(engine)
        marked = self.devices.in_directory(f'deleted/{self.image_id[:2]}')
        if marked:
            engine.sweeper.sweep()
            for ask in (engine.info, engine.open):
                self.assertRaises(exceptions.ImageNotFound, ask,
                                  self.image_id, generation=self.generation)
        else:
            self.check_whole(engine, self.image_id, base.DATA)

    def judge(self, run: base.Run) -> str:
        self.assertEqual([None], run.acknowledged)
        engine = self.restart()
        self.check_earlier(engine)
        self.check_gone(engine, self.image_id, self.generation)
        self.check_no_trace(self.image_id)
        self.check_swept()
        return 'frozen' if run.stopped else 'not'

    def test_every_step(self) -> None:
        self.enumerate_steps([0], 'behind', 'ahead')


class TestSurvivor(base.TestCase):
    """One process is killed again and again while another one works.

    The other one writes, reads, verifies and deletes images of its own, and
    fails by itself if anything is not as it should be.
    """

    def setUp(self) -> None:
        super().setUp()
        self.uploads = self.worker()
        self.survivor = self.worker()
        self.stop = self.directory / 'stop'
        self.others = [base.new_id(number % 256) for number in range(4000)]

    def begin_anew(self) -> None:
        """Leave the devices to the survivor."""

    def kill(self, cut: steps.Cut) -> base.Run:
        # Another image each time, and locks that the survivor uses too.
        self.image_id = base.new_id(cut.number)
        return self.uploads.run(devices=self.devices.paths, cut=cut,
                                **self.upload_job(self.image_id))

    def judge(self, run: base.Run) -> str:
        engine = self.restart()
        self.check_earlier(engine)
        generation = next(filter(None, (
            step.generation for step in run.steps)))
        self.assertEqual([], [
            path for path in self.devices.in_directory('tmp')
            if generation in path])
        try:
            self.check_whole(engine, self.image_id, base.DATA)
        except exceptions.ImageNotFound:
            self.assertFalse(run.ended(lambda step: step.commits))
            self.check_no_trace(self.image_id)
            return 'nothing'
        self.assertTrue(run.begun(lambda step: step.commits))
        engine.delete(self.image_id)
        return 'there'

    def test_every_step(self) -> None:
        self.survivor.begin(
            'churn', self.devices.paths, image_ids=self.others,
            source=str(self.source), stop=str(self.stop), brief=True)
        seen = self.judge_all(self.cuts(self.kill, ['behind']), self.judge)
        self.assertEqual({'nothing', 'there'}, set(seen))
        self.stop.touch()
        run = self.survivor.finish()
        [count] = run.acknowledged
        self.assertEqual(self.others[:count], run.churned)
        self.assertLess(base.COPIES, count)
        engine = self.restart()
        self.check_swept()
        self.check_earlier(engine)
        self.assertEqual({self.earlier, *self.others[:count:2]},
                         set(engine.list_images()))
        for image_id in self.others[:count:2]:
            self.check_whole(engine, image_id, base.DATA)
