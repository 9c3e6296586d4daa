"""Damaged and lost copies: the client notices nothing, and they mend."""

from __future__ import annotations

import os
from pathlib import Path
import shutil

import requests

from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server

BLOCK = 4 << 20

#: Four blocks, the last one not a full one.
SIZE = 3 * BLOCK + 54321


def flip(path: Path, *offsets: int) -> None:
    """Invert single bytes of a file."""
    with path.open('r+b') as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 0xff]))


class DamageCase(base.SharedGlanceCase):
    """Each test spoils copies of an image of its own."""

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(cls.root, [server.block_store(
            'copies', server.make_devices(cls.root))])

    def setUp(self) -> None:
        super().setUp()
        self.data = client.content(SIZE, seed=len(self.id()))
        self.image_id = self.images.upload(self.data)
        # In the order in which a download turns to them.
        self.copies = [
            server.copy_directory(Path(row['device']), self.image_id)
            for row in self.glance.copies(self.image_id)]

    def intact(self) -> bool:
        """Tell whether every device holds a good copy of the right bytes."""
        expected = client.sha512(self.data)
        rows = self.glance.copies(self.image_id)
        return [row['state'] for row in rows] == ['good'] * 3 and all(
            (copy / 'data').exists()
            and client.sha512((copy / 'data').read_bytes()) == expected
            for copy in self.copies)

    def check_mended(self) -> None:
        """Download once; the bytes are right, and then all copies are."""
        self.assertFalse(self.intact())
        self.assertEqual(client.sha512(self.data), client.sha512(
            self.images.download(self.image_id)))
        processes.poll(self.intact, 'three good copies', timeout=40)

    def quarantined(self) -> list[Path]:
        """Return the data files that were put aside, of any image."""
        return [path for device in server.devices(self.glance.stores[0])
                for path in (device / 'quarantine').rglob('data')]


class TestRepair(DamageCase):
    """One copy goes bad; the others supply the bytes and mend it."""

    def test_flipped_byte_in_the_first_block(self) -> None:
        flip(self.copies[0] / 'data', 17)
        self.check_mended()

    def test_flipped_byte_in_mid_stream(self) -> None:
        flip(self.copies[0] / 'data', 2 * BLOCK + 17)
        self.check_mended()

    def test_flipped_last_byte(self) -> None:
        flip(self.copies[0] / 'data', SIZE - 1)
        self.check_mended()

    def test_other_blocks_bad_in_two_copies(self) -> None:
        flip(self.copies[0] / 'data', 17)
        flip(self.copies[1] / 'data', BLOCK + 17)
        self.check_mended()

    def test_lost_copy(self) -> None:
        shutil.rmtree(self.copies[0])
        self.check_mended()

    def test_two_lost_copies(self) -> None:
        shutil.rmtree(self.copies[0])
        shutil.rmtree(self.copies[1])
        self.check_mended()

    def test_lost_data(self) -> None:
        (self.copies[0] / 'data').unlink()
        self.check_mended()

    def test_lost_manifest(self) -> None:
        (self.copies[0] / 'manifest').unlink()
        self.check_mended()

    def test_damaged_manifest(self) -> None:
        manifest = self.copies[0] / 'manifest'
        flip(manifest, manifest.stat().st_size // 2)
        self.check_mended()

    def test_truncated_data(self) -> None:
        os.truncate(self.copies[0] / 'data', 2 * BLOCK + 5)
        self.check_mended()

    def test_copy_of_another_image(self) -> None:
        other = client.content(SIZE, seed=31)
        other_id = self.images.upload(other)
        device = self.copies[0].parents[2]
        shutil.rmtree(self.copies[0])
        shutil.copytree(server.copy_directory(device, other_id),
                        self.copies[0])
        self.check_mended()
        self.check_image(other_id, other)

    def test_damaged_copy_is_put_aside(self) -> None:
        flip(self.copies[0] / 'data', 17)
        bad = (self.copies[0] / 'data').read_bytes()
        self.check_mended()
        self.assertIn(client.sha512(bad), [
            client.sha512(path.read_bytes()) for path in self.quarantined()])

    def test_ranges_meet_damage_too(self) -> None:
        flip(self.copies[0] / 'data', BLOCK + 17)
        answer = self.images.get(self.image_id, f'{BLOCK - 5}-{BLOCK + 99}')
        self.assertEqual(206, answer.status_code)
        self.assertEqual(self.data[BLOCK - 5:BLOCK + 100], answer.content)
        processes.poll(self.intact, 'three good copies', timeout=40)


class TestNothingGoodLeft(DamageCase):
    """All copies of a block are bad: no wrong byte may reach the client."""

    def spoil_everywhere(self, offset: int) -> None:
        for copy in self.copies:
            flip(copy / 'data', offset)

    def test_bad_first_block_is_an_error(self) -> None:
        self.spoil_everywhere(17)
        answer = self.images.get(self.image_id)
        self.assertEqual(503, answer.status_code, answer.text)
        self.assertNotIn(self.data[:16], answer.content)

    def test_bad_block_in_mid_stream_breaks_the_download(self) -> None:
        self.spoil_everywhere(2 * BLOCK + 17)
        received = bytearray()
        answer = self.images.get(self.image_id, stream=True)
        self.assertEqual(200, answer.status_code)
        with self.assertRaises(requests.RequestException):
            for piece in answer.iter_content(1 << 16):
                received += piece
        self.assertLessEqual(len(received), 2 * BLOCK)
        self.assertEqual(self.data[:len(received)], bytes(received))

    def test_good_blocks_are_served_all_the_same(self) -> None:
        self.spoil_everywhere(2 * BLOCK + 17)
        answer = self.images.get(self.image_id, f'0-{2 * BLOCK - 1}')
        self.assertEqual(206, answer.status_code)
        self.assertEqual(self.data[:2 * BLOCK], answer.content)

    def test_all_copies_lost(self) -> None:
        for copy in self.copies:
            shutil.rmtree(copy)
        answer = self.images.get(self.image_id)
        # Glance says 204 if its store does not know the image; easystack_api
        # knows that an active image of this size has data.
        self.assertIn(answer.status_code, (404, 503), answer.text)
        self.assertNotIn(self.data[:16], answer.content)

    def test_damaged_copies_are_not_thrown_away(self) -> None:
        self.spoil_everywhere(2 * BLOCK + 17)
        with self.assertRaises(requests.RequestException):
            self.images.download(self.image_id)
        # What an operator could still rescue by hand stays where it is.
        for copy in self.copies:
            self.assertEqual(SIZE, (copy / 'data').stat().st_size)
