"""Building the archive of a release from a folder.

The folder holds::

    release.toml        version, number, minimum, database, python, revokes
    requirements.lock   every package with its version and hashes
    wheels/             a wheel for each of them
    config/             the default configuration (may be left out)
"""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import tempfile
import tomllib

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.release import archive
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import wheel

MANIFEST = 'release.toml'


def build(source: Path, target: Path) -> Path:
    """Build an archive; return its path.

    The same folder gives the same bytes, on any machine.  The archive takes
    its name when it is whole and durable.

    :param source: the folder
    :param target: the directory to put the archive in
    :raises easystack_image.exceptions.InvalidRelease: if something is wrong
        with the folder
    :raises OSError: if it cannot be read, or the archive not be written
    """
    sources = dict(_sources(source))
    declaration = _declaration(source, {
        name: archive.describe(path) for name, path in sources.items()})
    target.mkdir(parents=True, exist_ok=True)
    path = target / declaration.archive
    with tempfile.NamedTemporaryFile(
            dir=target, prefix=path.name, delete=False) as file:
        try:
            archive.write(file, declaration, sources)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            # As a client will: what changed meanwhile, or makes no sense.
            archive.inspect(Path(file.name))
        except BaseException:
            os.unlink(file.name)
            raise
    os.rename(file.name, path)
    directory = fsio.open_directory(str(target))
    try:
        fsio.fsync(directory)
    finally:
        os.close(directory)
    return path


def _declaration(source: Path, files: dict[str, declarations.File],
                 ) -> declarations.Declaration:
    try:
        with (source / MANIFEST).open('rb') as file:
            fields = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError,
            RecursionError) as error:
        raise exceptions.InvalidRelease(
            f'{source / MANIFEST} is no TOML: {error}') from None
    if 'files' in fields:
        raise exceptions.InvalidRelease(
            f'{source / MANIFEST}: files are found, not listed')
    return declarations.from_fields({**fields, 'files': {
        name: {'size': file.size, 'sha256': file.sha256}
        for name, file in files.items()}})


def _sources(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a release, by their names in the archive."""
    if not (source / declarations.LOCK).is_file():
        raise exceptions.InvalidRelease(
            f'{source} has no {declarations.LOCK}: write one with "uv pip '
            'compile --no-index --find-links wheels --generate-hashes"')
    yield declarations.LOCK, source / declarations.LOCK
    for name in (declarations.WHEELS, declarations.CONFIG):
        for path in sorted((source / name).rglob('*')):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise exceptions.InvalidRelease(
                    f'{path} is neither a file nor a directory')
            if path.is_file():
                if name == declarations.WHEELS:
                    with path.open('rb') as file:
                        wheel.check(path.name, file)
                yield path.relative_to(source).as_posix(), path
