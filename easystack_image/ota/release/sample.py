"""A small release, for the rehearsal: one wheel, with one module in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
import hashlib
from pathlib import Path
import sys
from typing import Any
import zipfile

from easystack_image.ota.release import archive
from easystack_image.ota.release import build
from easystack_image.ota.release import declaration as declarations

PACKAGE = 'easystack_sample'
_TIME = (1980, 1, 1, 0, 0, 0)


def write(folder: Path, version: str, number: int, **others: Any) -> Path:
    """Write the folder of a release; return it.

    :param others: what else ``release.toml`` has; text, numbers and lists
    """
    (folder / declarations.WHEELS).mkdir(parents=True)
    (folder / declarations.CONFIG).mkdir()
    wheel = make_wheel(folder / declarations.WHEELS, version)
    (folder / declarations.LOCK).write_text(
        f'{PACKAGE}=={version} \\\n'
        f'    --hash=sha256:{archive.describe(wheel).sha256}\n')
    (folder / declarations.CONFIG / 'sample.conf').write_text(
        f'# of {version}\n')
    values = {'version': version, 'number': number,
              'python': [f'3.{sys.version_info.minor}'], **others}
    # The notation of Python is that of TOML, for these.
    (folder / build.MANIFEST).write_text(''.join(
        f'{name} = {value!r}\n' for name, value in values.items()))
    return folder


def make_wheel(directory: Path, version: str, content: str = '',
               requires: str = '') -> Path:
    """Write a wheel; return its path.

    :param content: of its module, besides the version
    :param requires: another package that it depends on
    """
    info = f'{PACKAGE}-{version}.dist-info'
    files = {
        f'{PACKAGE}.py': f'VERSION = {version!r}\n{content}',
        f'{info}/METADATA': f'Metadata-Version: 2.1\nName: {PACKAGE}\n'
                            f'Version: {version}\n'
                            + (f'Requires-Dist: {requires}\n' if requires
                               else ''),
        f'{info}/WHEEL': 'Wheel-Version: 1.0\nGenerator: easystack-image\n'
                         'Root-Is-Purelib: true\nTag: py3-none-any\n',
    }
    files[f'{info}/RECORD'] = _record(files, info)
    path = directory / f'{PACKAGE}-{version}-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name, _TIME), text)
    return path


def _record(files: Mapping[str, str], info: str) -> str:
    lines = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(
            hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
        lines.append(f'{name},sha256={digest},{len(text.encode())}\n')
    return ''.join(lines) + f'{info}/RECORD,,\n'
