"""Disks in trouble, as the operator and the load balancer are told."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from typing import Any

import requests

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import engine as local
from easystack_image.blockstore.local import roll
from easystack_image.blockstore.local import roster
from easystack_image.middleware import healthcheck
from tests.faults import base
from tests.faults import workspace
from tests.functional import client
from tests.functional import processes
from tests.functional import server

MIB = base.MIB
WARNING = engine_module.Severity.WARNING


class TestDisks(base.TestCase):
    """Real file systems, and what the engine says of them."""

    def setUp(self) -> None:
        super().setUp()
        self.disks = self.loops(4)
        self.client_ = self.client_on(*self.disks)
        self.heal()

    def heal(self) -> None:
        self.client_.engine.healer(lambda status: None).round(
            threading.Event())

    def found(self, engine: local.LocalEngine | None = None,
              ) -> dict[str, list[str | None]]:
        """Return which devices there is something to say of, by problem."""
        found: dict[str, list[str | None]] = {}
        with self.within(base.LIMIT + 5):
            problems = (engine or self.client_.engine).problems()
        for problem in problems:
            self.assertIs(WARNING, problem.severity, problem)
            found.setdefault(problem.what, []).append(problem.device)
        return found

    def test_nothing(self) -> None:
        self.assertEqual({}, self.found())

    def test_nearly_full_and_full(self) -> None:
        disk = self.disks[1]
        usage = os.statvfs(disk.path)
        total = usage.f_blocks * usage.f_frsize
        ballast = disk.fill(leave=total // 10)
        self.assertEqual({'nearly-full-device': [disk.path]}, self.found())
        ballast.unlink()
        self.assertEqual({}, self.found())
        disk.fill(leave=MIB)
        self.assertEqual({'full-device': [disk.path]}, self.found())

    def test_no_files_left(self) -> None:
        """There is room, and no inode to fill it."""
        disk = self.loop(inodes=1024)
        engine = self.client_on(*self.loops(3), disk).engine
        engine.healer(lambda status: None).round(threading.Event())
        names = (disk.mount_point / 'lost+found' / str(number)
                 for number in range(1 << 20))
        while os.statvfs(disk.path).f_favail > 5:
            next(names).touch()
        self.assertEqual({'full-device': [disk.path]}, self.found(engine))
        self.assertGreater(disk.free(), 32 * MIB)

    def test_remounted_read_only(self) -> None:
        for happen in (lambda: self.disks[0].remount('ro'),
                       self.disks[3].trip):
            happen()
            self.found()
        self.assertEqual(
            [self.disks[0].path, self.disks[3].path],
            sorted(str(path) for path in self.found()['read-only-device']))
        # The list of devices has it as well.
        self.assertEqual(
            {self.disks[0].path, self.disks[3].path},
            {entry.path for entry in roster.take(self.client_.engine.fleet)
             if entry.reason == roster.READ_ONLY})
        error = self.assertRaises(
            exceptions.DeviceError, self.client_.engine.membership.drain,
            self.disks[0].path, force=True)
        for words in (roster.READ_ONLY, 'device replace'):
            self.assertIn(words, str(error))
        # Two are left that take images.
        self.assertIn('too-few-devices', self.found())
        # fsck sees them by the same means.
        fleet = self.client_.engine.fleet
        self.assertEqual(
            [self.disks[0].path, self.disks[3].path],
            sorted(problem.device for problem in
                   roll.call(fleet, allow_shared_disk=False).found
                   if problem.kind is roll.Kind.READ_ONLY_DEVICE))

    def test_read_only_bind_mount(self) -> None:
        """The file system may be written to, but not by this way."""
        place = self.space.mount_point('bound')
        workspace.run('mount', '--bind', self.disks[0].mount_point, place)
        self.addCleanup(workspace.run, 'umount', '-l', place)
        engine = local.LocalEngine(_settings(
            self.client_.engine, devices=[
                str(place), *(disk.path for disk in self.disks[1:])]))
        self.assertEqual({}, self.found(engine))
        workspace.run('mount', '-o', 'remount,bind,ro', place)
        self.assertEqual({'read-only-device': [str(place)]},
                         self.found(engine))

    def test_unmounted(self) -> None:
        self.disks[0].unmount()
        self.assertEqual({'missing-device': [self.disks[0].path]},
                         self.found())
        self.disks[0].bring_back()
        self.assertEqual({}, self.found())

    def test_dead_disk(self) -> None:
        self.disks[2].die()
        self.assertEqual({'failed-device': [self.disks[2].path]},
                         self.found())
        self.disks[2].bring_back()
        self.assertEqual({}, self.found())

    def test_disk_that_cannot_be_written(self) -> None:
        """Nobody writes just to see; the healer's attempts tell."""
        sick = self.fuse()
        engine = self.client_on(*self.loops(3), sick,
                                heal_interval=1).engine
        healer = engine.healer(lambda status: None)
        healer.round(threading.Event())
        self.assertEqual({}, self.found(engine))
        sick.fail('create')

        def told() -> bool:
            healer.round(threading.Event())
            return self.found(engine) == {'unwritable-device': [sick.path]}

        processes.poll(told, 'the disk being reported', 30, 0.5)

    def test_disk_that_hangs(self) -> None:
        slow = self.fuse()
        engine = self.client_on(*self.loops(3), slow).engine
        engine.healer(lambda status: None).round(threading.Event())
        slow.hang('open', 'easystack-block.json')
        began = time.monotonic()
        for _ in range(10):
            self.assertEqual({'hung-device': [slow.path]},
                             self.found(engine))
        self.assertLess(time.monotonic() - began, 15)
        slow.release()
        processes.poll(lambda: not self.found(engine),
                       'the device being well again', 20)


def _settings(engine: local.LocalEngine, **changes: Any) -> Any:
    """Return an engine's settings, with changes."""
    return dataclasses.replace(engine.settings, **changes)


class TestLoadBalancer(base.TestCase):
    """A real Glance on real file systems."""

    def test_it_is_told(self) -> None:
        disks = self.loops()
        store = server.block_store('copies', [
            disk.mount_point for disk in disks])
        glance = server.Glance(self.space.memory, [store])
        glance.prepare()
        glance.init_devices()
        self.addCleanup(glance.stop)
        glance.start()
        images = client.Images(glance.url)

        def code() -> int:
            return requests.get(f'{glance.url}/healthcheck',
                                timeout=60).status_code

        def await_code(expected: int) -> None:
            processes.poll(lambda: code() == expected, f'{expected}',
                           healthcheck.CACHED_FOR + 20)

        self.assertEqual(200, code())
        disks[0].remount('ro')
        image_id = images.upload(b'data')
        time.sleep(healthcheck.CACHED_FOR + 1)
        self.assertEqual(200, code())
        ballast = disks[1].fill(leave=MIB)
        await_code(503)
        self.assertEqual(b'data', images.download(image_id))
        ballast.unlink()
        await_code(200)
        disks[1].unmount()
        await_code(503)
        disks[1].bring_back()
        await_code(200)
