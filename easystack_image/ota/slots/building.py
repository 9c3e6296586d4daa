"""Building a slot: a virtual environment, offline, with hashes, by uv.

uv reads no configuration, asks no index, and uses no cache but an empty one:
what it installs are the wheels of the release, whose hashes it compares with
the lock file once more.  It is on a leash: if the updater is killed, uv and
what that started end as well, and the slots are locked until they have.
"""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path
import shutil

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.hooks import leashed
from easystack_image.ota.release import archive
from easystack_image.ota.release import declaration as declarations

#: Seconds that a program may take.
_PATIENCE = 1800
_VERSION = ('import sys; print("%d.%d" % sys.version_info[:2]); '
            'print(sys.executable)')


class Builder:
    """Builds slots.

    :param uv: the program, or its name in PATH
    :param python: the interpreter, or its name in PATH
    """

    def __init__(self, uv: str, python: str) -> None:
        self._uv = uv
        self._python = python

    def build(self, path: Path, digest: str, slot: Path, scratch: Path,
              lock: int) -> tuple[declarations.Declaration, str]:
        """Install a release, for good, at the path that it will have.

        Virtual environments cannot be moved.

        :param path: of the archive
        :param digest: of its declaration; nothing of it runs before that was
            compared
        :param slot: does not exist yet
        :param scratch: an empty directory, on the same file system
        :param lock: the descriptor of the lock on the slots
        :returns: the release, and the release of Python that runs it
        :raises easystack_image.exceptions.OtaError: if it cannot be built
        """
        # Programs run in another directory.
        scratch = scratch.absolute()
        unpacked = scratch / 'release'
        unpacked.mkdir()
        fd = fsio.open_directory(str(unpacked))
        try:
            release = archive.unpack(path, fd)
        finally:
            os.close(fd)
        if release.digest != digest:
            raise exceptions.SlotError(
                f'{path} was replaced while it was read: "download" it again')
        version, executable = self._find_python(release, lock)
        self._call_uv(scratch, lock, 'venv', '--no-project', '--python',
                      executable, slot)
        self._call_uv(
            scratch, lock, 'pip', 'install',
            '--python', slot / 'bin' / 'python', '--no-index',
            '--find-links', unpacked / declarations.WHEELS,
            '--require-hashes', '--no-build', '--link-mode', 'copy',
            '--compile-bytecode', '--requirement',
            unpacked / declarations.LOCK)
        (slot / archive.DECLARATION).write_bytes(release.dump())
        for name in (declarations.LOCK, declarations.CONFIG):
            if (unpacked / name).exists():
                shutil.move(unpacked / name, slot / name)
        return release, version

    def _find_python(self, release: declarations.Declaration, lock: int,
                     ) -> tuple[str, str]:
        """Return the release of Python, and the path of the interpreter."""
        version, executable = _run(
            self._python, ['-c', _VERSION], os.environ, lock,
            'set [easystack_ota] python').splitlines()
        if version not in release.python:
            raise exceptions.RefusedRelease(
                f'release {release} is for Python '
                f'{", ".join(release.python)}; {executable} is {version}: '
                'set [easystack_ota] python to another')
        return version, executable

    def _call_uv(self, scratch: Path, lock: int, *arguments: object) -> None:
        environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(('UV_', 'PIP_', 'PYTHON', 'VIRTUAL_ENV'))}
        environment['UV_CACHE_DIR'] = str(scratch / 'cache')
        _run(self._uv, ['--no-config', '--offline', '--no-progress',
                        '--no-python-downloads', *map(str, arguments)],
             environment, lock,
             'install uv, or set [easystack_ota] uv to its path')


def _run(program: str, arguments: list[str], environment: Mapping[str, str],
         lock: int, advice: str) -> str:
    """Run a program; return what it prints.

    :param program: a path, or its name in PATH
    :param lock: is held as long as anything lives that it started
    :param advice: what to do if it is not there
    """
    found = shutil.which(program)
    if found is None:
        raise exceptions.SlotError(
            f'{program} cannot be run (it is not there, or is no program): '
            f'{advice}')
    ended = leashed.run([os.path.abspath(found), *arguments], _PATIENCE,
                        environment=environment, keep=(lock,), share=True)
    if ended.code is None:
        raise exceptions.SlotError(f'{program}: {ended.reason}')
    if ended.code:
        raise exceptions.SlotError(
            f'{program} failed ({ended.code}): '
            f'{ended.stderr.strip()[-2000:]}')
    return ended.stdout
