"""Ordinary clients, used as people use them, on the whole pipeline."""

from __future__ import annotations

import io
import json
from pathlib import Path
import shutil
import subprocess
from typing import Any

import glanceclient
import glanceclient.exc
import openstack.exceptions

from tests.deployment import base
from tests.deployment import clouds
from tests.functional import client
from tests.functional import processes

DATA = client.content(300_000, seed=5)


class ClientCase(base.DeploymentCase):
    """Commands that find the deployment by its ``clouds.yaml``."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = self.temporary_directory()
        self.file = self.folder / 'disk.img'
        self.file.write_bytes(DATA)
        self.clouds = self.folder / 'clouds.yaml'
        clouds.write(self.clouds, self.deployment)

    def run_program(self, *words: str | Path
                    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit code."""
        return processes.run([str(word) for word in words],
                             OS_CLIENT_CONFIG_FILE=str(self.clouds))


class TestOpenstackClient(ClientCase):
    """The commands of python-openstackclient."""

    def command(self, *words: str | Path, cloud: str = clouds.CLOUD,
                ) -> subprocess.CompletedProcess[str]:
        return self.run_program(processes.script('openstack'), '--os-cloud',
                                cloud, *words)

    def ok(self, *words: str | Path) -> str:
        """Return what a command printed that must succeed."""
        result = self.command(*words)
        self.assertEqual(0, result.returncode, result.stderr)
        return result.stdout

    def ask(self, *words: str | Path) -> Any:
        """Return what a command that must succeed tells."""
        return json.loads(self.ok(*words, '-f', 'json'))

    def make(self, *words: str | Path) -> dict[str, Any]:
        """Create an image that goes when the test ends."""
        image: dict[str, Any] = self.ask(
            'image', 'create', '--disk-format', 'raw', *words)
        self.addCleanup(self.remove, image['id'])
        return image

    def test_life_of_an_image(self) -> None:
        image = self.make('--file', self.file, '--tag', 'first', '--property',
                          'flavour=sweet', '--min-disk', '3', 'life')
        shown = self.ask('image', 'show', image['id'])
        self.assertEqual(
            ('active', 'life', len(DATA), client.md5(DATA), 3, ['first']),
            tuple(shown[name] for name in (
                'status', 'name', 'size', 'checksum', 'min_disk', 'tags')))
        self.assertEqual('sweet', shown['properties']['flavour'])
        self.assertIn({'ID': image['id'], 'Name': 'life', 'Status': 'active'},
                      self.ask('image', 'list', '--tag', 'first'))
        self.ok('image', 'set', '--name', 'other', '--tag', 'second',
                '--property', 'season=winter', '--protected', image['id'])
        self.ok('image', 'unset', '--tag', 'first', '--property', 'flavour',
                image['id'])
        shown = self.ask('image', 'show', 'other')
        self.assertEqual((['second'], True, 'winter'), (
            shown['tags'], shown['protected'],
            shown['properties']['season']))
        self.assertNotIn('flavour', shown['properties'])
        refused = self.command('image', 'delete', image['id'])
        self.assertEqual(1, refused.returncode)
        self.assertIn('protected', refused.stderr)
        self.ok('image', 'set', '--unprotected', image['id'])
        saved = self.folder / 'saved'
        self.ok('image', 'save', '--file', saved, image['id'])
        self.assertEqual(DATA, saved.read_bytes())
        self.ok('image', 'delete', image['id'])
        gone = self.command('image', 'show', image['id'])
        self.assertEqual(1, gone.returncode)
        self.assertIn(f'No Image found for {image["id"]}', gone.stderr)

    def test_import(self) -> None:
        # Not by the command: it takes what is not a terminal for data.
        image_id = self.create()
        self.ok('image', 'stage', '--file', self.file, image_id)
        self.ok('image', 'import', '--method', 'glance-direct', image_id)
        self.images.wait(image_id, status='active')
        self.assertEqual(DATA, self.images.download(image_id))

    def test_import_at_once(self) -> None:
        image = self.make('--import', '--file', self.file, 'imported')
        self.images.wait(image['id'], status='active')
        self.assertEqual(DATA, self.images.download(image['id']))

    def test_stores(self) -> None:
        store, = self.ask('image', 'stores', 'list')
        self.assertEqual('copies', store['ID'])
        methods = self.ask('image', 'import', 'info')
        self.assertIn('glance-direct', str(methods['import-methods']))

    def test_what_one_may_not(self) -> None:
        image_id = self.upload(b'data', name='private')
        refused = self.command('image', 'set', '--name', 'x', image_id,
                               cloud=clouds.cloud_of('reader'))
        self.assertEqual(1, refused.returncode)
        self.assertIn('403', refused.stderr)
        self.assertNotIn('Traceback', refused.stderr)
        unseen = self.command('image', 'show', image_id,
                              cloud=clouds.cloud_of('stranger'))
        self.assertEqual(1, unseen.returncode)
        self.assertIn('No Image found', unseen.stderr)


class TestGlanceClient(ClientCase):
    """The library that Nova and Cinder use, and its command."""

    def setUp(self) -> None:
        super().setUp()
        self.glance = self.connect('member')

    def connect(self, user: str) -> Any:
        return glanceclient.Client(
            '2', session=self.deployment.session(user),
            region_name=self.deployment.region, interface='public')

    def make(self, **properties: object) -> Any:
        image = self.glance.images.create(
            **{'disk_format': 'raw', 'container_format': 'bare'} | properties)
        self.addCleanup(self.remove, image.id)
        return image

    def test_life_of_an_image(self) -> None:
        image = self.make(name='life', flavour='sweet')
        self.glance.images.upload(image.id, io.BytesIO(DATA))
        shown = self.glance.images.get(image.id)
        self.assertEqual(('active', client.sha512(DATA)),
                         (shown.status, shown.os_hash_value))
        self.assertEqual(DATA, b''.join(self.glance.images.data(image.id)))
        self.glance.images.update(image.id, remove_props=['flavour'],
                                  name='other', season='winter')
        self.glance.image_tags.update(image.id, 'tag')
        shown = self.glance.images.get(image.id)
        self.assertEqual(('other', 'winter', ['tag'], False), (
            shown.name, shown.season, shown.tags, 'flavour' in shown))
        self.glance.image_tags.delete(image.id, 'tag')
        self.glance.images.deactivate(image.id)
        self.assertRaises(glanceclient.exc.HTTPForbidden,
                          self.glance.images.data, image.id)
        self.glance.images.reactivate(image.id)
        self.glance.images.delete(image.id)
        self.assertRaises(glanceclient.exc.HTTPNotFound,
                          self.glance.images.get, image.id)

    def test_list_goes_through_all_pages(self) -> None:
        made = {self.make(name=f'page {number}', paged='yes').id
                for number in range(7)}
        listed = [image.id for image in self.glance.images.list(
            page_size=2, filters={'paged': 'yes'})]
        self.assertEqual(7, len(listed))
        self.assertEqual(made, set(listed))
        self.assertEqual(3, len(list(self.glance.images.list(
            limit=3, page_size=2, sort_key='name', sort_dir='asc',
            filters={'paged': 'yes'}))))

    def test_import(self) -> None:
        image = self.make(name='imported')
        self.glance.images.stage(image.id, io.BytesIO(DATA))
        self.glance.images.image_import(image.id, 'glance-direct')
        self.images.wait(image.id, status='active')
        self.assertEqual(DATA, b''.join(self.glance.images.data(image.id)))

    def test_errors_tell_what_is_wrong(self) -> None:
        missing = self.assertRaises(
            glanceclient.exc.HTTPNotFound, self.glance.images.get,
            '00000000-0000-0000-0000-000000000000')
        self.assertIn('00000000-0000-0000-0000-000000000000', str(missing))
        self.assertEqual(404, missing.code)
        image = self.make(protected=True)
        protected = self.assertRaises(
            glanceclient.exc.HTTPForbidden, self.glance.images.delete,
            image.id)
        self.assertIn('protected', str(protected))
        self.glance.images.update(image.id, protected=False)
        self.assertRaises(glanceclient.exc.HTTPForbidden,
                          self.connect('reader').images.update, image.id,
                          name='x')

    def test_command(self) -> None:
        image = self.make(name='by command')
        account = self.deployment.accounts['member']
        result = processes.run(
            [processes.script('glance'), 'image-show', image.id],
            OS_AUTH_URL=f'{self.deployment.keystone.url}/v3',
            OS_USERNAME=account.user, OS_PASSWORD=account.password,
            OS_PROJECT_NAME=account.project,
            OS_USER_DOMAIN_ID='default', OS_PROJECT_DOMAIN_ID='default',
            OS_REGION_NAME=self.deployment.region)
        self.assertEqual(0, result.returncode, result.stderr)
        self.assertIn('by command', result.stdout)


class TestSdk(ClientCase):
    """openstacksdk, which Ansible and Heat stand on."""

    def setUp(self) -> None:
        super().setUp()
        self.cloud = self.deployment.sdk('member')

    def make(self, **arguments: Any) -> Any:
        image = self.cloud.image.create_image(
            **{'disk_format': 'raw', 'container_format': 'bare',
               'allow_duplicates': True} | arguments)
        self.addCleanup(self.remove, image.id)
        return image

    def test_life_of_an_image(self) -> None:
        image = self.make(name='life', filename=str(self.file), wait=True,
                          tags=['first'])
        shown = self.cloud.image.get_image(image.id)
        self.assertEqual(('active', len(DATA), client.md5(DATA)),
                         (shown.status, shown.size, shown.checksum))
        self.assertEqual(DATA, self.cloud.image.download_image(image).content)
        # A property that the SDK knows: with others it means to remove what
        # Glance shows and does not keep, such as "stores".
        self.cloud.image.update_image(shown, name='other',
                                      hw_disk_bus='virtio')
        self.cloud.image.add_tag(image, 'second')
        self.cloud.image.remove_tag(image, 'first')
        found, = self.cloud.image.images(name='other')
        self.assertEqual((image.id, ['second'], 'virtio'),
                         (found.id, found.tags, found.hw_disk_bus))
        self.cloud.image.delete_image(image, ignore_missing=False)
        self.assertRaises(openstack.exceptions.NotFoundException,
                          self.cloud.image.get_image, image.id)

    def test_import(self) -> None:
        image = self.make(name='imported', filename=str(self.file),
                          use_import=True, wait=True)
        self.images.wait(image.id, status='active')
        self.assertEqual(DATA, self.images.download(image.id))

    def test_share(self) -> None:
        image = self.make(name='shared', filename=str(self.file), wait=True,
                          visibility='shared')
        other = self.deployment.sdk('stranger')
        project = self.deployment.session('stranger').get_project_id()
        self.cloud.image.add_member(image, member_id=project)
        other.image.update_member(project, image, status='accepted')
        self.assertIn(image.id, [found.id for found in
                                 other.image.images(member_status='accepted')])

    def test_stores(self) -> None:
        self.assertEqual(['copies'],
                         [store.id for store in self.cloud.image.stores()])

    def test_errors_tell_what_is_wrong(self) -> None:
        image = self.make(name='kept', filename=str(self.file), wait=True,
                          is_protected=True)
        self.addCleanup(self.cloud.image.update_image, image,
                        is_protected=False)
        refused = self.assertRaises(
            openstack.exceptions.ForbiddenException,
            self.cloud.image.delete_image, image, ignore_missing=False)
        self.assertIn('protected', str(refused))
        self.assertNotIn('<', str(refused.details or ''))


class TestCurl(ClientCase):
    """curl, as the manual's examples have it."""

    def curl(self, path: str, *options: str | Path,
             user: str = 'member') -> tuple[int, bytes]:
        """Return the code and the body of an answer."""
        body = self.folder / 'body'
        body.write_bytes(b'')
        # The token in a file: a command line is there for all to see.
        secret = self.folder / 'headers'
        secret.write_text(f'X-Auth-Token: {self.deployment.token(user)}\n')
        result = self.run_program(
            shutil.which('curl') or 'curl', '--silent', '--show-error',
            '--noproxy', '*', '--max-time', '60', '--header', f'@{secret}',
            '--output', body, '--write-out', '%{http_code}', *options,
            f'{self.deployment.url}/v2{path}')
        self.assertEqual(0, result.returncode, result.stderr)
        return int(result.stdout), body.read_bytes()

    def test_life_of_an_image(self) -> None:
        code, body = self.curl(
            '/images', '--json', json.dumps({
                'name': 'curl', 'disk_format': 'raw',
                'container_format': 'bare'}))
        self.assertEqual(201, code, body)
        image_id = json.loads(body)['id']
        self.addCleanup(self.remove, image_id)
        place = f'/images/{image_id}'
        code, body = self.curl(
            f'{place}/file', '--upload-file', self.file, '--header',
            'Content-Type: application/octet-stream')
        self.assertEqual(204, code, body)
        self.assertEqual((200, DATA), self.curl(f'{place}/file'))
        self.assertEqual((206, DATA[100:200]), self.curl(
            f'{place}/file', '--range', '100-199'))
        code, body = self.curl(
            place, '--request', 'PATCH', '--header',
            'Content-Type: application/openstack-images-v2.1-json-patch',
            '--data', '[{"op": "replace", "path": "/name", "value": "x"}]')
        self.assertEqual((200, 'x'), (code, json.loads(body)['name']))
        self.assertEqual(204, self.curl(f'{place}/tags/red', '--request',
                                        'PUT')[0])
        code, body = self.curl('/images?tag=red&limit=5')
        self.assertEqual([image_id], [image['id'] for image in
                                      json.loads(body)['images']])
        self.assertEqual((204, b''), self.curl(place, '--request', 'DELETE'))
        self.assertEqual(404, self.curl(place)[0])

    def test_chunked_upload(self) -> None:
        image_id = self.create()
        code, body = self.curl(
            f'/images/{image_id}/file', '--upload-file', self.file,
            '--header', 'Content-Type: application/octet-stream',
            '--header', 'Transfer-Encoding: chunked')
        self.assertEqual(204, code, body)
        self.assertEqual(DATA, self.images.download(image_id))

    def test_errors(self) -> None:
        missing = '/images/00000000-0000-0000-0000-000000000000'
        code, body = self.curl(missing)
        self.assertEqual(404, code)
        self.assertIn(b'00000000-0000-0000-0000-000000000000', body)
        self.assertEqual(403, self.curl('/images', '--json', '{}',
                                        user='reader')[0])
