"""Nobody may point an image at another image's copies."""

from __future__ import annotations

from typing import Any, ClassVar

import requests

from tests.functional import base
from tests.functional import client
from tests.functional import file_server
from tests.functional import processes
from tests.functional import server

PATCH_TYPE = 'application/openstack-images-v2.1-json-patch'


class TestForeignLocations(base.SharedGlanceCase):

    files: ClassVar[file_server.FileServer]

    @classmethod
    def make_glance(cls) -> server.Glance:
        cls.files = cls.enterClassContext(file_server.FileServer())
        stores = [
            cls.make_store('copies', cls.root),
            server.Store('web', 'http', {})]
        return server.Glance(
            cls.root, stores,
            options={'DEFAULT': {'show_multiple_locations': True}},
            import_options={'import_filtering_opts': {
                'allowed_hosts': '[127.0.0.1]',
                'allowed_ports': f'[{cls.files.port}]'}})

    def setUp(self) -> None:
        super().setUp()
        self.data = client.content(100_000, seed=51)
        self.source = self.images.upload(self.data)
        self.location = self.images.show(self.source)['locations'][0]

    def patch(self, image_id: str, *operations: dict[str, Any],
              ) -> requests.Response:
        return self.images.request(
            'PATCH', f'/images/{image_id}', json=list(operations),
            headers={'Content-Type': PATCH_TYPE})

    def add(self, image_id: str, url: str,
            **metadata: str) -> requests.Response:
        return self.patch(image_id, {
            'op': 'add', 'path': '/locations/-',
            'value': {'url': url, 'metadata': metadata}})

    def check_refused(self, answer: requests.Response,
                      image_id: str) -> None:
        self.assertIn(answer.status_code, range(400, 500), answer.text)
        self.check_untouched(image_id)

    def check_untouched(self, image_id: str) -> None:
        record = self.images.show(image_id)
        self.assertEqual('queued', record['status'])
        self.assertEqual([], record['locations'])
        self.assertNotIn(self.data, self.images.get(image_id).content)
        self.check_image(self.source, self.data)

    def test_scheme_of_the_location(self) -> None:
        self.assertTrue(self.location['url'].startswith(
            self.glance.stores[0].scheme))

    def test_control_with_http(self) -> None:
        url = self.files.serve('/image.raw', self.data)
        image_id = self.images.create()
        answer = self.add(image_id, url)
        self.assertEqual(200, answer.status_code, answer.text)
        self.assertEqual(self.data, self.images.download(image_id))

    def test_add(self) -> None:
        image_id = self.images.create()
        self.check_refused(self.add(image_id, self.location['url']), image_id)

    def test_add_naming_the_store(self) -> None:
        image_id = self.images.create()
        self.check_refused(
            self.add(image_id, self.location['url'], store='copies'),
            image_id)

    def test_add_to_an_active_image(self) -> None:
        other = client.content(100_000, seed=52)
        image_id = self.images.upload(other)
        before = self.images.show(image_id)['locations']
        answer = self.add(image_id, self.location['url'], store='copies')
        self.assertIn(answer.status_code, range(400, 500), answer.text)
        self.assertEqual(before, self.images.show(image_id)['locations'])
        self.check_image(image_id, other)

    def test_replace(self) -> None:
        image_id = self.images.create()
        answer = self.patch(image_id, {
            'op': 'replace', 'path': '/locations', 'value': [self.location]})
        self.check_refused(answer, image_id)

    def test_made_up_location_of_the_image_itself(self) -> None:
        image_id = self.images.create()
        url = self.location['url'].replace(self.source, image_id)
        self.assertNotEqual(self.location['url'], url)
        self.check_refused(self.add(image_id, url, store='copies'), image_id)

    def test_no_answer_tells_what_the_other_image_is(self) -> None:
        answers = set()
        for disk_format in ('raw', 'qcow2', 'iso'):
            image_id = self.images.create(disk_format=disk_format)
            answer = self.add(image_id, self.location['url'])
            self.check_refused(answer, image_id)
            answers.add((answer.status_code, answer.text))
        self.assertEqual(1, len(answers), answers)

    def test_post_by_a_user(self) -> None:
        image_id = self.images.create()
        answer = self.images.request(
            'POST', f'/images/{image_id}/locations',
            json={'url': self.location['url']})
        self.check_refused(answer, image_id)

    def test_post_by_a_service(self) -> None:
        image_id = self.images.create()
        answer = self.images.request(
            'POST', f'/images/{image_id}/locations',
            json={'url': self.location['url']},
            headers={'X-Roles': 'admin,member,reader,service'})
        # Glance looks at the location only after it has answered.
        self.assertIn(answer.status_code, [202, *range(400, 500)])
        processes.poll(
            lambda: 'os_glance_import_task' not in self.images.show(image_id),
            'the import task being done')
        self.check_untouched(image_id)

    def test_deleting_the_other_image_takes_nothing_along(self) -> None:
        image_id = self.images.create()
        self.add(image_id, self.location['url'], store='copies')
        self.images.delete(image_id)
        self.check_image(self.source, self.data)
