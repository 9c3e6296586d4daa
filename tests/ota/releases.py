"""Real releases: Glance, this package and all that they need, signed.

They are made as the documentation says: pip gets the wheels, uv writes the
lock file, and ``easystack-image-ota release`` does the rest.  The wheels of
others are got once, and kept in the directory of the tox environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
import shutil
import sys
import tempfile

from easystack_image.ota.release import build
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import lock
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release import sample
from tests.functional import processes
from tests.functional import server

#: Where the wheels of others are kept.
CACHE = Path(sys.prefix) / 'wheels-of-glance'
#: The supported releases of Glance.
OLD_GLANCE, NEW_GLANCE = '32.0.0', '33.0.0'
#: What a node needs beside Glance and this package.
_OTHERS = ('PyMySQL', 'pyuwsgi')
#: What is built of this package, and needed for that.
_SOURCES = ('easystack_image', 'etc', 'LICENSE', 'README.rst',
            'pyproject.toml', 'requirements.txt', 'setup.cfg', 'setup.py')
#: A module in each release that says who asks, instead of Keystone.
IDENTITY = sample.PACKAGE
_PYTHON = f'3.{sys.version_info.minor}'
#: Seconds that pip may take: the first time, it gets 35 MB.
_PATIENCE = 1200


@dataclasses.dataclass(frozen=True)
class Content:
    """What a release is made of.

    :param version: of the release
    :param number: of the release
    :param glance: the version of Glance
    :param plugin: the version of this package
    :param identity: more code in the module that says who asks, which breaks
        or slows down the service
    :param database: the phases that the release declares
    """

    version: str
    number: int
    glance: str = NEW_GLANCE
    plugin: str = '1.0.0'
    identity: str = ''
    database: Sequence[str] = ()


def pip(*arguments: object, **environment: str) -> None:
    """Call pip."""
    processes.check(
        [sys.executable, '-m', 'pip', '--disable-pip-version-check', *map(
            str, arguments)], _PATIENCE, **_outward(), **environment)


def _outward() -> dict[str, str]:
    """Return what says how packages are got: proxies, indexes, authorities."""
    return {name: value for name, value in os.environ.items()
            if name.startswith(('PIP_', 'XDG_'))
            or name.lower().endswith('_proxy')
            or name in ('SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE')}


def wheels_of_others() -> Path:
    """Return the directory with the wheels of all packages but our own.

    They are those of both releases of Glance, most of them shared.
    """
    wanted = json.dumps([OLD_GLANCE, NEW_GLANCE, *_OTHERS, _PYTHON,
                         (processes.ROOT / 'requirements.txt').read_text()])
    mark = CACHE / 'wanted.json'
    if mark.exists() and mark.read_text() == wanted:
        return CACHE
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir()
    for glance in (NEW_GLANCE, OLD_GLANCE):
        pip('wheel', '--quiet', '--wheel-dir', CACHE, '--find-links', CACHE,
            '--requirement', processes.ROOT / 'requirements.txt',
            f'glance=={glance}', *_OTHERS)
    mark.write_text(wanted)
    return CACHE


class Workshop:
    """Makes archives.

    :param root: an existing directory for what is made
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._plugins: dict[str, Path] = {}

    def archive(self, content: Content) -> Path:
        """Build the archive of a release; return its path."""
        folder = self._root / f'release-{content.version}'
        self._write(folder, content)
        archives = self._root / 'archives'
        ota('release', 'build', folder, '--output', archives)
        return archives / f'easystack-image-{content.version}.tar'

    def _write(self, folder: Path, content: Content) -> None:
        wheels = folder / declarations.WHEELS
        wheels.mkdir(parents=True)
        own = [self._plugin(content.plugin),
               sample.make_wheel(self._fresh('identity'), content.version,
                                 _identity() + content.identity)]
        _write_lock(folder, content, own)
        _link_wheels(folder, own)
        _write_configuration(folder / declarations.CONFIG)
        values = {'version': content.version, 'number': content.number,
                  'database': list(content.database), 'python': [_PYTHON]}
        # The notation of JSON is that of TOML, for these.
        (folder / build.MANIFEST).write_text(''.join(
            f'{name} = {json.dumps(value)}\n'
            for name, value in values.items()))

    def _plugin(self, version: str) -> Path:
        """Return a wheel of this package, as if it had a version."""
        if version not in self._plugins:
            tree, wheels = self._fresh('tree'), self._fresh('plugin')
            # A copy: the build writes beside the sources.
            for name in _SOURCES:
                source = processes.ROOT / name
                if source.is_dir():
                    shutil.copytree(source, tree / name, ignore=(
                        shutil.ignore_patterns('__pycache__')))
                else:
                    shutil.copy2(source, tree / name)
            pip('wheel', '--quiet', '--no-deps', '--wheel-dir', wheels, tree,
                PBR_VERSION=version)
            self._plugins[version], = wheels.glob('*.whl')
        return self._plugins[version]

    def _fresh(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f'{name}-', dir=self._root))


def _identity() -> str:
    """Return the filter of the tests that stands for Keystone's."""
    text = (processes.ROOT / 'tests' / 'functional' / 'noauth.py').read_text()
    # Something stands before it in the module.
    return text.replace('from __future__ import annotations\n', '')


def _write_lock(folder: Path, content: Content, own: Iterable[Path]) -> None:
    """Have uv choose among the wheels, and write their hashes."""
    wanted = folder / 'requirements.in'
    wanted.write_text('\n'.join([
        f'glance=={content.glance}', f'easystack-image=={content.plugin}',
        f'{IDENTITY}=={content.version}', *_OTHERS]))
    links = [f'--find-links={place}' for place in (
        wheels_of_others(), *(path.parent for path in own))]
    processes.check([
        processes.script('uv'), '--no-config', '--offline', '--quiet', 'pip',
        'compile', '--no-index', *links, '--generate-hashes', '--python',
        sys.executable, str(wanted), '-o', str(folder / declarations.LOCK)])


def _link_wheels(folder: Path, own: Iterable[Path]) -> None:
    """Put the wheels that the lock file asks for into the folder."""
    chosen = {each.name: each for each in lock.parse(
        (folder / declarations.LOCK).read_text())}
    for wheel in (*wheels_of_others().glob('*.whl'), *own):
        name, version = wheel.name.split('-')[:2]
        wanted = chosen.get(lock.normal(name))
        if wanted and wanted.version == version:
            shutil.copy2(wheel, folder / declarations.WHEELS / wheel.name)


def _write_configuration(folder: Path) -> None:
    folder.mkdir()
    (folder / 'glance-api-paste.ini').write_text(paste())
    shutil.copytree(processes.ROOT / 'etc' / 'policy.d', folder / 'policy.d')


def paste() -> str:
    """Return the sample's pipelines, with the releases' filter in them."""
    return server.paste().replace('tests.functional.noauth', IDENTITY)


def ota(*arguments: object, accept: Sequence[int] = (0,),
        timeout: float = 300) -> str:
    """Call ``easystack-image-ota``; return what it prints on stdout."""
    return processes.check([processes.script('easystack-image-ota'), *map(
        str, arguments)], timeout, accept)


class Publisher:
    """Those who sign: their keys, and their repository.

    :param root: an existing directory
    """

    def __init__(self, root: Path) -> None:
        self.repository = root / 'repository'
        self._keys = root / 'keys'
        self._keys.mkdir(mode=0o700)
        for name in ('anna', 'berta', 'carla', 'online'):
            ota('release', 'key', self._keys / name)
        people = ','.join(f'{self._keys / name}.pub' for name in (
            'anna', 'berta', 'carla'))
        online = self._keys / 'online.pub'
        roles = dict.fromkeys(repositories.OFFLINE, f'2:{people}') | (
            dict.fromkeys(repositories.ONLINE, f'1:{online}'))
        ota('release', 'init', self.repository, *(
            f'--role={role}={holders}' for role, holders in roles.items()))
        self._sign_and_publish()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f'file://{self.repository / "public"}'

    @property
    def trusted_root(self) -> Path:
        """What clients get by a way that can be trusted."""
        return self.repository / 'public' / 'metadata' / '1.root.json'

    def publish(self, *archives: Path, channel: str = 'stable') -> None:
        """Offer releases, signed by two."""
        for archive in archives:
            ota('release', 'add', self.repository, archive, '--channel',
                channel)
        self._sign_and_publish()

    def _sign_and_publish(self) -> None:
        for name in ('anna', 'berta'):
            ota('release', 'sign', self.repository, '--yes', '--key',
                self._keys / name)
        ota('release', 'publish', self.repository, '--key',
            self._keys / 'online')


def versions(slot: Path, names: Iterable[str]) -> Mapping[str, str]:
    """Return the versions of packages in a slot, as its Python sees them."""
    program = ('import importlib.metadata, json, sys; print(json.dumps({name: '
               'importlib.metadata.version(name) for name in sys.argv[1:]}))')
    found: dict[str, str] = json.loads(processes.check(
        [str(slot / 'bin' / 'python'), '-I', '-c', program, *names]))
    return found
