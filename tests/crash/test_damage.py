"""Every kind of damage to a copy, by name, and what must follow."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import os
from pathlib import Path
import random
import shutil
from typing import Any, ClassVar
import uuid

import testscenarios

from easystack_image import exceptions
from easystack_image.blockstore import engine as contract
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import manifest
from tests.crash import base

SIZE = len(base.DATA)
DAMAGED = contract.CopyState.DAMAGED
MISSING = contract.CopyState.MISSING
STALE = contract.CopyState.STALE
UNREACHABLE = contract.CopyState.UNREACHABLE


class DamageCase(base.TestCase):
    """An image, an older one of the same id that was deleted, and another.

    The copy that is damaged is the one that is read first.
    """

    shared: ClassVar[base.Devices]
    empty: ClassVar[base.Tree]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        root = base.make_directory()
        cls.addClassCleanup(shutil.rmtree, root)
        cls.shared = base.Devices(root)
        cls.empty = cls.shared.tree()

    def make_devices(self) -> base.Devices:
        self.shared.restore(self.empty)
        return self.shared

    def setUp(self) -> None:
        super().setUp()
        self.engine = self.restart()
        #: Copies that are not where they belong, to be put there.
        self.spare = self.directory / 'spare'
        self.other_id = base.new_id(0x0e)
        old = bytes(reversed(base.DATA))
        self.write(self.engine, self.other_id, old)
        self.write(self.engine, self.image_id, old)
        self.copy = self.first_copy()
        shutil.copytree(self.copy, self.spare)
        self.engine.delete(self.image_id)
        self.generation = self.write(self.engine, self.image_id,
                                     base.DATA).generation
        self.assertEqual(self.copy, self.first_copy())
        self.other_copy = self.copy.parents[1] / (
            f'{self.other_id[:2]}/{self.other_id}')
        self.baseline = self.devices.tree()

    def first_copy(self) -> Path:
        """Return the copy that is read first."""
        return Path(self.engine.list_copies(self.image_id)[0].path).parent

    def copies(self, verify: bool = True) -> list[contract.Copy]:
        return self.engine.list_copies(self.image_id, verify)

    def states(self, verify: bool = True) -> list[str]:
        return [copy.state.value for copy in self.copies(verify)]

    def read(self) -> bytes:
        return b''.join(self.engine.open(self.image_id))


def change(name: str, begin: int, data: bytes | None = None) -> Inflict:
    """Return what writes into a file, or flips the bits of a byte of it."""
    def inflict(case: DamageCase) -> None:
        with open(case.copy / name, 'r+b', buffering=0) as file:
            old = os.pread(file.fileno(), 1, begin)
            os.pwrite(file.fileno(), data or bytes([old[0] ^ 0xff]), begin)

    return inflict


def resize(name: str, size: int) -> Inflict:
    """Return what cuts a file, or appends zeros to it."""
    return lambda case: os.truncate(case.copy / name, size)


def lose(*names: str) -> Inflict:
    """Return what removes files of the copy, or the copy itself."""
    def inflict(case: DamageCase) -> None:
        for name in names:
            (case.copy / name).unlink()
        if not names:
            shutil.rmtree(case.copy)

    return inflict


def take(*names: str, older: bool = False) -> Inflict:
    """Return what replaces files by those of another copy.

    :param older: of an older upload, else of another image
    """
    def inflict(case: DamageCase) -> None:
        for name in names:
            shutil.copyfile((case.spare if older else case.other_copy) / name,
                            case.copy / name)

    return inflict


def swap(case: DamageCase) -> None:
    """Exchange the copies of two images on a device."""
    aside = case.devices.root / 'aside'
    os.rename(case.copy, aside)
    os.rename(case.other_copy, case.copy)
    os.rename(aside, case.other_copy)


def link(name: str) -> Inflict:
    """Return what makes something a link to the same of another device."""
    def inflict(case: DamageCase) -> None:
        path = case.copy / name
        target = next(Path(copy.path).parent / name for copy in
                      case.copies(verify=False)[1:])
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        path.symlink_to(target)

    return inflict


def directory(name: str) -> Inflict:
    """Return what makes a file a directory with something in it."""
    def inflict(case: DamageCase) -> None:
        (case.copy / name).unlink()
        (case.copy / name).mkdir()
        (case.copy / name / 'file').write_bytes(b'something')

    return inflict


def file(case: DamageCase) -> None:
    """Make the copy a file."""
    shutil.rmtree(case.copy)
    case.copy.write_bytes(b'something')


def reseal(**fields: Any) -> Inflict:
    """Return what changes fields of a manifest and seals it again."""
    def inflict(case: DamageCase) -> None:
        path = case.copy / 'manifest'
        path.write_bytes(manifest.pack(dataclasses.replace(
            manifest.unpack(path.read_bytes()), **fields)))

    return inflict


Inflict = Callable[[DamageCase], None]


@dataclasses.dataclass(frozen=True)
class Damage:
    """A kind of damage, and what must follow."""

    inflict: Inflict
    #: As what the copy must be shown.
    state: contract.CopyState = DAMAGED
    #: Whether it shows without reading all of the copy.
    plain: bool = True
    #: How many copies a repair puts aside.
    aside: int = 1


def content(inflict: Inflict) -> Damage:
    """Return a damage that only shows when all of the copy is read."""
    return Damage(inflict, plain=False)


KINDS = {
    'first byte flipped': content(change('data', 0)),
    'last byte flipped': content(change('data', SIZE - 1)),
    'last byte of a block flipped': content(change('data', base.BLOCK - 1)),
    'first byte of a hole flipped': content(change('data', base.BLOCK)),
    'byte in a hole flipped': content(change('data', base.BLOCK + 54321)),
    'last byte of a hole flipped':
        content(change('data', 2 * base.BLOCK - 1)),
    'first byte after a hole flipped':
        content(change('data', 2 * base.BLOCK)),
    **{f'byte {place} flipped': content(change('data', place)) for place in
       sorted(random.Random(4).sample(range(SIZE), 5))},
    'sector zeroed': content(change('data', 4096, bytes(512))),
    'sector at a wrong place':
        content(change('data', 8192, base.DATA[:512])),
    'data of another image': content(take('data')),
    'data of an older upload': content(take('data', older=True)),
    'cut by a byte': Damage(resize('data', SIZE - 1)),
    'cut at a block': Damage(resize('data', 2 * base.BLOCK)),
    'emptied': Damage(resize('data', 0)),
    'grown by a byte': Damage(resize('data', SIZE + 1)),
    'grown by a block': Damage(resize('data', SIZE + base.BLOCK)),
    'data missing': Damage(lose('data')),
    'manifest missing': Damage(lose('manifest')),
    'empty directory': Damage(lose('data', 'manifest')),
    'copy missing': Damage(lose(), MISSING, aside=0),
    'manifest cut': Damage(resize('manifest', 299)),
    'manifest emptied': Damage(resize('manifest', 0)),
    'manifest grown': Damage(resize('manifest', 301)),
    'manifest of another image': Damage(take('manifest')),
    'manifest of an older upload':
        Damage(take('manifest', older=True), STALE),
    'manifest of another set of devices':
        Damage(reseal(store_id=str(uuid.uuid4()))),
    'manifest of a larger image': Damage(reseal(
        size=SIZE + base.BLOCK, checksums=bytes(16))),
    'copy of another image': Damage(take('data', 'manifest')),
    'copy of an older upload':
        Damage(take('data', 'manifest', older=True), STALE),
    'link instead of data': Damage(link('data')),
    'link instead of manifest': Damage(link('manifest')),
    'directory instead of data': Damage(directory('data')),
    'directory instead of manifest': Damage(directory('manifest')),
    'link instead of copy': Damage(link('')),
    'file instead of copy': Damage(file),
}


class OneCopyCase(testscenarios.WithScenarios, DamageCase):
    """One copy of three is damaged."""

    scenarios = [(name, {'damage': damage})
                 for name, damage in KINDS.items()]
    damage: Damage

    def setUp(self) -> None:
        super().setUp()
        self.damage.inflict(self)


class TestRead(OneCopyCase):

    def test(self) -> None:
        self.assertTrue(base.DATA == self.read())
        for offset in (0, base.BLOCK - 1, 2 * base.BLOCK - 1, SIZE - 1):
            self.assertTrue(
                base.DATA[offset:offset + base.BLOCK] == b''.join(
                    self.engine.open(self.image_id, offset, base.BLOCK)))
        self.assertEqual(self.generation,
                         self.engine.info(self.image_id).generation)
        shown = {copy.device: copy for copy in self.copies()}
        bad = shown.pop(str(self.copy.parents[2]))
        self.assertEqual(self.damage.state, bad.state, bad.reason)
        self.assertTrue(bad.reason)
        self.assertEqual(['good', 'good'],
                         [copy.state.value for copy in shown.values()])
        found = {copy.device: copy.state
                 for copy in self.copies(verify=False)}
        self.assertEqual(
            self.damage.plain,
            found[bad.device] is not contract.CopyState.GOOD)


class RepairCase(OneCopyCase):

    def check_repaired(self, *aside: int) -> None:
        """See three good copies, and so many in quarantine."""
        self.assertEqual(self.generation, self.check_whole(
            self.engine, self.image_id, base.DATA))
        self.assertEqual(base.GOOD, self.states())
        self.assertIn(len(self.devices.in_directory('quarantine')), aside)
        self.assertEqual([], self.devices.in_directory('tmp'))
        self.assertEqual([], self.devices.in_directory('repair'))
        self.check_earlier(self.engine)


class TestRepair(RepairCase):

    def test(self) -> None:
        self.engine.repair(self.image_id)
        self.check_repaired(self.damage.aside)


class TestSelfRepair(RepairCase):

    def test(self) -> None:
        serving = self.restart(self_repair=True)
        self.assertTrue(base.DATA == b''.join(serving.open(self.image_id)))
        self.wait_for(lambda: self.states() == base.GOOD
                      and not self.devices.in_directory('repair'),
                      'the repair')
        serving.close()
        if self.damage.state is STALE:
            # It is removed instead, if the sweep comes first.
            self.check_repaired(0, 1)
        else:
            self.check_repaired(self.damage.aside)


class TestDelete(OneCopyCase):

    def test(self) -> None:
        self.engine.delete(self.image_id, self.generation)
        self.check_gone(self.restart(), self.image_id, self.generation)
        self.sweep_all(lambda: not self.devices.named(
            self.image_id, ['deleted']))
        self.check_swept()
        self.check_gone(self.engine, self.image_id, self.generation)
        self.write(self.engine, self.image_id, base.DATA)
        self.check_whole(self.engine, self.image_id, base.DATA)
        self.check_earlier(self.engine)


class TestDirectoryOfTheSize(DamageCase):
    """A directory instead of data, and the size is right by accident."""

    def test(self) -> None:
        path = self.directory / 'directory'
        path.mkdir()
        (path / 'file').touch()
        size = path.stat().st_size
        data = base.content(size, seed=5)
        self.image_id = base.new_id(0x1d)
        self.write(self.engine, self.image_id, data)
        self.copy = self.first_copy()
        directory('data')(self)
        self.assertEqual(size, (self.copy / 'data').stat().st_size)
        self.assertTrue(data == self.read())
        self.assertEqual('damaged', self.states()[0])
        self.engine.repair(self.image_id)
        self.check_whole(self.engine, self.image_id, data)
        self.check_swept(quarantined=1)


class TestManifest(DamageCase):

    def test_every_bit(self) -> None:
        sealed = (self.copy / 'manifest').read_bytes()
        self.assertEqual(300, len(sealed))
        for place in range(len(sealed)):
            for bit in range(8):
                damaged = bytearray(sealed)
                damaged[place] ^= 1 << bit
                self.assertRaises(manifest.ManifestError, manifest.unpack,
                                  bytes(damaged))

    def test_every_length(self) -> None:
        sealed = (self.copy / 'manifest').read_bytes()
        for length in range(len(sealed)):
            self.assertRaises(manifest.ManifestError, manifest.unpack,
                              sealed[:length])
            self.assertRaises(manifest.ManifestError, manifest.unpack,
                              sealed + bytes(length + 1))

    def test_every_byte(self) -> None:
        path = self.copy / 'manifest'
        sealed = path.read_bytes()
        for place in range(len(sealed)):
            change('manifest', place)(self)
            self.assertEqual(['damaged', 'good', 'good'],
                             self.states(verify=False), place)
            self.assertTrue(base.DATA == self.read(), place)
            if place % 37 == 0:
                self.engine.repair(self.image_id)
                self.assertEqual(base.GOOD, self.states())
                self.assertEqual(sealed, path.read_bytes())
            path.write_bytes(sealed)

    def test_later_release(self) -> None:
        """See that what a later release wrote is left alone."""
        path = self.copy / 'manifest'
        version = manifest.VERSION
        self.addCleanup(setattr, manifest, 'VERSION', version)
        sealed = manifest.unpack(path.read_bytes())
        manifest.VERSION = version + 1
        later = manifest.pack(sealed)
        manifest.VERSION = version
        path.write_bytes(later)
        self.assertTrue(base.DATA == self.read())
        [copy] = [copy for copy in self.copies()
                  if copy.state is not contract.CopyState.GOOD]
        self.assertEqual(UNREACHABLE, copy.state)
        self.assertIn(f'version {version + 1}', copy.reason)
        self.engine.repair(self.image_id)
        self.assertEqual(later, path.read_bytes())

    def test_all_copies(self) -> None:
        for device in range(base.COPIES):
            self.copy = self.devices.copy(self.image_id, device)
            change('manifest', 20 + device)(self)
        for ask in (self.engine.info, self.engine.open, self.engine.repair):
            self.assertRaises(exceptions.DamagedImage, ask, self.image_id)
        self.assertEqual(['damaged'] * 3, self.states())
        # They do not stand in the way of a new upload.
        self.write(self.engine, self.image_id, base.DATA)
        self.check_whole(self.engine, self.image_id, base.DATA)
        self.check_swept(quarantined=3)


class TestSeveralCopies(DamageCase):

    def damage(self, *places: int) -> None:
        """Flip a byte of each copy."""
        for device, place in enumerate(places):
            self.copy = self.devices.copy(self.image_id, device)
            change('data', place)(self)

    def test_same_block(self) -> None:
        for block in range(3):
            self.devices.restore(self.baseline)
            begin = block * base.BLOCK
            self.damage(begin, begin + 1, begin + 2)
            received = bytearray()

            def read_all(received: bytearray = received) -> None:
                for piece in self.engine.open(self.image_id):
                    received.extend(piece)

            self.assertRaises(exceptions.DamagedImage, read_all)
            self.assertTrue(base.DATA[:begin] == received)
            self.assertRaises(exceptions.DamagedImage, self.engine.open,
                              self.image_id, begin + 10, 1)
            self.check_other_blocks(block)
            self.assertEqual(['damaged'] * 3, self.states())
            before = self.data_stamps()
            self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                              self.image_id)
            self.assertEqual(before, self.data_stamps())

    def data_stamps(self) -> dict[str, tuple[int, ...]]:
        """Return what tells whether anything was changed.

        But locks, and what is noted of the repair.
        """
        return {path: node.stamp for path, node in
                self.devices.tree().items()
                if '/locks/' not in path and '/repair/' not in path}

    def check_other_blocks(self, bad: int) -> None:
        for block in {0, 1, 2} - {bad}:
            begin = block * base.BLOCK
            self.assertTrue(
                base.DATA[begin:begin + base.BLOCK] == b''.join(
                    self.engine.open(self.image_id, begin, base.BLOCK)))

    def test_different_blocks(self) -> None:
        self.damage(0, base.BLOCK, 2 * base.BLOCK)
        self.assertTrue(base.DATA == self.read())
        self.assertEqual(['damaged'] * 3, self.states())
        self.engine.repair(self.image_id)
        self.check_whole(self.engine, self.image_id, base.DATA)
        self.check_swept(quarantined=3)

    def test_two_copies(self) -> None:
        """See what is left of one copy used where both others are bad."""
        self.damage(5, 6)
        self.assertTrue(base.DATA == self.read())
        self.assertEqual(['damaged', 'damaged', 'good'],
                         sorted(self.states()))
        self.engine.repair(self.image_id)
        self.check_whole(self.engine, self.image_id, base.DATA)
        self.check_swept(quarantined=2)


class TestIdentity(DamageCase):
    """The file that says which device a directory is."""

    def test_every_bit(self) -> None:
        path = Path(self.devices.paths[0], device_module.IDENTITY)
        sealed = path.read_bytes()
        for place in range(len(sealed)):
            for bit in range(8):
                damaged = bytearray(sealed)
                damaged[place] ^= 1 << bit
                self.assertRaises(ValueError, device_module.Identity.unpack,
                                  bytes(damaged))

    def test_device(self) -> None:
        path = Path(self.devices.paths[0], device_module.IDENTITY)
        sealed = path.read_bytes()
        for damaged in (sealed[:-20], b'', sealed.replace(b'1', b'2')):
            path.write_bytes(damaged)
            engine = self.restart()
            self.assertEqual([False, True, True], [
                info.available for info in engine.devices()])
            self.check_earlier(engine, base.COPIES - 1)
        path.write_bytes(sealed)
        self.check_earlier(self.restart())
