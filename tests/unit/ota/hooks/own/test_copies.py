"""Copies that are lacking, and formats that the other does not read."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import io
import json
from pathlib import Path
import shutil
import sys
from unittest import mock
import uuid

from easystack_image import exceptions
from easystack_image.blockstore.local import provision
from easystack_image.ota.hooks.own import copies
from tests.unit.cmd import base as cmd_base
from tests.unit.ota.hooks import base
from tests.unit.store import base as store_base


class StoreCase(base.HookCase):
    """A store of three devices, with an image on it."""

    def setUp(self) -> None:
        super().setUp()
        self.devices = [self.root / f'd{number}' for number in range(3)]
        for device in self.devices:
            device.mkdir()
        provision.initialise(list(map(str, self.devices)))
        self.config = store_base.write_config(self.root / 'glance-api.conf', {
            'DEFAULT': {'enabled_backends': 'fast:easystack_block,f:file'},
            'fast': store_base.block_options(self.devices)})
        self.image = str(uuid.uuid4())
        self.add(self.image)

    def add(self, image: str) -> None:
        with contextlib.closing(cmd_base.local_engine(
                self.devices)) as store:
            store.write(image, io.BytesIO(b'x' * 100), 100)

    def lose(self, *devices: Path) -> None:
        """Remove the copies of the image on devices."""
        for device in devices:
            shutil.rmtree(
                device / 'images' / self.image[:2] / self.image)

    def told(self, point: str, **others: object) -> object:
        return self.context(point, config_files=(str(self.config),),
                            slot=sys.prefix, **others)


class CopiesTest(StoreCase):

    def test_enough(self) -> None:
        context = self.told('at-preflight')
        self.assertIsNone(copies.Copies().run(context))
        # Above the minimum, an upgrade may begin.
        self.lose(self.devices[0])
        self.assertIsNone(copies.Copies().run(context))

    def test_too_few(self) -> None:
        self.lose(*self.devices[:2])
        error = self.assertRaises(exceptions.HookFailed, copies.Copies().run,
                                  self.told('at-preflight'))
        for word in ('1 images of store fast', 'fewer than 2 copies',
                     self.image, 'repair'):
            self.assertIn(word, str(error))

    def test_one_that_is_deleted_just_then(self) -> None:
        """It lacks copies for a moment, and is no reason to refuse."""
        self.lose(*self.devices[:2])
        with mock.patch.object(
                copies.time, 'sleep',
                side_effect=lambda seconds: self.lose(self.devices[2])):
            self.assertIsNone(copies.Copies().run(
                self.told('at-preflight')))

    def test_cannot_be_told(self) -> None:
        self.config.write_text('[DEFAULT\n')
        error = self.assertRaises(exceptions.HookFailed, copies.Copies().run,
                                  self.told('at-preflight'))
        self.assertIn('cannot be read', str(error))


class FormatTest(StoreCase):

    def origin(self, reads: Sequence[int], **writes: int) -> str:
        """Make a slot whose release reads, or writes, other formats."""
        program = self.root / 'origin' / 'bin' / 'easystack-image-manage'
        program.parent.mkdir(parents=True, exist_ok=True)
        rows = json.dumps([{'format': kind, 'reads': list(reads),
                            'writes': number, 'found': None} for kind, number
                           in {'device': 1, 'copy': 1, **writes}.items()])
        program.write_text(f"#!/bin/sh\necho '{rows}'\n")
        program.chmod(0o755)
        return str(self.root / 'origin')

    def check(self, **others: object) -> str | None:
        return copies.ReplicaFormat().run(self.told('at-check', **others))

    def refuse(self, *words: str, **others: object) -> None:
        error = self.assertRaises(exceptions.HookFailed, self.check, **others)
        for word in words:
            self.assertIn(word, str(error))

    def later_copy(self) -> None:
        """Have one copy be of a format that a later release wrote."""
        path = (self.devices[0] / 'images' / self.image[:2] / self.image
                / 'manifest')
        data = bytearray(path.read_bytes())
        data[8] = 7
        path.chmod(0o600)
        path.write_bytes(data)

    def test_the_same(self) -> None:
        self.assertIsNone(self.check(origin_slot=sys.prefix))
        self.assertIsNone(self.check(origin_slot=None))

    def test_new_release_does_not_read_what_is_there(self) -> None:
        self.later_copy()
        for origin in (None, self.origin([1, 7])):
            self.refuse('does not read format 7 of copy', 'store fast',
                        origin_slot=origin)

    def test_origin_read_more_but_nothing_of_it_is_there(self) -> None:
        self.assertIsNone(self.check(origin_slot=self.origin([1, 7])))

    def test_no_way_back(self) -> None:
        self.refuse('writes format 1', '1.0.0', 'no way back',
                    origin_slot=self.origin([7]))

    def test_origin_goes_on_writing_what_is_not_read(self) -> None:
        """Although none of it is there by the time of the check."""
        # Of the last kind the new release knows nothing at all.
        for kind in ('device', 'copy', 'log'):
            self.refuse(f'release 1.0.0 writes format 7 of {kind}',
                        'store fast', '2.0.0 does not read',
                        'until the hand-over',
                        origin_slot=self.origin([1, 7], **{kind: 7}))
