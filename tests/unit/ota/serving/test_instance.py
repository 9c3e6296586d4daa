"""What is done to the directory of an instance, whoever it belongs to."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
import socket
import tempfile
import threading
from unittest import mock

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import layout
from easystack_image.ota.serving import warmth


class DirectoryTest(testtools.TestCase):
    """The user of the service cannot lead root elsewhere."""

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        self.place = layout.Place(self.root / 'a')
        self.place.path.mkdir()
        self.other = self.root / 'other'
        self.instance = instance_module.Instance(self.place)

    def test_gate(self) -> None:
        self.place.gate.symlink_to(self.other)
        self.assertRaises(exceptions.InstanceError, self.instance.serve, 1)
        self.assertFalse(self.other.exists())

    def test_pipes(self) -> None:
        for path in (self.place.gate, self.place.leaving):
            os.mkfifo(path)
        for action in (lambda: self.instance.serve(1), self.instance.leave):
            error = self.assertRaises(exceptions.InstanceError, action)
            self.assertIn('something else is in the place of', str(error))
            self.place.gate.unlink(missing_ok=True)

    def test_directories(self) -> None:
        """Whoever has it leave can tell that it is the instance's doing."""
        for path in (self.place.gate, self.place.leaving, self.place.fifo):
            path.mkdir()
            error = self.assertRaises(exceptions.InstanceError,
                                      self.instance.leave)
            self.assertIn(str(path), str(error))
            path.rmdir()
        self.place.gate.mkdir()
        self.assertRaises(exceptions.InstanceError, self.instance.serve, 1)

    def test_no_room(self) -> None:
        """That is no reason to kill an instance."""
        with mock.patch.object(os, 'open', side_effect=OSError(
                errno.ENOSPC, 'No space left on device')):
            error = self.assertRaises(OSError, self.instance.leave)
        self.assertEqual(errno.ENOSPC, error.errno)

    def test_told_nevertheless(self) -> None:
        """What serves can end, though what does not yet may not hear it."""
        os.mkfifo(self.place.fifo)
        master = os.open(self.place.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, master)
        self.place.leaving.mkdir()
        self.assertRaises(exceptions.InstanceError, self.instance.leave)
        self.assertEqual(b'q', os.read(master, 10))

    def test_leaving(self) -> None:
        self.place.leaving.symlink_to(self.other)
        self.assertRaises(exceptions.InstanceError, self.instance.leave)
        self.assertFalse(self.other.exists())

    def test_fifo(self) -> None:
        self.other.write_text('data')
        self.place.fifo.symlink_to(self.other)
        self.assertRaises(exceptions.InstanceError, self.instance.leave)
        self.place.fifo.unlink()
        os.link(self.other, self.place.fifo)
        self.assertRaises(exceptions.InstanceError, self.instance.leave)
        self.assertEqual('data', self.other.read_text())

    def test_warm(self) -> None:
        self.other.write_text('data')
        self.place.warm.with_name('.warm.new').symlink_to(self.other)
        warmth.ask(self.place, [warmth.Request('/', {'X-Auth-Token': 't'})])
        self.assertEqual('data', self.other.read_text())
        self.assertEqual(0o600, self.place.warm.stat().st_mode & 0o777)

    def test_dead(self) -> None:
        error = self.assertRaises(exceptions.InstanceError,
                                  self.instance.leave)
        self.assertIn('does not run', str(error))


class WorkersTest(testtools.TestCase):
    """How many there are is said by uWSGI, and by no configuration."""

    def setUp(self) -> None:
        super().setUp()
        # Sockets need short paths.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.place = layout.Place(Path(directory.name))
        self.instance = instance_module.Instance(self.place)

    def master(self, *accepting: bool) -> None:
        """Answer one question as uWSGI does: a worker after the other."""
        self.say(json.dumps({'workers': [
            {'id': number, 'pid': 100 + number, 'requests': 0,
             'accepting': int(each),
             'cores': [{'in_request': 0}, {'in_request': 1}]}
            for number, each in enumerate(accepting, 1)]}))

    def say(self, text: str) -> None:
        """Answer one question."""
        listener = socket.socket(socket.AF_UNIX)
        self.place.stats.unlink(missing_ok=True)
        listener.bind(str(self.place.stats))
        listener.listen()

        def answer() -> None:
            with listener, listener.accept()[0] as connection:
                connection.sendall(text.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)

    def test_as_many_as_there_are(self) -> None:
        for number in (1, 2, 5):
            self.master(*[False] * number, True)
            found = self.instance.workers()
            self.assertEqual([100 + each for each in range(1, number + 1)],
                             [worker.pid for worker in found])
            self.assertEqual({2}, {worker.threads for worker in found})
            self.master(*[False] * number, True)
            self.assertTrue(self.instance.loaded)
            self.master(*[True] * number, False)
            self.assertFalse(self.instance.loaded)

    def test_strange_answers(self) -> None:
        for text in ('', '{}', '[]', '{"workers": [1]}', '[' * 100000):
            self.say(text)
            error = self.assertRaises(exceptions.InstanceError,
                                      self.instance.workers)
            self.assertIn('answers strangely', str(error))

    def test_no_instance(self) -> None:
        """One that has no worker beside the private one is none of ours."""
        self.master(True)
        error = self.assertRaises(exceptions.InstanceError,
                                  self.instance.workers)
        self.assertIn('1 worker', str(error))
