"""What is wrong with a store, told from cheap state."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import json
import os
import shutil
import threading
import time
from typing import Any
import uuid

import fixtures

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import health
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import status as status_module
from tests.contract import local
from tests.unit.blockstore.local import base

CRITICAL = engine_module.Severity.CRITICAL
WARNING = engine_module.Severity.WARNING
DAY = 86400.0
#: As a healer leaves it that has nothing to do.
FINE = status_module.Status(
    written_at=0.0, interval=60.0, healer='host:1', images=3, size=9,
    allocated=9, below_copies=0, below_min_copies=0, waiting=0, failing=0,
    quarantined=0, misplaced=0, oldest_verified_at=0.0, scrubbed_bytes=0,
    found_bad=0, repaired=0, moved=0)


class HealthCase(base.EngineTest):
    """Four devices, of which the file system is not nearly full."""

    def setUp(self) -> None:
        super().setUp()
        # Whatever the disk of this machine has left.
        self.engine.settings = self.settings(nearly_full=100.0)
        self.addCleanup(self.clean_up)
        self.healed()

    def clean_up(self) -> None:
        for device in self.devices:
            for name in (status_module.STATUS, 'members.json'):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f'{device}/{name}')

    def healed(self, **changes: Any) -> None:
        """Leave a status as the healer does; by default, all is well."""
        status_module.write(self.engine.fleet, dataclasses.replace(
            FINE, **{'written_at': time.time(), **changes}))

    def found(self, engine: Any = None) -> dict[str, list[str | None]]:
        """Return which devices there is something to say of, by problem."""
        found: dict[str, list[str | None]] = {}
        for problem in health.assess(engine or self.engine):
            found.setdefault(problem.what, []).append(problem.device)
        return found

    def problem(self, what: str, engine: Any = None,
                ) -> engine_module.Problem:
        """Return the only problem of a kind."""
        one, = (problem for problem in health.assess(engine or self.engine)
                if problem.what == what)
        return one

    def write_identity(self, device: str, **changes: Any) -> None:
        """Make a device another one, until the test ends."""
        path = f'{device}/{device_module.IDENTITY}'
        with open(path, 'rb') as file:
            before = file.read()
        self.addCleanup(_write, path, before)
        _write(path, dataclasses.replace(
            device_module.Identity.unpack(before), **changes).pack())


def _write(path: str, data: bytes) -> None:
    with open(path, 'wb') as file:
        file.write(data)


class DevicesTest(HealthCase):

    def test_nothing(self) -> None:
        self.assertEqual([], health.assess(self.engine))
        self.assertEqual([], self.engine.problems())

    def test_missing(self) -> None:
        with self.away(self.devices[0]):
            problem = self.problem('missing-device')
            self.assertEqual({'missing-device': [self.devices[0]]},
                             self.found())
        self.assertIs(WARNING, problem.severity)
        self.assertFalse(problem.outage)
        self.assertIn(self.devices[0], problem.message)
        self.assertIn('mount its disk', problem.message)
        self.assertEqual({}, self.found())

    @contextlib.contextmanager
    def away(self, *devices: str) -> Any:
        """Take devices away for a while."""
        for device in devices:
            self.lab.take_away(device)
        try:
            yield
        finally:
            for device in devices:
                self.lab.bring_back(device)

    def test_two_missing(self) -> None:
        """Uploads go on, with fewer copies."""
        with self.away(*self.devices[:2]):
            self.assertEqual({'missing-device': self.devices[:2],
                              'too-few-devices': [None]}, self.found())
            problem = self.problem('too-few-devices')
        self.assertEqual((WARNING, False), (problem.severity, problem.outage))

    def test_three_missing(self) -> None:
        """Uploads are refused: the worst comes first."""
        with self.away(*self.devices[:3]):
            first, *rest = health.assess(self.engine)
        self.assertEqual(('too-few-devices', CRITICAL, True),
                         (first.what, first.severity, first.outage))
        self.assertIn('uploads are refused', first.message)
        self.assertEqual({'missing-device'}, {each.what for each in rest})

    def test_all_missing(self) -> None:
        with self.away(*self.devices):
            self.assertEqual({'no-devices', 'missing-device',
                              'healer-never-ran'}, set(self.found()))
            problem = self.problem('no-devices')
        self.assertEqual((CRITICAL, True), (problem.severity, problem.outage))

    def test_directory_is_gone(self) -> None:
        os.rename(self.devices[1], self.devices[1] + '.gone')
        try:
            self.assertEqual({'missing-device': [self.devices[1]]},
                             self.found())
        finally:
            os.rename(self.devices[1] + '.gone', self.devices[1])

    def test_identity_is_damaged(self) -> None:
        path = f'{self.devices[1]}/{device_module.IDENTITY}'
        with open(path, 'rb') as file:
            self.addCleanup(_write, path, file.read())
        local.flip(path, 30)
        self.assertIn('no sound identity',
                      self.problem('missing-device').message)

    def test_hung(self) -> None:
        """It is told in time, and calls do not pile up on the disk."""
        self.lab.hang(self.devices[2])
        threads = threading.active_count()
        began = time.monotonic()
        problem, = health.assess(self.engine, patience=0.5)
        took = time.monotonic() - began
        self.assertEqual(('hung-device', self.devices[2], WARNING),
                         (problem.what, problem.device, problem.severity))
        self.assertLess(took, 5.0)
        for _ in range(20):
            problem, = health.assess(self.engine, patience=0.5)
            self.assertEqual('hung-device', problem.what)
        self.assertLessEqual(threading.active_count(), threads + 2)
        # Others decide for themselves whether to leave it alone.
        self.assertFalse(self.engine.fleet.devices[
            self.devices[2]].avoided())
        self.lab.wake(self.devices[2])
        base.eventually(lambda: not self.found(), 'it answers again')

    def test_denied(self) -> None:
        if os.geteuid() == 0:
            self.skipTest('root may read everything')
        os.chmod(self.devices[0], 0)
        self.addCleanup(os.chmod, self.devices[0], 0o700)
        self.assertIn('chown', self.problem('denied-device').message)

    def test_nearly_full(self) -> None:
        """As full as the file system is, and not more."""
        usage = os.statvfs(self.devices[0])
        used = usage.f_blocks - usage.f_bfree
        share = 100 * used / (used + usage.f_bavail)
        self.engine.settings = self.settings(nearly_full=share * 0.9)
        self.assertEqual({'nearly-full-device': self.devices}, self.found())
        # Others write to the same file system meanwhile.
        self.assertRegex([each.message for each in health.assess(
            self.engine)][0], r' is \d+% full: ')


class DirectoriesTest(HealthCase):

    def lose(self, device: str, name: str) -> None:
        os.rename(f'{device}/{name}', f'{device}/{name}.lost')
        self.addCleanup(os.rename, f'{device}/{name}.lost',
                        f'{device}/{name}')

    def test_each(self) -> None:
        for name in device_module.DIRECTORIES:
            os.rename(f'{self.devices[1]}/{name}',
                      f'{self.devices[1]}/{name}.lost')
            problem = self.problem('missing-directory')
            self.assertEqual({'missing-directory': [self.devices[1]]},
                             self.found())
            os.rename(f'{self.devices[1]}/{name}.lost',
                      f'{self.devices[1]}/{name}')
            self.assertEqual((WARNING, False), (problem.severity,
                                                problem.outage))
            self.assertIn(f'has no directory {name}:', problem.message)
            self.assertIn('create it with mode 0700', problem.message)
        self.assertEqual({}, self.found())

    def test_something_else_in_its_place(self) -> None:
        self.lose(self.devices[0], layout.TMP)
        os.symlink('images', f'{self.devices[0]}/{layout.TMP}')
        self.addCleanup(os.unlink, f'{self.devices[0]}/{layout.TMP}')
        self.assertIn('no directory tmp',
                      self.problem('missing-directory').message)

    def test_uploads_fail(self) -> None:
        """As they do indeed."""
        for device in self.devices[:3]:
            self.lose(device, 'tmp')
        self.assertTrue(self.problem('too-few-devices').outage)
        self.assertRaises(exceptions.NotEnoughCopies, self.store, b'data')

    def test_uploads_go_on(self) -> None:
        for device in self.devices[:3]:
            self.lose(device, 'repair')
            self.lose(device, 'locks')
        self.assertEqual({'missing-directory': self.devices[:3]},
                         self.found())
        self.assertIn('repair, locks',
                      health.assess(self.engine)[0].message)
        self.store(b'data')


class SharedDiskTest(HealthCase):
    """All devices of the tests lie on one disk."""

    def test_before_the_start(self) -> None:
        made = base.engine_on(self.devices, allow_shared_disk=False,
                              nearly_full=100.0)
        self.assertEqual({'shared-disk': self.devices[1:]}, self.found(made))
        problem = health.assess(made)[0]
        self.assertEqual((CRITICAL, True), (problem.severity,
                                            problem.outage))
        for word in (*self.devices[:2], 'easystack_block_allow_shared_disk',
                     'disk of its own'):
            self.assertIn(word, problem.message)
        # As it is.
        self.assertRaises(exceptions.ConfigurationError, made.start)

    def test_while_it_runs(self) -> None:
        self.engine.settings = self.settings(nearly_full=100.0,
                                             allow_shared_disk=False)
        for problem in health.assess(self.engine):
            self.assertEqual(('shared-disk', WARNING, False), (
                problem.what, problem.severity, problem.outage))

    def test_allowed(self) -> None:
        made = base.engine_on(self.devices, nearly_full=100.0)
        self.assertEqual({}, self.found(made))

    def test_the_same_device_twice(self) -> None:
        """That is another problem."""
        with open(f'{self.devices[0]}/{device_module.IDENTITY}',
                  'rb') as file:
            identity = device_module.Identity.unpack(file.read())
        self.write_identity(self.devices[1],
                            device_id=identity.device_id)
        made = base.engine_on(self.devices[:2], allow_shared_disk=False,
                              nearly_full=100.0)
        self.assertNotIn('shared-disk', self.found(made))


class IdentityTest(HealthCase):

    def test_foreign(self) -> None:
        other = str(uuid.uuid4())
        self.write_identity(self.devices[3], store_id=other)
        problem = self.problem('foreign-device')
        self.assertEqual((self.devices[3], WARNING, False),
                         (problem.device, problem.severity, problem.outage))
        self.assertIn(other, problem.message)
        self.assertIn(local.STORE_ID, problem.message)
        # It would keep Glance from starting the store.
        problem = self.problem('foreign-device',
                               base.engine_on(self.devices))
        self.assertEqual((self.devices[3], CRITICAL, True),
                         (problem.device, problem.severity, problem.outage))

    def test_foreign_is_not_taken_for_ours(self) -> None:
        """What another set's healer says is not about this set."""
        self.healed(below_copies=7)
        for device in self.devices[1:]:
            os.unlink(f'{device}/{status_module.STATUS}')
        self.write_identity(self.devices[0], store_id=str(uuid.uuid4()))
        self.assertEqual({'foreign-device', 'healer-never-ran'},
                         set(self.found()))

    def test_cloned(self) -> None:
        twin = local.identity(0)
        self.write_identity(self.devices[1], **dataclasses.asdict(twin))
        problem = self.problem('cloned-device')
        self.assertEqual((self.devices[1], WARNING),
                         (problem.device, problem.severity))
        self.assertIn(twin.device_id, problem.message)
        problem = self.problem('cloned-device',
                               base.engine_on(self.devices))
        self.assertEqual((CRITICAL, True), (problem.severity, problem.outage))

    def test_clones_count_once(self) -> None:
        twin = dataclasses.asdict(local.identity(0))
        for device in self.devices[1:3]:
            self.write_identity(device, **twin)
        self.assertEqual({'cloned-device': self.devices[1:3],
                          'too-few-devices': [None]}, self.found())

    def test_replaced(self) -> None:
        """The successor is listed, and the old one is still there."""
        self.write_identity(self.devices[3],
                            replaces=local.identity(1).device_id)
        problem = self.problem('replaced-device')
        self.assertEqual(self.devices[1], problem.device)
        self.assertIn(self.devices[3], problem.message)
        # It takes no new images any more; three are left.
        self.assertEqual({'replaced-device'}, set(self.found()))

    def remember(self) -> None:
        """Have all devices remember each other, as the healer does."""
        self.engine.healer(lambda status: None).round(threading.Event())

    def test_swapped(self) -> None:
        self.remember()
        new = str(uuid.uuid4())
        self.write_identity(self.devices[2], device_id=new)
        problem = self.problem('exchanged-device')
        self.assertEqual(self.devices[2], problem.device)
        self.assertIn(local.identity(2).device_id, problem.message)

    def test_changed_places(self) -> None:
        """Disks may be mounted elsewhere, as long as all are there."""
        self.remember()
        first, second = (dataclasses.asdict(local.identity(number))
                         for number in (0, 1))
        self.write_identity(self.devices[0], **second)
        self.write_identity(self.devices[1], **first)
        self.assertEqual({}, self.found())

    def test_unlisted(self) -> None:
        self.remember()
        engine = base.engine_on(self.devices[:3])
        engine.settings = self.settings(devices=self.devices[:3],
                                        nearly_full=100.0)
        self.assertEqual({'unknown-device': [self.devices[3]]},
                         self.found(engine))

    def test_removed(self) -> None:
        """A device that was away meanwhile remembers it still."""
        self.remember()
        self.lab.take_away(self.devices[0])
        self.engine.membership.remove(self.devices[3])
        self.lab.bring_back(self.devices[0])
        identity = f'{self.devices[3]}/{device_module.IDENTITY}'
        self.addCleanup(os.rename, identity + '.removed', identity)
        engine = base.engine_on(self.devices[:3], nearly_full=100.0)
        self.assertEqual({}, self.found(engine))

    def test_missing_is_not_unlisted(self) -> None:
        self.remember()
        self.lab.take_away(self.devices[0])
        try:
            self.assertEqual({'missing-device'}, set(self.found()))
        finally:
            self.lab.bring_back(self.devices[0])

    def test_draining(self) -> None:
        """It takes no new images; that is meant so."""
        self.write_identity(self.devices[0], state='draining')
        self.assertEqual({}, self.found())
        self.write_identity(self.devices[1], state='draining')
        self.assertEqual({'too-few-devices': [None]}, self.found())

    def test_zones(self) -> None:
        for device in self.devices[:3]:
            self.write_identity(device, zone='rack')
        problem = self.problem('too-few-zones')
        self.assertEqual((WARNING, None), (problem.severity, problem.device))
        self.assertIn('in 2 zones, for 3 copies', problem.message)

    def test_engine_that_was_not_started(self) -> None:
        engine = base.engine_on(self.devices, nearly_full=100.0)
        self.assertEqual({}, self.found(engine))
        self.assertIsNone(engine.fleet.store_id)
        self.assertIsNone(engine.fleet.devices[self.devices[0]].known)


class StatusTest(HealthCase):
    """What the healer saw."""

    def check(self, what: str, words: str, severity: Any = WARNING,
              **status: Any) -> None:
        """See one problem, for this status and no other."""
        self.healed(**status)
        problem, = health.assess(self.engine)
        self.assertEqual((what, severity, None, False), (
            problem.what, problem.severity, problem.device, problem.outage))
        self.assertIn(words, problem.message)
        self.healed()
        self.assertEqual([], health.assess(self.engine))

    def test_below_copies(self) -> None:
        self.check('images-below-copies', '12 images have', below_copies=12)

    def test_below_min_copies(self) -> None:
        """Critical, but what is there can be had: no outage."""
        self.check('images-below-min-copies', '1 image has', CRITICAL,
                   below_copies=1, below_min_copies=1)

    def test_lost(self) -> None:
        """Told once: neither as too few copies, nor as a failed repair."""
        self.check('images-lost', '1 image has no good copy', CRITICAL,
                   below_copies=1, below_min_copies=1, failing=1, waiting=1,
                   lost=1)

    def test_lost_and_others(self) -> None:
        self.healed(lost=2, below_copies=9, below_min_copies=5, failing=3)
        words = {each.what: each.message for each in
                 health.assess(self.engine)}
        self.assertEqual(4, len(words))
        for what, number in (('images-lost', 2), ('images-failing', 1),
                             ('images-below-min-copies', 3),
                             ('images-below-copies', 9)):
            self.assertIn(f'{number} image', words[what])

    def test_status_of_another_release(self) -> None:
        """Without what came later, or with what is still to come."""
        fields = dataclasses.asdict(dataclasses.replace(
            FINE, written_at=time.time(), misplaced=7)) | {'format': 1}
        later = fields | {'fairies': 3}
        del fields['lost']
        for content in (fields, later):
            for device in self.devices:
                _write(f'{device}/{status_module.STATUS}',
                       json.dumps(content).encode())
            self.assertEqual({'images-misplaced'}, set(self.found()))
            self.assertEqual(0, status_module.read(self.engine.fleet).lost)

    def test_two_stores_on_the_same_devices(self) -> None:
        """One keeps three copies, the other two."""
        self.heal()
        self.assertEqual({}, self.found())
        other = base.engine_on(self.devices, copies=2, min_copies=1,
                               nearly_full=100.0)
        for started in (False, True):
            if started:
                other.start()
            self.assertEqual({'healer-disagrees': [None]}, self.found(other))
        problem = self.problem('healer-disagrees', other)
        self.assertEqual((WARNING, False), (problem.severity,
                                            problem.outage))
        for words in ('easystack_block_copies is 2 here', 'keeps 3',
                      'Configure the same number'):
            self.assertIn(words, problem.message)
            self.assertIn(words, self.log.output)
        # It was changed for good: the healer is restarted, then Glance.
        other.healer(lambda status: None).round(threading.Event())
        self.assertEqual({}, self.found(other))
        self.assertEqual({'healer-disagrees': [None]}, self.found())

    def test_the_same_number(self) -> None:
        self.heal()
        self.lab.engine()
        self.assertNotIn('easystack_block_copies', self.log.output)

    def test_waiting(self) -> None:
        self.check('images-waiting', '2 images have', waiting=2)

    def test_failing(self) -> None:
        self.check('images-failing', '3 images have', waiting=3, failing=3)

    def test_misplaced(self) -> None:
        self.check('images-misplaced', '4 images have', misplaced=4)

    def test_stale(self) -> None:
        self.check('healer-stale', 'host:1', written_at=time.time() - 301)
        self.healed(written_at=time.time() - 290)
        self.assertEqual([], health.assess(self.engine))

    def test_scrub_is_late(self) -> None:
        self.check('scrub-late', '16.0 days',
                   oldest_verified_at=time.time() - 16 * DAY)
        self.healed(oldest_verified_at=time.time() - 14.5 * DAY)
        self.assertEqual([], health.assess(self.engine))

    def test_never_ran(self) -> None:
        self.clean_up()
        self.assertEqual({'healer-never-ran': [None]}, self.found())

    def left_behind(self, seconds: float) -> None:
        """Have the first device miss what the healer wrote last."""
        self.healed(below_copies=5, written_at=time.time() - seconds)
        old = f'{self.devices[0]}/{status_module.STATUS}'
        shutil.copy(old, old + '.old')
        self.healed()
        os.rename(old + '.old', old)

    def test_newest_counts(self) -> None:
        self.left_behind(120)
        self.assertEqual([], health.assess(self.engine))

    def test_healer_cannot_write(self) -> None:
        self.left_behind(1000)
        self.assertEqual({'unwritable-device': [self.devices[0]]},
                         self.found())

    def test_damaged_status(self) -> None:
        """Others have it; and if they have not, nothing breaks."""
        for damage in (b'', b'{', b'[]', b'{"format": 1}', b'\xff\xff',
                       self.packed(written_at='soon'),
                       self.packed(below_copies=None)):
            for devices in (self.devices[:1], self.devices):
                self.healed()
                for device in devices:
                    _write(f'{device}/{status_module.STATUS}', damage)
                self.assertEqual(
                    {} if len(devices) == 1 else
                    {'healer-never-ran': [None]}, self.found())

    def packed(self, **changes: Any) -> bytes:
        fields = dataclasses.asdict(FINE) | {'format': 1} | changes
        return repr(fields).replace("'", '"').replace(
            'None', 'null').encode()

    def test_healer_of_flesh_and_blood(self) -> None:
        """What it leaves is what is told, of images that are there."""
        info = self.store(b'x' * 5000)
        self.heal()
        self.assertEqual({}, self.found())
        holders = self.lab.holders(info.image_id)
        for device in holders[:2]:
            self.lab.take_away(device)
        try:
            self.heal()
            found = self.found()
        finally:
            for device in holders[:2]:
                self.lab.bring_back(device)
        self.assertIn('images-below-min-copies', found)
        self.heal()
        self.assertEqual({}, self.found())

    def heal(self) -> None:
        self.engine.healer(lambda status: None).round(threading.Event())


class CostTest(HealthCase):

    def test_system_calls(self) -> None:
        """It asks each device once, whatever lies on it."""
        calls: list[str] = []
        real: Callable[..., Any] = self.engine.fleet.run

        def run(*args: Any, **kwargs: Any) -> Any:
            calls.append('run')
            return real(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.blockstore.local.fleet.Fleet.run',
            lambda fleet, *args, **kwargs: run(*args, **kwargs)))
        health.assess(self.engine)
        self.assertEqual(['run'], calls)
