"""A WSGI application as a service: under uWSGI on a port of 127.0.0.1."""

from __future__ import annotations

from pathlib import Path

import requests

from tests.functional import processes


class Service:
    """One application; ``start``, ``stop`` and ``kill`` may follow at will.

    :param name: what messages call it
    :param module: where the application is, ``package.module:name``
    :param log: what the application and uWSGI say is appended there
    :param workers: uWSGI's processes
    :param threads: of each worker
    :param port: by default one that is free
    :param env: environment variables
    """

    def __init__(self, name: str, module: str, log: Path, workers: int = 1,
                 threads: int = 1, port: int | None = None,
                 **env: str) -> None:
        self.name = name
        self.port = port or processes.free_port()
        self.url = f'http://127.0.0.1:{self.port}'
        self._process = processes.Process(
            self._command(module, workers, threads), log,
            processes.environment(**env))

    @property
    def command(self) -> list[str]:
        """How uWSGI is called, in words."""
        return self._process.arguments

    def _command(self, module: str, workers: int, threads: int) -> list[str]:
        # etc/uwsgi/glance-api.ini says what each is for.
        return [
            processes.script('pyuwsgi'), '--master', '--die-on-term',
            '--need-app', '--lazy-apps', '--thunder-lock',
            '--enable-threads',
            '--processes', str(workers), '--threads', str(threads),
            '--http-socket', f'127.0.0.1:{self.port}',
            '--add-header', 'Connection: close',
            '--buffer-size', '65535',
            '--chunked-input-limit', str(16 << 20),
            '--chunked-input-timeout', '60', '--socket-timeout', '60',
            '--module', module]

    def start(self, timeout: float = 180) -> None:
        """Start, and return when requests are answered.

        :param timeout: seconds
        :raises ProcessFailed: with the end of the log
        """
        self._process.start()
        try:
            processes.poll(lambda: self._answers() or not self.running,
                           self.name, timeout, interval=0.05)
            started = self.running
        except TimeoutError:
            started = False
        if not started:
            self.kill()
            raise processes.ProcessFailed(
                f'{self.name} does not start:\n{self.log_tail()}')

    def _answers(self) -> bool:
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f'{self.url}/', timeout=5).status_code < 500
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """Stop in an orderly way."""
        self._process.stop()

    def kill(self) -> None:
        """Kill all processes at once, as a power failure would."""
        self._process.kill()

    @property
    def running(self) -> bool:
        """Whether the service runs."""
        return self._process.running

    @property
    def pid(self) -> int:
        """The process id of uWSGI's master, and of its process group."""
        return self._process.pid

    def log(self) -> str:
        """Return all that the application and uWSGI have logged so far."""
        path = self._process.log
        return path.read_text(errors='replace') if path.exists() else ''

    def log_tail(self, lines: int = 60) -> str:
        """Return the end of the log."""
        return self._process.tail(lines)
