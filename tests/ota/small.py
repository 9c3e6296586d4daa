"""Small releases that are real in all else: signed, built by uv, run by uWSGI.

What is in them is a tiny application (``small_app``), uWSGI as it is
installed here, and of this package what starts an application.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
import hashlib
from importlib import metadata
from pathlib import Path
import zipfile

from easystack_image.ota.release import archive
from easystack_image.ota.release import build
from easystack_image.ota.release import channels
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import sample
from tests.unit.ota import base

APPLICATION = f'{sample.PACKAGE}:application'
_APP = (base.ROOT / 'tests/ota/small_app.py').read_text()
_PACKAGE = 'easystack_image'
#: What an installer writes by itself.
_LEFT_OUT = {'RECORD', 'INSTALLER', 'REQUESTED', 'direct_url.json'}


class Site(base.Site):
    """A repository with small releases."""

    def add(self, version: str, number: int, wrong: str = '',
            **others: object) -> None:
        """Stage a release.

        :param wrong: Python before the application in its module
        """
        folder = sample.write(self.directory / 'releases' / version, version,
                              number, **others)
        wheels = folder / declarations.WHEELS
        sample.make_wheel(wheels, version, f'{wrong}\n{_APP}')
        _repack(wheels, 'pyuwsgi')
        _pack(wheels)
        (folder / declarations.LOCK).write_text(''.join(
            '{0[0]}=={0[1]} --hash=sha256:{1}\n'.format(
                wheel.name.split('-'), archive.describe(wheel).sha256)
            for wheel in sorted(wheels.iterdir())))
        channels.add(self.repository, 'stable', build.build(
            folder, self.directory / 'archives'), base.now())


def _repack(target: Path, name: str) -> None:
    """Write the wheel of a package that is installed here."""
    found = metadata.distribution(name)
    tag = next(line.partition(': ')[2] for line in
               (found.read_text('WHEEL') or '').splitlines()
               if line.startswith('Tag'))
    files = {str(path): path.locate() for path in found.files or ()
             if path.parts[0] != '..' and path.name not in _LEFT_OUT
             and '__pycache__' not in path.parts}
    info = f'{name}-{found.version}.dist-info'
    _write(target / f'{name}-{found.version}-{tag}.whl', info, {
        path: Path(file).read_bytes() for path, file in files.items()})


def _pack(target: Path) -> None:
    """Write a wheel of what an instance needs of this package."""
    info = f'{_PACKAGE}-1.0.dist-info'
    files = dict(_own()) | {
        f'{info}/METADATA': b'Metadata-Version: 2.1\nName: '
                            b'easystack-image\nVersion: 1.0\n',
        f'{info}/WHEEL': b'Wheel-Version: 1.0\nGenerator: tests\n'
                         b'Root-Is-Purelib: true\nTag: py3-none-any\n'}
    _write(target / f'{_PACKAGE}-1.0-py3-none-any.whl', info, files)


def _own() -> Iterator[tuple[str, bytes]]:
    root = base.ROOT / _PACKAGE
    for path in (*root.glob('*.py'), *(root / 'ota').glob('*.py'),
                 *(root / 'ota/serving').glob('*.py')):
        yield path.relative_to(base.ROOT).as_posix(), path.read_bytes()


def _write(path: Path, info: str, files: dict[str, bytes]) -> None:
    record = ''.join(
        '{},sha256={},{}\n'.format(name, base64.urlsafe_b64encode(
            hashlib.sha256(data).digest()).rstrip(b'=').decode(), len(data))
        for name, data in files.items()) + f'{info}/RECORD,,\n'
    with zipfile.ZipFile(path, 'w') as wheel:
        for name, data in (*files.items(),
                           (f'{info}/RECORD', record.encode())):
            # Programs stay programs; times are always the same.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o755 << 16
            wheel.writestr(entry, data)
