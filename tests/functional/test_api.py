"""The API before a real Glance: what the manual's rows do not show.

Those are in tests/deployment/test_manual.py; requests that make no sense at
all are in test_fuzz.py.
"""

from __future__ import annotations

import json
from pathlib import Path
import shutil
from typing import Any
import urllib.parse
import uuid

import requests
from sqlalchemy import orm

from tests.functional import base
from tests.functional import client
from tests.functional import processes
from tests.functional import server

MEMBER = {'X-Roles': 'member,reader'}
PATCH = 'application/openstack-images-v2.1-json-patch'
CHANGES = [{'op': 'add', 'path': '/x', 'value': 'y'}]


class ApiCase(base.SharedGlanceCase):

    OPTIONS: dict[str, object] = {}

    @classmethod
    def make_glance(cls) -> server.Glance:
        return server.Glance(cls.root, [cls.make_store('copies', cls.root)],
                             options={'easystack_api': cls.OPTIONS})

    def patch(self, image_id: str, **headers: str) -> requests.Response:
        return self.images.request(
            'PATCH', f'/images/{image_id}', json=CHANGES, headers={
                'Content-Type': PATCH} | headers)

    def check_error(self, answer: requests.Response, code: int,
                    *words: str) -> None:
        self.assertEqual(code, answer.status_code, answer.text)
        error = answer.json()['error']
        self.assertEqual(code, error['code'])
        for word in words:
            self.assertIn(word, error['message'])
        self.assertEqual(answer.headers['x-openstack-request-id'],
                         answer.headers['RequestId'])


class TestStates(ApiCase):

    def stage(self) -> str:
        """Return an image whose data has come, and is not imported yet."""
        image_id = self.images.create()
        self.assertEqual(204, self.images.put(
            image_id, b'data', 'stage').status_code)
        self.assertEqual('uploading',
                         self.images.show(image_id)['status'])
        return image_id

    def test_while_it_is_imported(self) -> None:
        image_id = self.stage()
        self.check_error(self.patch(image_id), 409, image_id, 'uploading')
        self.images.start_import(image_id, {'name': 'glance-direct'})
        self.images.wait(image_id, status='active')
        # While the end of the import is written down, SQLite is locked.
        processes.poll(lambda: self.patch(image_id).status_code == 200,
                       'the image can be modified')
        self.check_image(image_id, b'data')

    @base.needs_mariadb
    def test_while_it_is_uploaded(self) -> None:
        image_id = self.images.create()
        # More than what the content gate looks at before Glance hears of it.
        data = client.content(4 << 20)
        connection = self.images.begin_put(image_id, data, 1 << 21)
        try:
            self.images.wait(image_id, status='saving')
            self.check_error(self.patch(image_id), 409, image_id, 'saving')
            connection.send(data[1 << 21:])
            self.assertEqual(204, connection.getresponse().status)
        finally:
            connection.close()
        self.assertEqual(200, self.patch(image_id).status_code)
        self.check_image(image_id, data)

    def test_other_ways_to_patch(self) -> None:
        """No detour leads around the state."""
        image_id = self.stage()
        url = self.images.url.removesuffix('/v2')
        for method, path in (
                ('PATCH', f'/v2.0/images/{image_id}'),
                ('PATCH', f'//v2/images/{image_id}'),
                ('PATCH', f'/v2/images/{image_id}?x=1'),
                ('PATCH', f'/v2/images/{image_id}%0A'),
                ('PATCH', f'/v2/images/{image_id}/'),
                ('GET', f'/v2/images/{image_id}?_method=PATCH'),
                ('POST', f'/v2/images/{image_id}?_method=PATCH')):
            answer = requests.request(
                method, f'{url}{path}', json=CHANGES,
                headers={'Content-Type': PATCH}, timeout=60)
            self.assertIn(answer.status_code, (400, 404, 409), path)
        answer = requests.patch(
            f'{url}/images/{image_id}', json=CHANGES, timeout=60,
            headers={'Content-Type': PATCH,
                     'Accept': 'application/vnd.openstack.images-v2'})
        self.assertEqual(409, answer.status_code, answer.text)
        self.assertNotIn('x', self.images.show(image_id))

    def test_whose_image_it_is(self) -> None:
        """Who may not see it is not told its state."""
        image_id = self.images.upload(b'data')
        self.assertEqual(204, self.images.request(
            'POST', f'/images/{image_id}/actions/deactivate').status_code)
        self.check_error(self.patch(image_id), 409, 'deactivated')
        stranger = {'X-Roles': 'member', 'X-Project-Id': uuid.uuid4().hex,
                    'X-User-Id': uuid.uuid4().hex}
        self.check_error(self.patch(image_id, **stranger), 404)
        self.images.delete(image_id)


class TestLostData(ApiCase):

    def test_all_copies_are_gone(self) -> None:
        """An error where Glance says 204: there is nothing, all is well."""
        image_id = self.images.upload(b'data')
        store, = self.glance.stores
        for place in store.held(image_id):
            if Path(place).is_dir():
                shutil.rmtree(place)
        for headers in ({}, {'Range': 'bytes=0-1'}):
            answer = self.images.request('GET', f'/images/{image_id}/file',
                                         headers=headers)
            self.check_error(answer, 404, image_id)
        self.images.delete(image_id)

    def test_no_data_yet(self) -> None:
        image_id = self.images.create()
        answer = self.images.get(image_id)
        self.assertEqual((204, b''), (answer.status_code, answer.content))

    def test_empty_image(self) -> None:
        image_id = self.images.create()
        self.assertEqual(204, self.images.put(image_id, b'').status_code)
        answer = self.images.get(image_id)
        self.assertIn(answer.status_code, (200, 204), answer.text)
        self.assertEqual(b'', answer.content)


class TestList(ApiCase):

    def test_attributes_of_glances_model(self) -> None:
        """Each is a column that can be searched by, or 400."""
        # "tox -e py3" loads this module, and has no Glance.
        from glance.db.sqlalchemy import models

        orm.configure_mappers()
        names = set(dir(models.Image)) | set(dir(type(models.Image)))
        columns = set(models.Image.__table__.columns.keys())
        self.assertLess(10, len(columns))
        for name in sorted(names - columns):
            answer = self.images.request('GET', '/images', params={name: '1'})
            self.check_error(answer, 400, f'"{name}"')
        for name in sorted(columns):
            answer = self.images.request('GET', '/images', params={name: '1'})
            self.assertIn(answer.status_code, (200, 400), name)

    def test_pages_of_images_without_snapshots(self) -> None:
        """Each once, in order, for any size of pages and any sorting."""
        mark = uuid.uuid4().hex
        made = {}
        for number in range(15):
            kind = ('snapshot', 'other', 'backup', '')[number % 4]
            more = {'image_type': kind} if kind else {}
            image_id = self.images.create(
                name=f'n{number % 5}', tags=[mark], **more)
            made[image_id] = kind
        wanted = {image_id for image_id, kind in made.items()
                  if kind in ('other', '')}
        keys = ['name', 'created_at', 'status', 'id']
        if base.ON_MARIADB:
            # On SQLite, Glance's own pages end at an image without a size.
            keys.append('size')
        for key in keys:
            for limit in (1, 3, 100):
                found = self.walk(f'/images?tag={mark}&type=image&limit='
                                  f'{limit}&sort-key={key}&sort-dir=asc')
                self.assertEqual(wanted, {image['id'] for image in found})
                self.assertEqual(len(wanted), len(found))
                values = [image[key] for image in found]
                if key in ('name', 'id'):
                    self.assertEqual(sorted(values), values)
        for image_id in made:
            self.images.delete(image_id)

    def walk(self, path: str) -> list[dict[str, Any]]:
        """Return the images of all pages."""
        found = []
        while path:
            answer = self.images.request('GET', path)
            self.assertEqual(200, answer.status_code, answer.text)
            found += answer.json()['images']
            path = answer.json().get('next', '').removeprefix('/v2')
        return found

    def test_members_see_theirs(self) -> None:
        """It is Glance that says who sees what."""
        image_id = self.images.create(visibility='private')
        listed = self.images.request(
            'GET', '/images?type=image', headers=MEMBER | {
                'X-Project-Id': uuid.uuid4().hex})
        self.assertEqual(200, listed.status_code)
        self.assertEqual([], listed.json()['images'])
        self.images.delete(image_id)

    def test_vanilla_answers_are_glances(self) -> None:
        """The same bytes as behind the filter, where nothing is asked."""
        image_id = self.images.create(name='a')
        answer = self.images.request('GET', '/images?limit=1&name=a')
        page = answer.json()
        self.assertEqual('/v2/images?limit=1&name=a', page['first'])
        self.assertEqual(
            f'/v2/images?limit=1&name=a&marker={image_id}', page['next'])
        self.images.delete(image_id)


    def test_tags_that_are_not_ascii(self) -> None:
        """They are the same in a path, in a body and in a list."""
        image_id = self.images.create(tags=['标签'])

        def send(method: str, tag: str) -> int:
            path = urllib.parse.quote(f'/images/{image_id}/tags/{tag}')
            return self.images.request(method, path).status_code

        self.assertEqual(204, send('PUT', '生产'))
        self.assertEqual(204, send('PUT', 'é'))
        self.assertEqual({'标签', '生产', 'é'},
                         set(self.images.show(image_id)['tags']))
        listed = self.images.request('GET', '/images?tag=%C3%A9').json()
        self.assertEqual([image_id],
                         [image['id'] for image in listed['images']])
        self.assertEqual(204, send('DELETE', '标签'))
        self.assertEqual(404, send('DELETE', '标签'))
        # Not every database can hold it, so Glance refuses it.
        self.assertEqual(400, send('PUT', '😀'))
        self.assertEqual({'生产', 'é'},
                         set(self.images.show(image_id)['tags']))


class TestErrors(ApiCase):

    OPTIONS = {'max_body_kib': 64}

    def test_body_too_large(self) -> None:
        big = {'name': 'x', 'description': 'y' * 70000}
        self.check_error(self.images.request('POST', '/images', json=big),
                         413, '65536')

        def pieces() -> Any:
            yield from client.pieces(json.dumps(big).encode(), 1000)

        self.check_error(self.images.request('POST', '/images',
                                             data=pieces()), 413)

    def test_data_may_be_larger(self) -> None:
        data = client.content(100000)
        self.check_image(self.images.upload(data), data)

    def test_versions_by_accept(self) -> None:
        url = self.images.url.removesuffix('/v2')
        headers = {'Accept': 'application/vnd.openstack.images-v2'}
        answer = requests.get(f'{url}/images?status=ACTIVE', headers=headers,
                              timeout=60)
        self.assertEqual(200, answer.status_code, answer.text)
        self.check_error(requests.get(f'{url}/images/x', headers=headers,
                                      timeout=60), 404)


class TestLinks(ApiCase):
    """With the option; without it there are none, see the other tests."""

    OPTIONS = {'links': True}

    def test_list_and_show(self) -> None:
        image_id = self.images.create(name='linked')
        base_url = self.images.url.removesuffix('/v2')
        expected = [
            {'rel': 'self', 'href': f'{base_url}/v2/images/{image_id}'},
            {'rel': 'bookmark', 'href': f'{base_url}/images/{image_id}'},
            {'rel': 'alternate', 'href': f'{base_url}/images/{image_id}',
             'type': 'application/vnd.openstack.image'}]
        self.assertEqual(expected, self.images.show(image_id)['links'])
        for query in ('', '&type=image', '&status=QUEUED'):
            image, = self.images.request(
                'GET', f'/images?name=linked{query}').json()['images']
            self.assertEqual(expected, image['links'])
        answer = requests.get(image['links'][0]['href'], timeout=60)
        self.assertEqual(image_id, answer.json()['id'])
        self.images.delete(image_id)
