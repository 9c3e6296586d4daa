"""Two workers, and many transfers of different images at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

from tests.functional import base
from tests.functional import client
from tests.functional import server

CLIENTS = 16

#: Several blocks of 4 MiB, and no multiple of anything.
SIZE = 25 * (1 << 20) + 4321

T = TypeVar('T')


@base.needs_mariadb
class TestManyClients(base.SharedGlanceCase):

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(cls.root, [server.block_store(
            'copies', server.make_devices(cls.root))])

    def at_once(self, function: Callable[[client.Images, int], T]) -> list[T]:
        """Call a function for each client's number, all side by side."""
        with futures.ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(
                lambda number: function(client.Images(self.glance.url),
                                        number), range(CLIENTS)))

    @staticmethod
    def upload(images: client.Images, number: int) -> str:
        data = client.content(SIZE + number, seed=number)
        return images.upload(client.pieces(data, 1 << 20) if number % 2
                             else data)

    def test_transfers_of_different_images(self) -> None:
        ids = self.at_once(self.upload)
        received = self.at_once(lambda images, number: client.sha512(
            images.download(ids[number])))
        expected = [client.sha512(client.content(SIZE + number, seed=number))
                    for number in range(CLIENTS)]
        self.assertEqual(expected, received)
        for image_id, digest in zip(ids, expected, strict=True):
            record = self.images.show(image_id)
            self.assertEqual('active', record['status'])
            self.assertEqual(digest, record['os_hash_value'])
            self.assertEqual(['good'] * 3, [
                row['state'] for row in self.glance.copies(image_id)])
        self.at_once(lambda images, number: images.delete(ids[number]))
        self.assertEqual([], server.leftovers(self.glance.stores[0]))

    def test_uploads_beside_downloads(self) -> None:
        ids = self.at_once(self.upload)

        def up_or_down(images: client.Images, number: int) -> str:
            if number % 2:
                return images.show(self.upload(images, number))[
                    'os_hash_value']
            return client.sha512(images.download(ids[number]))

        self.assertEqual(
            [client.sha512(client.content(SIZE + number, seed=number))
             for number in range(CLIENTS)], self.at_once(up_or_down))

    def test_ranges_of_one_image(self) -> None:
        data = client.content(SIZE, seed=61)
        image_id = self.images.upload(data)

        def part(images: client.Images, number: int) -> bool:
            first = number * (SIZE // CLIENTS)
            last = first + SIZE // CLIENTS + 1000
            answer = images.get(image_id, f'{first}-{last}')
            return (answer.status_code == 206
                    and answer.content == data[first:last + 1])

        self.assertEqual([True] * CLIENTS, self.at_once(part))

    def test_both_workers_answered(self) -> None:
        self.at_once(self.upload)
        # uWSGI names the process that served each request.
        workers = {line.split('|')[0] for line in
                   self.glance.log().splitlines() if line.startswith('[pid: ')
                   and 'PUT' in line}
        self.assertEqual(2, len(workers), workers)
