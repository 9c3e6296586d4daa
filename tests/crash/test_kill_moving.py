"""A process is killed at every step of moving copies between devices.

Whatever the step: even before anything is swept, every image has as many
good copies as before, in as many zones; and when the same is done again, it
ends as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
import threading
import uuid

from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import removal
from easystack_image.blockstore.local import work
from tests.crash import base
from tests.crash import steps

COUNT = 4


class MovingCase(base.TestCase):
    """Four devices, a fifth directory, and two images."""

    def setUp(self) -> None:
        super().setUp()
        self.workers = self.worker()
        self.initial = list(self.devices.paths)
        self.spare = str(self.devices.root / f'disk{COUNT}')
        os.mkdir(self.spare)
        self.old = self.initial[0]
        engine = self.restart()
        self.image_id = self.image_on(engine, self.old)
        self.write(engine, self.image_id, base.DATA)
        engine.membership.remember()
        self.images = {self.earlier: base.EARLIER, self.image_id: base.DATA}
        self.manifests = {
            image_id: next(Path(path, 'manifest').read_bytes()
                           for path in self.places(image_id)
                           if os.path.exists(path))
            for image_id in self.images}
        self.prepare()
        self.baseline = self.devices.tree()
        self.before = {image_id: self.good(image_id)
                       for image_id in self.images}

    def make_devices(self) -> base.Devices:
        return base.Devices(self.temporary_directory(), COUNT)

    def prepare(self) -> None:
        """Do what comes before the process that is killed."""

    def image_on(self, engine: engine_module.LocalEngine, path: str) -> str:
        """Return an id of an image that belongs on a device."""
        while True:
            image_id = str(uuid.uuid4())
            if path in engine.fleet.targets(
                    image_id, engine.fleet.devices)[:base.COPIES]:
                return image_id

    def places(self, image_id: str) -> list[str]:
        """Return where copies of an image may lie."""
        return [f'{path}/{layout.copy_directory(image_id)}'
                for path in [*self.initial, self.spare]]

    def good(self, image_id: str) -> dict[str, str]:
        """Return where the good copies are, and in which zones."""
        found = {}
        for path in [*self.initial, self.spare]:
            place = Path(path, layout.copy_directory(image_id))
            with contextlib.suppress(FileNotFoundError):
                if (place / 'data').read_bytes() == self.images[image_id] \
                        and ((place / 'manifest').read_bytes()
                             == self.manifests[image_id]):
                    found[path] = self.zone(path)
        return found

    def zone(self, path: str) -> str:
        for name in (device_module.IDENTITY, device_module.REMOVED):
            with contextlib.suppress(FileNotFoundError), open(
                    f'{path}/{name}') as file:
                return str(json.load(file)['zone'])
        raise AssertionError(f'{path} has no identity at all')

    def check_no_fewer(self) -> None:
        """See as many good copies as before, in as many zones."""
        for image_id, before in self.before.items():
            good = self.good(image_id)
            self.assertGreaterEqual(len(good), len(before))
            self.assertGreaterEqual(len(set(good.values())),
                                    len(set(before.values())))

    def check_ended(self, engine: engine_module.LocalEngine) -> None:
        """See that all is where it belongs, and nothing else is there."""
        for image_id, data in self.images.items():
            self.check_whole(engine, image_id, data)
            self.assertEqual(
                set(engine.fleet.targets(
                    image_id, engine.fleet.devices)[:base.COPIES]),
                set(self.good(image_id)))
        for path in [*self.initial, self.spare]:
            for name in ('tmp', 'repair', 'quarantine'):
                with contextlib.suppress(FileNotFoundError):
                    self.assertEqual([], os.listdir(f'{path}/{name}'))
            self.assertEqual([], [name for name in os.listdir(path)
                                  if name.endswith('.new')])

    def act(self, kind: str, cut: steps.Cut, **others: object) -> base.Run:
        return self.workers.run(kind, [*self.initial, self.spare], cut,
                                **others)

    def every_step(self, kind: str, *devices: str, moments: tuple[
            str, ...] = ('before', 'middle'), **others: object) -> None:
        """Kill it at every step on some devices, and judge each time."""
        numbers = [[*self.initial, self.spare].index(path)
                   for path in devices]
        seen = self.judge_all(
            self.cuts(lambda cut: self.act(kind, cut, **others),
                      ['behind'], numbers, moments), self.judge)
        self.assertLessEqual({'finished', 'cut short'}, set(seen))
        self.assertGreater(seen['cut short'], 10)

    def judge(self, run: base.Run) -> str:
        self.check_no_fewer()
        self.devices.paths = [*self.initial, self.spare]
        engine = self.restart()
        for image_id, data in self.images.items():
            self.assertTrue(data == b''.join(engine.open(image_id)))
        self.again(engine)
        self.check_ended(engine)
        self.check_no_fewer()
        engine.close()
        return 'finished' if run.acknowledged else 'cut short'

    def again(self, engine: engine_module.LocalEngine) -> None:
        """Do what was cut short."""
        engine.membership.rebuild(work.Job())


class TestRebalance(MovingCase):
    """A device was added, and takes its share: an image moves."""

    def prepare(self) -> None:
        self.devices.paths = [*self.initial, self.spare]
        engine = self.restart()
        identity = device_module.new_identity(engine.store_id)
        # Whichever device it is that loses the image.
        while True:
            engine.fleet.devices[self.spare].pretend(identity)
            wanted = engine.fleet.targets(
                self.image_id, engine.fleet.devices)[:base.COPIES]
            if self.spare in wanted:
                break
            identity = device_module.new_identity(engine.store_id)
        device_module.initialise(self.spare, identity)
        self.loser, = {path for path in self.initial if os.path.exists(
            f'{path}/{layout.copy_directory(self.image_id)}')} - set(wanted)

    def test_every_step(self) -> None:
        self.every_step('rebuild', self.spare, self.loser,
                        moments=('before', 'after', 'middle'))


class TestDrain(MovingCase):
    """A device is drained and leaves the set: its identity is rewritten."""

    def again(self, engine: engine_module.LocalEngine) -> None:
        if not os.path.exists(f'{self.old}/{device_module.IDENTITY}'):
            return
        engine.membership.drain(self.old)
        self.assertEqual(0, engine.membership.empty(self.old, work.Job()))
        engine.membership.remove(self.old)

    def test_every_step(self) -> None:
        self.every_step('drain', self.old, self.gaining(), old=self.old)

    def gaining(self) -> str:
        """Return the device that has no copy of the image yet."""
        return next(path for path in self.initial if not os.path.exists(
            f'{path}/{layout.copy_directory(self.image_id)}'))


class TestReplace(MovingCase):
    """A device that works is replaced by another."""

    def again(self, engine: engine_module.LocalEngine) -> None:
        engine.membership.replace(self.old, self.spare)
        engine.membership.rebuild(work.Job())

    def test_every_step(self) -> None:
        run = self.act('replace', steps.Cut(0, 10 ** 9), old=self.old,
                       new=self.spare)
        self.begin_anew()
        # To prepare a device has 512 steps more, which other tests cut;
        # of the rest every fourth will do, as these have long ways.
        cuts = [
            *(steps.Cut(COUNT, number) for number in
              [1, 300, *range(521, len(run.on(COUNT)) + 1, 4)]),
            *(steps.Cut(0, number) for number in
              range(1, len(run.on(0)) + 1, 4))]
        seen = self.judge_all(
            (self.act('replace', cut, old=self.old, new=self.spare)
             for cut in cuts), self.judge)
        self.assertGreater(seen['cut short'], 15)


class TestHealer(MovingCase):
    """A round of the healer, with everything to do that there is.

    An image has lost a copy and another is damaged and marked; a deleted one
    has a copy on a device that was away; what is in quarantine and the marks
    of the deletion are old enough to go.
    """

    def prepare(self) -> None:
        engine = self.restart()
        self.deleted = self.image_on(engine, self.old)
        generation = self.write(engine, self.deleted,
                                base.EARLIER).generation
        with self.devices.without(0):
            engine.delete(self.deleted, generation)
        # One copy is lost, one is damaged: only one good one stays.
        self.lost, damaged, _ = (place for place in self.places(
            self.image_id) if os.path.exists(place))
        for name in os.listdir(self.lost):
            os.unlink(f'{self.lost}/{name}')
        os.rmdir(self.lost)
        with open(f'{damaged}/data', 'r+b') as file:
            file.write(b'damage')
        self.damaged = damaged
        engine.repairer.mark(layout.Upload(
            self.image_id, engine.info(self.image_id).generation))
        aside = next(path for path in self.places(self.earlier)
                     if os.path.exists(path))
        with contextlib.closing(device_module.Device(
                aside.split('/images/')[0], 1.0).attach()) as attached:
            removal.aside(attached, self.earlier, 'a test')()

    def again(self, engine: engine_module.LocalEngine) -> None:
        engine.close()
        engine = self.restart(quarantine_ttl=0.0, deleted_ttl=0.0)
        healer = engine.healer(lambda status: None)
        for _ in range(2):
            status = healer.once(threading.Event())
        self.assertEqual((0, 0, 0, 0, 2), (
            status.below_copies, status.waiting, status.quarantined,
            status.misplaced, status.images))
        self.assertNotIn(self.deleted, engine.list_images())
        for path in self.initial:
            self.assertEqual([], os.listdir(
                f'{path}/{layout.deleted_directory(self.deleted)}'))

    def test_every_step(self) -> None:
        self.every_step(
            'heal', *(place.split('/images/')[0]
                      for place in (self.lost, self.damaged)),
            moments=('before',),
            options={'quarantine_ttl': 0.0, 'deleted_ttl': 0.0})
