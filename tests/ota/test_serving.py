"""Instances on one socket: gates, handovers, deaths."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import http.client
import os
from pathlib import Path
import signal
import socket
import sys
import tempfile
import threading
import time

import fixtures
import psutil
import testtools

from easystack_image import exceptions
from easystack_image.ota.serving import command
from easystack_image.ota.serving import holder as holder_module
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import launcher as launcher_module
from easystack_image.ota.serving import listening
from easystack_image.ota.serving import warmth
from tests.functional import processes
from tests.ota import slow_app

SLOT = Path(sys.prefix).resolve()
PROCESSES, THREADS = 2, 2
TIMEOUT = 20.0


class Load:
    """Clients that ask all the time, and note what they see.

    :param pause: seconds between an answer and the next question
    """

    def __init__(self, port: int, clients: int = 3,
                 pause: float = 0) -> None:
        self.port = port
        self.pause = pause
        self.failures: list[str] = []
        self.answers: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on)
                         for _ in range(clients)]

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            try:
                name = ask(self.port)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            else:
                self.answers.append((time.monotonic(), name))
            self._stop.wait(self.pause)

    def since(self, moment: float) -> set[str]:
        """Return who answered after a moment."""
        return {name for when, name in self.answers if when > moment}

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def ask(port: int, seconds: float = 0, timeout: float = TIMEOUT) -> str:
    """Make a request; return the name of the instance that answers."""
    connection = http.client.HTTPConnection('127.0.0.1', port,
                                            timeout=timeout)
    with contextlib.closing(connection):
        connection.request('GET', f'/?{seconds}')
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f'{answer.status}')
        return answer.headers['X-Instance']


def lives(pid: int) -> bool:
    """Tell whether a process is more than a zombie that nobody buries."""
    try:
        status: str = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    return status != psutil.STATUS_ZOMBIE


class ServingCase(testtools.TestCase):
    """A holder, in a thread, whose instances serve a small application."""

    application = 'tests.ota.slow_app:application'

    def setUp(self) -> None:
        super().setUp()
        # Sockets need short paths.
        directory = tempfile.TemporaryDirectory(prefix='ota-')
        self.addCleanup(directory.cleanup)
        self.run_directory = Path(directory.name) / 'run'
        self.useFixture(fixtures.FakeLogger())
        self.service = command.Service(
            self.application, PROCESSES, THREADS,
            # Where the application above is: no slot holds the tests.
            environment={'PYTHONPATH': str(processes.ROOT)})
        self.holder = holder_module.Holder(self.run_directory, '127.0.0.1', 0,
                                           self.service)
        self.port = self.holder.port
        self.addCleanup(self.holder.close)
        thread = threading.Thread(target=self.holder.run)
        thread.start()
        self.addCleanup(thread.join)
        for _ in range(2):
            # At once.
            self.addCleanup(self.holder.end)
        self.launcher: launcher_module.Launcher = (
            launcher_module.HolderLauncher(self.run_directory))

    def start(self, name: str) -> instance_module.Instance:
        """Start an instance, and wait until it has loaded."""
        instance = self.launcher.start(name, SLOT)
        processes.poll(lambda: instance.loaded, name)
        return instance

    def serve(self, name: str) -> instance_module.Instance:
        instance = self.start(name)
        instance.serve(TIMEOUT)
        return instance


class TestGate(ServingCase):

    def test_shut(self) -> None:
        instance = self.start('a')
        self.assertEqual([False] * PROCESSES, [
            worker.accepting for worker in instance.workers()])
        self.assertRaises(TimeoutError, ask, self.port, timeout=1)
        # The private socket answers all the while.
        connection = http.client.HTTPConnection('localhost')
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(str(instance.place.private))
            connection.request('GET', '/')
            self.assertEqual('a', connection.getresponse().headers[
                'X-Instance'])
        instance.serve(TIMEOUT)
        self.assertEqual('a', ask(self.port))

    def test_warm(self) -> None:
        instance = self.start('a')
        warmth.ask(instance.place, [warmth.Request('/', {'X-Token': 't'}),
                                    warmth.Request('/?nonsense')])
        self.assertEqual(0o600, instance.place.warm.stat().st_mode & 0o777)
        processes.poll(lambda: len(warmth.results(
            instance.place)) == PROCESSES, 'warmth')
        found = warmth.results(instance.place)
        for worker in range(1, PROCESSES + 1):
            self.assertEqual('200 OK', found[worker].statuses[0])
            self.assertIn('ValueError', found[worker].statuses[1])
        warmth.forget(instance.place)
        self.assertFalse(instance.place.warm.exists())
        instance.serve(TIMEOUT)
        self.assertEqual('a', ask(self.port))


class TestHandover(ServingCase):

    def names(self) -> list[str]:
        return [each.name for each in self.launcher.list()]

    def leave(self, instance: instance_module.Instance) -> None:
        self.launcher.forget(instance.name)
        instance.leave()

    def wait_for(self, load: Load, name: str) -> None:
        processes.poll(lambda: load.since(time.monotonic() - 0.2) == {name},
                       f'answers of {name} alone')

    def test_many(self) -> None:
        """Nobody notices, and what takes long is answered by who began."""
        answers: list[str] = []
        slow = threading.Thread(
            target=lambda: answers.append(ask(self.port, 5)))
        serving = self.serve('0')
        with Load(self.port) as load:
            slow.start()
            processes.poll(lambda: serving.in_flight() > 0, 'a request')
            time.sleep(0.5)
            for number in range(1, 6):
                new = self.start(str(number))
                new.serve(TIMEOUT)
                self.leave(serving)
                serving = new
                self.wait_for(load, new.name)
            slow.join()
            processes.poll(lambda: self.names() == ['5'], 'the ends')
        self.assertEqual([], load.failures)
        self.assertEqual(['0'], answers)

    def test_instant_rollback(self) -> None:
        """With another one of the old slot, which waits at its gate."""
        old, standby = self.serve('old'), self.start('standby')
        with Load(self.port) as load:
            new = self.serve('new')
            self.leave(old)
            begin = time.monotonic()
            standby.serve(TIMEOUT)
            self.leave(new)
            seconds = time.monotonic() - begin
            processes.poll(lambda: self.names() == ['standby'], 'the ends')
        self.assertEqual([], load.failures)
        self.assertLess(seconds, 1)

    def test_again_changes_nothing(self) -> None:
        instance = self.serve('a')
        instance.serve(TIMEOUT)
        self.assertEqual('a', ask(self.port))
        slow = threading.Thread(target=ask, args=(self.port, 2))
        slow.start()
        processes.poll(lambda: instance.in_flight() == 1, 'a request')
        for _ in range(3):
            self.leave(instance)
        slow.join()
        processes.poll(lambda: not self.launcher.list(), 'the end')
        self.assertRaises(exceptions.InstanceError, instance.leave)

    def test_leaves_while_it_starts(self) -> None:
        """Workers that are not ready do not hear what uWSGI tells them."""
        for gate in (True, False):
            for moment in (0, 0.2, 0.5):
                name = f'{gate}-{moment}'
                instance = self.launcher.start(name, SLOT)
                if gate:
                    instance.place.gate.touch()
                processes.poll(instance.place.fifo.exists, 'uWSGI',
                               interval=0.01)
                time.sleep(moment)
                self.leave(instance)
                processes.poll(lambda: self.names() == [], f'end of {name}')

    def test_upload(self) -> None:
        """One that goes on for longer than the instance takes requests."""
        old, new = self.serve('old'), self.start('new')
        connection = http.client.HTTPConnection('127.0.0.1', self.port,
                                                timeout=TIMEOUT)

        def pieces() -> Iterator[bytes]:
            for number in range(20):
                if number == 5:
                    new.serve(TIMEOUT)
                    self.leave(old)
                time.sleep(0.1)
                yield bytes(1 << 16)

        with contextlib.closing(connection):
            connection.request('PUT', '/', body=pieces(), headers={
                'Content-Length': str(20 << 16)})
            answer = connection.getresponse()
            self.assertEqual(b'%d' % (20 << 16), answer.read())
            self.assertEqual('old', answer.headers['X-Instance'])


    def test_slow_readers(self) -> None:
        """Each thread of each worker waits for one when it has to leave."""
        old, new = self.serve('old'), self.start('new')
        with contextlib.ExitStack() as stack:
            readers = []
            for _ in range(PROCESSES * THREADS):
                connection = stack.enter_context(contextlib.closing(
                    http.client.HTTPConnection('127.0.0.1', self.port,
                                               timeout=TIMEOUT)))
                connection.request('GET', '/many')
                readers.append(connection.getresponse())
            self.assertEqual(len(readers), old.in_flight())
            new.serve(TIMEOUT)
            self.leave(old)
            time.sleep(0.5)
            sizes = [len(reader.read()) for reader in readers]
        self.assertEqual([slow_app.MANY] * len(readers), sizes)
        processes.poll(lambda: self.names() == ['new'], 'the end of old')


class TestDeaths(ServingCase):

    def kill(self, name: str) -> None:
        pid, = (each.pid for each in self.launcher.list()
                if each.name == name)
        assert pid
        os.kill(pid, signal.SIGKILL)

    def restarted(self, name: str, pid: int | None) -> bool:
        return any(each.name == name and each.pid not in (None, pid)
                   for each in self.launcher.list())

    def test_master_is_killed(self) -> None:
        """What is under way is lost, and whoever comes next only waits."""
        self.serve('a')
        pid, = (each.pid for each in self.launcher.list())
        with Load(self.port, clients=3) as load:
            time.sleep(0.5)
            self.kill('a')
            processes.poll(lambda: self.restarted('a', pid), 'a new start')
            again = time.monotonic()
            processes.poll(lambda: load.since(again), 'answers')
        self.assertLessEqual(len(load.failures), 3)
        for failure in load.failures:
            self.assertNotIn('ConnectionRefused', failure)
        self.assertEqual('a', ask(self.port))

    def test_waiting_workers_end_with_their_master(self) -> None:
        """Or they would serve, without a master, once the gate is open."""
        instance = self.start('a')
        pids = [worker.pid for worker in instance.workers()]
        self.launcher.forget('a')
        self.kill('a')
        processes.poll(lambda: not any(map(lives, pids)),
                       'the end of the workers')
        self.assertEqual([], self.launcher.list())

    def test_loading_workers_end_with_their_master(self) -> None:
        """It may be gone before they come to the gate."""
        instance = self.launcher.start('a', SLOT)
        processes.poll(lambda: instance.running and all(
            worker.pid for worker in instance.workers()), 'workers',
            interval=0.01)
        pids = [worker.pid for worker in instance.workers()]
        self.launcher.forget('a')
        self.kill('a')
        processes.poll(lambda: not any(map(lives, pids)),
                       'the end of the workers')

    def test_whoever_waits_waits_on(self) -> None:
        serving, standby = self.serve('serving'), self.start('standby')
        pid, = (each.pid for each in self.launcher.list()
                if each.name == 'standby')
        self.kill('standby')
        processes.poll(lambda: self.restarted('standby', pid), 'a new start')
        processes.poll(lambda: standby.loaded, 'the application')
        with Load(self.port) as load:
            time.sleep(1)
        self.assertEqual(({'serving'}, []), (load.since(0), load.failures))
        standby.serve(TIMEOUT)
        self.launcher.stop(serving.name)
        self.assertEqual('standby', ask(self.port))

    def test_application_that_cannot_be_loaded(self) -> None:
        self.holder._keeper._service = command.Service('tests.ota.nowhere:app',
                                               PROCESSES, 2)
        instance = self.launcher.start('broken', SLOT)
        processes.poll(lambda: any(
            each.pid is None for each in self.launcher.list()), 'its end')
        self.assertFalse(instance.loaded)
        self.assertRaises(exceptions.InstanceError, instance.serve, 1)
        self.launcher.stop('broken')
        self.assertEqual([], self.launcher.list())


class TestHolder(ServingCase):

    def test_strange_requests(self) -> None:
        for line in (b'', b'x\n', b'[]\n', b'{"do": "list"\n',
                     b'{"do": "dance", "name": "a"}\n',
                     b'{"do": "start", "name": "../a", "slot": "/"}\n',
                     b'{"do": "start", "name": "a"}\n',
                     b'{"do": "start", "name": "a", "slot": "/nowhere"}\n'):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.run_directory / 'holder'))
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
                self.assertIn(b'"error"', connection.recv(4096), line)
        self.assertEqual([], self.launcher.list())

    def test_one_at_a_time(self) -> None:
        error = self.assertRaises(
            exceptions.AlreadyRunning, holder_module.Holder,
            self.run_directory, '127.0.0.1', 0, self.service)
        self.assertIn(str(self.run_directory), str(error))

    def test_no_holder(self) -> None:
        launcher = launcher_module.HolderLauncher(Path('/nowhere'))
        error = self.assertRaises(exceptions.InstanceError, launcher.list)
        self.assertIn('easystack-image-ota hold', str(error))

    def test_port_that_is_taken(self) -> None:
        error = self.assertRaises(exceptions.ConfigurationError,
                                  listening.bind, '127.0.0.1', self.port)
        self.assertIn(str(self.port), str(error))

    def modes(self) -> Iterator[int]:
        for path in (self.run_directory / 'holder',
                     self.run_directory / 'logs' / 'a.log',
                     self.launcher.instance('a').place.private):
            yield path.stat().st_mode & 0o077

    def test_private(self) -> None:
        """Nobody else may control instances, or ask them privately."""
        self.serve('a')
        self.assertEqual({0}, set(self.modes()))
