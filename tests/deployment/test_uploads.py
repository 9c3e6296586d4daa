"""Who may bring data in, by which way: tokens and services of a Keystone.

Each cell of the table is tried on three deployments: Glance as it comes; ours
with ``etc/policy.d/easystack-image-uploads.yaml``; and ours with the weaker
rules that the file has for clouds without service tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import functools
from pathlib import Path
import shutil
import tempfile
from typing import Any, ClassVar

import requests
import yaml

from tests.corpus import formats
from tests.deployment import deployment as deployment_module
from tests.functional import base
from tests.functional import client
from tests.functional import file_server
from tests.functional import processes
from tests.functional import server

POLICY = processes.ROOT / 'etc' / 'policy.d' / 'easystack-image-uploads.yaml'
ERROR = 'easystack_content_error'
PATCH = 'application/openstack-images-v2.1-json-patch'
#: Who asks: a user, or a user for whom a service asks.
WHO = ('admin', 'member', 'served', 'reader', 'stranger')
SERVED = 'served'


class Ways:
    """The ways in; each returns the answer to the request that decides.

    :param deployment: where
    :param url: of data that can be fetched
    """

    def __init__(self, deployment: deployment_module.Deployment,
                 url: str) -> None:
        self.deployment = deployment
        self.url = url
        self.admin = deployment.client('admin')
        self.project = deployment.session('member').get_project_id()
        self.made: list[str] = []

    def client(self, who: str) -> client.Images:
        """Return the calls of somebody."""
        if who != SERVED:
            return self.deployment.client(who)
        return client.Images(self.deployment.url, {
            'X-Auth-Token': self.deployment.token('member'),
            'X-Service-Token': self.deployment.token('nova')})

    def image(self, **properties: Any) -> str:
        """Create an image of the member's project, without data."""
        image_id = self.admin.create(owner=self.project, **properties)
        self.made.append(image_id)
        return image_id

    def clean(self) -> None:
        """Delete all images, those that are just imported a bit later."""
        for image_id in self.made:
            processes.poll(
                lambda image_id=image_id: self.admin.request(
                    'DELETE', f'/images/{image_id}').status_code in (
                        204, 404), f'deletion of {image_id}')

    def create(self, who: str) -> requests.Response:
        """Make the record of an image in the project of whoever asks."""
        answer = self.client(who).request('POST', '/images', json={
            'disk_format': 'raw', 'container_format': 'bare'})
        if answer.ok:
            self.made.append(answer.json()['id'])
        return answer

    def put(self, who: str, **properties: Any) -> requests.Response:
        """Send the data."""
        return self.client(who).put(self.image(**properties), b'data')

    def stage(self, who: str, **properties: Any) -> requests.Response:
        """Stage the data."""
        return self.client(who).put(self.image(**properties), b'data',
                                    'stage')

    def _import(self, who: str, image_id: str, **method: Any,
                ) -> requests.Response:
        return self.client(who).request(
            'POST', f'/images/{image_id}/import', json={'method': method})

    def glance_direct(self, who: str) -> requests.Response:
        """Import what somebody who may has staged."""
        image_id = self.image()
        staged = self.admin.put(image_id, b'data', 'stage')
        assert staged.status_code == 204, staged.text
        return self._import(who, image_id, name='glance-direct')

    def web_download(self, who: str, **properties: Any) -> requests.Response:
        """Have the data fetched from a URL."""
        return self._import(who, self.image(**properties),
                            name='web-download', uri=self.url)

    def glance_download(self, who: str) -> requests.Response:
        """Have the data fetched from another Glance."""
        return self._import(
            who, self.image(), name='glance-download',
            glance_region=self.deployment.region,
            glance_image_id='c0ffee00-0000-4000-8000-000000000001')

    def copy_image(self, who: str) -> requests.Response:
        """Have the data copied to another store."""
        image_id = self.image()
        uploaded = self.admin.put(image_id, b'data')
        assert uploaded.status_code == 204, uploaded.text
        return self.client(who).request(
            'POST', f'/images/{image_id}/import',
            json={'method': {'name': 'copy-image'}, 'stores': ['second']})

    def add_location(self, who: str) -> requests.Response:
        """Say where the data lies (POST /v2/images/{id}/locations)."""
        return self.client(who).request(
            'POST', f'/images/{self.image()}/locations',
            json={'url': self.url})

    def patch_locations(self, who: str) -> requests.Response:
        """Say where the data lies, as one always could."""
        return self.client(who).request(
            'PATCH', f'/images/{self.image()}',
            headers={'Content-Type': PATCH}, json=[
                {'op': 'add', 'path': '/locations/-',
                 'value': {'url': self.url, 'metadata': {}}}])

    def task(self, who: str) -> requests.Response:
        """Have a task import an image."""
        return self.client(who).request('POST', '/tasks', json={
            'type': 'import', 'input': {
                'import_from': self.url, 'import_from_format': 'raw',
                'image_properties': {'disk_format': 'raw',
                                     'container_format': 'bare'}}})


#: What each way answers to an administrator.
DONE = {'create': 201, 'put': 204, 'stage': 204, 'glance_direct': 202,
        'web_download': 202, 'glance_download': 202, 'copy_image': 202,
        'add_location': 202, 'patch_locations': 200, 'task': 201}
#: Who else may take it, in Glance as it comes.
PLAIN = {
    # In their own projects.
    'create': {'member', 'served', 'stranger'},
    **dict.fromkeys(('put', 'stage', 'glance_direct', 'web_download',
                     'glance_download', 'add_location', 'patch_locations'),
                    {'member', 'served'}),
    'copy_image': set(), 'task': set()}
#: With our policy file: services for their users.
STRICT = {way: who & {'served'} for way, who in PLAIN.items()}
#: Those who are not in the project of an image do not see it.
UNSEEN = {'stranger': 404}


class UploadsCase(base.TestCase):
    """One deployment for a class of tests."""

    deployment: ClassVar[deployment_module.Deployment]
    files: ClassVar[file_server.FileServer]
    root: ClassVar[Path]
    url: ClassVar[str]
    #: Where another Glance may be.
    other_port: ClassVar[int]
    vanilla = False

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.root = Path(tempfile.mkdtemp(prefix='uploads-'))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        cls.files = file_server.FileServer()
        cls.enterClassContext(cls.files)
        cls.url = cls.files.serve('/image', b'data')
        cls.deployment = cls.make()
        cls.deployment.prepare()
        cls.addClassCleanup(cls.deployment.stop)
        cls.policy(cls.deployment.root / 'policy.d')
        cls.deployment.start()

    @classmethod
    def make(cls) -> deployment_module.Deployment:
        first = (server.file_store('first', cls.root / 'first')
                 if cls.vanilla else server.block_store(
                     'first', server.make_devices(cls.root)))
        cls.other_port = processes.free_port()
        local = {'allowed_hosts': '[127.0.0.1]', 'allowed_ports':
                 f'[80,443,{cls.files.port},{cls.other_port}]'}
        arguments: dict[str, Any] = {
            'stores': [first,
                       server.file_store('second', cls.root / 'second'),
                       server.Store('web', 'http', {})],
            'options': {
                'DEFAULT': {'show_multiple_locations': True,
                            'enabled_import_methods':
                                '[glance-direct,web-download,'
                                'glance-download,copy-image]'}},
            'import_options': {'import_filtering_opts': local},
            'metadefs': False}
        if cls.vanilla:
            return deployment_module.vanilla(cls.root, **arguments)
        arguments['options']['easystack_content'] = {
            'url_allowed_networks': '127.0.0.0/8',
            # Tasks are what the policy is asked about here.
            'import_tasks': 'pass'}
        return deployment_module.Deployment(cls.root, **arguments)

    @classmethod
    def policy(cls, directory: Path) -> None:
        """Put the policy file where Glance reads it."""

    def setUp(self) -> None:
        super().setUp()
        self.show_log_of(self.deployment.glance)
        self.ways = Ways(self.deployment, self.url)
        self.addCleanup(self.ways.clean)

    def check_table(self, allowed: Mapping[str, set[str]]) -> None:
        """Try every way for everybody."""
        found, expected = {}, {}
        for way, done in DONE.items():
            for who in WHO:
                answer = getattr(self.ways, way)(who)
                found[way, who] = answer.status_code
                expected[way, who] = (
                    done if who in {'admin'} | allowed[way] else
                    403 if way in ('create', 'task') else
                    UNSEEN.get(who, 403))
        self.assertEqual(expected, found)


class TestPlainGlance(UploadsCase):
    """What the others are compared with."""

    vanilla = True

    def test_table(self) -> None:
        self.check_table(PLAIN)

    def test_detours(self) -> None:
        """Whoever may not upload stages or imports instead."""
        rules = self.deployment.root / 'policy.d' / 'rules.yaml'
        rules.write_text('"upload_image": "rule:context_is_admin"\n')
        # A rule that is taken out counts until the next start.
        self.addCleanup(rules.write_text, '"upload_image": '
                        '"rule:context_is_admin or '
                        '(role:member and project_id:%(project_id)s)"\n')
        self.assertEqual(403, self.ways.put('member').status_code)
        for way in ('stage', 'glance_direct', 'web_download'):
            self.assertEqual(DONE[way], getattr(self.ways, way)(
                'member').status_code, way)


class TestStrict(UploadsCase):
    """Only administrators upload, and services for users."""

    @classmethod
    def policy(cls, directory: Path) -> None:
        shutil.copy(POLICY, directory)

    def test_table(self) -> None:
        self.check_table(STRICT)

    def test_forged_marks(self) -> None:
        """What Nova writes on its snapshots, a member may write as well."""
        for kind in ('snapshot', 'backup'):
            for way in ('put', 'stage', 'web_download'):
                self.assertEqual(403, getattr(self.ways, way)(
                    'member', image_type=kind).status_code)

    def test_a_snapshot(self) -> None:
        """As Nova makes it for a member, from its record to its deletion."""
        served = self.ways.client(SERVED)
        image_id = served.create(image_type='snapshot', name='mine')
        self.ways.made.append(image_id)
        self.assertEqual(204, served.put(image_id, b'data').status_code)
        member = self.ways.client('member')
        self.assertEqual('active', member.show(image_id)['status'])
        self.assertEqual(b'data', member.download(image_id))
        member.delete(image_id)

    def test_own_images_stay_the_members(self) -> None:
        """They change, share and delete what was made for them."""
        image_id = self.ways.image()
        member = self.ways.client('member')
        for path, value in (('/name', 'new'), ('/visibility', 'shared')):
            answer = member.request(
                'PATCH', f'/images/{image_id}', headers={
                    'Content-Type': PATCH},
                json=[{'op': 'replace', 'path': path, 'value': value}])
            self.assertEqual(200, answer.status_code, answer.text)
        member.delete(image_id)

    def test_another_region(self) -> None:
        """What comes from the Glance there is judged here."""
        other = self.start_other()
        there, here = other.client('admin'), self.ways.admin
        data = client.content(3 << 20)
        good, hidden = there.upload(data), there.upload(formats.qcow2())
        vmdk = there.create(disk_format='vmdk')
        there.put(vmdk, formats.vmdk_sparse())
        for source, why in ((hidden, 'is qcow2'),
                            (vmdk, 'vmdk are not allowed')):
            image_id = self.ways.image()
            self.bring(image_id, other.region, source)
            record = processes.poll(
                lambda image_id=image_id: self.refused(image_id), why, 240)
            self.assertIn(why, record[ERROR])
            self.assertIsNone(record['size'])
            processes.poll(lambda image_id=image_id: not server.files_of(
                self.deployment.root / 'staging', image_id), 'no staged data')
        image_id = self.ways.image()
        self.bring(image_id, other.region, good)
        record = here.wait(image_id, status='active')
        self.assertEqual(data, here.download(image_id))
        self.assertNotIn(ERROR, record)

    def refused(self, image_id: str) -> dict[str, Any] | None:
        """Return the record of an image once its import was refused.

        :raises AssertionError: if it failed before anybody could refuse it
        """
        tasks = self.ways.admin.request(
            'GET', f'/images/{image_id}/tasks').json()['tasks']
        record = self.ways.admin.show(image_id)
        if record['status'] != 'queued' or (
                tasks[0]['status'] not in ('success', 'failure')):
            return None
        self.assertIn(ERROR, record, tasks)
        return record

    def start_other(self) -> deployment_module.Deployment:
        """Return a Glance as it comes, that takes what it is given."""
        other = deployment_module.vanilla(
            self.temporary_directory(), metadefs=False,
            port=self.other_port, options={
                'image_format': {'require_image_format_match': False}})
        other.prepare()
        self.addCleanup(other.stop)
        other.start()
        return other

    def bring(self, image_id: str, region: str, source: str) -> None:
        # The catalog of an older token may not name the region yet.
        client.Images(self.deployment.url, {
            'X-Auth-Token': self.deployment.new_token('admin'),
        }).start_import(image_id, {
            'name': 'glance-download', 'glance_region': region,
            'glance_image_id': source})

    def test_change_without_restart(self) -> None:
        rules = self.deployment.root / 'policy.d' / POLICY.name
        kept = rules.read_text()
        # A rule that is taken out counts until the next start.
        self.addCleanup(rules.write_text, kept + '"easystack_image:'
                        'stage_image": "rule:upload_image"\n')
        self.assertEqual(403, self.ways.stage('member').status_code)
        rules.write_text(kept + '\n"easystack_image:stage_image": '
                         '"role:member"\n')
        self.assertEqual(204, self.ways.stage('member').status_code)


class TestWithoutServiceTokens(UploadsCase):
    """The weaker rules: what Nova marks, members may upload."""

    @classmethod
    def policy(cls, directory: Path) -> None:
        text = POLICY.read_text()
        rules = yaml.safe_load(text)
        weaker = [line.removeprefix('#') for line in text.splitlines()
                  if line.startswith('#"')]
        assert len(weaker) == 2, weaker
        for line in weaker:
            rules |= yaml.safe_load(line)
        (directory / POLICY.name).write_text(yaml.safe_dump(rules))

    def test_table(self) -> None:
        self.check_table(
            STRICT | {'create': PLAIN['create']} | dict.fromkeys(
                ('put', 'stage', 'glance_direct', 'web_download',
                 'glance_download'), set()))

    def test_marked(self) -> None:
        way: Callable[..., requests.Response]
        for way in (self.ways.put, self.ways.stage, self.ways.web_download):
            for kind, who, done in (
                    ('snapshot', 'member', True), ('backup', 'member', True),
                    ('other', 'member', False),
                    ('snapshot', 'reader', False)):
                status = functools.partial(way, image_type=kind)(
                    who).status_code
                self.assertEqual(DONE[way.__name__] if done else 403, status,
                                 (way.__name__, kind, who))
