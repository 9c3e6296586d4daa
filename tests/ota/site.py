"""A machine that serves images, and gets its releases over the air."""

from __future__ import annotations

import json
from pathlib import Path
import signal
import subprocess
from types import TracebackType
from typing import Any

from easystack_image.ota import settings
from easystack_image.ota.serving import command
from tests.functional import configuration
from tests.functional import processes
from tests.functional import server
from tests.ota import holders
from tests.ota import load
from tests.ota import releases

PROCESSES, THREADS = 2, 8
#: Seconds that Glance may take to load, on a busy machine.
PATIENCE = 180.0


class _Shared(server.MariaDB):
    """The database of another node, which has been laid out."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site

    def create(self) -> str:
        """See the base class."""
        return self._site.glance.connection


class Site:
    """The configuration of Glance, its database and devices, and slots.

    :param root: an existing directory, with a short path: sockets are in it
    :param pipelines: the paste file; by default with a filter instead of
        Keystone
    :param options: more of Glance's configuration
    :param beside: another node, which has the same images
    """

    def __init__(self, root: Path, pipelines: str | None = None,
                 options: server.Options | None = None,
                 beside: Site | None = None) -> None:
        self.root = root
        self.port = processes.free_port()
        self.glance = server.Glance(
            root, beside.glance.stores if beside else [
                server.block_store('copies', server.make_devices(root))],
            options=options, database=_Shared(beside) if beside else (
                server.MariaDB()),
            pipelines=releases.paste() if pipelines is None else pipelines,
            port=self.port)
        self.slots_directory = root / 'opt'
        self.run_directory = root / 'run'
        self.config_file = root / 'ota.conf'

    def prepare(self, **options: object) -> None:
        """Write all configuration, and lay out database and devices.

        :param options: of the updater, see :meth:`configure`
        """
        self.glance.prepare()
        self.glance.init_devices()
        self.configure(**options)

    def configure(self, publisher: releases.Publisher | None = None,
                  **options: object) -> None:
        """Write the updater's configuration.

        :param publisher: where releases come from
        :param options: more, or other values
        """
        given: dict[str, object] = {
            'state_directory': self.root / 'state',
            'slots_directory': self.slots_directory,
            'run_directory': self.run_directory,
            'hooks_directory': self.root / 'hooks',
            'uv': processes.script('uv'),
            'listen': f'127.0.0.1:{self.port}',
            'config_file': self.glance.config_file,
            'processes': PROCESSES, 'threads': THREADS, 'canary_size': 1}
        if publisher:
            given |= {'repository': publisher.url,
                      'trusted_root': publisher.trusted_root}
        configuration.write(self.config_file,
                            {settings.GROUP: given | options})

    def ota(self, *arguments: object, accept: tuple[int, ...] = (0,),
            timeout: float = 600) -> str:
        """Call the updater, as this machine's operator."""
        return releases.ota('--config-file', self.config_file, *arguments,
                            accept=accept, timeout=timeout)

    def hold(self) -> holders.Holder:
        """Return the updater's holder, to be started and stopped."""
        return holders.Holder(self.config_file, self.run_directory,
                              self.root / 'holder.log')

    def build_slot(self, archive: Path) -> Path:
        """Install a release in a slot; return its path."""
        found = json.loads(self.ota(
            'slots', 'build', '--unsigned', archive, '-f', 'json'))
        return Path(found['path'])

    @property
    def service(self) -> command.Service:
        """What the instances serve."""
        return command.Service(
            processes=PROCESSES, threads=THREADS, environment={
                'OS_GLANCE_CONFIG_DIR': str(self.glance.config_file.parent)})


class Loading:
    """A load on a service, in a process of its own; a context manager.

    :param port: where the service listens
    :param record: the file that gets the answers
    :param patience: of the clients; see ``load``
    """

    def __init__(self, port: int, record: Path,
                 patience: float = 1.0) -> None:
        self._command = [processes.script('python'), '-m', 'tests.ota.load',
                         str(port), str(record), str(patience)]
        self._record = record
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Loading:
        self._process = subprocess.Popen(
            self._command, env=processes.environment(), cwd=processes.ROOT,
            stdout=subprocess.PIPE, text=True)
        if not self._process.stdout or (
                self._process.stdout.readline() != 'ready\n'):
            self._process.kill()
            self._process.wait()
            raise processes.ProcessFailed(f'no load: {self.answers()[-1:]}')
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 trace: TracebackType | None) -> None:
        process = self._process
        if process and process.poll() is None:
            process.send_signal(signal.SIGTERM if kind is None
                                else signal.SIGKILL)
            try:
                process.wait(load.TIMEOUT + PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
        if process and process.stdout:
            process.stdout.close()

    def answers(self) -> list[load.Answer]:
        """Return all answers so far."""
        return load.read(self._record)

    def failures(self) -> list[dict[str, Any]]:
        """Return what went wrong so far."""
        return [vars(answer) for answer in self.answers()
                if answer.outcome != 'ok']
