"""Instances as units, with a real systemd."""

from __future__ import annotations

import contextlib
import http.client
import sys
import threading
import time

import fixtures
import testtools
from testtools import content as attachments

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.release import build
from easystack_image.ota.release import sample
from easystack_image.ota.serving import command
from easystack_image.ota.serving import instance as instance_module
from easystack_image.ota.serving import systemd
from easystack_image.ota.slots import building
from easystack_image.ota.slots import seal
from easystack_image.ota.slots import slots as slots_module
from tests.functional import configuration
from tests.functional import processes
from tests.ota import test_serving as serving
from tests.ota import user_systemd
from tests.unit.ota import base


class SystemdCase(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.FakeLogger())
        self.port = processes.free_port()
        self.manager = user_systemd.UserSystemd(self.port)
        self.addCleanup(self.manager.stop)
        self.addOnException(lambda _: self.addDetail(
            'systemd.log', attachments.text_content(self.manager.log())))
        self.manager.start()
        self.launcher = systemd.SystemdLauncher(
            self.manager.runtime / 'easystack-image', command.Service(
                'tests.ota.slow_app:application', serving.PROCESSES, 2,
                environment={'PYTHONPATH': str(processes.ROOT)}),
            self.manager.systemctl)

    def start(self, name: str) -> instance_module.Instance:
        """Start an instance, and wait until it has loaded."""
        instance = self.launcher.start(name, serving.SLOT)
        processes.poll(lambda: instance.loaded, name)
        return instance

    def serve(self, name: str) -> instance_module.Instance:
        instance = self.start(name)
        instance.serve(serving.TIMEOUT)
        return instance

    def leave(self, instance: instance_module.Instance) -> None:
        self.launcher.forget(instance.name)
        instance.leave()

    def names(self) -> list[str]:
        return [each.name for each in self.launcher.list()]

    def pid(self, name: str) -> int | None:
        found, = (each.pid for each in self.launcher.list()
                  if each.name == name)
        return found

    def state(self, unit: str) -> str:
        return self.manager.ask('show', '--value', '--property=ActiveState',
                                unit).stdout.strip()


class TestSystemd(SystemdCase):

    def test_life(self) -> None:
        """From hand to hand; what takes long is answered by who began."""
        answers: list[str] = []
        slow = threading.Thread(target=lambda: answers.append(
            serving.ask(self.port, 5)))
        old = self.serve('1.0.0.0')
        self.assertEqual(0o700, old.place.path.stat().st_mode & 0o777)
        with serving.Load(self.port) as load:
            slow.start()
            processes.poll(lambda: old.in_flight() > 0, 'a request')
            time.sleep(0.5)
            for number in range(1, 4):
                new = self.serve(f'1.0.{number}.1')
                self.leave(old)
                old = new
                processes.poll(lambda name=new.name: load.since(
                    time.monotonic() - 0.2) == {name}, 'answers')
            slow.join()
            processes.poll(lambda: self.names() == ['1.0.3.1'], 'the ends')
        self.assertEqual([], load.failures)
        self.assertEqual(['1.0.0.0'], answers)
        self.assertEqual('inactive', self.state(
            'easystack-image@1.0.0.0.service'))
        self.assertEqual('active', self.state('easystack-image.socket'))

    def test_deaths(self) -> None:
        """Whoever dies begins again as it was, unless it was forgotten."""
        self.serve('a')
        waiting = self.start('b')
        for name in ('a', 'b'):
            pid = self.pid(name)
            self.manager.ask('kill', '--signal=SIGKILL',
                             f'easystack-image@{name}.service')
            processes.poll(lambda name=name, pid=pid: self.pid(name) not in (
                None, pid), 'a new start')
        processes.poll(lambda: waiting.loaded, 'the application')
        self.assertEqual('a', serving.ask(self.port, timeout=60))
        self.launcher.forget('b')
        self.manager.ask('kill', '--signal=SIGKILL',
                         'easystack-image@b.service')
        processes.poll(lambda: self.names() == ['a'], 'the end of b')
        self.launcher.stop('a')
        self.launcher.stop('a')
        self.launcher.stop('nobody')
        self.assertEqual([], self.names())
        # The socket is open all the while, and whoever comes waits.
        self.assertRaises(TimeoutError, serving.ask, self.port, timeout=1)
        self.start('a')
        self.assertRaises(TimeoutError, serving.ask, self.port, timeout=1)

    def test_broken(self) -> None:
        """It is tried again and again, and keeps nobody from serving."""
        broken = systemd.SystemdLauncher(
            self.manager.runtime / 'easystack-image',
            command.Service('tests.ota.nowhere:app', serving.PROCESSES, 2),
            self.manager.systemctl)
        instance = broken.start('broken', serving.SLOT)
        self.serve('whole')
        with serving.Load(self.port) as load:
            processes.poll(lambda: int(self.manager.ask(
                'show', '--value', '--property=NRestarts',
                'easystack-image@broken.service').stdout) >= 3, 'restarts')
        self.assertEqual([], load.failures)
        self.assertRaises(exceptions.InstanceError, instance.serve, 1)
        broken.stop('broken')
        self.assertEqual(['whole'], self.names())

    def test_stop(self) -> None:
        """"systemctl stop" cuts nothing either."""
        self.serve('a')
        unit = 'easystack-image@a.service'
        connection = http.client.HTTPConnection('127.0.0.1', self.port)
        with contextlib.closing(connection):
            connection.request('GET', '/?4')
            processes.poll(lambda: self.launcher.instance('a').in_flight(),
                           'a request')
            self.assertEqual(0, self.manager.ask('stop', unit).returncode)
            self.assertEqual(200, connection.getresponse().status)
        self.assertEqual('inactive', self.state(unit))
        # And it does not come back.
        self.assertEqual([], self.names())

    def test_stop_before_it_can_hear(self) -> None:
        """The FIFO of uWSGI is made some time after its start."""
        for delay in (0.0, 0.2, 0.5):
            self.launcher.start('a', serving.SLOT)
            time.sleep(delay)
            self.assertEqual(0, self.manager.ask(
                'stop', 'easystack-image@a.service').returncode)
            self.assertEqual([], self.names())

    def test_strange_names(self) -> None:
        for name in ('', '../a', 'a@b', 'a b', '-a', 'a+1'):
            self.assertRaises(exceptions.InstanceError, self.launcher.start,
                              name, serving.SLOT)
        self.serve('a')
        error = self.assertRaises(
            exceptions.InstanceError, self.launcher.start, 'a',
            serving.SLOT.parent)
        self.assertIn(str(serving.SLOT), str(error))


class TestBoot(SystemdCase):
    """What serves after a reboot, or after a stop."""

    def setUp(self) -> None:
        super().setUp()
        self.slots = slots_module.Slots(
            self.manager.path / 'opt',
            building.Builder(str(base.UV), sys.executable))
        configuration.write(self.manager.updater, {settings.GROUP: {
            'slots_directory': self.manager.path / 'opt',
            'run_directory': self.manager.runtime / 'easystack-image',
            'launcher': 'systemd', 'processes': serving.PROCESSES,
            'threads': 2, 'application': 'tests.ota.slow_app:application'}})
        # uWSGI looks for modules where it is started, too.
        (self.manager.path / 'tests').symlink_to(processes.ROOT / 'tests')

    def build(self) -> slots_module.Slot:
        """Build a slot; uWSGI and what it loads are lent by the tests."""
        folder = self.manager.path / 'release'
        slot = self.slots.build(build.build(
            sample.write(folder, '1.0.0', 1), self.manager.path))
        seal.unprotect(slot.path)
        (slot.path / 'bin' / 'pyuwsgi').symlink_to(
            processes.script('pyuwsgi'))
        return slot

    def test_boot(self) -> None:
        unit = 'easystack-image.service'
        self.manager.ask('start', '--no-block', unit)
        # Before the first release, it is tried again and again, and whoever
        # comes waits.
        processes.poll(lambda: 'no release is in use' in self.manager.log(),
                       'a message')
        self.assertRaises(TimeoutError, serving.ask, self.port, timeout=1)
        self.slots.select(self.build())
        self.assertEqual('1.0.0.0', serving.ask(self.port, timeout=60))
        processes.poll(lambda: self.state(unit) == 'active', unit)
        pid = self.pid('1.0.0.0')
        processes.check(['env', *(f'{name}={value}' for name, value in
                                  self.manager.environment.items()),
                         'easystack-image-ota', '--config-file',
                         str(self.manager.updater), 'boot'])
        self.assertEqual(pid, self.pid('1.0.0.0'))
        self.assertEqual(0, self.manager.ask('stop', unit).returncode)
        self.assertEqual('inactive', self.state(
            'easystack-image@1.0.0.0.service'))
        self.assertEqual([], self.names())
        # Only the socket is left; who connects has it all started again.
        self.assertEqual('1.0.0.0', serving.ask(self.port, timeout=60))
        processes.poll(lambda: self.state(unit) == 'active', unit)
        # The same in one go: nobody notices but by waiting.
        pid = self.pid('1.0.0.0')
        with serving.Load(self.port) as load:
            self.assertEqual(0, self.manager.ask('restart', unit).returncode)
        self.assertEqual([], load.failures)
        self.assertNotIn(self.pid('1.0.0.0'), (None, pid))

    def test_stopped_between_two_starts(self) -> None:
        """What waits to start again is only dropped by a stop."""
        unit, name = 'easystack-image.service', '1.0.0.0'
        instance = f'easystack-image@{name}.service'
        self.slots.select(self.build())
        self.assertEqual(0, self.manager.ask('start', unit).returncode)
        self.assertEqual(name, serving.ask(self.port, timeout=60))
        self.manager.ask('kill', '--signal=SIGKILL', instance)
        processes.poll(lambda: 'auto-restart' in self.manager.ask(
            'show', '--property=SubState', instance).stdout, 'a pause',
            interval=0.01)
        self.manager.ask('stop', unit)
        self.assertEqual('inactive', self.state(instance))
        self.assertEqual(0, self.manager.ask('start', unit).returncode)
        self.assertEqual(name, serving.ask(self.port, timeout=60))
