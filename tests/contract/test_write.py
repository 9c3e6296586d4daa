"""Storing images."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from typing import Any
import uuid

import testscenarios

from easystack_image import exceptions
from tests.contract import base
from tests.contract import sources
from tests.contract.sources import noise

load_tests = base.load_tests

SIZES = [
    ('nothing', {'blocks': 0, 'chunks': 0, 'more': 0}),
    ('a byte', {'blocks': 0, 'chunks': 0, 'more': 1}),
    ('a block less a byte', {'blocks': 1, 'chunks': 0, 'more': -1}),
    ('a block', {'blocks': 1, 'chunks': 0, 'more': 0}),
    ('a block and a byte', {'blocks': 1, 'chunks': 0, 'more': 1}),
    ('a chunk', {'blocks': 0, 'chunks': 1, 'more': 0}),
    ('several chunks', {'blocks': 1, 'chunks': 2, 'more': 4097}),
]
DECLARED = [('size known', {'declared': True}),
            ('size unknown', {'declared': False})]


class SizeTest(base.ContractTest):

    scenarios = testscenarios.multiply_scenarios(
        base.ENGINES, SIZES, DECLARED)
    blocks: int
    chunks: int
    more: int
    declared: bool

    def test_comes_back(self) -> None:
        size = self.blocks * self.block + self.chunks * self.chunk + self.more
        data = noise(size)
        image_id = self.image_id()
        sink = sources.Sink()
        source = sources.Source(data)
        before = time.time()
        info = self.engine.write(
            image_id, source, size if self.declared else None, sink=sink)
        after = time.time()
        self.assertEqual(image_id, info.image_id)
        self.assertEqual('sha512', info.algorithm)
        # Times on a device may be rounded.
        self.assertTrue(before - 1e-3 <= info.created_at <= after + 1e-3)
        self.assertStored(info, data)
        self.assertTrue(sink.data == data)
        self.assertLessEqual(sink.types, {memoryview})
        self.assertEqual([base.GOOD] * 3, list(self.states(
            image_id, verify=True).values()))
        holders = self.lab.holders(image_id)
        self.assertEqual(3, len(holders))
        for device in holders:
            self.assertTrue(self.lab.content(device, image_id) == data)
        self.assertEqual([], self.lab.leftovers())


class DescriptionTest(base.ContractTest):

    def test_what_write_returns_is_what_is_known_afterwards(self) -> None:
        for size in range(8):
            info = self.engine.write(
                self.image_id(), sources.Source(noise(size)))
            self.assertEqual(info, self.engine.info(info.image_id))
            with contextlib.closing(
                    self.lab.engine().open(info.image_id)) as reader:
                self.assertEqual(info, reader.info)

    def test_each_upload_has_a_name_of_its_own(self) -> None:
        image_id = self.image_id()
        generations = set()
        for _ in range(3):
            info = self.engine.write(image_id, sources.Source(b'same'))
            self.assertEqual(info.generation,
                             str(uuid.UUID(info.generation)))
            generations.add(info.generation)
            self.engine.delete(image_id)
        self.assertEqual(3, len(generations))

    def test_upper_case(self) -> None:
        image_id = self.image_id()
        info = self.engine.write(image_id.upper(), sources.Source(b'data'))
        self.assertEqual(image_id, info.image_id)
        self.assertEqual(b'data', self.read(image_id))
        self.assertEqual(b'data', self.read(image_id.upper()))
        self.assertEqual([image_id], list(self.engine.list_images()))
        self.engine.delete(image_id.upper())
        self.assertAbsent(image_id)


class SourceTest(base.ContractTest):

    def test_short_reads(self) -> None:
        for most, size in ((1, 300), (7, 2 * self.block // 7),
                           (self.block - 1, 2 * self.chunk),
                           (self.block + 1, 2 * self.chunk + 5)):
            data = noise(size)
            source = sources.Source(data, most=most)
            info = self.engine.write(self.image_id(), source, size)
            self.assertStored(info, data)

    def test_read_from_the_calling_thread_only(self) -> None:
        source = sources.Source(noise(3 * self.chunk))
        self.engine.write(self.image_id(), source)
        self.assertEqual({threading.get_ident()}, source.threads)

    def test_asked_for_bounded_pieces_until_its_end(self) -> None:
        for size in (0, 1, self.chunk, self.chunk + 1):
            source = sources.Source(noise(size))
            self.engine.write(self.image_id(), source, size)
            self.assertEqual(0, source.reads_after_end)
            self.assertTrue(all(0 < asked <= self.chunk
                                for asked in source.sizes), source.sizes)

    def test_zeros(self) -> None:
        block = self.block
        for data in (bytes(block), bytes(3 * self.chunk),
                     bytes(block) + noise(block) + bytes(block + 1),
                     noise(block) + bytes(2 * self.chunk) + b'end',
                     noise(3) + bytes(self.chunk)):
            info = self.engine.write(
                self.image_id(), sources.Source(data), len(data))
            self.assertStored(info, data)

    def test_more_than_asked_for(self) -> None:
        for at in (0, self.chunk):
            image_id = self.image_id()
            greedy = sources.Greedy(noise(3 * self.chunk), at)
            self.assertRaises(exceptions.InvalidRequest, self.engine.write,
                              image_id, greedy)
            self.assertAbsent(image_id)

    def test_size_declared_wrongly(self) -> None:
        chunk = self.chunk
        for actual, declared in (
                (0, 1), (1, 0), (chunk - 1, chunk), (chunk + 1, chunk),
                (chunk, chunk - 1), (10, 3 * chunk), (3 * chunk, 10)):
            image_id = self.image_id()
            self.assertRaises(
                exceptions.SizeMismatch, self.engine.write, image_id,
                sources.Source(noise(actual)), declared)
            self.assertAbsent(image_id)

    def test_bad_sizes(self) -> None:
        for size in (-1, True, '5', 5.0, b'5'):
            image_id = self.image_id()
            self.assertRaises(
                exceptions.InvalidRequest, self.engine.write, image_id,
                sources.Untouchable(), size)
            self.assertAbsent(image_id)


class _Mishap(Exception):
    pass


MISHAPS = [(each.__name__, {'mishap': each}) for each in (
    _Mishap, OSError, KeyboardInterrupt, SystemExit, GeneratorExit,
    StopIteration, MemoryError)]


class MishapTest(base.ContractTest):
    """Whatever is raised leaves nothing of the image behind."""

    scenarios = testscenarios.multiply_scenarios(base.ENGINES, MISHAPS)
    mishap: type[BaseException]

    def _check(self, image_id: str, *args: Any, **kwargs: Any) -> None:
        errors = [self.mishap('on purpose')]

        def fail() -> None:
            raise errors[0]

        with base.nothing_left_behind():
            try:
                self._write(image_id, fail, *args, **kwargs)
            except BaseException as error:
                # This very object, not a translation of it.
                self.assertIs(errors[0], error)
            else:
                self.fail(f'{self.mishap} was swallowed')
            # Its traceback holds on to what the engine held.
            errors.clear()
        self.assertAbsent(image_id)
        # And nothing of it is in the way.
        data = noise(10)
        self.assertStored(
            self.engine.write(image_id, sources.Source(data)), data)

    def _write(self, image_id: str, fail: Any, where: str, at: int,
               size: int | None) -> None:
        data = noise(3 * self.chunk)
        if where == 'source':
            self.engine.write(
                image_id, sources.Source(data, at=at, action=fail), size)
        else:
            self.engine.write(image_id, sources.Source(data), size,
                              sink=sources.Sink(at, fail))

    def test_source_at_once(self) -> None:
        self._check(self.image_id(), 'source', 0, None)

    def test_source_midway(self) -> None:
        self._check(self.image_id(), 'source', 2 * self.chunk + 1,
                    3 * self.chunk)

    def test_source_instead_of_ending(self) -> None:
        self._check(self.image_id(), 'source', 3 * self.chunk, None)

    def test_sink_at_once(self) -> None:
        self._check(self.image_id(), 'sink', 0, None)

    def test_sink_midway(self) -> None:
        self._check(self.image_id(), 'sink', self.chunk + 1, 3 * self.chunk)

    def test_sink_at_its_last_byte(self) -> None:
        self._check(self.image_id(), 'sink', 3 * self.chunk - 1, None)


class AlgorithmTest(base.ContractTest):

    def test_second_digest(self) -> None:
        data = noise(self.block + 1)
        for algorithm in ('md5', 'sha1', 'sha256', 'sha384', 'sha512',
                          'sha3_256', 'blake2b'):
            info = self.engine.write(
                self.image_id(), sources.Source(data), None, algorithm)
            self.assertEqual(algorithm, info.algorithm)
            self.assertStored(info, data)

    def test_any_that_hashlib_has(self) -> None:
        # Refused before the source is read, or good to the end.
        for algorithm in sorted(hashlib.algorithms_available):
            image_id = self.image_id()
            source = sources.Source(b'data')
            try:
                info = self.engine.write(image_id, source, None, algorithm)
            except exceptions.InvalidRequest:
                self.assertEqual([], source.sizes)
                self.assertAbsent(image_id)
            else:
                self.assertStored(info, b'data')

    def test_unknown(self) -> None:
        for algorithm in ('sha513', '', ' sha512', 'shake_128', None, 512,
                          b'sha512', 'sha512\0', 'š'):
            image_id = self.image_id()
            self.assertRaises(
                exceptions.InvalidRequest, self.engine.write, image_id,
                sources.Untouchable(), None, algorithm)
            self.assertAbsent(image_id)


class DuplicateTest(base.ContractTest):

    def test_source_is_not_touched(self) -> None:
        image_id, data = self.image_id(), noise(self.block)
        info = self.engine.write(image_id, sources.Source(data))
        for again in (image_id, image_id.upper()):
            self.assertRaises(exceptions.ImageExists, self.engine.write,
                              again, sources.Untouchable())
        self.assertRaises(exceptions.ImageExists, self.lab.engine().write,
                          image_id, sources.Untouchable())
        self.assertStored(info, data)
        self.assertEqual([], self.lab.leftovers())

    def test_race(self) -> None:
        # Both have begun to read before either can end.
        image_id, meeting = self.image_id(), threading.Barrier(2)
        offers = [noise(self.chunk + 1, seed) for seed in (2, 3)]
        results: dict[int, Any] = {}

        def write(number: int) -> None:
            source = sources.Source(
                offers[number], at=1, action=lambda: meeting.wait(60))
            try:
                results[number] = engines[number].write(image_id, source)
            except exceptions.ImageExists as error:
                results[number] = error

        engines = [self.engine, self.lab.engine()]
        threads = [threading.Thread(target=write, args=[number])
                   for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({0, 1}, set(results))
        losers = [number for number, result in results.items()
                  if isinstance(result, exceptions.ImageExists)]
        self.assertEqual(1, len(losers), results)
        winner = 1 - losers[0]
        self.assertStored(results[winner], offers[winner])
        self.assertEqual(3, len(self.good(image_id)))
        self.assertEqual([], self.lab.leftovers())


@base.of_single_copies
class DeviceTest(base.ContractTest):
    """Devices that are full or away, from the start or midway."""

    def test_spare_device_stands_in(self) -> None:
        device = self.lab.devices[0]
        self.lab.take_away(device)
        image_id, data = self.image_id(), noise(self.chunk + 1)
        info = self.engine.write(image_id, sources.Source(data))
        self.assertStored(info, data)
        self.lab.bring_back(device)
        self.assertEqual(set(self.lab.devices) - {device},
                         set(self.good(image_id)))
        self.assertEqual([], self.lab.leftovers())

    def test_full_device_is_left_out(self) -> None:
        # An engine may notice too late to begin a copy elsewhere.
        device = self.lab.devices[0]
        self.lab.fill(device)
        for size in (1, self.chunk + 1):
            image_id, data = self.image_id(), noise(size)
            info = self.engine.write(image_id, sources.Source(data))
            self.assertStored(info, data)
            good = self.good(image_id)
            self.assertGreaterEqual(len(good), 2)
            self.assertNotIn(device, good)
        self.assertEqual([], self.lab.leftovers())

    def test_min_copies_are_enough(self) -> None:
        self.lab.take_away(self.lab.devices[0])
        self.lab.fill(self.lab.devices[1])
        image_id, data = self.image_id(), noise(self.chunk + 1)
        info = self.engine.write(image_id, sources.Source(data))
        self.assertStored(info, data)
        self.assertEqual(set(self.lab.devices[2:]), set(self.good(image_id)))

    def test_too_few_devices(self) -> None:
        for device in self.lab.devices[:3]:
            self.lab.take_away(device)
        image_id = self.image_id()
        self.assertRaises(exceptions.NotEnoughCopies, self.engine.write,
                          image_id, sources.Source(noise(10)))
        for device in self.lab.devices[:3]:
            self.lab.bring_back(device)
        self.assertAbsent(image_id)

    def test_too_little_room(self) -> None:
        for device in self.lab.devices[1:]:
            self.lab.fill(device)
        for size in (1, 3 * self.chunk):
            image_id = self.image_id()
            self.assertRaises(exceptions.NotEnoughCopies, self.engine.write,
                              image_id, sources.Source(noise(size)))
            self.assertAbsent(image_id)

    def test_device_fails_midway(self) -> None:
        # 2 of the 3 copies at least are not on it.
        for number, (harm, mend) in enumerate([
                (self.lab.take_away, self.lab.bring_back),
                (self.lab.fill, self.lab.make_room)]):
            device = self.lab.devices[number]
            image_id, data = self.image_id(), noise(3 * self.chunk)
            with base.nothing_left_behind():
                info = self.engine.write(image_id, sources.Source(
                    data, at=self.chunk + 1, action=lambda h=harm, d=device:
                    h(d)), len(data))
            self.assertStored(info, data)
            good = self.good(image_id)
            self.assertGreaterEqual(len(good), 2)
            self.assertNotIn(device, good)
            mend(device)
            self.assertStored(info, data)
            self.assertEqual([], self.lab.leftovers())

    def test_too_many_devices_fail_midway(self) -> None:
        # Of 3 copies at most 1 is on the device that stays.
        for harm, mend in ((self.lab.fill, self.lab.make_room),
                           (self.lab.take_away, self.lab.bring_back)):
            image_id = self.image_id()

            def fail(harm: Any = harm) -> None:
                for device in self.lab.devices[1:]:
                    harm(device)

            with base.nothing_left_behind():
                self.assertRaises(
                    exceptions.NotEnoughCopies, self.engine.write, image_id,
                    sources.Source(noise(3 * self.chunk),
                                   at=2 * self.chunk, action=fail))
            self.assertRaises(exceptions.BlockStoreError, self.engine.info,
                              image_id)
            for device in self.lab.devices[1:]:
                mend(device)
            self.assertAbsent(image_id)
