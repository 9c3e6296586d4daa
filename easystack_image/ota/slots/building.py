"""Building a slot: a virtual environment, offline, with hashes, by uv.

uv reads no configuration, asks no index, and uses no cache but an empty one:
what it installs are the wheels of the release, whose hashes it compares with
the lock file once more.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import shutil
import subprocess

from easystack_image import exceptions
from easystack_image import fsio
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
              ) -> tuple[declarations.Declaration, str]:
        """Install a release, for good, at the path that it will have.

        Virtual environments cannot be moved.

        :param path: of the archive
        :param digest: of its declaration; nothing of it runs before that was
            compared
        :param slot: does not exist yet
        :param scratch: an empty directory, on the same file system
        :returns: the release, and the release of Python that runs it
        :raises easystack_image.exceptions.OtaError: if it cannot be built
        """
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
        version, executable = self._find_python(release)
        self._call_uv(scratch, 'venv', '--no-project', '--python',
                      executable, slot)
        self._call_uv(
            scratch, 'pip', 'install', '--python', slot / 'bin' / 'python',
            '--no-index', '--find-links', unpacked / declarations.WHEELS,
            '--require-hashes', '--no-build', '--link-mode', 'copy',
            '--compile-bytecode', '--requirement',
            unpacked / declarations.LOCK)
        (slot / archive.DECLARATION).write_bytes(release.dump())
        for name in (declarations.LOCK, declarations.CONFIG):
            if (unpacked / name).exists():
                shutil.move(unpacked / name, slot / name)
        return release, version

    def _find_python(self, release: declarations.Declaration,
                     ) -> tuple[str, str]:
        """Return the release of Python, and the path of the interpreter."""
        version, executable = _run(
            [self._python, '-c', _VERSION], {**os.environ},
            'set [easystack_ota] python').splitlines()
        if version not in release.python:
            raise exceptions.RefusedRelease(
                f'release {release} is for Python '
                f'{", ".join(release.python)}; {executable} is {version}: '
                'set [easystack_ota] python to another')
        return version, executable

    def _call_uv(self, scratch: Path, *arguments: object) -> None:
        environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(('UV_', 'PIP_', 'PYTHON', 'VIRTUAL_ENV'))}
        environment['UV_CACHE_DIR'] = str(scratch / 'cache')
        _run([self._uv, '--no-config', '--offline', '--no-progress',
              '--no-python-downloads', *map(str, arguments)], environment,
             'install uv, or set [easystack_ota] uv to its path')


def _run(command: Sequence[str], environment: dict[str, str],
         advice: str) -> str:
    """Run a program; return what it prints.

    :param advice: what to do if it is not there
    """
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and no user's words
            command, capture_output=True, text=True, env=environment,
            stdin=subprocess.DEVNULL, timeout=_PATIENCE)
    except OSError as error:
        raise exceptions.SlotError(
            f'{command[0]} cannot be run ({error.strerror}): '
            f'{advice}') from None
    except subprocess.TimeoutExpired:
        raise exceptions.SlotError(
            f'{command[0]} took more than {_PATIENCE} s') from None
    if done.returncode:
        raise exceptions.SlotError(
            f'{command[0]} failed ({done.returncode}): '
            f'{done.stderr.strip()[-2000:]}')
    return done.stdout
