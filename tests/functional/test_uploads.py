"""Uploads that go wrong leave nothing behind, and can be done again."""

from __future__ import annotations

import requests

from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server

#: Several blocks of 4 MiB, and no multiple of anything.
SIZE = 9 * (1 << 20) + 4321


class TestBrokenUploads(base.SharedGlanceCase):

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(cls.root, [cls.make_store('copies', cls.root)])

    def check_refused(self, data: client.Body, **headers: str) -> None:
        """See an upload fail, and a good one succeed under the same id."""
        image_id = self.images.create()
        try:
            answer = self.images.put(image_id, data, **headers)
        except requests.ConnectionError:
            # The answer came, and the connection went, while the body was
            # still being sent; how the image fares is checked below.
            pass
        else:
            self.assertEqual(400, answer.status_code, answer.text)
        self.check_clean_and_usable(image_id)

    def check_clean_and_usable(self, image_id: str) -> None:
        self.images.wait(image_id, status='queued')
        self.check_nothing_left(image_id)
        self.assertIn(self.images.get(image_id).status_code, (204, 404))
        data = client.content(SIZE, seed=21)
        self.assertEqual(204, self.images.put(image_id, data).status_code)
        self.check_image(image_id, data)
        self.assertEqual(['good'] * 3, [
            copy['state'] for copy in self.glance.copies(image_id)])

    def check_nothing_left(self, image_id: str) -> None:
        store = self.glance.stores[0]
        # The record says so a moment before the last file is gone.
        processes.poll(lambda: not store.leftovers()
                       and not store.held(image_id),
                       f'nothing left of {image_id}', 30)

    def test_body_shorter_than_the_declared_image(self) -> None:
        self.check_refused(client.content(SIZE),
                           X_OpenStack_Image_Size=str(SIZE + 1))

    def test_body_longer_than_the_declared_image(self) -> None:
        self.check_refused(client.content(SIZE),
                           X_OpenStack_Image_Size=str(SIZE - 1))

    def test_chunked_body_shorter_than_the_declared_image(self) -> None:
        self.check_refused(client.pieces(client.content(SIZE)),
                           X_OpenStack_Image_Size=str(SIZE + 5_000_000))

    def test_chunked_body_longer_than_the_declared_image(self) -> None:
        self.check_refused(client.pieces(client.content(SIZE)),
                           X_OpenStack_Image_Size='1')

    def test_client_that_hangs_up(self) -> None:
        for sent in (0, 1000, SIZE // 2, SIZE - 1):
            image_id = self.images.create()
            self.images.begin_put(image_id, client.content(SIZE),
                                  sent).close()
            self.check_clean_and_usable(image_id)

    def test_second_upload_is_refused(self) -> None:
        data = client.content(SIZE, seed=22)
        image_id = self.images.upload(data)
        answer = self.images.put(image_id, client.content(100, seed=23))
        self.assertEqual(409, answer.status_code, answer.text)
        self.check_image(image_id, data)

    def test_upload_after_delete_gets_a_new_id(self) -> None:
        image_id = self.images.upload(client.content(SIZE))
        self.images.delete(image_id)
        self.assertEqual(404, self.images.put(image_id, b'x').status_code)
        self.check_nothing_left(image_id)
