"""Reading images, whole and in ranges, from good copies and bad ones."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import gc
import random
from typing import Any
import uuid

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from tests.contract import base
from tests.contract import sources
from tests.contract.sources import noise

load_tests = base.load_tests


class ReadTest(base.ContractTest):
    """Tests that begin with an image of a few chunks."""

    def setUp(self) -> None:
        super().setUp()
        self.data = noise(2 * self.chunk + self.block + self.block // 3)
        self.image = self.image_id()
        self.stored = self.engine.write(
            self.image, sources.Source(self.data), len(self.data))
        self.holders = self.lab.holders(self.image)

    def assertReads(self, offset: int = 0, length: int | None = None,
                    **kwargs: Any) -> None:
        """Check what a reader hands out, and how."""
        end = None if length is None else offset + length
        expected = self.data[offset:end]
        reader = self.engine.open(self.image, offset, length, **kwargs)
        with contextlib.closing(reader):
            self.assertEqual(len(expected), reader.length)
            self.assertEqual(self.stored.generation, reader.info.generation)
            pieces = list(reader)
            self.assertRaises(StopIteration, next, reader)
        self.assertTrue(all(type(piece) is bytes and piece
                            for piece in pieces))
        self.assertTrue(b''.join(pieces) == expected,
                        f'wrong bytes at {offset}, {length}')

    def blocks(self) -> Iterator[int]:
        """Return where the image's blocks begin."""
        return iter(range(0, len(self.data), self.block))


class RangeTest(ReadTest):

    def test_edges(self) -> None:
        size, block, chunk = len(self.data), self.block, self.chunk
        for offset, length in (
                (0, None), (0, size), (0, size + 1), (0, 1 << 62),
                (0, 0), (0, 1), (0, block), (0, block + 1),
                (1, size), (1, block - 1), (block - 1, 1), (block - 1, 2),
                (block, block), (block, 1), (block + 1, None),
                (block // 2, 3 * block), (chunk - 1, 2), (chunk, None),
                (size - 1, None), (size - 1, 1), (size - 1, 2),
                (size - block, None), (size - block // 3 - 1, None),
                (size, None), (size, 0), (size, 1), (size + 1, 1),
                (size + 1, None), (1 << 62, 1 << 62)):
            self.assertReads(offset, length)

    def test_any(self) -> None:
        draw = random.Random(5)
        size = len(self.data)
        for _ in range(60):
            offset = draw.randrange(size)
            length = draw.choice([draw.randrange(10), draw.randrange(size)])
            self.assertReads(offset, length)

    def test_of_an_empty_image(self) -> None:
        image_id = self.image_id()
        self.engine.write(image_id, sources.Source(b''))
        for offset, length in ((0, None), (0, 0), (0, 1), (1, None), (5, 5)):
            reader = self.engine.open(image_id, offset, length)
            with contextlib.closing(reader):
                self.assertEqual(0, reader.length)
                self.assertEqual([], list(reader))

    def test_bad_offsets_and_lengths(self) -> None:
        for bad in (-1, 1.0, '1', b'1', True, False, [], float('nan')):
            with base.nothing_left_behind():
                self.assertRaises(exceptions.InvalidRequest,
                                  self.engine.open, self.image, bad)
                self.assertRaises(exceptions.InvalidRequest,
                                  self.engine.open, self.image, 0, bad)
        self.assertRaises(exceptions.InvalidRequest, self.engine.open,
                          self.image, None)


class ReaderTest(ReadTest):

    def test_is_an_iterator(self) -> None:
        reader = self.engine.open(self.image)
        self.assertIsInstance(reader, engine_module.Reader)
        self.assertIs(reader, iter(reader))
        first = next(reader)
        self.assertEqual(self.data[:len(first)], first)
        rest = b''.join(reader)
        self.assertTrue(first + rest == self.data)
        for _ in range(3):
            self.assertRaises(StopIteration, next, reader)
        reader.close()

    def test_two_at_once(self) -> None:
        with contextlib.closing(self.engine.open(self.image)) as one, \
                contextlib.closing(self.engine.open(self.image, 5)) as two:
            first, second = bytearray(), bytearray()
            for piece in one:
                first += piece
                second += next(two, b'')
            second += b''.join(two)
        self.assertTrue(first == self.data)
        self.assertTrue(second == self.data[5:])

    def test_closed_at_any_time_leaves_nothing(self) -> None:
        for pieces in (0, 1, 3):
            with base.nothing_left_behind():
                reader = self.engine.open(self.image)
                for _ in range(pieces):
                    next(reader)
                reader.close()
                reader.close()

    def test_read_to_its_end_leaves_nothing(self) -> None:
        with base.nothing_left_behind():
            for offset, length in ((0, None), (5, 10), (0, 0),
                                   (len(self.data), None)):
                reader = self.engine.open(self.image, offset, length)
                for _ in reader:
                    pass
                reader.close()

    def test_forgotten_leaves_nothing(self) -> None:
        with base.nothing_left_behind():
            for pieces in (0, 1, 3):
                reader = self.engine.open(self.image)
                for _ in range(pieces):
                    next(reader)
                del reader
            gc.collect()

    def test_many_opened_and_none_read_to_its_end(self) -> None:
        with base.nothing_left_behind():
            readers = [self.engine.open(self.image, number)
                       for number in range(20)]
            for number, reader in enumerate(readers):
                self.assertEqual(self.data[number], next(reader)[0])
                reader.close()
            del readers, reader


class GenerationTest(ReadTest):

    def test_the_right_one(self) -> None:
        for generation in (self.stored.generation,
                           self.stored.generation.upper(), None):
            self.assertReads(generation=generation)
            self.assertEqual(
                self.stored.generation,
                self.engine.info(self.image, generation).generation)

    def test_another_one(self) -> None:
        for generation in (str(uuid.UUID(int=5)), self.image):
            for call in (self.engine.info, self.engine.delete):
                self.assertRaises(exceptions.ImageNotFound, call,
                                  self.image, generation)
            self.assertRaises(exceptions.ImageNotFound, self.engine.open,
                              self.image, 0, None, generation)
        self.assertReads()

    def test_malformed(self) -> None:
        for generation in ('', 'latest', 5, b'x' * 16, '../' * 12,
                           self.stored.generation + '0',
                           self.stored.generation.replace('-', '')):
            for call in (self.engine.info, self.engine.delete):
                self.assertRaises(exceptions.InvalidRequest, call,
                                  self.image, generation)
            self.assertRaises(exceptions.InvalidRequest, self.engine.open,
                              self.image, 0, None, generation)
        self.assertReads()

    def test_of_an_earlier_upload(self) -> None:
        self.engine.delete(self.image)
        data = noise(10)
        info = self.engine.write(self.image, sources.Source(data))
        for call in (self.engine.info, self.engine.delete):
            self.assertRaises(exceptions.ImageNotFound, call, self.image,
                              self.stored.generation)
        self.assertRaises(exceptions.ImageNotFound, self.engine.open,
                          self.image, 0, None, self.stored.generation)
        self.assertStored(info, data)


class DamageTest(ReadTest):

    @base.of_single_copies
    def test_each_block_of_one_copy(self) -> None:
        for begin in self.blocks():
            self.lab.damage(self.holders[0], self.image, begin)
            self.assertReads()
            self.assertReads(begin, 1)

    @base.of_single_copies
    def test_first_and_last_byte_of_each_copy_but_one(self) -> None:
        for device in self.holders[:2]:
            self.lab.damage(device, self.image, 0)
            self.lab.damage(device, self.image, len(self.data) - 1)
        self.assertReads()
        self.assertReads(0, 1)
        self.assertReads(len(self.data) - 1, 1)

    @base.of_single_copies
    def test_different_blocks_in_every_copy(self) -> None:
        # Each block is bad in two copies, and good in one.
        for number, begin in enumerate(self.blocks()):
            for device in self.holders:
                if device != self.holders[number % 3]:
                    self.lab.damage(device, self.image, begin + number)
        self.assertReads()
        self.assertReads(self.block + 5, 3 * self.block)

    @base.of_single_copies
    def test_damage_in_the_middle_of_a_read(self) -> None:
        with contextlib.closing(self.engine.open(self.image)) as reader:
            read = next(reader)
            for begin in self.blocks():
                for device in self.holders[:2]:
                    self.lab.damage(device, self.image, begin)
            read += b''.join(reader)
        self.assertTrue(read == self.data)

    def test_a_block_bad_in_all_copies(self) -> None:
        bad = self.chunk + self.block
        for device in self.holders:
            self.lab.damage(device, self.image, bad + 7)
        with base.nothing_left_behind():
            read = bytearray()
            reader = self.engine.open(self.image)

            try:
                for piece in reader:
                    read += piece
            except exceptions.DamagedImage as error:
                self.assertIn(self.image, str(error))
            else:
                self.fail('the reader came to its end')
            # Everything before the bad block, nothing of it, and no end.
            self.assertTrue(read == self.data[:bad])
            for _ in range(3):
                self.assertRaises(exceptions.DamagedImage, next, reader)
            reader.close()
            del reader
        # What does not touch the block can be read.
        self.assertReads(0, bad)
        self.assertReads(bad + self.block, None)

    def test_first_block_bad_in_all_copies(self) -> None:
        for device in self.holders:
            self.lab.damage(device, self.image, 0)
        with base.nothing_left_behind():
            self.assertRaises(exceptions.DamagedImage, self.engine.open,
                              self.image)
            self.assertRaises(exceptions.DamagedImage, self.engine.open,
                              self.image, self.block - 1, 2)
        self.assertReads(self.block)
        self.assertEqual(len(self.data), self.engine.info(self.image).size)


@base.of_single_copies
class LossTest(ReadTest):

    def test_copies_dropped(self) -> None:
        for device in self.holders[:2]:
            self.lab.drop(device, self.image)
            self.assertReads()
        self.lab.drop(self.holders[2], self.image)
        self.assertAbsent(self.image)

    def test_copies_dropped_in_the_middle_of_a_read(self) -> None:
        with contextlib.closing(self.engine.open(self.image)) as reader:
            read = next(reader)
            for device in self.holders[:2]:
                self.lab.drop(device, self.image)
            read += b''.join(reader)
        self.assertTrue(read == self.data)

    def test_devices_away(self) -> None:
        for device in self.holders[:2]:
            self.lab.take_away(device)
            self.assertReads()
            self.assertStored(self.stored, self.data)

    def test_devices_away_in_the_middle_of_a_read(self) -> None:
        with contextlib.closing(self.engine.open(self.image)) as reader:
            read = next(reader)
            for device in self.holders[:2]:
                self.lab.take_away(device)
            read += b''.join(reader)
        self.assertTrue(read == self.data)

    def test_unreachable_is_not_absent(self) -> None:
        for device in self.holders:
            self.lab.take_away(device)
        for call in (self.engine.info, self.engine.open, self.engine.delete,
                     self.engine.list_copies, self.engine.repair):
            self.assertRaises(exceptions.ImageUnavailable, call, self.image)
        for device in self.holders:
            self.lab.bring_back(device)
        self.assertReads()
        self.assertEqual(3, len(self.good(self.image)))

    def test_no_device_at_all(self) -> None:
        for device in self.lab.devices:
            self.lab.take_away(device)
        for call in (self.engine.info, self.engine.open, self.engine.delete,
                     self.engine.list_copies, self.engine.repair):
            self.assertRaises(exceptions.BlockStoreError, call, self.image)
        self.assertRaises(exceptions.BlockStoreError, list,
                          self.engine.list_images())
        self.assertRaises(
            exceptions.NotEnoughCopies, self.engine.write, self.image_id(),
            sources.Source(b''))
        for device in self.lab.devices:
            self.lab.bring_back(device)
        self.assertReads()


class MeanwhileTest(ReadTest):
    """What others do while an image is being read."""

    @base.of_single_copies
    def test_repair(self) -> None:
        self.lab.damage(self.holders[0], self.image, self.chunk)
        self.lab.drop(self.holders[1], self.image)
        with contextlib.closing(self.engine.open(self.image)) as reader:
            read = next(reader)
            self.lab.engine().repair(self.image)
            read += b''.join(reader)
        self.assertTrue(read == self.data)
        self.assertEqual(3, len(self.good(self.image)))

    def test_delete(self) -> None:
        # All of it, or an error: never other bytes, nor an early end.
        with contextlib.closing(self.engine.open(self.image)) as reader:
            read = next(reader)
            self.lab.engine().delete(self.image)
            with contextlib.suppress(exceptions.BlockStoreError):
                read += b''.join(reader)
                self.assertEqual(len(self.data), len(read))
        self.assertTrue(self.data.startswith(read))
        self.assertAbsent(self.image)

    def test_another_upload_under_the_same_id(self) -> None:
        with contextlib.closing(self.engine.open(self.image)) as reader:
            read = next(reader)
            self.engine.delete(self.image)
            other = noise(len(self.data), 9)
            info = self.engine.write(self.image, sources.Source(other))
            with contextlib.suppress(exceptions.BlockStoreError):
                read += b''.join(reader)
                self.assertEqual(len(self.data), len(read))
        self.assertTrue(self.data.startswith(read))
        self.assertStored(info, other)
