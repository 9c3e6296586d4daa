"""A systemd of its own for tests: a user's manager, with our units.

It needs root, and no more of the machine: what the manager takes for a
machine that was booted with systemd is in a mount namespace of its own, and
its control groups are in one that is made for it, since it would move
everybody else's processes out of where it finds itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import tempfile
import uuid

from tests.functional import processes

UNITS = processes.ROOT / 'etc' / 'systemd'
SYSTEMD = '/usr/lib/systemd/systemd'
#: What a user's manager cannot have, and what would hide the tests.
_NOT_HERE = re.compile(
    r'^(User|Group|ProtectHome|PrivateTmp|ProtectKernelLogs|'
    r'ProtectKernelTunables)=.*$', re.MULTILINE)
_INSIDE = """\
set -eu
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir -p /run/systemd/system
exec "$@"
"""


class UserSystemd:
    """The manager.

    :param port: what ``easystack-image.socket`` listens on
    :param environment: more variables of what it starts
    """

    #: Where the updater's configuration is, if there is one.
    updater: Path

    def __init__(self, port: int, **environment: str) -> None:
        # Sockets need short paths.
        self.path = Path(tempfile.mkdtemp(prefix='sd-'))
        self._port = port
        self._groups: list[Path] = []
        self.runtime = self.path / 'run'
        units = self.path / 'config' / 'systemd' / 'user'
        units.mkdir(parents=True)
        self.runtime.mkdir(mode=0o700)
        self.updater = self.path / 'ota.conf'
        self.environment = processes.environment(
            XDG_RUNTIME_DIR=str(self.runtime), HOME=str(self.path),
            XDG_CONFIG_HOME=str(self.path / 'config'), **environment)
        self.environment['PATH'] = os.pathsep.join([
            str(self.path / 'bin'), self.environment['PATH']])
        self._install(units)
        self._install_systemctl(self.path / 'bin')
        self._process: subprocess.Popen[bytes] | None = None

    def _install(self, units: Path) -> None:
        for unit in UNITS.glob('easystack-image[.@]*'):
            text = _NOT_HERE.sub('', unit.read_text()).replace(
                'ListenStream=127.0.0.1:9292',
                f'ListenStream=127.0.0.1:{self._port}').replace(
                '/env easystack-image-ota', '/env easystack-image-ota '
                f'--config-file={self.updater}').replace(
                '[Service]\n', '[Service]\n'
                f'StandardOutput=append:{self.path}/log\n'
                f'Environment=PATH={self.environment["PATH"]}\n')
            (units / unit.name).write_text(text)

    def _install_systemctl(self, directory: Path) -> None:
        """Have what the manager starts find this manager."""
        directory.mkdir()
        path = directory / 'systemctl'
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.systemctl)} "$@"\n')
        path.chmod(0o755)

    @property
    def systemctl(self) -> Sequence[str]:
        """How to call systemctl, in words."""
        return ('env', f'XDG_RUNTIME_DIR={self.runtime}',
                shutil.which('systemctl') or 'systemctl', '--user')

    def start(self) -> None:
        """Start the manager; return when it answers."""
        self._groups = list(_control_groups(f'easystack-{uuid.uuid4().hex}'))
        for group in self._groups:
            group.mkdir()

        def enter() -> None:
            for group in self._groups:
                (group / 'cgroup.procs').write_text('0')

        with (self.path / 'log').open('wb') as log:
            self._process = subprocess.Popen(
                ['unshare', '--mount', '--propagation', 'private', 'sh',
                 '-c', _INSIDE, 'sh', SYSTEMD, '--user',
                 '--unit=basic.target', '--log-target=console'],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, preexec_fn=enter, start_new_session=True)
        processes.poll(lambda: self.ask('show', '--property=Version').
                       returncode == 0, 'systemd')

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call systemctl."""
        return subprocess.run(
            [*self.systemctl, '--no-pager', *words], text=True,
            capture_output=True, timeout=120, check=False)

    def log(self) -> str:
        """Return what the manager and what it starts have said."""
        return (self.path / 'log').read_text(errors='replace')

    def stop(self) -> None:
        """End all that it started, and the manager."""
        if self._process is not None:
            for unit in ('easystack-image@*.service', 'easystack-image.*'):
                self.ask('kill', '--signal=SIGKILL', unit)
            self.ask('exit')
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
            self._end_all()
            self._process.wait()
            self._process = None
        shutil.rmtree(self.path, ignore_errors=True)

    def _end_all(self) -> None:
        """Kill what is left in its control groups, and remove them."""
        for group in self._groups:
            processes.poll(lambda group=group: not _killed(group),
                           f'the end of {group}')
            for path in sorted(group.rglob('*'), reverse=True):
                if path.is_dir():
                    path.rmdir()
            group.rmdir()


def _killed(group: Path) -> list[int]:
    pids = [int(pid) for path in [group, *group.rglob('*')]
            if path.is_dir()
            for pid in (path / 'cgroup.procs').read_text().split()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def _control_groups(name: str) -> Iterator[Path]:
    """Yield where to make control groups that systemd takes for its own.

    One in the hierarchy of cgroup v2, and one in that which systemd names
    where it still uses version 1.
    """
    for line in Path('/proc/self/mountinfo').read_text().splitlines():
        place, details = line.split()[4], line.partition(' - ')[2]
        if details.startswith('cgroup2 ') or 'name=systemd' in details:
            yield Path(place, name)
