"""``tox -e serve``: what it prints works, and it leaves nothing running."""

from __future__ import annotations

import json
import os
from pathlib import Path
import re
import shlex
import signal
import socket
import stat
import sys

import psutil
import requests

from tests.functional import base
from tests.functional import processes


class TestServe(base.TestCase):

    def serve(self, *options: str) -> processes.Process:
        served = processes.Process(
            [sys.executable, '-m', 'tests.deployment.serve', *options],
            self.temporary_directory() / 'serve.log')
        # It stops its servers, which are in process groups of their own.
        self.addCleanup(served.stop, timeout=60)
        served.start()
        return served

    def wait_until_up(self, served: processes.Process) -> str:
        """Return all that it printed."""
        processes.poll(lambda: 'Devices' in served.tail() or not
                       served.running, 'the deployment', 300, interval=0.5)
        self.assertTrue(served.running, served.tail())
        return processes.poll(
            lambda: text if 'device list' in (text := served.log.read_text())
            else '', 'the end of what is printed')

    def test_as_printed(self) -> None:
        root = self.temporary_directory() / 'kept'
        port = processes.free_port()
        served = self.serve('--directory', str(root), '--port', str(port))
        text = self.wait_until_up(served)
        self.check_commands(text, root, port)
        self.check_secrets(root)
        children = psutil.Process(served.pid).children(recursive=True)
        names = {child.name() for child in children}
        self.assertIn('mariadbd', names)
        os.kill(served.pid, signal.SIGINT)
        processes.poll(lambda: not served.running, 'its end', 120)
        self.assertIn('Stopped.', served.tail())
        gone, alive = psutil.wait_procs(children, timeout=5)
        self.assertEqual([], alive)
        self.assertTrue((root / 'glance' / 'glance-api.log').exists())

    def check_commands(self, text: str, root: Path, port: int) -> None:
        export = re.search('^export (.*)=(.*)$', text, re.MULTILINE)
        command = re.search('^(.*/openstack .*)$', text, re.MULTILINE)
        assert export and command, text
        answer = processes.check(
            [*shlex.split(command[1]), '-f', 'json'],
            **{export[1]: shlex.split(export[2])[0]})
        self.assertEqual([], json.loads(answer))
        self.assertIn(f'http://127.0.0.1:{port}\n', text)
        health = requests.get(f'http://127.0.0.1:{port}/healthcheck',
                              timeout=60)
        self.assertEqual(200, health.status_code, health.text)
        listed = processes.check(shlex.split(text.strip().splitlines()[-1]))
        self.assertEqual(3, listed.count(str(root / 'glance' / 'disk')))

    def check_secrets(self, root: Path) -> None:
        """Files that hold a password are closed to others."""
        password = re.search('password: (.*)', (
            root / 'clouds.yaml').read_text())
        assert password
        for path in ('clouds.yaml', 'glance/etc/glance-api.conf',
                     'keystone/etc/keystone.conf'):
            mode = stat.S_IMODE((root / path).stat().st_mode)
            self.assertEqual(0o600, mode, path)
        self.assertEqual(0o700, stat.S_IMODE(root.stat().st_mode))
        for log in root.rglob('*.log'):
            self.assertNotIn(password[1], log.read_text(errors='replace'))

    def test_directory_in_use(self) -> None:
        root = self.temporary_directory()
        (root / 'file').touch()
        result = processes.run([sys.executable, '-m', 'tests.deployment.serve',
                                '--directory', str(root)])
        self.assertEqual(2, result.returncode)
        self.assertIn(f'{root} is not empty', result.stderr)
        self.assertEqual([root / 'file'], list(root.iterdir()))

    def test_port_in_use(self) -> None:
        """It says so at once, instead of talking to somebody else."""
        for option in ('--port', '--keystone-port'):
            with socket.socket() as taken:
                taken.bind(('127.0.0.1', 0))
                taken.listen()
                number = str(taken.getsockname()[1])
                result = processes.run(
                    [sys.executable, '-m', 'tests.deployment.serve', option,
                     number])
                self.assertEqual(2, result.returncode)
                self.assertIn(f'{number} is in use', result.stderr)
