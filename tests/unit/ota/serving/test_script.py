"""What a unit of systemd runs; uWSGI's place is taken by "env"."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import script


class ScriptTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        root = Path(self.useFixture(fixtures.TempDir()).path).resolve()
        # Blanks and quotes must do no harm.
        self.slot = root / "1.0 'x'"
        program = self.slot / 'bin' / 'uwsgi'
        program.parent.mkdir(parents=True)
        program.write_text('#!/bin/sh\nfor word; do echo "$word"; done\nenv\n')
        program.chmod(0o755)
        self.place = layout.Place(root / 'a')
        self.place.path.mkdir()
        self.path = root / 'start'
        self.service = command.Service(environment={'GREETING': "it's $HOME"})
        self.path.write_text(script.text(self.slot, self.place, self.service))

    def run_script(self, **environment: str,
                   ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ['/bin/sh', self.path], capture_output=True, text=True,
            env={'PATH': os.environ['PATH'], **environment}, timeout=60)

    def test_command(self) -> None:
        for stale in (self.place.fifo, self.place.private, self.place.gate):
            stale.touch()
        done = self.run_script(
            LISTEN_FDS='1', LISTEN_PID='7', LISTEN_FDNAMES='x',
            PYTHONPATH='/elsewhere', KEPT='yes')
        self.assertEqual((0, ''), (done.returncode, done.stderr))
        lines = done.stdout.splitlines()
        arguments = command.arguments(self.slot, self.place, self.service)
        self.assertEqual(arguments[1:], lines[:len(arguments) - 1])
        found = dict(line.partition('=')[::2]
                     for line in lines[len(arguments) - 1:])
        self.assertEqual("it's $HOME", found['GREETING'])
        self.assertEqual('yes', found['KEPT'])
        self.assertEqual(str(self.place.path),
                         found[layout.DIRECTORY_VARIABLE])
        self.assertEqual(set(), {'LISTEN_FDS', 'LISTEN_PID', 'PYTHONPATH',
                                 'LISTEN_FDNAMES'} & set(found))
        # The gate stays: an instance that died does what it did.
        self.assertEqual(['gate'], [
            path.name for path in self.place.path.iterdir()])

    def test_options_of_uwsgi(self) -> None:
        """They would get past the check of the deployer's file."""
        done = self.run_script(LISTEN_FDS='1', UWSGI_HARAKIRI='60',
                               UWSGI_IDLE='1', UWSGI='x', MY_UWSGI_='y')
        self.assertEqual(0, done.returncode)
        self.assertEqual(['UWSGI_HARAKIRI', 'UWSGI_IDLE'], sorted(
            line.split()[0] for line in done.stderr.splitlines()))
        self.assertNotIn('UWSGI_HARAKIRI=', done.stdout)
        self.assertNotIn('UWSGI_IDLE=', done.stdout)
        self.assertIn('\nUWSGI=x\n', done.stdout)
        self.assertIn('\nMY_UWSGI_=y\n', done.stdout)

    def test_one_socket(self) -> None:
        for count in ({}, {'LISTEN_FDS': '0'}, {'LISTEN_FDS': '2'}):
            done = self.run_script(**count)
            self.assertEqual((1, ''), (done.returncode, done.stdout))
            self.assertIn('one ListenStream', done.stderr)

    def test_slot(self) -> None:
        self.assertEqual(self.slot, script.slot_of(self.path))
        self.path.write_text('#!/bin/sh\n')
        self.assertRaises(exceptions.InstanceError, script.slot_of,
                          self.path)
