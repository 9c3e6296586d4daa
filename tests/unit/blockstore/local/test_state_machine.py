"""The local engine against a model, through any sequence of mishaps.

The model remembers every upload.  What lies on the devices it looks up for
itself, file by file; from that it knows what the engine has to answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import Any
import uuid

import fixtures
import hypothesis
from hypothesis import stateful
from hypothesis import strategies
import testtools

from easystack_image import exceptions
from easystack_image.blockstore.local import layout
from tests.contract import local
from tests.unit.blockstore import examples
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local.base import MIB

IDS = [str(uuid.UUID(int=number << 120 | number)) for number in (1, 255)]
COPIES, LEAST, AWAY = 3, 2, 2

#: Which of several things, whatever their number.
which = strategies.integers(0, 23)
contents = strategies.tuples(
    strategies.sampled_from([0, 1, 4097, MIB, MIB + 1, 2 * MIB + 5]),
    strategies.integers(0, 3))


@dataclasses.dataclass(eq=False)
class Upload:
    """One upload, acknowledged."""

    generation: str
    data: bytes
    manifest: bytes
    number: int


@dataclasses.dataclass
class Place:
    """What a device holds of an image."""

    #: The upload that the copy is of; None if that cannot be told.
    upload: Upload | None
    data: bytes

    def has(self, block: int) -> bool:
        """Tell whether a block is what it should be."""
        begin = block * MIB
        return self.upload is not None and (
            self.data[begin:begin + MIB]
            == self.upload.data[begin:begin + MIB])

    @property
    def good(self) -> bool:
        """Whether the copy is whole."""
        return self.upload is not None and self.data == self.upload.data


class EngineMachine(stateful.RuleBasedStateMachine):
    """Uses the engine and harms its devices, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = local.LocalLab()
        self.lab.setUp()
        self.devices = self.lab.devices
        self.away: set[str] = set()
        self.uploads: dict[str, list[Upload]] = {image: [] for image in IDS}
        self.engine = self.lab.engine()

    def teardown(self) -> None:
        try:
            self._check_list()
        finally:
            self.lab.cleanUp()

    # What lies there.

    def there(self) -> list[str]:
        """Return the devices that can be reached."""
        return [device for device in self.devices
                if device not in self.away]

    def place(self, device: str, image: str) -> Place | None:
        """Return what a device holds of an image."""
        data = self.lab.content(device, image)
        if data is None:
            return None
        with open(self.lab.place(device, image, layout.MANIFEST),
                  'rb') as file:
            manifest = file.read()
        upload = next((upload for upload in self.uploads[image]
                       if upload.manifest == manifest), None)
        return Place(upload, data)

    def places(self, image: str) -> dict[str, Place]:
        """Return what the devices that can be reached hold of an image."""
        found = {device: self.place(device, image)
                 for device in self.there()}
        return {device: place for device, place in found.items()
                if place is not None}

    def deleted(self, image: str) -> set[str]:
        """Return the uploads of which somebody knows the deletion."""
        names = {name for device in self.there() for name in os.listdir(
            f'{self.lab.root(device)}/{layout.deleted_directory(image)}')}
        return {upload.generation for upload in self.uploads[image]
                if f'{image}.{upload.generation}' in names}

    def current(self, image: str) -> Upload | None:
        """Return the upload that counts."""
        deleted = self.deleted(image)
        return max(
            (place.upload for place in self.places(image).values()
             if place.upload is not None
             and place.upload.generation not in deleted),
            key=lambda upload: upload.number, default=None)

    def copies(self, image: str) -> dict[str, Place]:
        """Return the copies of the upload that counts."""
        current = self.current(image)
        return {device: place for device, place in
                self.places(image).items()
                if place.upload is not None and place.upload is current}

    def absence(self, image: str) -> type[exceptions.BlockStoreError]:
        """Return what must be raised where no upload counts."""
        if any(place.upload is None for place in
               self.places(image).values()):
            return exceptions.DamagedImage
        if self.away:
            return exceptions.ImageUnavailable
        return exceptions.ImageNotFound

    def raises(self, error: type[Exception], call: Any, *args: Any) -> None:
        """Check that a call fails, with this very error."""
        try:
            call(*args)
        except exceptions.EasystackImageError as raised:
            assert type(raised) is error, repr(raised)
        else:
            raise AssertionError(f'{error.__name__} was not raised')

    def live(self) -> list[str]:
        """Return the images that can be read."""
        return [image for image in IDS if self.current(image) is not None]

    def absent(self) -> list[str]:
        """Return the images that cannot."""
        return [image for image in IDS if self.current(image) is None]

    def held(self) -> list[tuple[str, str]]:
        """Return all copies, on any device, as (device, image)."""
        return [(device, image) for image in IDS for device in self.devices
                if self.lab.content(device, image) is not None]

    # What may be done.

    @stateful.initialize(content=contents)
    def begin(self, content: tuple[int, int]) -> None:
        for image in IDS:
            self._write(image, content)

    @stateful.precondition(lambda self: self.absent())
    @stateful.rule(number=which, content=contents)
    def write(self, number: int, content: tuple[int, int]) -> None:
        absent = self.absent()
        self._write(absent[number % len(absent)], content)

    def _write(self, image: str, content: tuple[int, int]) -> None:
        size, seed = content
        data = bytes(size) if seed == 0 else base.noise(size, seed)
        before = set(self.there())
        info = self.engine.write(image, base.Source(data))
        holder = next(device for device in before
                      if self.lab.content(device, image) == data)
        with open(self.lab.place(holder, image, layout.MANIFEST),
                  'rb') as file:
            self.uploads[image].append(Upload(
                info.generation, data, file.read(),
                sum(map(len, self.uploads.values()))))
        copies = self.copies(image)
        assert len(copies) == min(COPIES, len(before)) >= LEAST
        assert all(place.good for place in copies.values())

    @stateful.precondition(live)
    @stateful.rule(number=which, offset=strategies.integers(0, 2 * MIB + 6),
                   length=strategies.one_of(
                       strategies.none(),
                       strategies.integers(0, 2 * MIB + 6)))
    def read(self, number: int, offset: int, length: int | None) -> None:
        image = self.live()[number % len(self.live())]
        self._read(image, offset, length)

    @stateful.precondition(live)
    @stateful.rule(number=which)
    def read_all(self, number: int) -> None:
        self._read(self.live()[number % len(self.live())], 0, None)

    def _read(self, image: str, offset: int, length: int | None) -> None:
        current = self.current(image)
        assert current is not None
        size = len(current.data)
        begin = min(offset, size)
        end = size if length is None else min(size, offset + length)
        copies = self.copies(image).values()
        bad = [block for block in range(begin // MIB, -(-end // MIB))
               if begin < end
               and not any(place.has(block) for place in copies)]
        got = bytearray()
        try:
            with contextlib.closing(self.engine.open(
                    image, offset, length)) as reader:
                for piece in reader:
                    got += piece
        except exceptions.DamagedImage:
            assert bad
            assert got == current.data[begin:max(begin, bad[0] * MIB)]
        else:
            assert not bad
            assert got == current.data[begin:end]

    @stateful.precondition(absent)
    @stateful.rule(number=which)
    def ask_for_what_is_not_there(self, number: int) -> None:
        absent = self.absent()
        image = absent[number % len(absent)]
        error = self.absence(image)
        for call in (self.engine.info, self.engine.open, self.engine.delete,
                     self.engine.repair):
            self.raises(error, call, image)

    @stateful.precondition(live)
    @stateful.rule(number=which)
    def ask_for_what_is_there(self, number: int) -> None:
        image = self.live()[number % len(self.live())]
        current = self.current(image)
        assert current is not None
        info = self.engine.info(image)
        assert info.generation == current.generation
        assert info.size == len(current.data)
        self.raises(exceptions.ImageExists, self.engine.write, image,
                    base.Source(b''))
        found = {place.upload for place in self.places(image).values()}
        for upload in self.uploads[image]:
            if not (upload in found or None in found or self.away):
                self.raises(exceptions.ImageNotFound, self.engine.info,
                            image, upload.generation)

    @stateful.precondition(live)
    @stateful.rule(number=which)
    def delete(self, number: int) -> None:
        image = self.live()[number % len(self.live())]
        current = self.current(image)
        assert current is not None
        self.engine.delete(image, current.generation)
        assert current.generation in self.deleted(image)
        assert not any(place.upload in (current, None)
                       for place in self.places(image).values())

    @stateful.precondition(held)
    @stateful.rule(number=which, offset=strategies.integers(0, 2 * MIB + 5))
    def damage(self, number: int, offset: int) -> None:
        device, image = self.held()[number % len(self.held())]
        content = self.lab.content(device, image)
        if content:
            self.lab.damage(device, image, offset % len(content))

    @stateful.precondition(held)
    @stateful.rule(number=which, block=strategies.integers(0, 2))
    def damage_all_but_one(self, number: int, block: int) -> None:
        spared, image = self.held()[number % len(self.held())]
        for device, other in self.held():
            content = self.lab.content(device, image)
            if other == image and device != spared and (
                    content is not None and len(content) > block * MIB):
                self.lab.damage(device, image, block * MIB)

    @stateful.precondition(held)
    @stateful.rule(number=which, offset=strategies.integers(0, 287))
    def damage_manifest(self, number: int, offset: int) -> None:
        device, image = self.held()[number % len(self.held())]
        local.flip(self.lab.place(device, image, layout.MANIFEST), offset)

    @stateful.precondition(held)
    @stateful.rule(number=which)
    def drop(self, number: int) -> None:
        self.lab.drop(*self.held()[number % len(self.held())])

    @stateful.precondition(lambda self: len(self.away) < AWAY)
    @stateful.rule(number=which)
    def take_away(self, number: int) -> None:
        device = self.there()[number % len(self.there())]
        self.lab.take_away(device)
        self.away.add(device)

    @stateful.precondition(lambda self: self.live() and not self.away)
    @stateful.rule(number=which, content=contents,
                   again=strategies.booleans())
    def delete_behind_the_back(self, number: int, content: tuple[int, int],
                               again: bool) -> None:
        image = self.live()[number % len(self.live())]
        device = next(iter(self.copies(image)))
        self.lab.take_away(device)
        self.away.add(device)
        if self.current(image) is not None:
            self.delete(self.live().index(image))
            if again:
                self._write(image, content)
        self.bring_back()

    @stateful.precondition(lambda self: self.away)
    @stateful.rule()
    def bring_back(self) -> None:
        device = min(self.away)
        self.lab.bring_back(device)
        self.away.remove(device)

    @stateful.precondition(live)
    @stateful.rule(number=which)
    def repair(self, number: int) -> None:
        image = self.live()[number % len(self.live())]
        current = self.current(image)
        assert current is not None
        before = self.places(image)
        good = {device for device, place in before.items()
                if place.good and place.upload is current}
        aside = self.lab.put_aside(image)
        blocks = range(-(-len(current.data) // MIB))
        if not all(any(place.has(block) for place in
                       self.copies(image).values()) for block in blocks):
            if len(good) < COPIES:
                self.raises(exceptions.DamagedImage, self.engine.repair,
                            image)
            assert self.places(image) == before
            return
        copies = self.engine.repair(image)
        after = self.places(image)
        assert good <= {device for device, place in after.items()
                        if place.good}
        assert len([place for place in after.values() if place.good
                    and place.upload is current]) >= min(
                        COPIES, len(self.there()))
        # What was not good is aside now, or still where it was.
        lost = [device for device in before if device not in good
                and after.get(device) != before[device]]
        assert self.lab.put_aside(image) == aside + len(lost)
        assert len([copy for copy in copies if copy.state.value ==
                    'good']) >= min(COPIES, len(self.there()))

    @stateful.rule(image=strategies.sampled_from(IDS),
                   verify=strategies.booleans())
    def list_copies(self, image: str, verify: bool) -> None:
        current = self.current(image)
        places = self.places(image)
        if current is None and not any(place.upload is None for place in
                                       places.values()):
            self.raises(self.absence(image), self.engine.list_copies, image)
            return
        found = {copy.device: copy.state.value for copy in
                 self.engine.list_copies(image, verify=verify)}
        for device in self.devices:
            place = places.get(device)
            if device in self.away:
                expected = {'unreachable'}
            elif place is None:
                expected = {'missing', None}
            elif place.upload is None:
                expected = {'damaged'}
            elif place.upload is not current:
                expected = {'stale'}
            else:
                expected = {'good' if place.good or not verify
                            else 'damaged'}
            assert found.get(device) in expected, (device, found, expected)

    @stateful.rule()
    def restart_and_sweep(self) -> None:
        self.engine.close()
        self.engine = self.lab.engine()
        self.lab.housekeeping(self.engine)
        for image in IDS:
            deleted = self.deleted(image)
            assert not any(
                place.upload is not None
                and place.upload.generation in deleted
                for place in self.places(image).values())

    @stateful.invariant()
    def nothing_is_left_over(self) -> None:
        for device in self.there():
            assert not os.listdir(f'{device}/{layout.TMP}')

    def _check_list(self) -> None:
        found = list(self.engine.list_images())
        assert len(found) == len(set(found))
        for image in IDS:
            if self.current(image) is not None:
                assert image in found
            elif not self.places(image):
                assert image not in found


class StateMachineTest(testtools.TestCase):

    def test_any_sequence(self) -> None:
        self.useFixture(fixtures.FakeLogger())
        with base.nothing_left_behind():
            stateful.run_state_machine_as_test(
                EngineMachine, settings=hypothesis.settings(
                    examples(15), stateful_step_count=50,
                    # Making a failure smaller takes minutes.
                    phases=[hypothesis.Phase.generate]))
