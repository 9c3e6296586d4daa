"""Downloads, ranges, sizes and deletions."""

from __future__ import annotations

import io

from glance_store import exceptions as store_exceptions
from hypothesis import given
from hypothesis import strategies

from tests.unit.store import base

#: Two blocks and a part of a third.
SIZE = 2 * base.MIB + 345_678
DATA = base.content(SIZE)


class GetTest(base.StoreTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.upload(DATA)

    def test_all(self) -> None:
        body, size = self.store.get(self.image)
        self.assertEqual(SIZE, size)
        self.assertEqual(DATA, b''.join(body))

    def test_with_the_arguments_glance_passes(self) -> None:
        data = self.read(self.image, offset=0, chunk_size=None,
                         context=base.request())
        self.assertEqual(DATA, data)

    def test_no_piece_is_empty(self) -> None:
        """WSGI servers may take an empty piece for the end."""
        body, _ = self.store.get(self.image)
        self.assertNotIn(b'', list(body))

    def test_from_an_offset(self) -> None:
        body, size = self.store.get(self.image, offset=base.MIB + 1)
        self.assertEqual(SIZE - base.MIB - 1, size)
        self.assertEqual(DATA[base.MIB + 1:], b''.join(body))

    def test_positional_offset(self) -> None:
        body, size = self.store.get(self.image, 5, 6)
        self.assertEqual((6, DATA[5:11]), (size, b''.join(body)))

    def test_first_bytes(self) -> None:
        self.assertEqual(DATA[:10], self.read(self.image, chunk_size=10))

    def test_across_a_block(self) -> None:
        data = self.read(self.image, offset=base.MIB - 3, chunk_size=7)
        self.assertEqual(DATA[base.MIB - 3:base.MIB + 4], data)

    def test_past_the_end_is_cut(self) -> None:
        data = self.read(self.image, offset=SIZE - 3, chunk_size=100)
        self.assertEqual(DATA[-3:], data)

    def test_beyond_the_end_is_empty(self) -> None:
        for offset in (SIZE, SIZE + 1, 1 << 62):
            self.assertEqual(b'', self.read(self.image, offset=offset))

    def test_none_of_it(self) -> None:
        self.assertEqual(b'', self.read(self.image, chunk_size=0))

    def test_negative(self) -> None:
        for arguments in ({'offset': -1}, {'chunk_size': -1}):
            self.assertRaises(store_exceptions.Invalid, self.store.get,
                              self.image, **arguments)

    def test_empty_image(self) -> None:
        body, size = self.store.get(self.upload(b''))
        self.assertEqual((0, []), (size, list(body)))

    def test_twice_at_once(self) -> None:
        """A body has its own place in the image."""
        one, _ = self.store.get(self.image)
        two, _ = self.store.get(self.image)
        first = next(one)
        self.assertEqual(DATA, b''.join(two))
        self.assertEqual(DATA, first + b''.join(one))

    def test_body_that_is_closed(self) -> None:
        """WebOb closes what the client did not wait for."""
        body, _ = self.store.get(self.image)
        next(body)
        body.close()
        body.close()
        self.assertEqual([], list(body))

    def test_deleted_while_it_is_read(self) -> None:
        body, _ = self.store.get(self.image)
        first = next(body)
        self.store.delete(self.image)
        self.assertEqual(DATA, first + b''.join(body))

    def test_size(self) -> None:
        self.assertEqual(SIZE, self.store.get_size(self.image))
        self.assertEqual(0, self.store.get_size(self.upload(b'')))

    def test_not_there(self) -> None:
        uri = self.image.get_store_uri()
        image_id = self.image.store_location.image_id
        for other in (uri.replace(image_id, base.new_id()),
                      uri.rpartition('/')[0] + '/' + base.new_id()):
            location = self.location(other)
            for call in (self.store.get, self.store.get_size,
                         self.store.delete):
                self.assertRaises(store_exceptions.NotFound, call, location)
        self.assertEqual(DATA, self.read(self.image))


class RangesTest(base.StoreTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.upload(DATA)

    @given(offset=strategies.integers(0, SIZE + base.MIB),
           length=strategies.none() | strategies.integers(0, SIZE))
    def test_any_range(self, offset: int, length: int | None) -> None:
        end = None if length is None else offset + length
        self.assertEqual(DATA[offset:end], self.read(
            self.image, offset=offset, chunk_size=length))


class DeleteTest(base.StoreTestCase):

    def test_delete(self) -> None:
        image_id = base.new_id()
        location = self.upload(DATA, image_id)
        other = self.upload(b'other')
        self.store.delete(location, context=base.request())
        for call in (self.store.get, self.store.get_size,
                     self.store.delete):
            error = self.assertRaises(store_exceptions.NotFound, call,
                                      location)
            self.assertIn(image_id, str(error))
        self.assertEqual([], self.devices.data_files(image_id))
        self.assertEqual([], self.devices.leftovers())
        self.assertEqual(b'other', self.read(other))

    def test_device_that_is_away_brings_nothing_back(self) -> None:
        location = self.upload(DATA)
        with self.devices.away(1):
            self.store.delete(location)
        self.assertRaises(store_exceptions.NotFound, self.store.get,
                          location)

    def test_damaged_image_can_be_deleted(self) -> None:
        """What no copy can supply any more must not stay for ever."""
        image_id = base.new_id()
        location = self.upload(DATA, image_id)
        for path in self.devices.data_files(image_id):
            path.with_name('manifest').write_bytes(b'')
        self.store.delete(location)
        self.assertEqual([], self.devices.data_files(image_id))
        self.store.add(image_id, io.BytesIO(b'new'), 3, 'sha512')
