"""Lists of images as CSV, for users that a Keystone knows."""

from __future__ import annotations

import csv
import dataclasses
import io

import requests

from tests.deployment import base
from tests.deployment import deployment as deployment_module
from tests.functional import base as functional
from tests.functional import client
from tests.functional import processes
from tests.functional import records
from tests.functional import server

CSV = {'Accept': 'text/csv'}
COUNT = 250
#: Bytes of a property: too many for what lies between server and client.
SIZE = 60_000


class TestUsers(base.DeploymentCase):

    def test_without_a_token(self) -> None:
        for headers in ({}, {'X-Auth-Token': 'forged'}):
            answer = requests.get(f'{self.deployment.url}/v2/images',
                                  headers=CSV | headers, timeout=60)
            self.assertEqual(401, answer.status_code)
            self.assertEqual(401, answer.json()['error']['code'])

    def test_everybody_gets_what_is_theirs(self) -> None:
        image_id = self.create(name='mine', visibility='private')
        for user, seen in (('member', True), ('reader', True),
                           ('stranger', False)):
            answer = self.client(user).request('GET', '/images', headers=CSV)
            self.assertEqual(200, answer.status_code, answer.text)
            self.assertIs(seen, image_id in answer.text, user)


class TestToken(functional.TestCase):

    def test_that_ends_in_the_middle(self) -> None:
        """The list goes on, as a download would."""
        root = self.temporary_directory()
        deployment = deployment_module.Deployment(
            root, [server.file_store('plain', root / 'plain')],
            # So that what Keystone says counts at once.
            options={'keystone_authtoken': {'token_cache_time': -1}},
            metadefs=False)
        self.show_log_of(deployment.glance)
        deployment.prepare()
        records.Records(deployment.glance.config_file).insert(
            dataclasses.replace(record, properties={'description': SIZE * 'x'})
            for record in records.ordinary(COUNT))
        self.addCleanup(deployment.stop)
        deployment.start()
        token = deployment.new_token('member')
        images = client.Images(deployment.url, {'X-Auth-Token': token})
        answer = images.request('GET', '/images', headers=CSV, stream=True)
        self.assertEqual(200, answer.status_code)
        pieces = answer.iter_content(1 << 16)
        begun = next(pieces)
        self.revoke(deployment.keystone.url, token)
        processes.poll(lambda: images.request(
            'GET', '/images?limit=1').status_code == 401, 'no more access')
        text = (begun + b''.join(pieces)).decode('utf-8-sig')
        rows = list(csv.DictReader(io.StringIO(text, newline=''),
                                   strict=True))
        self.assertEqual(COUNT, len({row['id'] for row in rows}))

    def revoke(self, keystone: str, token: str) -> None:
        answer = requests.delete(
            f'{keystone}/v3/auth/tokens', timeout=60,
            headers={'X-Auth-Token': token, 'X-Subject-Token': token})
        self.assertEqual(204, answer.status_code, answer.text)
