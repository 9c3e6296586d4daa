"""How the service is exchanged elsewhere: the same load sees what it costs.

The options of uWSGI are those of ``httpd/glance-api-uwsgi.ini`` in Glance's
source tree, but for how many processes and threads there are.
"""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import threading
import time

import requests

from tests.functional import processes
from tests.ota import results
from tests.ota import site as site_module

_INI = """\
[uwsgi]
socket-timeout = 30
http-auto-chunked = true
http-chunked-input = true
http-raw-body = true
chmod-socket = 666
lazy-apps = true
add-header = Connection: close
buffer-size = 65535
thunder-lock = true
enable-threads = true
exit-on-reload = true
die-on-term = true
master = true
processes = {processes}
threads = {threads}
http = 127.0.0.1:{port}
module = glance.wsgi.api:application
"""
#: Seconds that a container has to end, as Docker has it.
_STOP = 10
#: Seconds after which systemd starts again what ended (RestartSec).
_RESTART = 0.1
#: Seconds of load before an exchange and after it.
_PAUSE = 5.0


class Supervised:
    """uWSGI, started again whenever it ends; a context manager.

    That is what systemd does with ``Restart=always``, and what runs
    containers.

    :param slot: where the release is
    """

    def __init__(self, site: site_module.Site, slot: Path) -> None:
        self._site = site
        self._slot = slot
        self._ini = site.root / 'glance-api-uwsgi.ini'
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running)

    def _keep_running(self) -> None:
        environment = processes.environment(**self._site.service.environment)
        del environment['PYTHONPATH']
        while not self._ended.is_set():
            with open(self._site.root / 'baseline.log', 'ab') as log:
                self._process = subprocess.Popen(
                    [self._slot / 'bin' / 'pyuwsgi', '--ini', self._ini],
                    env=environment, cwd='/', stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL, start_new_session=True)
            self._process.wait()
            self._ended.wait(_RESTART)

    def __enter__(self) -> Supervised:
        self._ini.write_text(_INI.format(
            processes=site_module.PROCESSES, threads=site_module.THREADS,
            port=self._site.port))
        self._thread.start()
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._signal(signal.SIGKILL)
        self._thread.join()

    def wait(self) -> None:
        """Wait until it answers."""
        processes.poll(self._answers, 'uWSGI', site_module.PATIENCE)

    def _answers(self) -> bool:
        try:
            return requests.get(f'http://127.0.0.1:{self._site.port}/v2/images',
                                timeout=30).status_code == 200
        except requests.RequestException:
            return False

    def _signal(self, number: int) -> None:
        process = self._process
        if process and process.poll() is None:
            (os.killpg if number == signal.SIGKILL else os.kill)(
                process.pid, number)

    def reload(self) -> None:
        """Have it reload gracefully, as uWSGI's documentation says."""
        self._signal(signal.SIGHUP)

    def replace(self) -> None:
        """Stop it, and start another one, as a container is replaced."""
        stopping = self._process
        self._signal(signal.SIGTERM)
        try:
            if stopping:
                stopping.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)


METHODS: dict[str, Callable[[Supervised], None]] = {
    'SIGHUP, as Glance documents it': Supervised.reload,
    'stop and start, as kolla does': Supervised.replace,
}


def measure(site: site_module.Site, slot: Path, method: str,
            exchanges: int = 1) -> results.Run:
    """Exchange a release by one of the methods, under load."""
    before, during = [], []
    with Supervised(site, slot) as supervised:
        with site_module.Loading(site.port, site.root / (
                f'answers-{len(method)}')) as loading:
            for _ in range(exchanges):
                time.sleep(_PAUSE)
                begin = time.monotonic()
                METHODS[method](supervised)
                time.sleep(1)
                supervised.wait()
                time.sleep(_PAUSE)
                before.append(results.Window(begin - _PAUSE, begin))
                during.append(results.Window(begin, time.monotonic()))
        return results.Run(method, exchanges, loading.answers(), before,
                           during)
