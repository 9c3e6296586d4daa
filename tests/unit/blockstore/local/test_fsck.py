"""Checking everything: what must be reported, and when nothing must."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import hashlib
import os
from pathlib import Path
import shutil
import threading
import time
from typing import Any
import uuid

import fixtures
import testscenarios

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import members
from easystack_image.blockstore.local import orphans
from easystack_image.blockstore.local import problems
from easystack_image.blockstore.local import references
from easystack_image.blockstore.local import work
from tests.contract import local
from tests.unit.blockstore.local import base

Kind = problems.Kind
DATA = base.noise(base.MIB + 4321)
OTHER_SET = str(uuid.uuid4())


class FsckTest(base.EngineTest):

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.fsck.SETTLE', 0.2))

    def check(self, since: float | None = None,
              comparison: references.Comparison | None = None,
              engine: Any = None, **settings: Any) -> list[problems.Problem]:
        """Return what an engine that was never started finds."""
        made = engine or base.engine_on(self.devices, copies=3, min_copies=2,
                                        **settings)
        return list(made.checker().check(work.Job(), since, comparison))

    def kinds(self, **arguments: Any) -> set[Kind]:
        return {each.kind for each in self.check(**arguments)}

    def only(self, kind: Kind, **arguments: Any) -> problems.Problem:
        """Return the one problem that there is."""
        found = self.check(**arguments)
        self.assertEqual([kind], [each.kind for each in found], found)
        return found[0]

    def holders(self, image_id: str) -> list[str]:
        return self.lab.holders(image_id)

    def upload_of(self, image_id: str) -> layout.Upload:
        return layout.Upload(image_id, self.engine.info(image_id).generation)


def write(path: str, data: bytes = b'') -> None:
    with open(path, 'wb') as file:
        file.write(data)


Inflict = Callable[['TreeTest'], str]


def made(name: str, directory: bool = False) -> Inflict:
    """Return what makes a file, or a directory."""
    def inflict(case: TreeTest) -> str:
        path = f'{case.devices[0]}/{name}'
        if directory:
            os.mkdir(path, 0o700)
        else:
            write(path)
            os.chmod(path, 0o600)
        return name

    return inflict


def removed(name: str) -> Inflict:
    def inflict(case: TreeTest) -> str:
        shutil.rmtree(f'{case.devices[0]}/{name}')
        return name

    return inflict


def chmod(name: str, mode: int) -> Inflict:
    def inflict(case: TreeTest) -> str:
        os.chmod(case.in_copy(name), mode)
        # Shards are used again by other tests.
        case.addCleanup(os.chmod, os.path.dirname(
            case.in_copy('').rstrip('/')), 0o700)
        return f'{mode:04o}'

    return inflict


def symlink(name: str, target: str) -> Inflict:
    def inflict(case: TreeTest) -> str:
        path = f'{case.devices[0]}/{name}'
        if os.path.isdir(path):
            aside = f'{case.devices[0]}.kept'
            os.rename(path, aside)
            case.addCleanup(os.rename, aside, path)
            case.addCleanup(os.unlink, path)
        os.symlink(target, path)
        return name

    return inflict


def hard_link(case: TreeTest) -> str:
    os.link(case.in_copy('data'), f'{case.lab.root(case.device)}.link')
    case.addCleanup(os.unlink, f'{case.device}.link')
    return 'data has 2 names'


def in_copy(name: str) -> Inflict:
    def inflict(case: TreeTest) -> str:
        write(case.in_copy(name))
        return name

    return inflict


def misplaced(shard: str) -> Inflict:
    def inflict(case: TreeTest) -> str:
        target = f'{case.devices[0]}/images/{shard}{case.other_id}'
        shutil.copytree(case.lab.place(case.devices[0], case.image_id)
                        if case.devices[0] in case.holders(case.image_id)
                        else case.in_copy(''), target)
        return case.other_id

    return inflict


def leftover(case: TreeTest) -> str:
    name = layout.upload_name(str(uuid.uuid4()))
    os.mkdir(f'{case.devices[0]}/{layout.TMP}/{name}', 0o700)
    write(f'{case.devices[0]}/{layout.TMP}/{name}/data', b'half of it')
    return name


def trash(case: TreeTest) -> str:
    name = layout.trash_name()
    os.mkdir(f'{case.devices[0]}/{layout.TMP}/{name}')
    return name


def mark(case: TreeTest) -> str:
    upload = layout.Upload(case.other_id, str(uuid.uuid4()))
    case.engine.repairer.mark(upload)
    return upload.name


def put_aside(case: TreeTest) -> str:
    case.lab.damage(case.device, case.image_id, 5)
    case.engine.repair(case.image_id)
    return 'does not match its checksum'


TREE: Mapping[str, tuple[Kind, Inflict]] = {
    'file in the root': (Kind.UNEXPECTED, made('core')),
    'directory in the root': (Kind.UNEXPECTED, made('backup', True)),
    'link in the root': (Kind.UNEXPECTED, symlink('here', '/')),
    'link instead of the identity of members':
        (Kind.LINK, symlink('status.json', '/etc/hostname')),
    'file among the shards': (Kind.UNEXPECTED, made('images/README')),
    'file among the images': (Kind.UNEXPECTED, made('images/00/README')),
    'directory among the images':
        (Kind.UNEXPECTED, made('images/00/backup', True)),
    'file in a copy': (Kind.UNEXPECTED, in_copy('data.bak')),
    'file in tmp': (Kind.UNEXPECTED, made('tmp/x')),
    'file in repair': (Kind.UNEXPECTED, made('repair/x')),
    'file in quarantine': (Kind.UNEXPECTED, made('quarantine/x')),
    'file in locks': (Kind.UNEXPECTED, made('locks/X Y')),
    'directory in locks':
        (Kind.UNEXPECTED, made('locks/commit.00', True)),
    'file among the marks': (Kind.UNEXPECTED, made('deleted/00/x')),
    'mark in the wrong shard': (
        Kind.UNEXPECTED, made(f'deleted/00/{"1" * 8}-1111-1111-1111-'
                              f'{"1" * 12}.{uuid.uuid4()}')),
    'shard missing': (Kind.MISSING_DIRECTORY, removed('images/00')),
    'shard of marks missing':
        (Kind.MISSING_DIRECTORY, removed('deleted/00')),
    'quarantine missing': (Kind.MISSING_DIRECTORY, removed('quarantine')),
    'repair missing': (Kind.MISSING_DIRECTORY, removed('repair')),
    'data for all to read': (Kind.MODE, chmod('data', 0o644)),
    'manifest for none to read': (Kind.MODE, chmod('manifest', 0o400)),
    'copy for all to enter': (Kind.MODE, chmod('', 0o755)),
    'shard for all to enter': (Kind.MODE, chmod('..', 0o711)),
    'data with two names': (Kind.LINK, hard_link),
    'link instead of a shard':
        (Kind.LINK, symlink('images/00', 'images/01')),
    'image in the wrong shard': (Kind.MISPLACED, misplaced('00/')),
    'image in no shard': (Kind.MISPLACED, misplaced('')),
    'leftover of an upload': (Kind.LEFTOVER, leftover),
    'leftover of a removal': (Kind.LEFTOVER, trash),
    'mark without an image': (Kind.MARK, mark),
    'copy in quarantine': (Kind.QUARANTINE, put_aside),
}


class TreeTest(testscenarios.WithScenarios, FsckTest):
    """Whatever lies on a device and should not, and what does not."""

    scenarios = [(name, {'kind': kind, 'inflict': inflict})
                 for name, (kind, inflict) in TREE.items()]
    kind: Kind
    inflict: Inflict

    def setUp(self) -> None:
        super().setUp()
        # In no shard that is damaged here.
        self.image_id = 'ab' + self.image_id_of('image')[2:]
        self.other_id = 'cd' + self.image_id_of('other')[2:]
        self.store(DATA, self.image_id)
        self.device = self.holders(self.image_id)[0]

    def image_id_of(self, name: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, name))

    def in_copy(self, name: str) -> str:
        return self.lab.place(self.device, self.image_id, name)

    def test(self) -> None:
        self.assertEqual([], self.check())
        word = self.inflict(self)
        problem = self.only(self.kind)
        self.assertIn(word, problem.message)
        self.assertTrue(problem.advice)
        # The images are all right.
        self.assertEqual(DATA, self.read(self.image_id))


class SoundTest(FsckTest):
    """What is in order, however it looks."""

    def test_nothing_stored(self) -> None:
        self.assertEqual([], self.check())

    def test_all_that_the_engine_leaves(self) -> None:
        infos = [self.store(base.noise(size)) for size in
                 (0, 1, base.MIB, 3 * base.MIB + 17)]
        self.engine.delete(infos[0].image_id)
        self.store(DATA, infos[0].image_id)
        self.engine.delete(infos[1].image_id)
        self.engine.request_repair(infos[2].image_id)
        # What came of it is noted on the others.
        away = self.lab.holders(infos[2].image_id)[0]
        self.lab.take_away(away)
        self.assertFalse(self.engine.repairer.repair(infos[2].image_id,
                                                     patient=True))
        self.lab.bring_back(away)
        name = layout.tried_name(self.upload(infos[2]))
        self.assertIn(name, self.marks(layout.REPAIR))
        # As a crash leaves it.
        os.close(os.open(f'{self.devices[-1]}/{layout.REPAIR}/{name}.new',
                         os.O_CREAT | os.O_WRONLY, 0o600))
        members.Members(self.engine.fleet).refresh()
        self.assertEqual([], self.check())
        self.assertEqual([], self.check(since=time.time()))

    def test_healer(self) -> None:
        self.store(DATA)
        self.engine.healer(lambda status: None).once(threading.Event())
        self.assertEqual([], self.check(since=time.time()))

    def test_what_is_counted(self) -> None:
        for _ in range(3):
            self.store(DATA)
        progress = _Progress()
        checker = base.engine_on(self.devices, copies=3).checker()
        self.assertEqual([], list(checker.check(
            work.Job(progress=progress), time.time())))
        self.assertEqual((3, 9), (checker.images, checker.verified))
        self.assertEqual([(3, 9 * len(DATA))], progress.begun)
        self.assertEqual([3, 9 * len(DATA)], progress.done)

    def test_goes_on_after_an_interruption(self) -> None:
        """What was read is not read again."""
        began = time.time()
        for _ in range(4):
            self.store(DATA)
        for image_id in self.engine.list_images():
            for device in self.holders(image_id):
                os.utime(self.lab.place(device, image_id, 'manifest'),
                         (began - 99, began - 99))
        stop = threading.Event()
        checker = base.engine_on(self.devices, copies=3).checker()
        with self.assertRaises(exceptions.Interrupted):
            list(checker.check(work.Job(stop=stop, progress=_Stop(stop)),
                               began))
        first = checker.verified
        self.assertTrue(0 < first < 12, first)
        rest = base.engine_on(self.devices, copies=3).checker()
        self.assertEqual([], list(rest.check(work.Job(), began)))
        self.assertEqual(12, first + rest.verified)


class _Progress:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.done = [0, 0]

    def begin(self, images: int, size: int) -> None:
        self.begun.append((images, size))

    def advance(self, images: int, size: int) -> None:
        self.done[0] += images
        self.done[1] += size

    def note(self, message: str) -> None:
        raise AssertionError(message)


class _Stop(_Progress):
    """Stops the work after the first image."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop

    def advance(self, images: int, size: int) -> None:
        super().advance(images, size)
        if images:
            self._stop.set()


class DeviceTest(FsckTest):
    """Devices that are not who they should be."""

    def setUp(self) -> None:
        super().setUp()
        self.image_id = self.store(DATA).image_id

    def rewrite(self, number: int, **fields: Any) -> None:
        """Change the identity of a device."""
        who = dataclasses.replace(local.identity(number), **fields)
        with _Opened(self.devices[number]) as fd:
            device_module.write_identity(fd, who)

    def test_missing(self) -> None:
        away = self.holders(self.image_id)[0]
        self.lab.take_away(away)
        found = self.check()
        self.assertEqual([Kind.MISSING_DEVICE, Kind.BELOW_COPIES],
                         [each.kind for each in found])
        self.assertEqual(away, found[0].device)
        self.assertTrue(found[1].message.endswith('there: 1 image'),
                        found[1].message)

    def test_denied(self) -> None:
        """Nothing is missing: this user may not look."""
        with denied(self.devices):
            found = self.check()
        self.assertEqual([(Kind.DENIED_DEVICE, device)
                          for device in self.devices],
                         [(each.kind, each.device) for each in found])
        self.assertIn('chown', found[0].message)

    def test_denied_identity(self) -> None:
        """Not a damaged one: that would be restored in vain."""
        spare, = set(self.devices) - set(self.holders(self.image_id))
        self.open_to_all()
        with denied([f'{spare}/{device_module.IDENTITY}']):
            found = {(each.kind, each.device) for each in self.check()}
        self.assertIn((Kind.DENIED_DEVICE, spare), found)
        self.assertNotIn((Kind.DAMAGED_IDENTITY, spare), found)

    def test_denied_directory(self) -> None:
        """Its disk is not bad."""
        self.open_to_all()
        with denied([f'{device}/{layout.QUARANTINE}'
                     for device in self.devices]):
            found = {(each.kind, each.device) for each in self.check()}
        for device in self.devices:
            self.assertIn((Kind.DENIED_DEVICE, device), found)
            self.assertNotIn((Kind.FAILED_DEVICE, device), found)

    def open_to_all(self) -> None:
        """Let everybody look into the devices, and see who they are."""
        for device in self.devices:
            for path in (device, f'{device}/{device_module.IDENTITY}'):
                self.addCleanup(os.chmod, path, os.stat(path).st_mode)
                os.chmod(path, 0o705)

    def test_removed(self) -> None:
        spare, = set(self.devices) - set(self.holders(self.image_id))
        path = f'{spare}/{device_module.IDENTITY}'
        os.rename(path, f'{spare}/{device_module.REMOVED}')
        self.addCleanup(os.rename, f'{spare}/{device_module.REMOVED}', path)
        problem = self.only(Kind.REMOVED_DEVICE)
        self.assertEqual(spare, problem.device)
        self.assertIn('easystack_block_devices', problem.message)

    def test_not_needed(self) -> None:
        """Without it, no image lacks a copy."""
        spare, = set(self.devices) - set(self.holders(self.image_id))
        self.lab.take_away(spare)
        self.assertEqual(spare, self.only(Kind.MISSING_DEVICE).device)

    def test_hanging(self) -> None:
        spare, = set(self.devices) - set(self.holders(self.image_id))
        self.lab.hang(spare)
        problem = self.only(Kind.FAILED_DEVICE, io_timeout=base.SHORT)
        self.assertEqual(spare, problem.device)

    def test_damaged_identity(self) -> None:
        spare, = set(self.devices) - set(self.holders(self.image_id))
        local.flip(f'{spare}/{device_module.IDENTITY}', 20)
        self.assertEqual(spare, self.only(Kind.DAMAGED_IDENTITY).device)

    def test_other_set(self) -> None:
        number = self.devices.index(
            next(iter(set(self.devices) - set(self.holders(self.image_id)))))
        self.rewrite(number, store_id=OTHER_SET)
        problem = self.only(Kind.FOREIGN_DEVICE)
        self.assertEqual(self.devices[number], problem.device)
        self.assertIn(OTHER_SET, problem.message)

    def test_clone(self) -> None:
        spare, = set(self.devices) - set(self.holders(self.image_id))
        number = self.devices.index(spare)
        other = (number + 1) % 4
        self.rewrite(number, device_id=local.identity(other).device_id)
        problem, = (each for each in self.check()
                    if each.kind is Kind.CLONED_DEVICE)
        self.assertIn(problem.device, (spare, self.devices[other]))
        self.assertIn('the same device as', problem.message)

    def test_shared_disk(self) -> None:
        found = self.check(allow_shared_disk=False)
        self.assertEqual([Kind.SHARED_DISK] * 3,
                         [each.kind for each in found])

    def test_members(self) -> None:
        known = members.Members(self.engine.fleet).refresh()
        self.assertEqual([], self.check())
        gone = dataclasses.replace(local.identity(9))
        self.remember(known, members.Member('/srv/gone', gone))
        problem = self.only(Kind.UNKNOWN_DEVICE)
        self.assertIn('/srv/gone', problem.message)

    def remember(self, known: Mapping[str, members.Member],
                 member: members.Member) -> None:
        """Have a device remember one more."""
        write(f'{self.devices[0]}/{members.MEMBERS}', members.write_down(
            members.Memory(time.time(), {
                **known, member.identity.device_id: member})))
        os.chmod(f'{self.devices[0]}/{members.MEMBERS}', 0o600)

    def test_exchanged(self) -> None:
        known = members.Members(self.engine.fleet).refresh()
        self.remember(known, members.Member(self.devices[2],
                                            local.identity(9)))
        problem = self.only(Kind.EXCHANGED_DEVICE)
        self.assertEqual(self.devices[2], problem.device)

    def test_replaced(self) -> None:
        known = members.Members(self.engine.fleet).refresh()
        self.remember(known, members.Member(self.devices[2],
                                            local.identity(9)))
        self.rewrite(2, replaces=local.identity(9).device_id)
        self.assertEqual([], self.check())
        self.rewrite(2, replaces=local.identity(1).device_id)
        self.assertIn(Kind.REPLACED_DEVICE, self.kinds())

    def test_damaged_members(self) -> None:
        members.Members(self.engine.fleet).refresh()
        local.flip(f'{self.devices[1]}/{members.MEMBERS}', 50)
        self.assertEqual(self.devices[1],
                         self.only(Kind.DAMAGED_MEMBERS).device)

    def test_none(self) -> None:
        for device in self.devices:
            self.lab.take_away(device)
        self.assertEqual([Kind.MISSING_DEVICE] * 4,
                         [each.kind for each in self.check()])


@contextlib.contextmanager
def denied(paths: Sequence[str]) -> Iterator[None]:
    """Work as a user who may not open some files or directories."""
    with contextlib.ExitStack() as stack:
        above = {str(each) for path in paths for each in Path(path).parents
                 if os.stat(each).st_uid == os.geteuid()}
        for path in [*paths, *above]:
            mode = os.stat(path).st_mode
            stack.callback(os.chmod, path, mode)
            os.chmod(path, mode | 0o001 if path in above else 0)
        if not os.geteuid():
            # Root may open everything.
            os.seteuid(65534)
            stack.callback(os.seteuid, 0)
        yield


class _Opened:
    """A device's directory, open for a while."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = fsio.open_directory(self._path)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class CopyTest(FsckTest):
    """Copies that are good, and too few, too many, or in a bad place."""

    def setUp(self) -> None:
        super().setUp()
        self.image_id = self.store(DATA).image_id
        self.there = self.holders(self.image_id)
        self.spare, = set(self.devices) - set(self.there)

    def test_below_copies(self) -> None:
        self.lab.drop(self.there[0], self.image_id)
        problem = self.only(Kind.BELOW_COPIES)
        self.assertEqual(self.image_id, problem.image)
        self.assertIn('2 of 3', problem.message)

    def test_below_min_copies(self) -> None:
        for device in self.there[:2]:
            self.lab.drop(device, self.image_id)
        self.assertIn('1 of 3', self.only(Kind.BELOW_MIN_COPIES).message)

    def test_none_is_good(self) -> None:
        for device in self.there:
            os.truncate(self.lab.place(device, self.image_id, 'data'), 1)
        self.assertEqual({Kind.WRONG_SIZE, Kind.NO_GOOD_COPY}, self.kinds())

    def test_none_is_good_throughout(self) -> None:
        for device in self.there:
            self.lab.damage(device, self.image_id, 99)
        self.assertEqual([], self.check())
        self.assertEqual({Kind.DAMAGED_COPY, Kind.NO_GOOD_COPY},
                         self.kinds(since=time.time()))

    def test_known_to_be_lost(self) -> None:
        """A repair found out; nothing is read for that."""
        for device in self.there:
            self.lab.damage(device, self.image_id, 99)
        self.assertRaises(exceptions.DamagedImage, self.engine.repair,
                          self.image_id)
        # Those that all was read of for this check need no record.
        for since in (None, 0.0, time.time()):
            found = self.check(since=since)
            self.assertEqual(
                [Kind.DAMAGED_COPY] * 3 + [Kind.NO_GOOD_COPY],
                [each.kind for each in found], found)
            self.assertEqual({self.image_id}, {each.image for each in found})
        self.lab.take_away(self.there[0])
        self.assertIn('found no good copy on the devices that are there (1 '
                      'are not)',
                      ' '.join(each.message for each in self.check()))

    def test_surplus(self) -> None:
        shutil.copytree(self.lab.place(self.there[0], self.image_id),
                        self.lab.place(self.spare, self.image_id))
        self.assertIn(self.spare, self.only(Kind.SURPLUS).message)

    def test_contradiction(self) -> None:
        """Two copies of one upload, each sound, that are not the same."""
        info = self.engine.info(self.image_id)
        self.lab.drop(self.there[1], self.image_id)
        self.lab.plant(self.there[1], local.describe(
            self.image_id, DATA[::-1], info.generation, info.created_at),
            DATA[::-1])
        _tighten(self.lab.place(self.there[1], self.image_id))
        problem = self.only(Kind.CONTRADICTION)
        self.assertIn(self.there[1], problem.message)

    def test_shared_zone(self) -> None:
        for device in self.there[1:]:
            number = self.devices.index(device)
            with _Opened(device) as fd:
                device_module.write_identity(fd, dataclasses.replace(
                    local.identity(number), zone='rack'))
        problem = self.only(Kind.SHARED_ZONE)
        self.assertIn('rack', problem.message)
        self.assertIn(local.identity(
            self.devices.index(self.spare)).zone, problem.message)

    def test_stale(self) -> None:
        """A deletion that a device missed."""
        self.lab.take_away(self.there[0])
        self.engine.delete(self.image_id)
        self.lab.bring_back(self.there[0])
        self.assertEqual(self.there[0], self.only(Kind.STALE_COPY).device)

    def test_newer_format(self) -> None:
        path = self.lab.place(self.there[0], self.image_id, 'manifest')
        with open(path, 'r+b') as file:
            data = bytearray(file.read())
            data[8] = 2
            data[-32:] = hashlib.sha256(data[:-32]).digest()
            file.seek(0)
            file.write(data)
        self.assertEqual({Kind.NEWER_COPY, Kind.BELOW_COPIES}, self.kinds())


def _tighten(place: str) -> None:
    for name in ('data', 'manifest'):
        os.chmod(f'{place}/{name}', 0o600)
    os.chmod(place, 0o700)


class BusyTest(FsckTest):
    """While others work, what they are at is no problem."""

    def setUp(self) -> None:
        super().setUp()
        # Removals must be through by then, however busy the machine.
        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.fsck.SETTLE', 5.0))

    def test_upload_under_way(self) -> None:
        source = base.Source(DATA)
        found: list[problems.Problem] = []
        reading = source.read

        def read(size: int) -> bytes:
            found.extend(self.check())
            return reading(size)

        source.read = read  # type: ignore[method-assign]
        image_id = self.image_id()
        self.engine.write(image_id, source)
        self.assertEqual([], found)
        self.assertEqual(DATA, self.read(image_id))

    def test_uploads_and_deletions(self) -> None:
        stop = threading.Event()
        errors: list[BaseException] = []

        def work_on() -> None:
            engine = self.lab.engine()
            try:
                while not stop.is_set():
                    info = self.store(base.noise(4321), self.any_id(),
                                      engine)
                    engine.delete(info.image_id)
            except BaseException as error:
                errors.append(error)

        # All in one shard, where they meet us.
        threads = [threading.Thread(target=work_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                self.assertEqual([], self.check())
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual([], errors)

    def any_id(self) -> str:
        return 'ab' + str(uuid.uuid4())[2:]


class Table:
    """References in memory."""

    def __init__(self, *rows: references.Reference) -> None:
        self.rows = list(rows)
        self.statuses: dict[str, str] = {}
        self.asked: list[str] = []
        self.refreshed = 0
        self._seen: list[references.Reference] = []
        self.before_refresh: list[Callable[[], object]] = []

    def refresh(self) -> None:
        if self.refreshed < len(self.before_refresh):
            self.before_refresh[self.refreshed]()
        self.refreshed += 1
        self._seen = list(self.rows)

    def of_shard(self, shard: str) -> Mapping[
            str, Sequence[references.Reference]]:
        found: dict[str, list[references.Reference]] = {}
        for each in self._seen:
            if each.image_id.startswith(shard):
                found.setdefault(each.image_id, []).append(each)
        return found

    def to(self, image_id: str) -> Sequence[references.Reference]:
        self.asked.append(image_id)
        return [each for each in self.rows if each.image_id == image_id]

    def count(self, store_id: str) -> int:
        return sum(each.store_id == store_id for each in self._seen)

    def status(self, image_id: str) -> str:
        return self.statuses.get(image_id, '')


class ReferenceTest(FsckTest):
    """What is stored, compared with what refers to it."""

    def setUp(self) -> None:
        super().setUp()
        self.info = self.store(DATA)
        self.table = Table(self.refer(self.info))

    def refer(self, info: Any, **changes: Any) -> references.Reference:
        """Return a record that fits an image."""
        return dataclasses.replace(references.Reference(
            info.image_id, local.STORE_ID, info.image_id, info.generation,
            info.size, info.md5, info.algorithm, info.multihash), **changes)

    def compare(self, grace: float = 0.0) -> list[problems.Problem]:
        return self.check(comparison=references.Comparison(self.table,
                                                           grace))

    def one(self, kind: Kind, image_id: str = '') -> problems.Problem:
        found = self.compare()
        self.assertEqual([(kind, image_id or self.info.image_id)],
                         [(each.kind, each.image) for each in found])
        return found[0]

    def test_all_agree(self) -> None:
        self.assertEqual([], self.compare())
        self.assertEqual(1, self.table.refreshed)

    def test_orphan(self) -> None:
        self.table.rows.clear()
        problem = self.one(Kind.ORPHAN)
        self.assertEqual(self.info.generation, problem.generation)
        self.assertIn(str(len(DATA)), problem.message)
        self.table.statuses[self.info.image_id] = 'saving'
        self.assertIn("'saving'", self.one(Kind.ORPHAN).message)

    def test_too_young_for_an_orphan(self) -> None:
        self.table.rows.clear()
        self.assertEqual([], self.compare(grace=3600))
        # Reading it does not make it younger, nor does a repair.
        for device in self.holders(self.info.image_id)[1:]:
            old = time.time() - 7200
            os.utime(self.lab.place(device, self.info.image_id), (old, old))
        self.assertEqual([Kind.ORPHAN],
                         [each.kind for each in self.compare(grace=3600)])

    def test_to_be_deleted(self) -> None:
        """It is no orphan, and may be gone."""
        self.table.rows = [self.refer(self.info, pending=True)]
        self.assertEqual([], self.compare())
        self.engine.delete(self.info.image_id)
        self.assertEqual([], self.compare())

    def test_lost(self) -> None:
        for device in self.holders(self.info.image_id):
            self.lab.drop(device, self.info.image_id)
        self.assertIn('no device has it', self.one(Kind.LOST).message)

    def test_deleted_from_the_store(self) -> None:
        self.engine.delete(self.info.image_id)
        self.assertIn('deleted', self.one(Kind.LOST).message)

    def test_out_of_reach(self) -> None:
        there = self.holders(self.info.image_id)
        self.lab.drop(there[0], self.info.image_id)
        for device in there[1:]:
            self.lab.take_away(device)
        self.assertEqual(
            [Kind.MISSING_DEVICE] * 2 + [Kind.OUT_OF_REACH],
            [each.kind for each in self.compare()])

    def test_differences(self) -> None:
        for field, value in (('size', 7), ('md5', '0' * 32),
                             ('multihash', '1' * 128)):
            self.table.rows = [self.refer(self.info, **{field: value})]
            self.assertIn(str(value), self.one(Kind.DIFFERENT).message)

    def test_what_a_record_does_not_say(self) -> None:
        self.table.rows = [self.refer(
            self.info, size=None, md5=None, algorithm=None, multihash=None)]
        self.assertEqual([], self.compare())

    def test_other_upload(self) -> None:
        older = str(uuid.uuid4())
        self.table.rows = [self.refer(self.info, generation=older)]
        problem = self.one(Kind.OTHER_UPLOAD)
        self.assertEqual(older, problem.generation)
        self.assertIn(self.info.generation, problem.message)

    def test_other_set(self) -> None:
        other = self.image_id()
        self.table.rows.append(self.refer(
            self.info, store_id=OTHER_SET, image_id=other))
        self.assertIn(OTHER_SET, self.one(Kind.OTHER_SET, other).message)

    def test_other_store(self) -> None:
        """Its data lies in another store with this driver."""
        self.table.rows.append(self.refer(
            self.info, store_id=OTHER_SET, image_id=self.image_id(),
            claims=False))
        self.assertEqual([], self.compare())

    def test_shared_data(self) -> None:
        self.table.rows.append(self.refer(self.info, record='another'))
        self.assertIn('another', self.one(Kind.SHARED_DATA).message)

    def test_uploaded_meanwhile(self) -> None:
        """Its record is read only the second time."""
        row = self.table.rows.pop()
        self.table.before_refresh = [
            lambda: None, lambda: self.table.rows.append(row)]
        self.assertEqual([], self.compare())
        self.assertEqual(2, self.table.refreshed)

    def test_deleted_meanwhile(self) -> None:
        """Glance deletes the data first, and then its record."""
        self.table.before_refresh = [
            lambda: self.engine.delete(self.info.image_id),
            self.table.rows.clear]
        self.assertEqual([], self.compare())
        self.assertEqual(2, self.table.refreshed)

    def orphans(self) -> list[problems.Problem]:
        self.table.rows = [self.refer(self.store(DATA))]
        return [each for each in self.compare()
                if each.kind is Kind.ORPHAN]

    def remove(self, found: list[problems.Problem]) -> list[str]:
        return [reason for _, reason in orphans.remove(
            found, self.table, self.engine.delete, work.Job())]

    def test_removal(self) -> None:
        found = self.orphans()
        orphans.refuse(self.table, local.STORE_ID, len(found), 2)
        self.assertEqual([''], self.remove(found))
        self.assertEqual([], self.compare())
        self.assertEqual([], self.holders(self.info.image_id))
        # Remembered as deleted, for devices that were away.
        self.assertEqual({self.upload(self.info).name},
                         self.marks('deleted', self.info.image_id))
        self.assertEqual(['it is gone already'], self.remove(found))

    def test_damaged_orphan(self) -> None:
        """Nothing of it is good, and nobody wants it."""
        for device in self.holders(self.info.image_id):
            local.flip(self.lab.place(device, self.info.image_id,
                                      'manifest'), 99)
        self.assertIn(Kind.NO_GOOD_COPY,
                      {each.kind for each in self.compare()})
        found = self.orphans()
        self.assertEqual([self.info.image_id],
                         [each.image for each in found])
        self.assertEqual([''], self.remove(found))
        self.assertEqual([], self.holders(self.info.image_id))
        self.assertEqual([], self.compare())

    def test_copy_of_another_image(self) -> None:
        """It may be the last one of that, so it is no orphan."""
        there = self.holders(self.info.image_id)
        other = self.image_id()
        os.makedirs(os.path.dirname(self.lab.place(there[0], other)),
                    exist_ok=True)
        os.rename(self.lab.place(there[0], self.info.image_id),
                  self.lab.place(there[0], other))
        self.assertEqual(
            {Kind.BELOW_COPIES, Kind.FOREIGN_COPY, Kind.NO_GOOD_COPY},
            {each.kind for each in self.compare()})

    def test_damaged_and_wanted(self) -> None:
        for device in self.holders(self.info.image_id):
            local.flip(self.lab.place(device, self.info.image_id,
                                      'manifest'), 99)
        self.assertEqual({Kind.NO_GOOD_COPY, Kind.DAMAGED_COPY},
                         {each.kind for each in self.compare()})

    def test_attached_again_before_its_removal(self) -> None:
        found = self.orphans()
        self.table.rows.append(self.refer(self.info))
        self.assertEqual(['a record refers to it now'], self.remove(found))
        self.assertEqual(DATA, self.read(self.info.image_id))

    def test_strange_references(self) -> None:
        for rows in ([], [self.refer(self.info, store_id=OTHER_SET)]):
            self.table.rows = list(rows)
            self.table.refresh()
            error = self.assertRaises(
                exceptions.Refused, orphans.refuse, self.table,
                local.STORE_ID, 1, 2)
            self.assertIn(local.STORE_ID, str(error))

    def test_more_than_crashes_leave(self) -> None:
        """As by a database of last week: it does not know what is new."""
        self.table.refresh()
        for found, images in ((11, 109), (11, 1000), (200, 200), (10, 99),
                              (3, 9), (3, 3)):
            error = self.assertRaises(
                exceptions.Refused, orphans.refuse, self.table,
                local.STORE_ID, found, images)
            self.assertIn(f'{found} of the {images} images', str(error))
        for found, images in ((2, 2), (2, 29), (3, 30), (9, 99), (10, 100),
                              (10, 100000)):
            orphans.refuse(self.table, local.STORE_ID, found, images)

    def test_attached_again_during_the_removal(self) -> None:
        """Somebody saw what happens, and attached what was left."""
        second = self.store(DATA)
        found = self.orphans()
        self.assertEqual(2, len(found))

        def delete(image_id: str, generation: str) -> None:
            self.engine.delete(image_id, generation)
            self.table.rows.append(self.refer(
                second if image_id == self.info.image_id else self.info))

        reasons = [reason for _, reason in orphans.remove(
            found, self.table, delete, work.Job())]
        self.assertEqual(['', 'a record refers to it now'], reasons)
        self.assertEqual([each.image for each in found], self.table.asked)
        self.assertEqual(DATA, self.read(found[1].image))

    def test_unreadable_references(self) -> None:
        found = self.orphans()

        def fail(image_id: str) -> Sequence[references.Reference]:
            raise exceptions.RecordsError(f'{image_id} is gone')

        self.useFixture(fixtures.MonkeyPatch(
            f'{__name__}.Table.to', lambda _, image_id: fail(image_id)))
        self.assertRaises(exceptions.RecordsError, self.remove, found)
        self.assertEqual(DATA, self.read(self.info.image_id))
