"""Who may see releases and upgrades, and how a canary gets its token."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import requests

from easystack_image import exceptions
from easystack_image.ota.serving import layout
from easystack_image.ota.upgrade import keystone
from tests.deployment import base

VERSION = importlib.metadata.version('easystack-image')


class TestOverview(base.DeploymentCase):

    def ask(self, token: str | None) -> requests.Response:
        answer = requests.get(
            f'{self.deployment.url}/easystack/ota', timeout=60,
            headers={'X-Auth-Token': token} if token else {})
        self.assertEqual(VERSION, answer.headers[layout.RELEASE_HEADER])
        return answer

    def test_administrators_only(self) -> None:
        answer = self.ask(self.deployment.token('admin'))
        self.assertEqual((200, VERSION), (answer.status_code,
                                          answer.json()['release']))
        for user in ('member', 'reader', 'stranger'):
            answer = self.ask(self.deployment.token(user))
            self.assertEqual(403, answer.status_code, user)
            self.assertEqual('Forbidden', answer.json()['error']['title'])

    def test_without_a_token(self) -> None:
        for token in (None, 'forged'):
            answer = self.ask(token)
            self.assertEqual(401, answer.status_code)
            self.assertEqual(401, answer.json()['error']['code'])


class TestCredentials(base.DeploymentCase):

    def write(self, **options: str) -> Path:
        path = self.temporary_directory() / 'canary.conf'
        path.write_text('[keystone]\n' + ''.join(
            f'{name} = {value}\n' for name, value in options.items()))
        path.chmod(0o600)
        return path

    def check_token(self, path: Path) -> None:
        """See that Glance takes the token for that of the member."""
        token = keystone.token(keystone.read(path), 60)
        answer = requests.post(
            f'{self.deployment.url}/v2/images', timeout=60,
            headers={'X-Auth-Token': token}, json={'name': 'of the canary'})
        self.assertEqual(201, answer.status_code, answer.text)
        self.images.delete(answer.json()['id'])

    def test_password(self) -> None:
        account = self.deployment.accounts['member']
        given = {'auth_url': self.deployment.keystone.url,
                 'username': account.user, 'project_name': account.project}
        self.check_token(self.write(**given, password=account.password))
        error = self.assertRaises(
            exceptions.ConfigurationError, self.check_token,
            self.write(**given, password='hush-hush'))
        self.assertIn('401', str(error))
        self.assertNotIn('hush-hush', str(error))

    def test_application_credential(self) -> None:
        session = self.deployment.session('member')
        url = (f'{self.deployment.keystone.url}/v3/users/'
               f'{session.get_user_id()}/application_credentials')
        made = session.post(url, json={'application_credential': {
            'name': 'canary'}}).json()['application_credential']
        self.addCleanup(session.delete, f'{url}/{made["id"]}')
        self.check_token(self.write(
            auth_url=f'{self.deployment.keystone.url}/v3/',
            application_credential_id=made['id'],
            application_credential_secret=made['secret']))
