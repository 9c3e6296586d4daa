"""A small engine that keeps its copies in memory, and behaves.

It keeps the whole contract, with real digests and checksums; it forgets
everything with the process.  It shows that the suite asks for nothing that
only files can do, and what an engine is at least.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import threading
import time
from typing import Any
import uuid
import zlib

from easystack_image import exceptions
from easystack_image.blockstore import engine
from easystack_image.blockstore import validate
from tests.contract import lab

BLOCK_SIZE = 16 * 1024
CHUNK_SIZE = 4 * BLOCK_SIZE


@dataclasses.dataclass(eq=False)
class Copy:
    """One copy: its bytes, and what they must be."""

    info: engine.ImageInfo
    data: bytearray
    checksums: list[int]

    def block(self, number: int) -> bytes | None:
        """Return a block, or None if it is not what it must be."""
        data = bytes(self.data[number * BLOCK_SIZE:][:BLOCK_SIZE])
        good = zlib.crc32(data) == self.checksums[number]
        return data if good else None

    def good(self) -> bool:
        """Tell whether every block is what it must be."""
        return all(self.block(number) is not None
                   for number in range(len(self.checksums)))


@dataclasses.dataclass(eq=False)
class Device:
    """A disk that exists only in the mind."""

    name: str
    zone: str
    away: bool = False
    full: bool = False
    copies: dict[str, Copy] = dataclasses.field(default_factory=dict)
    deleted: set[str] = dataclasses.field(default_factory=set)
    aside: list[Copy] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Shelf:
    """The devices that several engines share, and the lock on them."""

    devices: dict[str, Device]
    store_id: str
    lock: threading.RLock = dataclasses.field(
        default_factory=threading.RLock)


class _Survey:
    """What the devices that can be reached hold of an image."""

    def __init__(self, shelf: Shelf, image_id: str,
                 generation: str | None) -> None:
        self.image_id = image_id
        ranked = sorted(
            shelf.devices.values(), key=lambda device: hashlib.sha256(
                f'{image_id}{device.name}'.encode()).digest())
        self.there = [device for device in ranked if not device.away]
        self.away = [device for device in ranked if device.away]
        self.deleted = set().union(*(device.deleted
                                     for device in self.there))
        found = [device.copies[image_id].info for device in self.there
                 if image_id in device.copies]
        self.info = max(
            (info for info in found if info.generation not in self.deleted
             and generation in (None, info.generation)),
            key=lambda info: info.created_at, default=None)
        self.known_deleted = generation in self.deleted

    def holders(self) -> dict[Device, Copy]:
        """Return the copies that count, by device."""
        return {device: copy for device in self.there
                if (copy := device.copies.get(self.image_id)) is not None
                and copy.info == self.info}

    def require(self) -> engine.ImageInfo:
        """Return what is known of the image, or say why it is not."""
        if self.info is not None:
            return self.info
        if self.away and not self.known_deleted:
            raise exceptions.ImageUnavailable(
                f'image {self.image_id} is on none of the devices that can '
                'be reached')
        raise exceptions.ImageNotFound(
            f'image {self.image_id} is not in this store')


class MemoryReader(engine.Reader):
    """Hands out verified blocks, from whichever copy has them."""

    def __init__(self, info: engine.ImageInfo, copies: Mapping[Device, Copy],
                 offset: int, length: int | None, notice: Any) -> None:
        self.info = info
        self._copies = copies
        self._position = min(offset, info.size)
        self._end = min(info.size, info.size if length is None
                        else self._position + length)
        self.length = self._end - self._position
        self._notice = notice
        self._failure: exceptions.DamagedImage | None = None
        self._first = self._read() if self.length else b''

    def _read(self) -> bytes:
        number, skip = divmod(self._position, BLOCK_SIZE)
        for device, copy in self._copies.items():
            data = None if device.away else copy.block(number)
            if data is not None:
                data = data[skip:][:self._end - self._position]
                self._position += len(data)
                return data
            self._notice(self.info.image_id)
        self._failure = exceptions.DamagedImage(
            f'image {self.info.image_id}: no copy has a good block {number}')
        raise self._failure

    def __next__(self) -> bytes:
        if self._first:
            data, self._first = self._first, b''
            return data
        if self._failure:
            raise self._failure
        if self._position >= self._end:
            raise StopIteration
        return self._read()

    def close(self) -> None:
        self._copies, self._end, self._first = {}, 0, b''


class MemoryEngine(engine.Engine):
    """See :class:`easystack_image.blockstore.engine.Engine`."""

    def __init__(self, shelf: Shelf, copies: int, min_copies: int,
                 self_repair: bool) -> None:
        self.copies = copies
        self.min_copies = min_copies
        self._shelf = shelf
        self._self_repair = self_repair
        self._condition = threading.Condition()
        self._waiting: collections.deque[str] = collections.deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        #: What came of repairs that were in vain.
        self._attempts: dict[str, engine.RepairAttempt] = {}
        #: When repairs were requested that are still to be done.
        self._requested: dict[str, float] = {}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> MemoryEngine:
        if not 1 <= options['min_copies'] <= options['copies']:
            raise exceptions.ConfigurationError(
                'min_copies must be 1 to copies')
        return cls(options['shelf'], options['copies'],
                   options['min_copies'], options['self_repair'])

    def start(self) -> None:
        if all(device.away for device in self._shelf.devices.values()):
            raise exceptions.ConfigurationError('no device is there')

    @property
    def store_id(self) -> str:
        return self._shelf.store_id

    def write(self, image_id: str, source: engine.Source,
              size: int | None = None, algorithm: str = 'sha512',
              sink: engine.Sink | None = None) -> engine.ImageInfo:
        image_id = validate.canonical_uuid(image_id)
        validate.hash_algorithm(algorithm)
        if size is not None:
            validate.byte_count(size, 'size')
        self._refuse_existing(image_id)
        with self._shelf.lock:
            staged = {device: bytearray() for device in
                      _Survey(self._shelf, image_id, None).there
                      if not device.full}
        created_at = time.time_ns() // 1000 / 1_000_000
        md5, multihash = hashlib.md5(), hashlib.new(algorithm)  # noqa: S324
        received = 0
        while True:
            staged = dict([each for each in staged.items() if not (
                each[0].away or each[0].full)][:self.copies])
            self._check(image_id, len(staged))
            piece = source.read(CHUNK_SIZE)
            if not piece:
                break
            if len(piece) > CHUNK_SIZE:
                raise exceptions.InvalidRequest(
                    f'the source gave {len(piece)} bytes where at most '
                    f'{CHUNK_SIZE} were asked for')
            received += len(piece)
            if size is not None and received > size:
                break
            for each in (md5.update, multihash.update, sink):
                if each is not None:
                    each(memoryview(piece))
            for data in staged.values():
                data += piece
        if size not in (None, received):
            raise exceptions.SizeMismatch(
                f'the source gave {received} bytes or more, {size} were '
                'declared')
        info = engine.ImageInfo(
            image_id, str(uuid.uuid4()), received, md5.hexdigest(),
            algorithm, multihash.hexdigest(), created_at)
        self._commit(info, staged)
        return info

    def _refuse_existing(self, image_id: str) -> None:
        with self._shelf.lock:
            if _Survey(self._shelf, image_id, None).info is not None:
                raise exceptions.ImageExists(
                    f'image {image_id} is in this store already')

    def _check(self, image_id: str, copies: int) -> None:
        if copies < self.min_copies:
            raise exceptions.NotEnoughCopies(
                f'image {image_id}: {copies} of at least {self.min_copies} '
                'copies can be written')

    def _commit(self, info: engine.ImageInfo,
                staged: Mapping[Device, bytearray]) -> None:
        with self._shelf.lock:
            self._refuse_existing(info.image_id)
            usable = [device for device in staged if not device.away]
            self._check(info.image_id, len(usable))
            for device in usable:
                data = staged[device]
                device.copies[info.image_id] = Copy(info, data, [
                    zlib.crc32(data[begin:begin + BLOCK_SIZE])
                    for begin in range(0, len(data), BLOCK_SIZE)])
        if len(usable) < self.copies:
            self._notice(info.image_id)

    @contextlib.contextmanager
    def _survey(self, image_id: str,
                generation: str | None = None) -> Iterator[_Survey]:
        image_id = validate.canonical_uuid(image_id)
        if generation is not None:
            generation = validate.canonical_uuid(generation, 'generation')
        with self._shelf.lock:
            yield _Survey(self._shelf, image_id, generation)

    def info(self, image_id: str,
             generation: str | None = None) -> engine.ImageInfo:
        with self._survey(image_id, generation) as survey:
            return survey.require()

    def open(self, image_id: str, offset: int = 0, length: int | None = None,
             generation: str | None = None) -> MemoryReader:
        validate.byte_count(offset, 'offset')
        if length is not None:
            validate.byte_count(length, 'length')
        with self._survey(image_id, generation) as survey:
            info, holders = survey.require(), survey.holders()
        if len(holders) + len(survey.away) < self.copies:
            self._notice(info.image_id)
        return MemoryReader(info, holders, offset, length, self._notice)

    def delete(self, image_id: str, generation: str | None = None) -> None:
        with self._survey(image_id, generation) as survey:
            info = survey.require()
            for device in survey.there:
                device.deleted.add(info.generation)
            for device in survey.holders():
                del device.copies[info.image_id]

    def list_images(self) -> Iterator[str]:
        with self._shelf.lock:
            there = [device for device in self._shelf.devices.values()
                     if not device.away]
            if not there:
                raise exceptions.ImageUnavailable('no device can be asked')
            names = set().union(*(device.copies for device in there))
            names = {name for name in names
                     if _Survey(self._shelf, name, None).info is not None}
        yield from names

    def list_copies(self, image_id: str,
                    verify: bool = False) -> list[engine.Copy]:
        with self._survey(image_id) as survey:
            info = survey.require()
            copies = []
            absent = []
            for device in survey.there:
                copy = device.copies.get(info.image_id)
                if copy is None:
                    absent.append(engine.Copy(
                        device.name, device.zone, engine.CopyState.MISSING,
                        'has no copy'))
                elif copy.info != info:
                    copies.append(engine.Copy(
                        device.name, device.zone, engine.CopyState.STALE,
                        'of another upload'))
                elif verify and not copy.good():
                    copies.append(engine.Copy(
                        device.name, device.zone, engine.CopyState.DAMAGED,
                        'does not match its checksums'))
                else:
                    copies.append(engine.Copy(
                        device.name, device.zone, engine.CopyState.GOOD))
            good = sum(copy.state is engine.CopyState.GOOD
                       for copy in copies)
            return [*copies, *absent[:max(0, self.copies - good)],
                    *(engine.Copy(device.name, device.zone,
                                  engine.CopyState.UNREACHABLE, 'is away')
                      for device in survey.away)]

    def repair(self, image_id: str) -> list[engine.Copy]:
        began = time.time()
        try:
            copies = self._repair(image_id)
        except exceptions.DamagedImage as error:
            self._attempts[validate.canonical_uuid(image_id)] = (
                engine.RepairAttempt(began, time.time(), True, str(error)))
            raise
        return copies

    def _repair(self, image_id: str) -> list[engine.Copy]:
        with self._survey(image_id) as survey:
            survey.require()
            holders = survey.holders()
            model = next(iter(holders.values()))
            data = bytearray()
            for number in range(len(model.checksums)):
                data += next(filter(None, (copy.block(number) for copy in
                                           holders.values())), b'')
                if len(data) != min(model.info.size,
                                    (number + 1) * BLOCK_SIZE):
                    raise exceptions.DamagedImage(
                        f'image {survey.image_id}: no copy has a good block '
                        f'{number}')
            self._rebuild(survey, Copy(model.info, data, model.checksums))
            self._requested.pop(survey.image_id, None)
            return self.list_copies(image_id)

    def _rebuild(self, survey: _Survey, model: Copy) -> None:
        good = 0
        for device in survey.there:
            copy = device.copies.get(survey.image_id)
            if copy is None:
                continue
            if copy.info == model.info and copy.good():
                good += 1
            else:
                device.aside.append(device.copies.pop(survey.image_id))
        for device in survey.there:
            if good < self.copies and not device.full and (
                    survey.image_id not in device.copies):
                device.copies[survey.image_id] = dataclasses.replace(
                    model, data=bytearray(model.data))
                good += 1

    def request_repair(self, image_id: str) -> None:
        self.info(image_id)
        self._requested[validate.canonical_uuid(image_id)] = time.time()
        self._notice(validate.canonical_uuid(image_id))

    def repair_requested_at(self, image_id: str) -> float | None:
        return self._requested.get(validate.canonical_uuid(image_id))

    def repair_attempt(self, image_id: str) -> engine.RepairAttempt | None:
        requested_at = self.repair_requested_at(image_id)
        attempt = self._attempts.get(validate.canonical_uuid(image_id))
        return attempt if (requested_at is not None and attempt is not None
                           and requested_at <= attempt.began_at) else None

    def devices(self) -> list[engine.DeviceInfo]:
        capacity = 1 << 30
        return [engine.DeviceInfo(
            device.name, device.zone, 1.0, not device.away,
            0 if device.away else capacity,
            0 if device.away or device.full else capacity // 2,
            'is away' if device.away else '')
            for device in self._shelf.devices.values()]

    def sweep(self) -> None:
        """Remove copies of deleted uploads from devices that were away."""
        with self._shelf.lock:
            there = [device for device in self._shelf.devices.values()
                     if not device.away]
            deleted = set().union(*(device.deleted for device in there))
            for device in there:
                for image_id, copy in list(device.copies.items()):
                    if copy.info.generation in deleted:
                        device.deleted.add(copy.info.generation)
                        del device.copies[image_id]

    def _notice(self, image_id: str) -> None:
        """Have an image repaired soon."""
        if not self._self_repair:
            return
        with self._condition:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name='memory-repair', daemon=True)
                self._thread.start()
            if image_id not in self._waiting:
                self._waiting.append(image_id)
                self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._waiting or self._closed):
                    self._condition.wait()
                if self._closed:
                    return
                image_id = self._waiting.popleft()
            with contextlib.suppress(exceptions.BlockStoreError):
                self.repair(image_id)

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()


class MemoryLab(lab.Lab):
    """Four devices in memory."""

    name = 'memory'
    block_size = BLOCK_SIZE
    chunk_size = CHUNK_SIZE

    def _setUp(self) -> None:
        self.devices = [f'memory{number}' for number in range(4)]
        self._shelf = Shelf(
            {name: Device(name, f'zone of {name}') for name in self.devices},
            str(uuid.uuid4()))

    def options(self) -> dict[str, Any]:
        return {'shelf': self._shelf, 'copies': 3, 'min_copies': 2,
                'self_repair': True}

    def engine_class(self) -> type[engine.Engine]:
        return MemoryEngine

    def failing_options(self) -> dict[str, Any]:
        return {**self.options(), 'min_copies': 4}

    def housekeeping(self, made: Any) -> None:
        made.sweep()

    def _copy(self, device: str, image_id: str) -> Copy | None:
        return self._shelf.devices[device].copies.get(image_id)

    def content(self, device: str, image_id: str) -> bytes | None:
        copy = self._copy(device, image_id)
        return None if copy is None else bytes(copy.data)

    def damage(self, device: str, image_id: str, offset: int) -> None:
        self._shelf.devices[device].copies[image_id].data[offset] ^= 0xff

    def drop(self, device: str, image_id: str) -> None:
        del self._shelf.devices[device].copies[image_id]

    def take_away(self, device: str) -> None:
        self._shelf.devices[device].away = True

    def bring_back(self, device: str) -> None:
        self._shelf.devices[device].away = False

    def fill(self, device: str) -> None:
        self._shelf.devices[device].full = True

    def make_room(self, device: str) -> None:
        self._shelf.devices[device].full = False

    def put_aside(self, image_id: str) -> int:
        return len([copy for device in self._shelf.devices.values()
                    for copy in device.aside
                    if copy.info.image_id == image_id])

    def leftovers(self) -> list[str]:
        # What an upload has not committed is only known to the upload.
        return []
