"""The whole service is killed at once, and started again."""

from __future__ import annotations

import contextlib
import time
from typing import ClassVar

import requests

from tests.functional import base
from tests.functional import client
from tests.functional import processes

#: Several blocks of 4 MiB, and no multiple of anything.
SIZE = 21 * (1 << 20) + 4321


class TestKill(base.TestCase):

    #: Seconds after the last bytes were sent.
    DELAYS: ClassVar[tuple[float, ...]] = (0, 0.05, 0.1, 0.2, 0.4)

    def setUp(self) -> None:
        super().setUp()
        disks = self.temporary_directory()
        self.store = self.make_store('copies', disks, sweep_interval=5)
        self.glance = self.start_glance(self.store)
        self.images = client.Images(self.glance.url)
        self.good_data = client.content(SIZE, seed=41)
        self.good_image = self.images.upload(self.good_data)

    def restart(self) -> None:
        self.glance.kill()
        self.glance.start()

    def check_state(self) -> None:
        """See what was acknowledged whole, and the leftovers go."""
        self.check_image(self.good_image, self.good_data)
        self.assertEqual(['good'] * 3, [
            row['state'] for row in self.glance.copies(self.good_image)])
        processes.poll(lambda: not self.store.leftovers(),
                        'the leftovers being swept', timeout=300)

    def check_not_served(self, image_id: str) -> None:
        """See that nothing is handed out of an image that is not active."""
        self.assertNotEqual('active', self.images.show(image_id)['status'])
        answer = self.images.get(image_id)
        self.assertNotIn(answer.status_code, (200, 206))
        self.images.delete(image_id)
        self.assertEqual(404, self.images.get(image_id).status_code)

    def test_in_mid_upload(self) -> None:
        data = client.content(SIZE, seed=42)
        image_id = self.images.create()
        with contextlib.closing(self.images.begin_put(
                image_id, data, SIZE * 2 // 3)):
            processes.poll(self.store.leftovers,
                            'the upload reaching the devices')
            self.restart()
        self.check_not_served(image_id)
        self.check_state()
        again = self.images.upload(data)
        self.check_image(again, data)

    def test_around_the_acknowledgement(self) -> None:
        data = client.content(SIZE, seed=43)
        for delay in self.DELAYS:
            image_id = self.images.create()
            with contextlib.closing(
                    self.images.begin_put(image_id, data, SIZE)):
                # Somewhere between the last bytes and the answer.
                time.sleep(delay)
                self.restart()
            if self.images.show(image_id)['status'] == 'active':
                self.check_image(image_id, data)
            else:
                self.check_not_served(image_id)
        self.check_state()

    def test_in_mid_download(self) -> None:
        answer = self.images.get(self.good_image, stream=True)
        received = answer.raw.read(1 << 16)
        self.restart()
        with self.assertRaises(requests.RequestException):
            for piece in answer.iter_content(1 << 20):
                received += piece
        self.assertEqual(self.good_data[:len(received)], received)
        self.check_state()

    def test_orderly_restart(self) -> None:
        self.glance.stop()
        self.glance.start()
        self.check_state()
