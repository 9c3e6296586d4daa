"""Releases are exchanged where a real Keystone says who may do what."""

from __future__ import annotations

import json
from pathlib import Path
import shutil
import subprocess
import tempfile
from typing import Any, ClassVar

import pymysql
import requests
from sqlalchemy.engine import url as urls
import testtools
from testtools import content as attachments

from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warmth
from tests.deployment import deployment
from tests.deployment import keystone as keystone_module
from tests.functional import configuration
from tests.functional import processes
from tests.ota import releases
from tests.ota import site as site_module

OLD, NEW = '1.0.0', '2.0.0'
#: Of all accounts, who may keep images, and no more.
USER = 'member'
#: How Keystone's tokens begin.
TOKEN = b'gAAAAA'
WRONG = 'hush-hush-wrong'
#: Of each instance, besides the one of the private socket.
PROCESSES = 1
TIMEOUT = 600


class TestKeystone(testtools.TestCase):
    """Release 1.0.0 serves at the begin and at the end of each test."""

    site: ClassVar[site_module.Site]
    keystone: ClassVar[keystone_module.Keystone]
    holder: ClassVar[processes.Process]
    publisher: ClassVar[releases.Publisher]
    #: Of an application credential.
    secret: ClassVar[dict[str, str]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        root = Path(tempfile.mkdtemp(prefix='ota-')).resolve()
        cls.addClassCleanup(shutil.rmtree, root, True)
        cls.keystone = keystone_module.shared()
        cls.site = site_module.Site(
            root, deployment.full_pipeline(),
            deployment.authentication(cls.keystone, root))
        cls.site.prepare()
        cls.publish(root)
        cls.secret = cls.make_credential()
        cls.authenticate(
            application_credential_id=cls.secret['id'],
            application_credential_secret=cls.secret['secret'])
        cls.holder = cls.site.hold()
        cls.addClassCleanup(cls.holder.stop)
        cls.holder.start()
        processes.poll((cls.site.run_directory / 'holder').exists,
                       'the holder')
        cls.site.ota('install', OLD)

    @classmethod
    def publish(cls, root: Path) -> None:
        """Sign two releases: of one Glance, and two of this package."""
        workshop = releases.Workshop(root)
        publisher = releases.Publisher(root)
        publisher.publish(*map(workshop.archive, (
            releases.Content(OLD, 1),
            releases.Content(NEW, 2, plugin='1.0.1'))))
        cls.publisher = publisher

    @classmethod
    def make_credential(cls) -> dict[str, str]:
        session = cls.keystone.accounts[USER].session(cls.keystone.url)
        answer = session.post(
            f'{cls.keystone.url}/v3/users/{session.get_user_id()}'
            '/application_credentials',
            json={'application_credential': {'name': 'canary'}})
        made: dict[str, str] = answer.json()['application_credential']
        return made

    @classmethod
    def authenticate(cls, **given: str) -> None:
        """Write who the canary is, and have the updater use it."""
        path = cls.site.root / 'canary.conf'
        path.touch(mode=0o600)
        configuration.write(path, {'keystone': {
            'auth_url': cls.keystone.url, **given}})
        path.chmod(0o600)
        cls.site.configure(cls.publisher, soak=0.5, processes=PROCESSES,
                           canary_credentials=path)

    def use_password(self, password: str = '') -> None:
        account = self.keystone.accounts[USER]
        self.authenticate(username=account.user,
                          password=password or account.password,
                          project_name=account.project)

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        self.addCleanup(self.show_logs)
        self.start_keystone()

    def show_logs(self) -> None:
        for path in self.site.run_directory.glob('logs/*'):
            self.addDetail(path.name, attachments.text_content(
                path.read_text(errors='replace')[-4000:]))

    def ota(self, code: int, *arguments: str) -> str:
        """Call the updater; return what it said, in one line.

        :param code: what it has to exit with
        """
        done: subprocess.CompletedProcess[str] = processes.run([
            processes.script('easystack-image-ota'), '--config-file',
            str(self.site.config_file), *arguments], TIMEOUT)
        self.said += [done.stdout, done.stderr]
        self.addDetail('-'.join(arguments), attachments.text_content(
            done.stdout + done.stderr))
        self.assertEqual(code, done.returncode, done.stderr)
        return ' '.join(done.stderr.split())

    def status(self) -> Any:
        text = processes.check([
            processes.script('easystack-image-ota'), '--config-file',
            str(self.site.config_file), 'status', '-f', 'json'],
            # 3 if something has to be looked after.
            accept=(0, 3))
        self.said.append(text)
        return json.loads(text)

    def names(self) -> list[str]:
        """Return the names of the instances that take requests."""
        return [each['name'] for each in self.status()['instances']
                if each['role'] == 'serving']

    def assertServes(self, version: str) -> None:
        """See that a release serves, and whom: only who has a token."""
        status = self.status()
        self.assertEqual(version, status['current']['version'])
        serving = self.names()
        self.assertEqual([version], [
            name.rpartition('.')[0] for name in serving], serving)
        url = f'http://127.0.0.1:{self.site.port}/v2/images'
        self.assertEqual(401, requests.get(url, timeout=60).status_code)

    def assertWarm(self) -> None:
        """See that whoever serves has been warm, with a token."""
        name, = self.names()
        place = layout.Place(self.site.run_directory / 'i' / name)
        found = warmth.results(place)
        self.assertEqual(PROCESSES, len(found))
        for each in found.values():
            self.assertEqual(
                ['300', '200', '201', '204', '200', '200', '200', '204'],
                [str(status)[:3] for status in each.statuses])
        self.assertFalse(place.warm.exists())

    def assertNoSecrets(self) -> None:
        """See that nothing that was said or written has a secret in it."""
        secrets = [TOKEN, WRONG.encode(), self.secret['secret'].encode(),
                   self.keystone.accounts[USER].password.encode(),
                   self.keystone.accounts['glance'].password.encode()]
        places = [self.site.root / 'state', self.site.run_directory]
        files = [path for place in places for path in place.rglob('*')
                 if path.is_file()]
        self.assertGreater(len(files), 5)
        texts = {str(path): path.read_bytes() for path in files} | {
            'printed': ''.join(self.said).encode(),
            'holder.log': self.holder.log.read_bytes()}
        self.assertEqual([], [name for name, text in texts.items()
                              if any(secret in text for secret in secrets)])

    def owners(self) -> set[str]:
        """Return the projects that ever had an image."""
        url = urls.make_url(self.site.glance.connection)
        with pymysql.connect(
                host=url.host, port=url.port or 0, user=url.username,
                password=str(url.password), database=url.database,
                ) as database, database.cursor() as cursor:
            cursor.execute('SELECT DISTINCT owner FROM images')
            return {row[0] for row in cursor.fetchall()}

    def test_refused_password(self) -> None:
        """Before anything is built, and whoever serves goes on."""
        self.use_password(WRONG)
        before = self.status()['instances']
        said = self.ota(1, 'upgrade', NEW)
        self.assertIn('gives no token (401): are the credentials those',
                      said)
        status = self.status()
        self.assertEqual('abandoned', status['upgrade']['outcome'])
        self.assertNotIn('stage', [step['step'] for step in
                                   status['upgrade']['steps']
                                   if step['event']])
        self.assertEqual(before, status['instances'])
        self.assertServes(OLD)
        self.assertNoSecrets()

    def test_there_and_back(self) -> None:
        """The canary is somebody; without Keystone only the way back is."""
        self.assertServes(OLD)
        self.assertWarm()
        self.use_password()
        before = self.names()
        self.ota(0, 'upgrade', NEW, '--until', 'start')
        self.keystone.stop()
        self.assertUnreachable(self.ota(4, 'resume'))
        self.ota(0, 'rollback')
        self.assertEqual('rolled-back', self.status()['upgrade']['outcome'])
        self.assertUnreachable(self.ota(4, 'upgrade', NEW))
        self.assertIsNone(self.status()['upgrade']['outcome'])
        self.assertEqual(before, self.names())
        self.start_keystone()
        self.ota(0, 'resume')
        self.assertServes(NEW)
        self.assertWarm()
        session = self.keystone.accounts[USER].session(self.keystone.url)
        self.assertEqual({session.get_project_id()}, self.owners())
        self.keystone.stop()
        said = self.ota(0, 'rollback')
        self.assertIn('warm up without a token', said)
        self.assertIn('the canary is left out', said)
        self.assertServes(OLD)
        self.assertNoSecrets()

    def assertUnreachable(self, said: str) -> None:
        self.assertIn(f'Keystone at {self.keystone.url}/v3 does not answer',
                      said)

    def start_keystone(self) -> None:
        if not self.keystone.running:
            self.keystone.start()
