"""Images are stored and come back, byte by byte, through Glance's API."""

from __future__ import annotations

import uuid

import openstack

from tests.functional import base
from tests.functional import client
from tests.functional import server

MIB = 1 << 20

#: More than one block of 4 MiB, and no multiple of anything.
SIZE = 9 * MIB + 4321


class ImageApi:
    """What holds for any store; the file store is here as the control."""

    def check_range(self, byte_range: str, expected: bytes) -> None:
        answer = self.images.get(self.stored_image, byte_range)
        self.assertEqual(206, answer.status_code, answer.text[:200])
        self.assertEqual(len(expected), len(answer.content))
        self.assertEqual(client.sha512(expected),
                         client.sha512(answer.content))

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.stored_data = client.content(SIZE, seed=7)
        cls.stored_image = client.Images(cls.glance.url).upload(
            cls.stored_data)

    def test_put_of_known_length(self) -> None:
        data = client.content(SIZE, seed=1)
        self.check_image(self.images.upload(data), data)

    def test_chunked_put(self) -> None:
        data = client.content(SIZE, seed=2)
        self.check_image(self.images.upload(client.pieces(data)), data)

    def test_chunked_put_in_large_pieces(self) -> None:
        data = client.content(SIZE, seed=3)
        image_id = self.images.upload(client.pieces(data, MIB))
        self.check_image(image_id, data)

    def test_single_byte(self) -> None:
        self.check_image(self.images.upload(b'x'), b'x')

    def test_exact_blocks(self) -> None:
        data = client.content(8 * MIB, seed=4)
        self.check_image(self.images.upload(data), data)

    def test_zeroes(self) -> None:
        data = client.content(MIB, seed=5) + bytes(16 * MIB) + b'end'
        self.check_image(self.images.upload(data), data)

    def test_first_bytes(self) -> None:
        self.check_range('0-99', self.stored_data[:100])

    def test_middle_across_a_block_border(self) -> None:
        self.check_range(f'{4 * MIB - 10}-{4 * MIB + 9}',
                         self.stored_data[4 * MIB - 10:4 * MIB + 10])

    def test_open_ended_range(self) -> None:
        self.check_range(f'{SIZE - 5000}-', self.stored_data[-5000:])

    def test_range_that_ends_past_the_end(self) -> None:
        self.check_range(f'{SIZE - 10}-{SIZE + 1000}',
                         self.stored_data[-10:])

    def test_suffix(self) -> None:
        self.check_range('-12345', self.stored_data[-12345:])

    def test_range_that_starts_past_the_end(self) -> None:
        answer = self.images.get(self.stored_image, f'{SIZE}-{SIZE + 10}')
        self.assertEqual(416, answer.status_code)

    def test_delete(self) -> None:
        store, = self.glance.stores
        image_id = self.images.upload(client.content(MIB))
        self.assertNotEqual([], store.held(image_id))
        self.images.delete(image_id)
        self.assertEqual(404, self.images.get(image_id).status_code)
        self.assertEqual([], store.held(image_id))

    def test_openstacksdk(self) -> None:
        data = client.content(SIZE, seed=6)
        path = self.temporary_directory() / 'image.raw'
        path.write_bytes(data)
        cloud = openstack.connect(
            load_yaml_config=False, load_envvars=False, auth_type='none',
            endpoint=self.glance.url, image_api_version='2')
        image = cloud.image.create_image(
            f'sdk-{uuid.uuid4()}', filename=str(path), disk_format='raw',
            container_format='bare', wait=True)
        self.check_image(image.id, data)
        copy = self.temporary_directory() / 'copy.raw'
        # The client compares the digests itself, and raises.
        cloud.image.download_image(image, output=str(copy))
        self.assertEqual(data, copy.read_bytes())


class TestBlockStore(ImageApi, base.SharedGlanceCase):

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(cls.root, [cls.make_store('copies', cls.root)])

    def test_three_good_copies(self) -> None:
        data = client.content(SIZE, seed=8)
        image_id = self.images.upload(data)
        copies = self.glance.copies(image_id)
        self.assertEqual(['good'] * 3, [copy['state'] for copy in copies])
        self.assertEqual(3, len({copy['device'] for copy in copies}))
        contents = self.glance.stores[0].contents(image_id)
        self.assertNotEqual([], contents)
        for content in contents:
            self.assertEqual(client.sha512(data), client.sha512(content))


class TestFileStore(ImageApi, base.SharedGlanceCase):
    """The control: the same tests, on a store that Glance brings along."""

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(cls.root, [server.file_store(
            'file', cls.root / 'images')])
