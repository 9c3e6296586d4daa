"""The power fails after every sync: what was not synced is lost."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil

from easystack_image import exceptions
from easystack_image.blockstore import engine as contract
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import provision
from tests.crash import base
from tests.crash import power
from tests.crash import steps

#: How often each piece of work is recorded: the devices keep no step.
ROUNDS = 2


class PowerCase(base.TestCase):
    """The work is done once and recorded; then every outcome is judged."""

    def record(self, work: Callable[[], object]) -> list[power.Moment]:
        """Do some work; return what would be left, whenever that changes."""
        recorder = power.Recorder(str(self.devices.root))
        with steps.observed(recorder.observe):
            work()
            recorder.acknowledge()
        return recorder.moments

    def leave(self, rest: power.Rest, before: power.Rest) -> None:
        """Leave on the devices what is left.

        :param before: what was there before the work, as in the baseline
        """
        tree: base.Tree = {}
        for name, data in rest.items():
            path = str(self.devices.root / name)
            if name in before and before[name] == data:
                tree[path] = self.baseline[path]
            elif data is None:
                tree[path] = base.Node(None, ())
            else:
                tree[path] = base.Node([(0, data), (len(data), b'')], (0,))
        self.devices.restore(tree)

    def judge_moments(self, work: Callable[[], object],
                      judge: Callable[[bool], str]) -> set[str]:
        """Judge what is left at every moment; return the kinds of outcome.

        :param judge: called with whether the work was acknowledged
        """
        seen, wrong = set(), []
        for _ in range(ROUNDS):
            self.devices.restore(self.baseline)
            moments = self.record(work)
            self.assertLess(base.COPIES, len(moments))
            for moment in moments:
                self.leave(moment.rest, moments[0].rest)
                try:
                    seen.add(judge(moment.acknowledged))
                except Exception as error:
                    wrong.append(f'after {moment.step}: '
                                 f'{type(error).__name__}: {error}')
        self.assertEqual([], wrong)
        return seen


class TestUpload(PowerCase):

    def judge(self, acknowledged: bool) -> str:
        engine = self.restart()
        self.check_swept()
        self.check_earlier(engine)
        try:
            copies = engine.list_copies(self.image_id, verify=True)
        except exceptions.ImageNotFound:
            self.assertFalse(acknowledged)
            self.check_gone(engine, self.image_id)
            self.check_no_trace(self.image_id)
            return 'nothing'
        # No copy comes into being before it is durable.
        self.assertLessEqual({copy.state for copy in copies}, {
            contract.CopyState.GOOD, contract.CopyState.MISSING})
        good = [copy.state for copy in copies].count(contract.CopyState.GOOD)
        self.check_whole(engine, self.image_id, base.DATA, good)
        if acknowledged:
            self.assertEqual(base.COPIES, good)
        engine.repair(self.image_id)
        self.check_whole(engine, self.image_id, base.DATA)
        self.check_swept()
        return 'acknowledged' if acknowledged else 'there'

    def test_every_sync(self) -> None:
        engine = self.restart()
        self.assertEqual(
            {'nothing', 'there', 'acknowledged'}, self.judge_moments(
                lambda: self.write(engine, self.image_id, base.DATA),
                self.judge))

    def test_two_copies(self) -> None:
        """See that the least number of copies is durable by then."""
        with self.devices.without(2):
            # The tree of the devices that are there.
            self.baseline = self.devices.tree()
            self.check_two_copies()

    def check_two_copies(self) -> None:
        engine = self.restart()
        moments = self.record(
            lambda: self.write(engine, self.image_id, base.DATA))
        self.leave(moments[-1].rest, moments[0].rest)
        self.check_whole(self.restart(), self.image_id, base.DATA,
                         base.MIN_COPIES)


class TestDeletion(PowerCase):

    def setUp(self) -> None:
        super().setUp()
        self.generation = self.write(
            self.restart(), self.image_id, base.DATA).generation
        self.baseline = self.devices.tree()

    def judge(self, acknowledged: bool) -> str:
        engine = self.restart()
        self.check_swept()
        self.check_earlier(engine)
        try:
            engine.info(self.image_id)
        except exceptions.ImageNotFound:
            self.check_gone(engine, self.image_id, self.generation)
            self.sweep_all(lambda: not self.devices.named(
                self.image_id, ['deleted']))
            self.check_swept()
            return 'acknowledged' if acknowledged else 'gone'
        self.assertFalse(acknowledged)
        # No copy goes before the mark is durable.
        self.check_whole(engine, self.image_id, base.DATA)
        return 'there'

    def test_every_sync(self) -> None:
        engine = self.restart()
        self.assertEqual(
            {'there', 'gone', 'acknowledged'}, self.judge_moments(
                lambda: engine.delete(self.image_id), self.judge))


class TestRepair(PowerCase):
    """One copy is good, one is damaged and one is missing."""

    def setUp(self) -> None:
        super().setUp()
        self.generation = self.write(
            self.restart(), self.image_id, base.DATA).generation
        copies = [self.devices.copy(self.image_id, device)
                  for device in range(base.COPIES)]
        shutil.rmtree(copies[0])
        self.damaged = base.DATA[:-1] + b'?'
        (copies[1] / 'data').write_bytes(self.damaged)
        self.baseline = self.devices.tree()

    def judge(self, acknowledged: bool) -> str:
        engine = self.restart()
        self.assertEqual([], self.devices.in_directory('tmp'))
        self.check_earlier(engine)
        states = [copy.state for copy in
                  engine.list_copies(self.image_id, verify=True)]
        good = states.count(contract.CopyState.GOOD)
        self.check_whole(engine, self.image_id, base.DATA, good)
        if acknowledged:
            self.assertEqual(base.COPIES, good)
        engine.repair(self.image_id)
        self.assertEqual(self.generation, self.check_whole(
            engine, self.image_id, base.DATA))
        self.assertEqual([], self.devices.in_directory('repair'))
        self.assertEqual([self.damaged], [
            Path(path, 'data').read_bytes()
            for path in self.devices.in_directory('quarantine')])
        return 'acknowledged' if acknowledged else f'{good} good'

    def test_every_sync(self) -> None:
        engine = self.restart()
        self.assertLessEqual(
            {'acknowledged', '1 good', '2 good'}, self.judge_moments(
                lambda: engine.repair(self.image_id), self.judge))


class TestPreparation(PowerCase):

    def setUp(self) -> None:
        super().setUp()
        self.disk = str(self.devices.root / 'disk3')
        os.mkdir(self.disk)
        self.configured = [*self.devices.paths, self.disk]
        self.store_id = self.restart().store_id
        self.baseline = self.devices.tree()

    def judge(self, acknowledged: bool) -> str:
        whole = Path(self.disk, device_module.IDENTITY).exists()
        if not whole:
            self.assertFalse(acknowledged)
            self.assertEqual([self.disk],
                             provision.initialise(self.configured))
        device_module.Device(self.disk, 1.0).attach(self.store_id).close()
        self.assertEqual(sorted(os.listdir(self.devices.paths[0])),
                         sorted(os.listdir(self.disk)))
        for name in device_module.SHARDED:
            self.assertEqual(
                list(device_module.SHARDS),
                sorted(os.listdir(os.path.join(self.disk, name))))
        return 'acknowledged' if acknowledged else (
            'whole' if whole else 'nothing')

    def test_every_sync(self) -> None:
        self.assertEqual(
            {'nothing', 'whole', 'acknowledged'}, self.judge_moments(
                lambda: provision.initialise(self.configured), self.judge))
