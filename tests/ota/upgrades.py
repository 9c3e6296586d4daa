"""What tests of upgrades have in common: a machine with a holder, and load."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import http.client
import os
from pathlib import Path
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from typing import Any

import fixtures
import testtools
from testtools import content

from tests.functional import processes
from tests.ota import holders
from tests.ota import small
from tests.ota import test_serving
from tests.unit.ota import base

PROCESSES = 2
TIMEOUT = 120.0
#: What is wrong with releases, and what they declare, by their version.
RELEASES: dict[str, dict[str, Any]] = {
    '1.0.0': {}, '2.0.0': {},
    '3.0.0': {'wrong': 'raise ImportError("it is broken")'},
    '4.0.0': {'wrong': 'LOSES = True'},
    '5.0.0': {'wrong': 'STATUS = "500 Internal Server Error"'},
    '6.0.0': {'wrong': 'SLOW = 0.3'},
    '7.0.0': {'database': ['expand', 'contract']},
    '8.0.0': {'wrong': 'FAILS = True'},
    '9.0.0': {'wrong': 'HANGS = True'},
    '10.0.0': {'wrong': 'STUCK = True'},
}


class UpgradeCase(testtools.TestCase):
    """A machine on which release 1.0.0 serves.

    What is published, and slots once they are built, are the same for all
    tests of a class.
    """

    site: small.Site
    shared: Path
    _directory: fixtures.TempDir

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._directory = fixtures.TempDir()
        cls._directory.setUp()
        cls.shared = Path(cls._directory.path).resolve()
        cls.site = small.Site(cls.shared / 'site')
        cls.site.directory.mkdir()
        cls.site.begin()
        for number, (version, others) in enumerate(RELEASES.items(), 1):
            cls.site.add(version, number, **others)
        cls.site.sign_and_publish(['stable'])

    @classmethod
    def tearDownClass(cls) -> None:
        for path in cls.shared.rglob('*'):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        cls._directory.cleanUp()
        super().tearDownClass()

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.Timeout(
            int(os.environ.get('OS_TEST_TIMEOUT', 600)), gentle=True))
        # Sockets need short paths.
        directory = tempfile.TemporaryDirectory(prefix='ota-')
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.opt = self.shared / 'opt'
        (self.opt / 'current').unlink(missing_ok=True)
        shutil.rmtree(self.opt / 'generations', ignore_errors=True)
        self.port = processes.free_port()
        self.options: dict[str, object] = {
            'repository': f'file://{self.site.directory}/repository/public',
            'trusted_root': self.site.directory / 'root.json',
            'state_directory': self.root / 'state',
            'slots_directory': self.opt, 'run_directory': self.root / 'run',
            'hooks_directory': self.root / 'hooks', 'uv': base.UV,
            'listen': f'127.0.0.1:{self.port}', 'processes': PROCESSES,
            'threads': 2, 'application': small.APPLICATION,
            'config_file': self.root / 'glance-api.conf', 'warm_paths': '/',
            'start_timeout': 60, 'soak': 0.3,
            'canary_size': 1, 'watch_requests': 20}
        self.config = self.root / 'ota.conf'
        self.configure()
        self.start_keeper()
        self.succeed('install', '1.0.0')

    def start_keeper(self) -> None:
        """Start what keeps the socket and starts instances."""
        self.holder = holders.Holder(self.config, self.root / 'run',
                                     self.root / 'holder.log')
        self.addCleanup(self.holder.stop)
        self.addCleanup(self.show_logs)
        self.holder.start()

    def configure(self, **others: object) -> None:
        self.options.update(others)
        self.config.write_text('[easystack_ota]\n' + ''.join(
            f'{name} = {value}\n' for name, value in self.options.items()))
        # It may have a password in it.
        self.config.chmod(0o600)

    def show_logs(self) -> None:
        for path in (self.root / 'holder.log',
                     *(self.root / 'run/logs').glob('*')):
            self.addDetail(path.name, content.text_content(
                path.read_text(errors='replace')[-4000:]))

    def arguments(self, *words: object) -> list[str]:
        return [str(base.COMMAND), '--config-file', str(self.config),
                *map(str, words)]

    def start_command(self, *words: object) -> subprocess.Popen[str]:
        """Start the command; the test ends it."""
        child = subprocess.Popen(
            self.arguments(*words, '-f', 'json'), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        return child

    def command(self, *words: object) -> base.Result:
        """Run the command; never see a traceback."""
        done = subprocess.run(
            self.arguments(*words, '-f', 'json'), capture_output=True,
            text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
        result = base.Result(done.returncode, done.stdout, done.stderr)
        self.addDetail('-'.join(map(str, words)).replace('/', '.'),
                       content.text_content(
                           f'{done.returncode}\n{done.stdout}{done.stderr}'))
        self.assertNotIn('Traceback', result.errors)
        return result

    def succeed(self, *words: object) -> Any:
        result = self.command(*words)
        self.assertEqual(0, result.code, result.errors)
        return result.json

    def status(self) -> Any:
        result = self.command('status')
        self.assertIn(result.code, (0, 3), result.errors)
        return result.json

    def load(self) -> test_serving.Load:
        """Return clients that ask all the time."""
        # What the updater does needs the processors, too.
        return test_serving.Load(self.port, pause=0.02)

    def names(self, role: str = 'serving') -> list[str]:
        return [each['name'] for each in self.status()['instances']
                if each['role'] == role]

    def settled(self) -> list[str]:
        """Return the names of all instances, when none leaves any more."""
        processes.poll(lambda: not self.names('leaving'), 'the ends')
        return [each['name'] for each in self.status()['instances']]

    def serves(self, *versions: str) -> None:
        """See that one of these releases answers, and none but it."""
        name = self.settled()
        self.assertEqual(1, len(name), name)
        version = name[0].rpartition('.')[0]
        self.assertIn(version, versions)
        answers = {test_serving.ask(self.port) for _ in range(10)}
        self.assertEqual({name[0]}, answers)
        status = self.status()
        self.assertEqual(version, status['current']['version'])
        self.assertIsNotNone(status['upgrade']['outcome'])

    def kill(self, name: str) -> None:
        """Kill the master of an instance."""
        for each in self.status()['instances']:
            if each['name'] == name and each['pid']:
                os.kill(each['pid'], signal.SIGKILL)

    def event(self, target: str, step: str) -> str | None:
        """Return how far a step is, if the last upgrade is to a release."""
        upgrade = self.status()['upgrade']
        return next((each['event'] for each in upgrade['steps']
                     if each['step'] == step), None) if (
                         upgrade['target'] == target) else None

    def seconds(self, step: str) -> float:
        """Return how long a step of the last upgrade took."""
        return next(each['seconds'] for each in
                    self.status()['upgrade']['steps']
                    if each['step'] == step)


def since(moment: float) -> float:
    return time.monotonic() - moment


class Upload:
    """An upload that goes on until it is left, in chunks; a context manager.

    :param port: of the service
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(
            '127.0.0.1', port, timeout=TIMEOUT)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        #: Which instance answered.
        self.answers: list[str] = []

    def _pieces(self) -> Iterator[bytes]:
        while not self._ended.wait(0.1):
            yield bytes(1 << 16)

    def _run(self) -> None:
        with contextlib.closing(self._connection):
            self._connection.request(
                'PUT', '/', body=self._pieces(), encode_chunked=True,
                headers={'Transfer-Encoding': 'chunked'})
            answer = self._connection.getresponse()
            answer.read()
            self.answers.append(answer.headers['X-Instance'])

    def __enter__(self) -> Upload:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
