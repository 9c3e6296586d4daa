"""The engine as a whole: starting, listing, closing, and many at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import uuid

import testtools

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from tests.contract import base
from tests.contract import sources
from tests.contract.sources import noise

load_tests = base.load_tests

THREADS = 16


class LifecycleTest(base.ContractTest):

    def test_is_an_engine(self) -> None:
        self.assertIsInstance(self.engine, engine_module.Engine)
        self.assertEqual(3, self.engine.copies)
        self.assertEqual(2, self.engine.min_copies)

    def test_options_of_other_engines_are_ignored(self) -> None:
        made = self.lab.engine_class().from_options(
            {**self.lab.options(), 'engine': 'any', 'pool': 'images',
             'of_another_engine': 5})
        made.start()
        self.assertEqual(self.engine.store_id, made.store_id)
        made.close()

    def test_options_that_cannot_work(self) -> None:
        self.assertRaises(
            exceptions.ConfigurationError,
            self.lab.engine_class().from_options, self.lab.failing_options())

    def test_start_leaves_no_thread_nor_file(self) -> None:
        with base.nothing_left_behind():
            made = self.lab.engine_class().from_options(self.lab.options())
            made.start()
        made.close()

    @base.of_single_copies
    def test_start_without_any_device(self) -> None:
        for device in self.lab.devices:
            self.lab.take_away(device)
        made = self.lab.engine_class().from_options(self.lab.options())
        self.addCleanup(made.close)
        with base.nothing_left_behind():
            self.assertRaises(exceptions.ConfigurationError, made.start)
        # The same object, once the devices are there.
        for device in self.lab.devices:
            self.lab.bring_back(device)
        made.start()
        self.assertEqual([], list(made.list_images()))

    @base.of_single_copies
    def test_start_with_one_device(self) -> None:
        info = self.engine.write(self.image_id(), sources.Source(b'data'))
        device, *others = self.lab.holders(info.image_id)
        for other in {*self.lab.devices} - {device}:
            self.lab.take_away(other)
        engine = self.lab.engine()
        self.assertEqual(b'data', self.read(info.image_id, engine=engine))
        self.assertRaises(exceptions.NotEnoughCopies, engine.write,
                          self.image_id(), sources.Source(b'data'))
        for other in {*self.lab.devices} - {device}:
            self.lab.bring_back(other)
        engine.write(self.image_id(), sources.Source(b'data'))

    def test_store_id(self) -> None:
        self.assertEqual(str(uuid.UUID(self.engine.store_id)),
                         self.engine.store_id)
        self.assertEqual(self.engine.store_id, self.lab.engine().store_id)

    @base.of_single_copies
    def test_closing(self) -> None:
        made = self.lab.engine_class().from_options(self.lab.options())
        made.close()
        made.close()
        other = self.lab.engine(self_repair=True)
        with base.nothing_left_behind():
            engine = self.lab.engine(self_repair=True)
            image_id = self.image_id()
            engine.write(image_id, sources.Source(b'data'))
            for device in self.lab.holders(image_id)[:2]:
                self.lab.drop(device, image_id)
            self.assertEqual(b'data', self.read(image_id, engine=engine))
            engine.close()
            engine.close()
        # Closing one does nothing to another.
        other.write(self.image_id(), sources.Source(b'data'))

    def test_several_engines_on_the_same_devices(self) -> None:
        engines = [self.engine, self.lab.engine(), self.lab.engine()]
        data = noise(self.block + 1)
        for writer in engines:
            image_id = self.image_id()
            info = writer.write(image_id, sources.Source(data))
            for reader in engines:
                self.assertEqual(info.generation,
                                 reader.info(image_id).generation)
                self.assertTrue(
                    self.read(image_id, engine=reader) == data)
                self.assertRaises(exceptions.ImageExists, reader.write,
                                  image_id, sources.Untouchable())
            engines[-1].delete(image_id)
            for reader in engines:
                self.assertRaises(exceptions.ImageNotFound, reader.open,
                                  image_id)


@base.of_single_copies
class DevicesTest(base.ContractTest):

    def test_all_there(self) -> None:
        infos = self.engine.devices()
        self.assertEqual(self.lab.devices, [info.device for info in infos])
        self.assertEqual(4, len({info.zone for info in infos}))
        for info in infos:
            self.assertTrue(info.available)
            self.assertEqual('', info.reason)
            self.assertEqual(1.0, info.weight)
            self.assertTrue(0 < info.free <= info.total, info)

    def test_one_away(self) -> None:
        device = self.lab.devices[2]
        zone = self.engine.devices()[2].zone
        self.lab.take_away(device)
        for engine in (self.engine, self.lab.engine()):
            infos = engine.devices()
            self.assertEqual([True, True, False, True],
                             [info.available for info in infos])
            self.assertEqual(device, infos[2].device)
            self.assertNotEqual('', infos[2].reason)
            self.assertEqual((0, 0), (infos[2].free, infos[2].total))
        # Who knew its zone has not forgotten it.
        self.assertEqual(zone, self.engine.devices()[2].zone)
        self.lab.bring_back(device)
        self.assertTrue(self.engine.devices()[2].available)

    def test_all_away(self) -> None:
        for device in self.lab.devices:
            self.lab.take_away(device)
        self.assertEqual([False] * 4, [
            info.available for info in self.engine.devices()])


class ListImagesTest(base.ContractTest):

    def test_each_once(self) -> None:
        self.assertEqual([], list(self.engine.list_images()))
        ids = [self.image_id() for _ in range(12)]
        for image_id in ids:
            self.engine.write(image_id, sources.Source(b'data'))
        self.assertEqual(sorted(ids), sorted(self.engine.list_images()))
        for image_id in ids[::2]:
            self.engine.delete(image_id)
        self.assertEqual(sorted(ids[1::2]),
                         sorted(self.engine.list_images()))
        # An id that was deleted once can be used again.
        self.engine.write(ids[0], sources.Source(b'again'))
        self.assertEqual(sorted([ids[0], *ids[1::2]]),
                         sorted(self.engine.list_images()))

    @base.of_single_copies
    def test_whatever_the_state_of_the_copies(self) -> None:
        ids = sorted(self.image_id() for _ in range(3))
        for image_id in ids:
            self.engine.write(image_id, sources.Source(b'data'))
        for device in self.lab.holders(ids[0])[:2]:
            self.lab.drop(device, ids[0])
        for device in self.lab.holders(ids[1]):
            self.lab.damage(device, ids[1], 0)
        self.lab.take_away(self.lab.holders(ids[2])[0])
        self.lab.take_away(self.lab.holders(ids[2])[1])
        found = sorted(self.engine.list_images())
        # The one copy left of the first may be on a device that is away.
        self.assertEqual(ids[1:], [each for each in found if each != ids[0]])


class ConcurrencyTest(base.ContractTest):

    @base.of_single_copies
    def test_different_images(self) -> None:
        size = self.chunk // 2 + self.block // 2

        def work(number: int) -> None:
            engine = engines[number % len(engines)]
            data = noise(size + number, number)
            image_id = ids[number]
            info = engine.write(image_id, sources.Source(data, most=size),
                                len(data))
            self.assertStored(info, data)
            middle = self.read(image_id, number, self.block, engine=engine)
            self.assertTrue(middle == data[number:number + self.block])
            if number % 4 == 0:
                self.lab.drop(self.lab.holders(image_id)[0], image_id)
                engine.repair(image_id)
            if number % 2:
                engine.delete(image_id)
                self.assertRaises(exceptions.ImageNotFound, engine.open,
                                  image_id)
            else:
                self.assertEqual(3, len(self.good(image_id, engine)))

        engines = [self.engine, self.lab.engine()]
        ids = [self.image_id() for _ in range(THREADS)]
        with base.nothing_left_behind():
            with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
                for result in [pool.submit(work, number)
                               for number in range(THREADS)]:
                    result.result()
            del result
        self.assertEqual(sorted(ids[::2]), sorted(self.engine.list_images()))
        self.assertEqual([], self.lab.leftovers())

    @base.of_single_copies
    def test_the_same_image(self) -> None:
        data = noise(2 * self.chunk + 5)
        image_id = self.image_id()
        self.engine.write(image_id, sources.Source(data))
        holders = self.lab.holders(image_id)
        for number, device in enumerate(holders):
            self.lab.damage(device, image_id, number * self.block)
        start = threading.Barrier(THREADS)

        def work(number: int) -> bool:
            start.wait(60)
            return self.read(image_id, number) == data[number:]

        with base.nothing_left_behind():
            with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
                results = list(pool.map(work, range(THREADS)))
        self.assertEqual([True] * THREADS, results)

    def test_one_deletes_while_others_read(self) -> None:
        data = noise(self.chunk)
        start = threading.Barrier(5)

        def read(image_id: str) -> None:
            start.wait(60)
            with contextlib.suppress(exceptions.BlockStoreError):
                # All of it, or nothing of it.
                assert self.read(image_id) == data

        def delete(image_id: str) -> None:
            start.wait(60)
            self.engine.delete(image_id)

        for _ in range(4):
            image_id = self.image_id()
            self.engine.write(image_id, sources.Source(data))
            with concurrent.futures.ThreadPoolExecutor(5) as pool:
                for result in [pool.submit(each, image_id) for each in
                               (read, read, delete, read, read)]:
                    result.result()
            self.assertAbsent(image_id)

    @base.of_single_copies
    def test_one_deletes_while_others_repair(self) -> None:
        data = noise(self.chunk)
        start = threading.Barrier(3)

        def repair(engine: engine_module.Engine, image_id: str) -> None:
            start.wait(60)
            with contextlib.suppress(exceptions.ImageNotFound):
                engine.repair(image_id)

        def delete(engine: engine_module.Engine, image_id: str) -> None:
            start.wait(60)
            engine.delete(image_id)

        engines = [self.engine, self.lab.engine(), self.lab.engine()]
        for _ in range(6):
            image_id = self.image_id()
            self.engine.write(image_id, sources.Source(data))
            self.lab.drop(self.lab.holders(image_id)[0], image_id)
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                for result in [
                        pool.submit(each, engine, image_id)
                        for each, engine in zip((repair, delete, repair),
                                                engines, strict=True)]:
                    result.result()
            self.assertAbsent(image_id)


class ErrorTest(testtools.TestCase):
    """The errors are what the adapters count on."""

    def test_tree(self) -> None:
        for name in ('ImageNotFound', 'ImageUnavailable', 'ImageExists',
                     'SizeMismatch', 'DamagedImage', 'ImageInUse',
                     'DeviceError', 'NotEnoughCopies'):
            self.assertTrue(issubclass(getattr(exceptions, name),
                                       exceptions.BlockStoreError), name)
        for name in ('BlockStoreError', 'InvalidRequest',
                     'ConfigurationError'):
            self.assertTrue(issubclass(getattr(exceptions, name),
                                       exceptions.EasystackImageError), name)
        self.assertTrue(issubclass(exceptions.InvalidRequest, ValueError))
        self.assertFalse(issubclass(exceptions.ImageUnavailable,
                                    exceptions.ImageNotFound))
