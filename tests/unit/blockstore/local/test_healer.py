"""The healer: its rounds, its scrubs, and its end."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image.blockstore.local import healer as healer_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import repair as repair_module
from easystack_image.blockstore.local import status as status_module
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import operating

DAY = 86400.0

#: A healer in a process of its own.
CHILD = """
import signal, sys, threading
from easystack_image.blockstore.local import engine, settings
stop = threading.Event()
# Not from the handler: the lock of an event may be held just then.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(
    target=stop.set).start())
made = engine.LocalEngine(settings.Settings(
    sys.argv[1:], allow_shared_disk=True, self_repair=False,
    heal_interval=0.2, io_timeout=5.0, scrub_rate=0.001))
made.start()
made.healer(lambda status: print(status.images, flush=True)).run(stop)
"""


class HealerTest(operating.OperatingTest):

    def setUp(self) -> None:
        super().setUp()
        self.store_some(4)
        self.healer = self.make_healer()

    def make_healer(self, **options: Any) -> healer_module.Healer:
        self.reports: list[status_module.Status] = []
        self.engine = self.restart(**{'heal_interval': 0.1, **options})
        return self.engine.healer(self.reports.append)

    def round(self) -> status_module.Status:
        return self.healer.round(threading.Event())

    def first(self) -> str:
        return next(iter(self.images))


class RoundTest(HealerTest):

    def test_nothing_to_do(self) -> None:
        with base.nothing_left_behind():
            status = self.round()
        self.assertEqual(
            (4, 0, 0, 0, 0, 0, 0),
            (status.images, status.below_copies, status.below_min_copies,
             status.waiting, status.failing, status.quarantined,
             status.misplaced))
        self.assertEqual(12 * 3000, status.size)
        self.assertEqual([status], self.reports)
        self.assertEqual(status, self.engine.status())
        # Nothing but what it writes itself is written in the next one.
        self.check_settled()

    def test_missing_copy(self) -> None:
        self.lab.drop(min(self.wanted(self.first())), self.first())
        with self.watch.every_step():
            self.assertEqual(0, self.round().below_copies)
        self.check_settled()
        self.assertEqual(1, self.reports[-1].moved)

    def test_what_was_noticed_is_repaired(self) -> None:
        self.flip(min(self.wanted(self.first())), self.first())
        self.engine.request_repair(self.first())
        with self.watch.every_step():
            status = self.round()
        self.assertEqual((0, 1), (status.waiting, status.repaired))
        self.check_settled()
        self.assertFalse(self.engine.awaits_repair(self.first()))

    def test_damage_that_shows_without_reading(self) -> None:
        one, other, _ = sorted(self.wanted(self.first()))
        os.truncate(self.lab.place(one, self.first(), layout.DATA), 10)
        os.truncate(self.lab.place(other, self.first(), layout.MANIFEST), 1)
        status = self.round()
        self.assertEqual((0, 0), (status.below_copies,
                                  status.below_min_copies))
        self.check_settled()

    def test_damage_that_shows_and_cannot_be_repaired(self) -> None:
        for device in self.wanted(self.first()):
            os.truncate(self.lab.place(device, self.first(), layout.DATA), 1)
        status = self.round()
        self.assertEqual((1, 1, 1, 1), (
            status.below_copies, status.below_min_copies, status.failing,
            status.lost))

    def test_leftovers(self) -> None:
        os.mkdir(f'{self.devices[0]}/{layout.TMP}/{layout.trash_name()}')
        self.round()
        self.check_settled()

    def test_missed_deletion(self) -> None:
        away = min(self.wanted(self.first()))
        self.round()
        self.lab.take_away(away)
        # By another process, which ends before the device is back.
        self.restart().delete(self.first())
        self.lab.bring_back(away)
        for _ in range(2):
            self.round()
        self.assertEqual(set(), self.holders(self.first()))
        self.assertNotIn(self.first(), self.engine.list_images())

    def test_upload_to_a_new_device(self) -> None:
        self.engine.membership.add(self.more[0])
        with self.watch.every_step():
            self.round()
        self.check_settled()

    def test_drained(self) -> None:
        self.engine.membership.drain(self.devices[0])
        with self.watch.every_step():
            self.round()
        self.check_settled()
        self.assertEqual(set(), {
            image_id for image_id in self.images
            if self.devices[0] in self.holders(image_id)})

    def test_expiry(self) -> None:
        self.flip(min(self.wanted(self.first())), self.first())
        self.engine.repair(self.first())
        deleted = self.image_id()
        self.engine.write(deleted, base.Source(b'data'))
        self.engine.delete(deleted)
        status = self.round()
        self.assertEqual(1, status.quarantined)
        self.assertEqual(1, len(self.marks('deleted', deleted)))
        self.healer = self.make_healer(quarantine_ttl=0.0, deleted_ttl=0.0)
        for path in self.more:
            self.engine.membership.add(path)
        time.sleep(0.05)
        status = self.round()
        self.assertEqual(0, status.quarantined)
        self.assertEqual(set(), self.marks('deleted', deleted))
        self.check_settled()

    def test_stopped(self) -> None:
        stop = threading.Event()
        stop.set()
        self.lab.drop(min(self.wanted(self.first())), self.first())
        self.assertRaises(exceptions.Interrupted, self.healer.round, stop)
        self.assertEqual(2, len(self.holders(self.first())))


class TwiceTest(HealerTest):
    """A disk is mounted at the path of another one, too, by mistake."""

    def check(self, copies: int) -> None:
        image_id = self.image_id()
        self.healer = self.make_healer(copies=copies, min_copies=1)
        self.engine.write(image_id, base.Source(b'the data'))
        self.round()
        there, *_ = holders = sorted(self.holders(image_id))
        taken = min(set(self.devices).difference(holders))
        self.lab.take_away(taken)
        os.rmdir(taken)
        os.symlink(there, taken)
        for _ in range(2):
            with base.nothing_left_behind():
                self.round()
            self.assertEqual(holders, [
                path for path in holders if os.path.exists(
                    f'{path}/{layout.copy_directory(image_id)}')])
            self.assertEqual(copies, sum(
                copy.state.value == 'good'
                for copy in self.engine.list_copies(image_id)))
        # Nor is the other one forgotten.
        self.assertEqual(4, len({
            device.known.device_id for path, device
            in self.engine.fleet.devices.items()
            if path in self.devices and device.known is not None}))
        os.unlink(taken)
        os.mkdir(taken)
        self.lab.bring_back(taken)
        self.round()
        self.assertEqual(set(holders), self.holders(image_id))

    def test_of_one_copy(self) -> None:
        self.check(1)

    def test_of_two_copies(self) -> None:
        self.check(2)

    def test_of_three_copies(self) -> None:
        self.check(3)


class AbsenceTest(HealerTest):

    def setUp(self) -> None:
        super().setUp()
        self.away = min(self.wanted(self.first()))
        self.round()

    def test_short(self) -> None:
        self.lab.take_away(self.away)
        status = self.round()
        self.assertEqual(0, status.moved)
        self.assertGreater(status.below_copies, 0)
        # Nor by one that starts while it is away.
        self.healer = self.make_healer()
        self.assertEqual(0, self.round().moved)
        self.lab.bring_back(self.away)
        self.assertEqual((0, 0), (self.round().moved,
                                  self.round().below_copies))
        self.check_settled()

    def test_directory_that_cannot_be_read(self) -> None:
        # A disk that fails in parts: who it is can still be read.
        self.healer = self.make_healer(absent_grace=0.3)
        place = f'{self.away}/{layout.images_directory(self.first())}'
        os.rename(place, place + '.bad')
        with open(place, 'w'):
            pass
        for _ in range(2):
            self.round()
            self.assertEqual(2, len(self.holders(self.first())))
        time.sleep(0.4)
        self.round()
        self.assertEqual(3, len(self.holders(self.first())))
        self.assertEqual(0, self.round().below_copies)
        # It is used again as soon as it can be.
        os.unlink(place)
        os.rename(place + '.bad', place)
        self.round()
        self.round()
        self.assertEqual(self.wanted(self.first()),
                         self.holders(self.first()))
        self.check_settled()

    def test_long_and_return(self) -> None:
        self.healer = self.make_healer(absent_grace=0.3)
        self.lab.take_away(self.away)
        self.assertEqual(0, self.round().moved)
        time.sleep(0.4)
        with self.watch.every_step():
            status = self.round()
        self.assertGreater(status.moved, 0)
        self.assertEqual(0, status.below_copies)
        self.assertIn('has been away for', self.log.output)
        self.lab.bring_back(self.away)
        with self.watch.every_step():
            self.round()
            self.round()
        self.check_settled()

    def test_it_comes_and_goes(self) -> None:
        # Each absence counts for itself.
        self.healer = self.make_healer(absent_grace=60.0)
        for _ in range(3):
            self.lab.take_away(self.away)
            self.assertEqual(0, self.round().moved)
            self.lab.bring_back(self.away)
            self.assertEqual(0, self.round().moved)


class FailingTest(HealerTest):

    def lose(self, how: str = 'content') -> None:
        """Damage all copies of the first image."""
        for device in self.wanted(self.first()):
            if how == 'content':
                self.flip(device, self.first())
            else:
                os.truncate(self.lab.place(device, self.first(),
                                           layout.DATA), 1)

    @contextlib.contextmanager
    def tries(self) -> Iterator[list[str]]:
        """Note which images are repaired, or found not to be."""
        tried: list[str] = []
        real = type(self.engine.repairer).repair

        def repair(this: Any, image_id: str, *args: Any,
                   **kwargs: Any) -> Any:
            tried.append(image_id)
            return real(this, image_id, *args, **kwargs)

        with fixtures.MonkeyPatch('easystack_image.blockstore.local.repair.'
                                  'Repairer.repair', repair):
            yield tried

    def test_beyond_repair(self) -> None:
        self.lose()
        self.engine.request_repair(self.first())
        with self.tries() as tried:
            for _ in range(2 * healer_module.PATIENCE):
                status = self.round()
                self.assertEqual((1, 1, 1, 1, 1), (
                    status.waiting, status.failing, status.lost,
                    status.below_min_copies, status.below_copies))
            # Nor by a healer that starts now.
            self.healer = self.make_healer()
            self.assertEqual(1, self.round().lost)
            # Not again and again, since that reads all of it.
            self.assertEqual([self.first()], tried)
            # But for who asks for it.
            time.sleep(0.05)
            self.engine.request_repair(self.first())
            self.assertIsNone(self.engine.repair_attempt(self.first()))
            self.round()
            self.assertEqual([self.first()] * 2, tried)
        self.assertIn(f'Image {self.first()} has no good copy',
                      self.log.output)

    def test_beyond_repair_and_misplaced(self) -> None:
        """A device was added on which it belongs."""
        self.lose()
        self.engine.request_repair(self.first())
        self.assertEqual(1, self.round().lost)
        self.engine.membership.add(self.more[0], weight=10000.0)
        read: list[str] = []
        real = repair_module.verify

        def verify(copy: Any, *args: Any) -> str:
            read.append(copy.manifest.image_id)
            return real(copy, *args)

        with fixtures.MonkeyPatch('easystack_image.blockstore.local.repair.'
                                  'verify', verify), self.tries() as tried:
            for _ in range(4):
                # It was not asked yet; each time by another process.
                self.healer = self.make_healer()
                status = self.round()
                self.assertEqual((1, 0), (status.lost, status.misplaced))
        self.assertEqual([self.first()], tried)
        self.assertEqual([self.first()] * 3, read)
        self.assertNotIn(f'image {self.first()} cannot be moved',
                         self.log.output)
        self.assertIn(self.more[0], self.wanted(self.first()))

    def test_beyond_repair_for_a_long_time(self) -> None:
        """It may have been the memory, or a cable."""
        self.healer = self.make_healer(scrub_period=2 / DAY)
        self.lose()
        self.engine.request_repair(self.first())
        with self.tries() as tried:
            base.eventually(lambda: self.round() and len(tried) > 1,
                            'it is tried again')

    def test_lost_until_a_device_returns(self) -> None:
        away = min(self.wanted(self.first()))
        self.healer = self.make_healer(copies=2, min_copies=1)
        self.lab.take_away(away)
        self.engine.request_repair(self.first())
        for device in self.wanted(self.first()) - {away}:
            self.flip(device, self.first())
        self.round()
        self.lab.bring_back(away)
        self.assertEqual(0, self.round().lost)
        self.assertEqual(2, len(self.watch.good(self.first())))

    def test_lost_while_it_is_given_up(self) -> None:
        """The only good copy is on a device that is away."""
        away = min(self.wanted(self.first()))
        self.healer = self.make_healer(absent_grace=0.0)
        self.lab.take_away(away)
        self.round()
        for device in self.holders(self.first()) - {away}:
            self.flip(device, self.first())
        self.engine.request_repair(self.first())
        for _ in range(3):
            self.assertEqual(1, self.round().lost)
        self.lab.bring_back(away)
        self.assertEqual(0, self.round().lost)
        self.assertEqual(3, len(self.watch.good(self.first())))
        self.assertIsNone(self.engine.repair_attempt(self.first()))

    def test_lost_told_by_names(self) -> None:
        self.lose('size')
        for _ in range(2):
            status = self.round()
            self.assertEqual((1, 1, 0), (status.lost, status.failing,
                                         status.waiting))
        # It can be asked for nevertheless, and followed to its end.
        self.engine.request_repair(self.first())
        self.round()
        self.assertTrue(self.engine.repair_attempt(self.first()).lost)

    def test_lost_and_deleted(self) -> None:
        self.lose()
        self.engine.request_repair(self.first())
        self.assertEqual(1, self.round().lost)
        self.engine.delete(self.first())
        status = self.round()
        self.assertEqual((0, 0, 0), (status.lost, status.failing,
                                     status.waiting))
        self.assertEqual(set(), self.marks(layout.REPAIR))

    def test_lost_is_not_late(self) -> None:
        """What cannot be verified makes no scrub late, nor is it read."""
        self.lose()
        self.engine.request_repair(self.first())
        then = time.time() - 20 * DAY
        for device in self.holders(self.first()):
            os.utime(self.lab.place(device, self.first(), layout.MANIFEST),
                     (then, then))
        self.assertGreater(self.round().oldest_verified_at, then + DAY)
        self.assertEqual(0, self.healer.scrub_due(threading.Event()).images)

    def test_it_keeps_nobody_from_the_others(self) -> None:
        for device in self.wanted(self.first()):
            self.flip(device, self.first())
        self.engine.request_repair(self.first())
        for image_id in self.images:
            self.lab.drop(min(self.wanted(image_id)), image_id)
        self.round()
        for image_id in list(self.images)[1:]:
            self.assertEqual(3, len(self.watch.good(image_id)))

    def test_full_target(self) -> None:
        self.engine.membership.add(self.more[0])
        self.lab.fill(self.more[0])
        status = self.round()
        self.assertEqual(status.misplaced, status.failing)
        self.assertGreater(status.failing, 0)
        self.lab.make_room(self.more[0])
        for _ in range(healer_module.PATIENCE):
            self.round()
        self.check_settled()


class ScrubTest(HealerTest):

    def age(self, image_id: str, days: float) -> None:
        then = time.time() - days * DAY
        for device in self.holders(image_id):
            os.utime(self.lab.place(device, image_id, layout.MANIFEST),
                     (then, then))

    def scrub(self) -> int:
        return self.healer.scrub_due(threading.Event()).images

    def test_what_is_due(self) -> None:
        self.assertEqual(0, self.scrub())
        self.age(self.first(), 15)
        self.age(list(self.images)[1], 13)
        self.assertEqual(1, self.scrub())
        self.assertEqual(0, self.scrub())
        self.assertEqual(3 * 3000, self.round().scrubbed_bytes)

    def test_early_enough_to_be_through_in_time(self) -> None:
        for number, image_id in enumerate(self.images):
            self.age(image_id, 13 - number)
        # 36 kB at this rate take 3 days and a half: 10.5 days are due.
        self.healer = self.make_healer(
            scrub_rate=12 * 3000 / (3.5 * DAY) / (1 << 20))
        stop = threading.Event()
        due: list[str] = []

        def scrub(this: Any, images: list[str], *args: Any) -> Any:
            due.extend(images)
            raise exceptions.Interrupted('enough')

        with fixtures.MonkeyPatch('easystack_image.blockstore.local.scrub.'
                                  'Scrubber.scrub_those', scrub), \
                contextlib.suppress(exceptions.Interrupted):
            self.healer.scrub_due(stop)
        self.assertEqual(list(self.images)[:3], due)

    def test_cannot_keep_up(self) -> None:
        self.healer = self.make_healer(scrub_rate=1e-9)
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        with contextlib.suppress(exceptions.Interrupted):
            self.healer.scrub_due(stop)
        self.assertIn('raise easystack_block_scrub_rate', self.log.output)

    def test_damage_is_repaired(self) -> None:
        self.flip(min(self.wanted(self.first())), self.first())
        self.age(self.first(), 15)
        self.assertEqual(1, self.scrub())
        status = self.round()
        self.assertEqual((1, 1), (status.found_bad, status.repaired))
        self.check_settled()

    def test_not_over_and_over(self) -> None:
        self.healer = self.make_healer(heal_interval=60.0)
        for device in self.wanted(self.first()):
            self.flip(device, self.first())
        self.age(self.first(), 15)
        self.assertEqual([1, 0, 0], [self.scrub() for _ in range(3)])


class OneAtATimeTest(HealerTest):

    def test_in_one_process(self) -> None:
        other = self.restart().healer(self.reports.append)
        with self.engine.fleet.locked_everywhere('heal') as mine:
            self.assertTrue(mine)
            self.assertRaises(exceptions.ImageBusy, other.once,
                              threading.Event())
        other.once(threading.Event())

    def test_run_and_stop(self) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=self.healer.run, args=[stop])
        self.lab.drop(min(self.wanted(self.first())), self.first())
        with base.nothing_left_behind():
            thread.start()
            base.eventually(lambda: len(self.watch.good(self.first())) == 3,
                            'the lost copy')
            base.eventually(lambda: len(self.reports) > 2, 'rounds')
            stop.set()
            thread.join(30)
            self.assertFalse(thread.is_alive())

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, '-c', CHILD, *self.devices],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_across_processes_and_kills(self) -> None:
        first = self.start()
        self.assertEqual('4\n', first.stdout.readline())
        self.assertRaises(exceptions.ImageBusy, self.healer.once,
                          threading.Event())
        second = self.start()
        first.kill()
        # It takes over.
        self.assertEqual('4\n', second.stdout.readline())
        self.lab.drop(min(self.wanted(self.first())), self.first())
        base.eventually(lambda: len(self.watch.good(self.first())) == 3,
                        'the lost copy')
        begin = time.monotonic()
        second.send_signal(signal.SIGTERM)
        self.assertEqual(0, second.wait(60))
        self.assertLess(time.monotonic() - begin,
                        healer_module.ENDING + 5)

    def test_hanging_device_does_not_keep_it(self) -> None:
        process = self.start()
        self.assertEqual('4\n', process.stdout.readline())
        self.lab.hang(self.devices[0])
        time.sleep(0.5)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        took = time.monotonic() - begin
        self.lab.wake(self.devices[0])
        self.assertEqual(0, code)
        self.assertLess(took, healer_module.ENDING + 5)
