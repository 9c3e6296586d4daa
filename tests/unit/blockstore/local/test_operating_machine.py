"""Operating a store, in any order, while everything happens to its devices.

What the machine of test_state_machine.py does not do: devices that come and
leave, scrubs, the healer.  Here less is known in advance of each step; but
after each one, every image has at least as many good copies as the harm done
to it leaves, and when the dust has settled all is exactly as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import shutil
import threading
import uuid

import fixtures
import hypothesis
from hypothesis import stateful
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import work
from tests.contract import local
from tests.unit.blockstore import examples
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import watch

COPIES, LEAST = 3, 2
which = strategies.integers(0, 23)
sizes = strategies.sampled_from([0, 1, 4097, 9000])


class OperatingMachine(stateful.RuleBasedStateMachine):
    """Uses and operates a store, and harms its devices."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = local.LocalLab()
        self.lab.setUp()
        home = os.path.dirname(self.lab.devices[0])
        self.spare = f'{home}/disk4'
        os.mkdir(self.spare)
        self.all = [*self.lab.devices, self.spare]
        self.watch = watch.Watch(self.lab, self.all)
        self.images: dict[str, bytes] = {}
        self.gone: set[str] = set()
        self.away = ''
        self.full = ''
        self.number = 0
        #: Images to which harm was done that is not made up for yet.
        self.harmed: set[str] = set()
        self.restart()
        self.engine.membership.remember()

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            shutil.rmtree(self.spare, ignore_errors=True)
            self.lab.cleanUp()

    def restart(self, **options: object) -> None:
        self.engine: engine_module.LocalEngine = self.lab.engine(
            devices=self.all, self_repair=False, absent_grace=0.0,
            **options)

    # What is known.

    def devices(self) -> list[str]:
        """Return those that are there, and devices of the set."""
        return [path for path in self.all if path != self.away
                and os.path.exists(f'{path}/{device_module.IDENTITY}')]

    def leaving(self) -> list[str]:
        return [path for path in self.devices()
                if self.engine.fleet.leaving(path)]

    def good(self, image: str) -> set[str]:
        """Return where good copies can be reached."""
        return self.watch.good(image) & set(self.devices())

    def pick(self, number: int) -> str:
        return sorted(self.images)[number % len(self.images)]

    @contextlib.contextmanager
    def no_fewer(self) -> Iterator[None]:
        """See that no image has fewer good copies than before, or 3."""
        before = {image: self.good(image) for image in self.images}
        yield
        for image, devices in before.items():
            assert len(self.good(image)) >= min(COPIES, len(devices)), image

    # Use.

    @stateful.initialize(size=sizes, five=strategies.booleans())
    def begin(self, size: int, five: bool) -> None:
        if five:
            self.engine.membership.add(self.spare)
        for _ in range(2):
            self.write(size)

    @stateful.precondition(lambda self: len(self.images) < 6)
    @stateful.rule(size=sizes)
    def write(self, size: int) -> None:
        self.number += 1
        image = str(uuid.UUID(int=self.number << 120 | self.number))
        data = base.noise(size, self.number)
        self.engine.write(image, base.Source(data))
        self.images[image] = data
        self.watch.add(image, data)
        assert len(self.good(image)) >= LEAST

    @stateful.precondition(lambda self: self.images)
    @stateful.rule(number=which)
    def delete(self, number: int) -> None:
        image = self.pick(number)
        self.engine.delete(image)
        del self.images[image]
        self.watch.forget(image)
        self.gone.add(image)
        self.harmed.discard(image)

    @stateful.precondition(lambda self: self.images)
    @stateful.rule(number=which)
    def read(self, number: int) -> None:
        image = self.pick(number)
        if self.good(image):
            assert b''.join(self.engine.open(image)) == self.images[image]

    # Harm, as long as every image keeps a good copy that can be reached.

    def may_lose(self, path: str) -> bool:
        return all(self.good(image) - {path} for image in self.images)

    @stateful.precondition(lambda self: self.images)
    @stateful.rule(number=which, pick=which, flip=strategies.booleans())
    def harm(self, number: int, pick: int, flip: bool) -> None:
        image = self.pick(number)
        good = sorted(self.good(image))
        # Another may go away, and is harmed no less.
        if image in self.harmed or len(self.watch.good(image)) < COPIES or (
                len(good) < 2):
            return
        self.harmed.add(image)
        device = good[pick % len(good)]
        if flip and self.images[image]:
            self.lab.damage(device, image, 0)
        else:
            self.lab.drop(device, image)

    @stateful.precondition(lambda self: not self.away and not self.harmed)
    @stateful.rule(number=which)
    def take_away(self, number: int) -> None:
        present = self.devices()
        path = present[number % len(present)]
        if path != self.spare and len(present) > COPIES and (
                self.may_lose(path)):
            self.lab.take_away(path)
            self.away = path

    @stateful.precondition(lambda self: self.away)
    @stateful.rule()
    def bring_back(self) -> None:
        self.lab.bring_back(self.away)
        self.away = ''

    @stateful.precondition(lambda self: not self.full)
    @stateful.rule(number=which)
    def fill(self, number: int) -> None:
        present = self.devices()
        # Two must stay that take uploads.
        if len(set(present) - set(self.leaving())) > COPIES:
            self.full = present[number % len(present)]
            self.lab.fill(self.full)

    @stateful.precondition(lambda self: self.full)
    @stateful.rule()
    def make_room(self) -> None:
        self.lab.make_room(self.full)
        self.full = ''

    # Operation.

    @stateful.precondition(lambda self: self.spare not in self.devices())
    @stateful.rule(replaced=strategies.integers(-4, 3))
    def add_or_replace(self, replaced: int) -> None:
        if os.listdir(self.spare) or self.leaving():
            return
        with self.no_fewer():
            if replaced < 0:
                self.engine.membership.add(self.spare)
            else:
                self.engine.membership.replace(self.all[replaced],
                                               self.spare)

    @stateful.precondition(lambda self: not self.away)
    @stateful.rule(number=which)
    def drain(self, number: int) -> None:
        path = self.devices()[number % len(self.devices())]
        if self.full or self.leaving():
            return
        with self.no_fewer():
            try:
                self.engine.membership.drain(path)
            except exceptions.Refused:
                assert len(self.devices()) <= COPIES
                return
            self.engine.membership.empty(path, work.Job())

    @stateful.precondition(lambda self: not self.away and self.leaving())
    @stateful.rule()
    def cancel(self) -> None:
        for path in self.leaving():
            self.engine.membership.activate(path)

    @stateful.precondition(lambda self: not self.away
                           and self.spare in self.leaving())
    @stateful.rule()
    def remove(self) -> None:
        with self.no_fewer():
            try:
                self.engine.membership.remove(self.spare)
            except exceptions.Refused:
                assert self.engine.membership.on_device(self.spare).images
                return
        shutil.rmtree(self.spare)
        os.mkdir(self.spare)

    @stateful.rule()
    def rebalance(self) -> None:
        with self.no_fewer():
            self.engine.membership.rebuild(work.Job())

    @stateful.rule()
    def scrub(self) -> None:
        with self.no_fewer():
            self.engine.scrubber.run(work.Job(), restart=True)

    @stateful.rule(ttl=strategies.sampled_from([0.0, 30.0]))
    def heal(self, ttl: float) -> None:
        self.restart(quarantine_ttl=ttl, deleted_ttl=ttl)
        with self.no_fewer():
            self.engine.healer(lambda status: None).round(threading.Event())

    # What holds always.

    @stateful.invariant()
    def as_many_as_the_harm_leaves(self) -> None:
        self.harmed = {image for image in self.harmed
                       if len(self.watch.good(image)) < COPIES}
        for image in self.images:
            assert self.good(image), image
            lost = (image in self.harmed) + bool(self.away) + 1
            assert len(self.watch.good(image)) >= COPIES - lost, image

    @stateful.invariant()
    def nothing_comes_back(self) -> None:
        listed = set(self.engine.list_images())
        assert not self.gone & listed, self.gone & listed
        assert set(self.images) <= listed

    def settle(self) -> None:
        """All devices are back, and there is time for everything."""
        if self.away:
            self.bring_back()
        if self.full:
            self.make_room()
        self.restart(quarantine_ttl=0.0, deleted_ttl=0.0)
        healer = self.engine.healer(lambda status: None)
        self.engine.scrubber.run(work.Job(), restart=True)
        for _ in range(4):
            status = healer.round(threading.Event())
            if not (status.waiting or status.misplaced
                    or status.quarantined):
                break
        assert (status.below_copies, status.waiting, status.misplaced) == (
            0, 0, 0), status
        self.nothing_comes_back()
        zones = {self.watch.zone(path) for path in self.devices()
                 if path not in self.leaving()}
        for image, data in self.images.items():
            good = self.watch.good(image)
            assert len(good) == COPIES, (image, good)
            assert len(set(map(self.watch.zone, good))) == min(
                COPIES, len(zones)), (image, good)
            assert b''.join(self.engine.open(image)) == data
        for path in self.devices():
            for name in (layout.TMP, layout.REPAIR, layout.QUARANTINE):
                assert not os.listdir(f'{path}/{name}'), (path, name)
            held = {name for shard in device_module.SHARDS for name in
                    os.listdir(f'{path}/{layout.IMAGES}/{shard}')}
            assert held <= set(self.images), (path, held)


class OperatingMachineTest(testtools.TestCase):

    def test_any_sequence(self) -> None:
        self.useFixture(fixtures.FakeLogger())
        with base.nothing_left_behind():
            stateful.run_state_machine_as_test(
                OperatingMachine, settings=hypothesis.settings(
                    examples(12), stateful_step_count=30,
                    phases=[hypothesis.Phase.generate]))
