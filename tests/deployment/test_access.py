"""Who may do what, with tokens of a real Keystone."""

from __future__ import annotations

from typing import Any

import requests

from tests.deployment import base
from tests.functional import client

PATCH = 'application/openstack-images-v2.1-json-patch'


def rename(images: client.Images, image_id: str,
           name: str) -> requests.Response:
    """Change the name of an image, whatever the answer."""
    return images.request(
        'PATCH', f'/images/{image_id}', headers={'Content-Type': PATCH},
        json=[{'op': 'add', 'path': '/name', 'value': name}])


class TestTokens(base.DeploymentCase):
    """Requests that say nothing, or something wrong, of who asks."""

    def ask(self, path: str = '/images', method: str = 'GET',
            **headers: str) -> requests.Response:
        named = {name.replace('_', '-'): value
                 for name, value in headers.items()}
        return client.Images(self.deployment.url).request(
            method, path, headers=named)

    def check_unauthorized(self, answer: requests.Response) -> None:
        self.assertEqual(401, answer.status_code, answer.text)
        # RFC 9110, 11.6.1: which scheme, and here where to get a token.
        self.assertEqual(
            f'Keystone uri="{self.deployment.keystone.url}/v3"',
            answer.headers['WWW-Authenticate'])

    def test_no_token(self) -> None:
        for method, path in (('GET', '/images'), ('POST', '/images'),
                             ('GET', '/schemas/image'),
                             ('GET', '/info/stores')):
            self.check_unauthorized(self.ask(path, method))

    def test_wrong_token(self) -> None:
        for token in ('nonsense', '', 'a' * 5000, self.deployment.token(
                'member')[:-4]):
            self.check_unauthorized(self.ask(X_Auth_Token=token))

    def test_revoked_token(self) -> None:
        account = self.deployment.accounts['member']
        session = account.session(self.deployment.keystone.url)
        token = str(session.get_token())
        session.delete(f'{self.deployment.keystone.url}/v3/auth/tokens',
                       headers={'X-Subject-Token': token})
        # Never seen by Glance before: it remembers valid ones for a while.
        self.check_unauthorized(self.ask(X_Auth_Token=token))

    def test_identity_in_headers_counts_for_nothing(self) -> None:
        self.check_unauthorized(self.ask(
            X_Identity_Status='Confirmed', X_User_Id='a' * 32,
            X_Project_Id='b' * 32, X_Roles='admin'))

    def test_versions_need_no_token(self) -> None:
        root = requests.get(f'{self.deployment.url}/', timeout=60)
        self.assertEqual(300, root.status_code)
        self.assertIn('CURRENT', [version['status'] for version
                                  in root.json()['versions']])


class TestRoles(base.DeploymentCase):
    """The basic calls, by role."""

    def statuses(self, image_id: str, user: str) -> dict[str, Any]:
        images = self.client(user)
        return {'show': images.request(
                    'GET', f'/images/{image_id}').status_code,
                'listed': image_id in [record['id'] for record in
                                       images.request('GET', '/images')
                                       .json()['images']],
                'download': images.get(image_id).status_code,
                'rename': rename(images, image_id, user).status_code,
                'deactivate': images.request(
                    'POST', f'/images/{image_id}/actions/deactivate')
                    .status_code,
                'reactivate': images.request(
                    'POST', f'/images/{image_id}/actions/reactivate')
                    .status_code,
                'copies': images.request(
                    'GET', f'/images/{image_id}/copies').status_code}

    def test_members_images(self) -> None:
        image_id = self.upload(b'data')
        read = {'show': 200, 'listed': True}
        # Readers may see what there is, and nothing of what is in it.
        refused = {'download': 403, 'rename': 403, 'deactivate': 403,
                   'reactivate': 403, 'copies': 403}
        self.assertEqual(
            read | {'download': 200, 'rename': 200, 'deactivate': 204,
                    'reactivate': 204, 'copies': 200},
            self.statuses(image_id, 'admin'))
        self.assertEqual(read | refused, self.statuses(image_id, 'reader'))
        self.assertEqual({'show': 404, 'listed': False, 'download': 404,
                          'rename': 404, 'deactivate': 404,
                          'reactivate': 404, 'copies': 404},
                         self.statuses(image_id, 'stranger'))

    def test_create_and_upload(self) -> None:
        body = {'disk_format': 'raw', 'container_format': 'bare'}
        for user, status in (('admin', 201), ('member', 201),
                             ('reader', 403)):
            answer = self.client(user).request('POST', '/images', json=body)
            self.assertEqual(status, answer.status_code, user)
            if answer.ok:
                self.addCleanup(self.remove, answer.json()['id'])
        image_id = self.create()
        for user, status in (('stranger', 404), ('reader', 403),
                             ('member', 204)):
            self.assertEqual(status, self.client(user).put(
                image_id, b'data').status_code, user)

    def test_publish(self) -> None:
        image_id = self.upload(b'data')
        change = [{'op': 'replace', 'path': '/visibility', 'value': 'public'}]
        for user, status in (('reader', 403), ('member', 403), ('admin', 200)):
            answer = self.client(user).request(
                'PATCH', f'/images/{image_id}', json=change,
                headers={'Content-Type': PATCH})
            self.assertEqual(status, answer.status_code, user)
        self.assertEqual(b'data', self.client('stranger').download(image_id))

    def test_delete(self) -> None:
        image_id = self.upload(b'data')
        for user, status in (('stranger', 404), ('reader', 403),
                             ('member', 204), ('member', 404)):
            self.assertEqual(status, self.client(user).request(
                'DELETE', f'/images/{image_id}').status_code, user)

    def test_share(self) -> None:
        image_id = self.upload(b'data', visibility='shared')
        project = self.deployment.session('stranger').get_project_id()
        self.assertEqual(200, self.images.request(
            'POST', f'/images/{image_id}/members',
            json={'member': project}).status_code)
        stranger = self.client('stranger')
        self.assertEqual(200, stranger.request(
            'PUT', f'/images/{image_id}/members/{project}',
            json={'status': 'accepted'}).status_code)
        self.assertEqual(b'data', stranger.download(image_id))
        self.assertEqual(403, rename(stranger, image_id, 'x').status_code)


class TestServiceTokens(base.DeploymentCase):
    """A service vouches for a user with a token of its own."""

    def ask(self, image_id: str, **headers: str) -> int:
        return client.Images(self.deployment.url, {
            f'X-{name.title()}-Token': self.deployment.token(user)
            for name, user in headers.items()}).request(
                'GET', f'/images/{image_id}').status_code

    def test_it_comes_beside_the_users(self) -> None:
        image_id = self.upload(b'data')
        self.assertEqual(200, self.ask(image_id, auth='member',
                                       service='nova'))
        # What the user may not see is not shown to a service on its behalf.
        self.assertEqual(404, self.ask(image_id, auth='stranger',
                                       service='nova'))
        self.assertEqual(401, self.ask(image_id, service='nova'))
