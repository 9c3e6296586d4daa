"""The commands for operators, and the healer, on images in Ceph."""

from __future__ import annotations

from pathlib import Path
import sysconfig
import threading
import time
from typing import Any
import uuid

from easystack_image import exceptions
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import scrub
from easystack_image.blockstore.local import work
from tests.ceph import test_engine
from tests.contract import base as contract
from tests.contract.sources import noise
from tests.unit.cmd import base as commands

MIB = test_engine.MIB
STATUS = Path(sysconfig.get_path('scripts')) / 'easystack-image-status'


class CommandTest(test_engine.EngineTest, commands.CommandCase):

    def setUp(self) -> None:
        super().setUp()
        self.write_config(store={
            'devices': '', 'engine': 'ceph',
            'ceph_conf': self.cluster.conf, 'ceph_pool': self.cluster.pool,
            'ceph_user': self.cluster.user})

    def manage(self, *arguments: object) -> commands.Result:
        return self.run_command(commands.COMMAND, '--config-file',
                                self.config, *arguments, command=())

    def check_lacking(self, *images: str) -> None:
        """See which images are listed as lacking copies."""
        result = self.manage('copies', 'list', '--lacking', '-f', 'json')
        self.assertEqual(list(images), [
            row['image'] for row in result.rows])
        self.assertEqual(3 if images else 0, result.code)

    def test_all_images(self) -> None:
        good = self.store(noise(2 * MIB)).image_id
        bad = self.store(noise(3 * MIB, 1)).image_id
        foreign = self.foreign(noise(MIB, 2))
        result = self.manage('copies', 'list', '-f', 'json')
        self.assertEqual(0, result.code)
        self.assertEqual(sorted([good, bad, foreign]),
                         [row['image'] for row in result.rows])
        self.check_lacking()

        self.lab.damage('', bad, MIB + 5)
        result = self.manage('scrub', '-f', 'json')
        self.assertEqual(3, result.code)
        self.assertEqual(
            [{'images': 3, 'good': 2, 'bad': 1, 'repaired': 0, 'lacking': 1,
              'failed': 1}], result.rows)
        self.assertIn(bad, result.errors)
        self.check_lacking(bad)
        result = self.manage('repair', '--dry-run', '-f', 'json')
        self.assertEqual((3, [(bad, 'would be tried')]), (
            result.code, [(row['image'], row['result'])
                          for row in result.rows]))
        result = self.run_command(
            STATUS, '--config-file', self.config, 'upgrade', 'check',
            '--json', command=())
        self.assertEqual(2, result.code)
        self.assertIn('images-damaged: 1 image has', result.output)
        self.assertEqual(3, self.manage('heal', '--once').code)

        self.lab.damage('', bad, MIB + 5)
        result = self.manage('repair', '-f', 'json')
        self.assertEqual((0, [(bad, 'repaired')]), (
            result.code, [(row['image'], row['result'])
                          for row in result.rows]))
        self.check_lacking()
        self.assertEqual(0, self.manage('heal', '--once').code)

    def test_what_ceph_does_itself(self) -> None:
        for words, instead in ((('device', 'drain', 'x'), 'ceph osd out'),
                               (('capacity',), 'ceph df detail'),
                               (('rebalance',), 'ceph balancer status')):
            result = self.manage(*words)
            self.assertEqual(1, result.code)
            self.assertIn(f'"{instead}"', ' '.join(result.errors.split()))


class _Stopping(work.Silent):
    """Has a job end after the first image."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def advance(self, images: int, size: int) -> None:
        if images:
            self.stop.set()


class ScrubTest(test_engine.EngineTest):

    def scrub(self, restart: bool = False, **job: Any) -> scrub.Result:
        return self.engine.scrubber.run(work.Job(**job), restart)

    def test_goes_on_where_it_was(self) -> None:
        for number in range(3):
            self.store(noise(MIB, number))
        self.foreign(noise(MIB, 3))
        for _ in range(2):
            stopping = _Stopping()
            self.assertRaises(exceptions.Interrupted, self.scrub,
                              stop=stopping.stop, progress=stopping)
        self.assertEqual(2, self.scrub().images)
        # Now all of them again, and from anew whatever was done.
        stopping = _Stopping()
        self.assertRaises(exceptions.Interrupted, self.scrub,
                          stop=stopping.stop, progress=stopping)
        self.assertEqual((4, 4), (
            (result := self.scrub(restart=True)).images, result.good))

    def test_rate(self) -> None:
        self.store(noise(8 * MIB))
        begin = time.monotonic()
        self.assertEqual(1, self.scrub(rate=4 * MIB).good)
        self.assertGreater(time.monotonic() - begin, 1.0)

    def test_stopped_in_mid_image(self) -> None:
        info = self.store(noise(64 * MIB))
        stop = threading.Event()
        timer = threading.Timer(1, stop.set)
        timer.start()
        self.addCleanup(timer.join)
        self.assertRaises(exceptions.Interrupted, self.engine.scrubber.scrub,
                          info.image_id, work.Job(rate=MIB, stop=stop))


class HealerTest(test_engine.EngineTest):

    def test_one_at_a_time(self) -> None:
        image = self.store(noise(MIB)).image_id
        name = self.foreign(b'deleted', layout.trash_name(
            layout.Upload(str(uuid.uuid4()), str(uuid.uuid4()))), snapshot='')
        healing = self.lab.engine(heal_interval=1)
        stop = threading.Event()
        thread = threading.Thread(target=healing.healer().run, args=[stop])
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)
        contract.eventually(lambda: name not in self.names(), 'a sweep')
        self.assertRaises(exceptions.ImageBusy, self.engine.healer().once,
                          threading.Event())
        # It does what is asked for from now on, too.
        self.engine._verifier.mark(layout.Upload(
            image, self.engine.info(image).generation))
        contract.eventually(
            lambda: self.engine.repair_requested_at(image) is None,
            'a repair')
        stop.set()
        thread.join(30)
        self.assertFalse(thread.is_alive())
        self.assertTrue(self.engine.healer().once(threading.Event()).whole)
        self.assertEqual(noise(MIB), self.read(image))

    def test_scrubs_what_is_due(self) -> None:
        image = self.store(noise(2 * MIB)).image_id
        healer = self.lab.engine(scrub_period=1.0).healer()
        self.assertTrue(healer.once(threading.Event()).whole)
        self.lab.damage('', image, 5)
        # It was written just now.
        self.assertTrue(healer.once(threading.Event()).whole)
        healer = self.lab.engine(scrub_period=1e-6).healer()
        self.assertEqual(1, healer.once(threading.Event()).failing)
        self.assertEqual(['images-damaged'], [
            each.what for each in self.engine.problems()])
