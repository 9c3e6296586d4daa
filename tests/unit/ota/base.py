"""What the tests have in common: repositories, their keys, and commands."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import datetime
import json
import os
from pathlib import Path
import shutil
import sysconfig
from typing import Any

import fixtures
from securesystemslib.signer import Signer
import testtools
from tuf.api.metadata import Metadata
from tuf.api.metadata import MetaFile

from easystack_image.ota import rehearsal
from easystack_image.ota import settings
from easystack_image.ota.client import updater
from easystack_image.ota.release import build
from easystack_image.ota.release import keys
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release import sample
from tests.unit import forked
from tests.unit.ota import server

SCRIPTS = Path(sysconfig.get_path('scripts'))
COMMAND = SCRIPTS / 'easystack-image-ota'
#: The repository that this file is in.
ROOT = Path(__file__).parents[3]
UV = SCRIPTS / 'uv'
ONLINE = (repositories.SNAPSHOT, repositories.TIMESTAMP)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Case(testtools.TestCase):
    """A test with a directory of its own."""

    def setUp(self) -> None:
        super().setUp()
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))
        self.root = Path(self.useFixture(fixtures.TempDir()).path).resolve()

    def archive(self, version: str = '1.0.0', number: int = 1,
                **others: Any) -> Path:
        """Build a release."""
        return build.build(sample.write(
            self.root / f'release-{version}', version, number, **others),
            self.root / 'archives')


class Site(rehearsal.Rehearsal):
    """Keys and a repository, and what somebody who has keys does to it."""

    def signers(self, role: str, count: int | None = None) -> list[Signer]:
        """Return what signs with the keys of a role."""
        return [keys.load(path) for path in self._keys[role][:count]]

    def sign_as(self, folder: Path, metadata: Metadata[Any], role: str,
                signers: Iterable[Signer]) -> None:
        """Put metadata in a published folder, signed by whoever."""
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        name = 'timestamp' if role == repositories.TIMESTAMP else (
            f'{metadata.signed.version}.{role}')
        (folder / 'metadata' / f'{name}.json').write_bytes(
            metadata.to_bytes())

    def reissue(self, folder: Path, *changed: str,
                snapshot_version: int | None = None) -> None:
        """Sign snapshot and timestamp, as who stole those keys would.

        :param changed: roles, whose newest files are in the folder
        """
        timestamp = read(folder, repositories.TIMESTAMP)
        snapshot = read(folder, repositories.SNAPSHOT)
        snapshot.signed.version += 1
        for role in changed:
            metadata = read(folder, role)
            snapshot.signed.meta[f'{role}.json'] = MetaFile(
                metadata.signed.version)
        self.sign_as(folder, snapshot, repositories.SNAPSHOT,
                     self.signers(repositories.SNAPSHOT))
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(
            snapshot_version or snapshot.signed.version)
        self.sign_as(folder, timestamp, repositories.TIMESTAMP,
                     self.signers(repositories.TIMESTAMP))


def read(folder: Path, role: str) -> Metadata[Any]:
    """Return the newest metadata of a role in a published folder."""
    if role == repositories.TIMESTAMP:
        return Metadata.from_file(str(folder / 'metadata/timestamp.json'))
    number = max(int(path.name.partition('.')[0]) for path in
                 (folder / 'metadata').glob(f'*.{role}.json'))
    return Metadata.from_file(
        str(folder / 'metadata' / f'{number}.{role}.json'))


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run of the command printed, and its exit code."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


class SiteCase(Case):
    """A site with a release 1.0.0, and a client that knows its root.

    It is made once for a class; what it has published then is copied for
    each test, so that each can change it.
    """

    site: Site
    _directory: fixtures.TempDir

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._directory = fixtures.TempDir()
        cls._directory.setUp()
        cls.site = Site(Path(cls._directory.path).resolve())
        cls.prepare()

    @classmethod
    def tearDownClass(cls) -> None:
        cls._directory.cleanUp()
        super().tearDownClass()

    @classmethod
    def prepare(cls) -> None:
        """Publish what all tests begin with."""
        cls.site.begin()
        cls.publish('1.0.0', 1)

    @classmethod
    def publish(cls, version: str, number: int) -> None:
        cls.site.add(version, number)
        cls.site.sign_and_publish(['stable'])

    def setUp(self) -> None:
        super().setUp()
        self.public = self.copy('public')
        self.server = server.Server(self.public)
        self.enterContext(self.server)
        self.options: dict[str, object] = {
            'repository': self.server.url,
            'trusted_root': self.site.directory / 'root.json',
            'state_directory': self.root / 'state',
            'slots_directory': self.root / 'opt',
            'uv': UV, 'timeout': 20}

    def copy(self, name: str) -> Path:
        """Return a copy of what is published now."""
        return Path(shutil.copytree(self.site.repository.root / 'public',
                                    self.root / name))

    def own_site(self) -> Site:
        """Return a site like that of the class, to be changed."""
        directory = self.root / 'site'
        shutil.copytree(self.site.directory / 'repository',
                        directory / 'repository')
        site = Site(directory)
        site._keys = {role: list(paths) for role, paths
                      in self.site._keys.items()}
        return site

    def write_config(self) -> Path:
        """Write the configuration; return its path."""
        path = self.root / 'ota.conf'
        path.write_text('[easystack_ota]\n' + ''.join(
            f'{name} = {value}\n' for name, value in self.options.items()))
        return path

    def command(self, *arguments: object) -> Result:
        """Run the command as it is; never see a traceback."""
        done = forked.server().run(
            [*map(str, (COMMAND, '--config-file', self.write_config(),
                        *arguments))], self.root, os.environ, timeout=120)
        result = Result(done.returncode, done.stdout, done.stderr)
        self.addDetail('-'.join(map(str, arguments)).replace('/', '.'),
                       testtools.content.text_content(repr(result)))
        self.assertNotIn('Traceback', result.errors)
        return result

    def succeed(self, *arguments: object) -> Result:
        """Run the command, which succeeds."""
        result = self.command(*arguments)
        self.assertEqual(0, result.code, result.errors)
        return result

    def refuse(self, *words: str, run: tuple[object, ...] = ('download',),
               code: int = 1) -> Result:
        """Run the command, which refuses, with one line that says why."""
        result = self.command(*run)
        self.assertEqual((code, ''), (result.code, result.output),
                         result.errors)
        self.assertEqual(1, len(result.errors.splitlines()), result.errors)
        for word in words:
            self.assertIn(word, result.errors)
        return result

    def client(self, **others: Any) -> updater.Client:
        """Return a client in this process."""
        return updater.Client(settings.Settings(**{
            name: value if isinstance(value, int) else str(value)
            for name, value in self.options.items()}), **others)

    def downloaded(self) -> list[str]:
        """Return the names of what was downloaded."""
        path = self.root / 'state' / 'downloads'
        return sorted(os.listdir(path)) if path.exists() else []
