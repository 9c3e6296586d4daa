"""What a process does on the side, and that it does not get in the way."""

from __future__ import annotations

from collections.abc import Callable
import gc
import os
import signal
import threading
import time
from typing import Any
import weakref

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.blockstore.local import background
from easystack_image.blockstore.local import layout
from tests.contract import local
from tests.unit.blockstore.local import base

GENERATION = '123e4567-e89b-12d3-a456-426614174000'


class Colleagues:
    """Stands for repairer and sweeper; notes what is asked of them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.marks: set[layout.Upload] = set()
        #: Ids of images that are lost for now.
        self.hopeless: set[str] = set()
        self.devices = frozenset({'/disk'})
        #: What repair() does, given the id of the image.
        self.work: Callable[[str], bool | None] = lambda image_id: True

    def sweep(self) -> None:
        self.events.append('sweep')

    def mark(self, upload: layout.Upload) -> None:
        self.marks.add(upload)

    def unmark(self, uploads: set[layout.Upload]) -> None:
        self.marks -= uploads

    def marked(self) -> set[layout.Upload]:
        return set(self.marks)

    def given_up(self) -> set[str]:
        return set(self.hopeless)

    def present(self) -> frozenset[str]:
        return self.devices

    def repair(self, image_id: str, wait: bool, patient: bool) -> bool | None:
        assert patient and not wait
        self.events.append(image_id)
        return self.work(image_id)

    def repairs(self, image_id: str) -> int:
        """Return how often an image was repaired."""
        return self.events.count(image_id)


class BackgroundTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.colleagues = Colleagues()
        self.release = threading.Event()

    def background(self, interval: float = 600.0) -> background.Background:
        """Return the thread's keeper."""
        made = background.Background(self.colleagues, self.colleagues,
                                     interval)
        self.addCleanup(made.stop)
        self.addCleanup(self.release.set)
        return made

    def upload(self, number: int) -> layout.Upload:
        return layout.Upload(f'{number:08x}-0000-4000-8000-000000000000',
                             GENERATION)

    def repaired(self, upload: layout.Upload, times: int = 1) -> None:
        """Wait until an image was repaired so often."""
        base.eventually(
            lambda: self.colleagues.repairs(upload.image_id) >= times,
            'repaired')


class ThreadTest(BackgroundTest):

    def test_none_until_it_is_needed(self) -> None:
        with base.nothing_left_behind():
            self.background()
        self.assertEqual([], self.colleagues.events)

    def test_one_however_many_ask(self) -> None:
        made = self.background()
        before = threading.active_count()
        threads = [threading.Thread(target=made.ensure) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made.ensure()
        self.assertEqual(before + 1, threading.active_count())

    def test_stop(self) -> None:
        with base.nothing_left_behind():
            made = self.background()
            made.ensure()
            made.stop()
            made.stop()
            # And not again.
            made.ensure()
            made.notice(self.upload(1))
        self.assertEqual(0, self.colleagues.repairs(
            self.upload(1).image_id))

    def test_stop_waits_for_what_is_being_done(self) -> None:
        made = self.background()
        self.colleagues.work = lambda image_id: self.release.wait()
        made.notice(self.upload(1))
        self.repaired(self.upload(1))
        timer = threading.Timer(0.1, self.release.set)
        timer.start()
        self.addCleanup(timer.join)
        made.stop()
        self.assertTrue(self.release.is_set())

    def test_stop_leaves_marks_for_what_waits(self) -> None:
        # Or nobody would know of it any more.
        made = self.background()
        self.colleagues.work = lambda image_id: self.release.wait()
        uploads = [self.upload(number) for number in range(3)]
        for upload in uploads:
            made.notice(upload)
        self.repaired(uploads[0])
        timer = threading.Timer(0.1, self.release.set)
        timer.start()
        self.addCleanup(timer.join)
        made.stop()
        self.assertLessEqual(set(uploads[1:]), self.colleagues.marks)


class WorkTest(BackgroundTest):

    def test_sweeps_at_once_and_then_now_and_then(self) -> None:
        made = self.background(0.02)
        made.ensure()
        base.eventually(lambda: self.colleagues.events.count('sweep') > 3,
                        'several sweeps')

    def test_what_is_noticed_is_repaired(self) -> None:
        made = self.background()
        for number in range(3):
            made.notice(self.upload(number))
        for number in range(3):
            self.repaired(self.upload(number))
        # Marked while it waits, in case the process does not live on.
        self.assertEqual({self.upload(number) for number in range(3)},
                         self.colleagues.marks)

    def test_once_however_often_it_is_noticed(self) -> None:
        made = self.background()
        self.colleagues.work = lambda image_id: self.release.wait()
        made.notice(self.upload(0))
        self.repaired(self.upload(0))
        for _ in range(10):
            made.notice(self.upload(1))
        made.notice(self.upload(2))
        self.release.set()
        self.repaired(self.upload(2))
        self.assertEqual(1, self.colleagues.repairs(
            self.upload(1).image_id))

    def test_noticed_again_while_it_is_repaired(self) -> None:
        # That repair may have passed the spot already.
        made = self.background()
        self.colleagues.work = lambda image_id: self.release.wait()
        made.notice(self.upload(0))
        self.repaired(self.upload(0))
        made.notice(self.upload(0))
        self.release.set()
        self.repaired(self.upload(0), 2)

    def test_marks_of_earlier_processes(self) -> None:
        self.colleagues.marks.add(self.upload(5))
        self.background().ensure()
        self.repaired(self.upload(5))

    def test_not_there_any_more(self) -> None:
        def gone(image_id: str) -> bool:
            raise exceptions.ImageNotFound('deleted')

        self.colleagues.work = gone
        made = self.background()
        made.notice(self.upload(1))
        self.repaired(self.upload(1))
        base.eventually(lambda: not self.colleagues.marks, 'unmarked')

    def test_errors_do_not_end_it(self) -> None:
        errors = iter([exceptions.DamagedImage('nothing is left'),
                       ValueError('odd'), OSError(5, 'odd')])

        def fail(image_id: str) -> bool:
            raise next(errors)

        self.colleagues.work = fail
        made = self.background()
        for number in range(3):
            made.notice(self.upload(number))
            self.repaired(self.upload(number))
        self.colleagues.work = lambda image_id: True
        made.notice(self.upload(3))
        self.repaired(self.upload(3))
        self.assertIn('nothing is left', self.log.output)
        self.assertIn('odd', self.log.output)

    def test_error_of_the_sweep(self) -> None:
        def fail() -> None:
            self.colleagues.events.append('failed')
            raise ValueError('odd')

        self.colleagues.sweep = fail
        self.background(0.02).ensure()
        base.eventually(
            lambda: self.colleagues.events.count('failed') > 2, 'again')


class VainTest(BackgroundTest):
    """A repair reads all copies, so it is not tried in vain all the time."""

    def setUp(self) -> None:
        super().setUp()
        self.colleagues.work = lambda image_id: False

    def sweeps(self, count: int) -> None:
        """Wait for so many more sweeps."""
        target = self.colleagues.events.count('sweep') + count
        base.eventually(
            lambda: self.colleagues.events.count('sweep') >= target,
            'sweeps')

    def tried(self, made: background.Background, upload: layout.Upload,
              in_vain: bool = True) -> None:
        """Wait until it is known what came of a repair."""
        base.eventually(lambda: (upload.name in made._tried) == in_vain,
                        'tried')

    def test_not_while_the_devices_are_the_same(self) -> None:
        self.colleagues.marks.add(self.upload(1))
        self.background(0.02).ensure()
        self.repaired(self.upload(1))
        self.sweeps(5)
        self.assertEqual(1, self.colleagues.repairs(
            self.upload(1).image_id))

    def test_again_when_they_are_others(self) -> None:
        self.colleagues.marks.add(self.upload(1))
        self.background(0.02).ensure()
        self.repaired(self.upload(1))
        self.sweeps(2)
        self.colleagues.devices = frozenset({'/disk', '/another'})
        self.repaired(self.upload(1), 2)

    def test_not_because_it_is_read_over_and_over(self) -> None:
        def fail(image_id: str) -> bool:
            raise exceptions.NotEnoughCopies('full')

        for work in (lambda image_id: False, fail):
            self.colleagues.work = work
            self.colleagues.events.clear()
            # Or the thread may find the first one by its mark, and begin
            # with it, before it is noticed.
            self.colleagues.marks.clear()
            made = self.background(600)
            made.notice(self.upload(1))
            self.repaired(self.upload(1))
            self.tried(made, self.upload(1))
            for _ in range(20):
                made.notice(self.upload(1))
            made.notice(self.upload(2))
            self.repaired(self.upload(2))
            self.assertEqual(1, self.colleagues.repairs(
                self.upload(1).image_id))
            self.assertIn(self.upload(1), self.colleagues.marks)

    def test_read_again_after_a_while(self) -> None:
        made = self.background(0.05)
        made.notice(self.upload(1))
        self.repaired(self.upload(1))

        def notice() -> bool:
            made.notice(self.upload(1))
            return self.colleagues.repairs(self.upload(1).image_id) > 1

        base.eventually(notice, 'repaired again')

    def test_success_after_all(self) -> None:
        made = self.background(600)
        made.notice(self.upload(1))
        self.repaired(self.upload(1))
        self.tried(made, self.upload(1))
        self.colleagues.work = lambda image_id: True
        made._enqueue(self.upload(1))
        self.repaired(self.upload(1), 2)
        self.tried(made, self.upload(1), False)
        # The attempt in vain is forgotten.
        made.notice(self.upload(1))
        self.repaired(self.upload(1), 3)

    def test_not_what_is_lost(self) -> None:
        """Nor in a process that did not try it itself."""
        self.colleagues.marks.add(self.upload(1))
        self.colleagues.hopeless.add(self.upload(1).image_id)
        made = self.background(0.02)
        made.notice(self.upload(1))
        self.sweeps(5)
        self.assertEqual(0, self.colleagues.repairs(
            self.upload(1).image_id))
        # Somebody asks for it, or a device is back.
        self.colleagues.hopeless.clear()
        self.repaired(self.upload(1))

    def test_another_process_is_at_it(self) -> None:
        self.colleagues.work = lambda image_id: None
        made = self.background(600)
        made.notice(self.upload(1))
        self.repaired(self.upload(1))
        made.notice(self.upload(1))
        self.repaired(self.upload(1), 2)


class ForkTest(base.EngineTest):
    """uWSGI and gunicorn load the application, and then fork."""

    def child(self, function: Callable[[], Any]) -> str:
        """Run a function in a forked child; return what came of it."""
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            # Whatever happens, the child must not go on with the tests.
            try:
                signal.alarm(60)
                answer = repr(function())
            except BaseException as error:
                answer = f'raised {error!r}'
            os.write(write, answer.encode())
            os._exit(0)
        os.close(write)
        with open(read) as pipe:
            answer = pipe.read()
        os.waitpid(pid, 0)
        return answer

    def setUp(self) -> None:
        super().setUp()
        self.busy = self.lab.engine(self_repair=True)
        self.info = self.store(base.noise(base.MIB))
        self.image = self.info.image_id

    def damage(self) -> None:
        """Damage two copies; whoever reads finds one at least."""
        for device in self.lab.holders(self.image):
            os.unlink(self.lab.place(device, self.image, 'manifest'))
            break
        self.lab.drop(self.lab.holders(self.image)[-1], self.image)

    def repaired(self) -> bool:
        return len(self.good(self.image)) == 3

    def work(self) -> bool:
        """Read, as a child does, and see the damage repaired."""
        self.read(self.image, engine=self.busy)
        base.eventually(self.repaired, 'repaired in the child', 30)
        return True

    def test_before_any_thread(self) -> None:
        self.damage()
        self.assertEqual('True', self.child(self.work))
        self.assertTrue(self.repaired())

    def test_while_the_parents_thread_runs(self) -> None:
        self.read(self.image, engine=self.busy)
        self.assertIsNotNone(self.busy._background._thread)
        self.damage()
        self.assertEqual('True', self.child(self.work))
        # The parent's own thread is alive as well.
        self.damage()
        self.read(self.image, engine=self.busy)
        base.eventually(self.repaired, 'repaired in the parent')

    def test_while_the_parents_thread_holds_its_lock(self) -> None:
        self.read(self.image, engine=self.busy)
        self.damage()
        with self.busy._background._condition:
            answer = self.child(self.work)
        self.assertEqual('True', answer)

    def test_while_a_device_hangs(self) -> None:
        fleet = self.fleet(0.2)
        gate = threading.Event()
        self.addCleanup(gate.set)
        fleet.run(lambda device: gate.wait(60), paths=self.devices[:1])

        def ask() -> list[str]:
            # The call that hangs is not the child's.
            time.sleep(0.3)
            return sorted(fleet.run(lambda device: 1, limit=0.1)[1])

        self.assertEqual(self.devices[:1], ask())
        self.assertEqual('[]', self.child(ask))

    def test_while_a_device_is_counted(self) -> None:
        fleet = self.fleet()
        with fleet.devices[self.devices[0]]._lock:
            answer = self.child(
                lambda: fleet.run(lambda device: 1, limit=5.0)[1])
        self.assertEqual('{}', answer)

    def test_what_waits_stays_with_the_parent(self) -> None:
        made = self.busy._background
        made._waiting['x'] = layout.Upload('x', 'y')
        self.assertEqual('{}', self.child(lambda: made._waiting))
        self.assertEqual(['x'], list(made._waiting))

    def test_forgotten_engine(self) -> None:
        # What is to be done at a fork does not keep it alive.
        made = local.LocalLab.engine_class(self.lab)(
            self.settings(self_repair=True))
        reference = weakref.ref(made._background)
        made.close()
        del made
        gc.collect()
        self.assertIsNone(reference())
        self.assertEqual('5', self.child(lambda: 5))


class EndToEndTest(base.EngineTest):

    def test_an_upload_with_too_few_copies_is_completed(self) -> None:
        engine = self.lab.engine(self_repair=True, sweep_interval=0.1)
        for device in self.devices[:2]:
            self.lab.take_away(device)
        info = self.store(base.noise(base.MIB), engine=engine)
        for device in self.devices[:2]:
            self.lab.bring_back(device)
        # Nobody reads it: the mark is enough.
        base.eventually(lambda: len(self.good(info.image_id)) == 3,
                        'three copies')
        base.eventually(lambda: not self.marks(layout.REPAIR), 'unmarked')

    def test_marks_of_engines_that_repair_nothing(self) -> None:
        info = self.store(base.noise(base.MIB))
        device = self.lab.holders(info.image_id)[0]
        self.lab.drop(device, info.image_id)
        self.read(info.image_id)
        self.assertEqual({self.upload(info).name},
                         self.marks(layout.REPAIR))
        engine = self.lab.engine(self_repair=True)
        engine._ensure_background()
        base.eventually(lambda: len(self.good(info.image_id)) == 3,
                        'three copies')
