"""Images come in by Glance's import methods, and go to other stores."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.functional import base
from tests.functional import client
from tests.functional import file_server
from tests.functional import processes
from tests.functional import server

#: Several blocks of 4 MiB, and no multiple of anything.
SIZE = 9 * (1 << 20) + 4321


class ImportApi:
    """What holds for any two stores; the file store is the control."""

    files: ClassVar[file_server.FileServer]

    @classmethod
    def make_stores(cls) -> list[server.Store]:
        """Return the stores ``first`` and ``second``."""
        raise NotImplementedError

    @classmethod
    def make_glance(cls) -> server.Glance:
        cls.files = cls.enterClassContext(file_server.FileServer())
        return server.Glance(cls.root, cls.make_stores(), import_options={
            'import_filtering_opts': {
                'allowed_schemes': '[http]',
                'allowed_hosts': '[127.0.0.1]',
                'allowed_ports': f'[{cls.files.port}]'}})

    def bring_in(self, data: bytes, **body: Any) -> str:
        """Import an image with ``glance-direct``."""
        image_id = self.images.create()
        answer = self.images.put(image_id, data, 'stage')
        self.assertEqual(204, answer.status_code, answer.text)
        self.images.start_import(image_id, {'name': 'glance-direct'}, **body)
        self.images.wait(image_id, status='active')
        return image_id

    def copy(self, image_id: str) -> None:
        """Copy an image to the second store."""
        self.images.start_import(image_id, {'name': 'copy-image'},
                                 stores=['second'])
        processes.poll(lambda: self.stores_of(image_id) == [
            'first', 'second'], 'copy-image')

    def stores_of(self, image_id: str) -> list[str]:
        return sorted(self.images.show(image_id)['stores'].split(','))

    def held(self, store: str, image_id: str) -> bool:
        """Tell whether a store holds data of an image."""
        places = {each.name: each for each in self.glance.stores}
        return bool(places[store].held(image_id))

    def staged(self, image_id: str) -> bool:
        """Tell whether data of an image is in the staging area."""
        return bool(server.files_of(self.root / 'staging', image_id))

    def test_web_download(self) -> None:
        data = client.content(SIZE, seed=11)
        image_id = self.images.create()
        self.images.start_import(image_id, {
            'name': 'web-download',
            'uri': self.files.serve('/image.raw', data)})
        self.images.wait(image_id, status='active')
        self.check_image(image_id, data)

    def test_web_download_of_nothing(self) -> None:
        image_id = self.images.create()
        self.images.start_import(image_id, {
            'name': 'web-download',
            'uri': f'http://127.0.0.1:{self.files.port}/absent'})
        self.images.wait(image_id, os_glance_failed_import='first')
        self.assertEqual('queued', self.images.show(image_id)['status'])
        self.assertFalse(self.held('first', image_id))

    def test_glance_direct(self) -> None:
        data = client.content(SIZE, seed=12)
        image_id = self.bring_in(data)
        self.check_image(image_id, data)
        processes.poll(lambda: not self.staged(image_id),
                        'the staging area being emptied')

    def test_glance_direct_to_both_stores(self) -> None:
        data = client.content(SIZE, seed=13)
        image_id = self.bring_in(data, stores=['first', 'second'])
        processes.poll(lambda: self.stores_of(image_id) == [
            'first', 'second'], 'both stores')
        self.check_image(image_id, data)
        self.assertTrue(self.held('first', image_id))
        self.assertTrue(self.held('second', image_id))

    def test_copy_image_and_delete_from_a_store(self) -> None:
        data = client.content(SIZE, seed=14)
        image_id = self.images.upload(data)
        self.assertFalse(self.held('second', image_id))
        self.copy(image_id)
        self.check_image(image_id, data)
        self.assertTrue(self.held('second', image_id))
        answer = self.images.request('DELETE', f'/stores/first/{image_id}')
        self.assertEqual(204, answer.status_code, answer.text)
        self.assertEqual(['second'], self.stores_of(image_id))
        self.assertFalse(self.held('first', image_id))
        # Now it can only come from the second one.
        self.check_image(image_id, data)

    def test_delete_from_all_stores(self) -> None:
        image_id = self.images.upload(client.content(SIZE, seed=15))
        self.copy(image_id)
        self.images.delete(image_id)
        self.assertFalse(self.held('first', image_id))
        self.assertFalse(self.held('second', image_id))


class TestBlockStores(ImportApi, base.SharedGlanceCase):

    @classmethod
    def make_stores(cls) -> list[server.Store]:
        stores = []
        for name in ('first', 'second'):
            (cls.root / name).mkdir()
            stores.append(cls.make_store(name, cls.root / name))
        return stores

    def test_three_good_copies_in_each_store(self) -> None:
        image_id = self.images.upload(client.content(SIZE, seed=16))
        self.copy(image_id)
        for store in ('first', 'second'):
            copies = self.glance.copies(image_id, store=store)
            self.assertEqual(['good'] * 3, [row['state'] for row in copies])


class TestFileStores(ImportApi, base.SharedGlanceCase):
    """The control: the same tests, on stores that Glance brings along."""

    @classmethod
    def make_stores(cls) -> list[server.Store]:
        return [server.file_store(name, cls.root / name)
                for name in ('first', 'second')]
