"""Names on a device: made, recognised, and never mistaken."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies
import testtools

from easystack_image.blockstore.local import device
from easystack_image.blockstore.local import layout
from tests.unit.blockstore import examples

ID = 'acd9ad0a-e692-40b7-9ba7-6fe6b94be08f'
GENERATION = '123e4567-e89b-12d3-a456-426614174000'
uuids = strategies.uuids().map(str)


class PlacesTest(testtools.TestCase):
    """Operators and earlier releases count on these names."""

    def test_places(self) -> None:
        self.assertEqual('ac', layout.shard(ID))
        self.assertEqual('images/ac', layout.images_directory(ID))
        self.assertEqual(f'images/ac/{ID}', layout.copy_directory(ID))
        self.assertEqual('deleted/ac', layout.deleted_directory(ID))
        self.assertEqual('locks/repair.ac', layout.lock_file(ID, 'repair'))
        self.assertEqual(f'{ID}.{GENERATION}',
                         layout.Upload(ID, GENERATION).name)

    @hypothesis.given(uuids)
    @examples(50)
    def test_every_image_has_a_shard(self, image_id: str) -> None:
        self.assertIn(layout.shard(image_id), device.SHARDS)

    def test_shards(self) -> None:
        self.assertEqual(256, len(set(device.SHARDS)))
        self.assertEqual(('00', 'ff'), (device.SHARDS[0], device.SHARDS[-1]))


class NamesTest(testtools.TestCase):

    @hypothesis.given(uuids)
    @examples(50)
    def test_uploads(self, generation: str) -> None:
        name = layout.upload_name(generation)
        self.assertTrue(layout.is_ours(name))
        self.assertEqual(generation, layout.generation_of_upload(name))
        self.assertNotEqual(name, layout.upload_name(generation))
        self.assertFalse(layout.is_image_id(name))
        self.assertIsNone(layout.upload_of_mark(name))

    def test_trash(self) -> None:
        name = layout.trash_name()
        self.assertTrue(layout.is_ours(name))
        self.assertIsNone(layout.generation_of_upload(name))
        self.assertNotEqual(name, layout.trash_name())

    @hypothesis.given(uuids, uuids)
    @examples(50)
    def test_marks(self, image_id: str, generation: str) -> None:
        upload = layout.Upload(image_id, generation)
        self.assertEqual(upload, layout.upload_of_mark(upload.name))
        self.assertFalse(layout.is_ours(upload.name))

    def test_foreign_names(self) -> None:
        for name in ('', '.', '..', 'data', 'lost+found', '.nfs0001',
                     'upload', 'upload.', f'upload.{GENERATION}',
                     f'upload.{GENERATION}.', f'upload.{GENERATION}.0123456',
                     f'upload.{GENERATION}.012345678',
                     f'upload.{GENERATION}.0123456g',
                     f'upload.{GENERATION}.01234567\n',
                     f'Xupload.{GENERATION}.01234567',
                     f'upload.{GENERATION.upper()}.01234567',
                     f'uploadx{GENERATION}x01234567',
                     'trash.0123456789abcde', 'trash.0123456789abcdef0',
                     'trash.0123456789abcdeF', 'trashx0123456789abcdef'):
            self.assertFalse(layout.is_ours(name), name)
            self.assertIsNone(layout.generation_of_upload(name), name)

    def test_foreign_images_and_marks(self) -> None:
        for name in ('', ID.upper(), ID + '\n', ID[:-1], ID + '0', f' {ID}',
                     ID.replace('-', ''), f'{ID}.bak'):
            self.assertFalse(layout.is_image_id(name), name)
            self.assertIsNone(layout.upload_of_mark(
                f'{name}.{GENERATION}'), name)
            self.assertIsNone(layout.upload_of_mark(f'{ID}.{name}'), name)
        self.assertTrue(layout.is_image_id(ID))
        self.assertIsNone(layout.upload_of_mark(f'{ID}x{GENERATION}'))
        self.assertIsNone(layout.upload_of_mark(ID))
