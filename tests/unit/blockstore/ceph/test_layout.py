"""Names in a pool."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies
import testtools

from easystack_image.blockstore.ceph import layout

UUIDS = strategies.uuids().map(str)


class NamesTest(testtools.TestCase):

    @given(UUIDS, UUIDS)
    def test_round_trip(self, image_id: str, generation: str) -> None:
        upload = layout.Upload(image_id, generation)
        self.assertEqual(upload, layout.unfinished(
            layout.upload_name(upload)))
        self.assertEqual(upload, layout.trashed(layout.trash_name(upload)))
        # None is taken for another.
        for name in (image_id, layout.trash_name(upload),
                     layout.manifest_name(upload)):
            self.assertIsNone(layout.unfinished(name))
        for name in (image_id, layout.upload_name(upload),
                     layout.manifest_name(upload)):
            self.assertIsNone(layout.trashed(name))

    @given(UUIDS)
    def test_names_of_others(self, image_id: str) -> None:
        for name in ('', image_id, f'volume-{image_id}', f'{image_id}_disk',
                     f'easystack-upload.{image_id}',
                     f'easystack-upload.{image_id}.{image_id}.more',
                     f'an-easystack-upload.{image_id}.{image_id}',
                     f'easystack-trash.{image_id}.nothing',
                     f'easystack-trash.{image_id}.{image_id}\n'):
            self.assertIsNone(layout.unfinished(name), name)
            self.assertIsNone(layout.trashed(name), name)

    def test_generation_of_another_driver(self) -> None:
        places = [('cluster', 'pool', 'id'), ('cluster2', 'pool', 'id'),
                  ('cluster', 'pool2', 'id'), ('cluster', 'pool', 'id2')]
        made = {layout.foreign_generation(*place) for place in places}
        self.assertEqual(4, len(made))
        self.assertEqual(layout.foreign_generation(*places[0]),
                         layout.foreign_generation(*places[0]))
        self.assertTrue(all(map(layout.is_image_id, made)))
