"""All devices together: what they answer, and which upload counts."""

from __future__ import annotations

from concurrent import futures
import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any
import uuid

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import fleet as fleet_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest
from easystack_image.blockstore.local import timed
from tests.contract import local
from tests.unit.blockstore.local import base
from tests.unit.blockstore.local import test_manifest

OLD, NEW = (str(uuid.UUID(int=number << 64)) for number in (5, 6))
DATA = b'the plain bytes'


class RunTest(base.LabTest):

    def test_results_by_device(self) -> None:
        with base.nothing_left_behind():
            results, failures = self.fleet().run(lambda device: device.path)
        self.assertEqual({path: path for path in self.devices}, results)
        self.assertEqual({}, failures)

    def test_some_devices(self) -> None:
        results, _ = self.fleet().run(lambda device: 1,
                                      paths=self.devices[1:3])
        self.assertEqual(self.devices[1:3], list(results))

    def test_errors_say_where(self) -> None:
        errors = [OSError(28, 'No space left'), ValueError('odd'),
                  exceptions.DamagedCopy(self.devices[2], 'bad'),
                  TimeoutError(110, 'Connection timed out')]

        def fail(device: device_module.Device) -> None:
            raise errors[self.devices.index(device.path)]

        fleet = self.fleet()
        results, failures = fleet.run(fail)
        self.assertEqual({}, results)
        self.assertEqual(set(self.devices), set(failures))
        for path, failure in failures.items():
            self.assertEqual(path, failure.device)
            self.assertTrue(str(failure).startswith(path))
            # A device that answers, if only with an error, is not left
            # alone.
            self.assertFalse(fleet.devices[path].avoided())
        full, odd, damaged, late = failures.values()
        self.assertEqual((28, 'No space left'), (full.errno, full.reason))
        self.assertIn('odd', odd.reason)
        self.assertIs(errors[2], damaged)
        self.assertEqual(110, late.errno)
        self.assertNotIsInstance(late, exceptions.DeviceTimeout)

    def test_hung_device_is_left_alone_for_a_while(self) -> None:
        fleet = self.fleet(base.SHORT)
        self.lab.hang(self.devices[1])
        with base.nothing_left_behind():
            begin = time.monotonic()
            attached, failures = fleet.attach()
            for each in attached.values():
                each.close()
            self.assertEqual([self.devices[1]], list(failures))
            self.assertIsInstance(failures[self.devices[1]],
                                  exceptions.DeviceTimeout)
            self.assertGreaterEqual(time.monotonic() - begin, base.SHORT)
            self.assertTrue(fleet.devices[self.devices[1]].avoided())
            # Not waited for again.
            called = []
            begin = time.monotonic()
            _, failures = fleet.run(lambda device: called.append(device.path))
            self.assertLess(time.monotonic() - begin, base.SHORT)
            self.assertNotIn(self.devices[1], called)
            self.assertIsInstance(failures[self.devices[1]],
                                  exceptions.DeviceTimeout)
            self.lab.wake(self.devices[1])
        base.eventually(
            lambda: not fleet.devices[self.devices[1]].avoided(), 'its time')
        self.assertEqual({}, fleet.run(lambda device: 1)[1])

    def test_late_result_is_discarded(self) -> None:
        fleet, discarded = self.fleet(0.05), []
        release = threading.Event()
        self.addCleanup(release.set)

        def slow(device: device_module.Device) -> str:
            if device.path == self.devices[0]:
                release.wait()
            return device.path

        results, failures = fleet.run(slow, discarded.append)
        self.assertIn(self.devices[0], failures)
        self.assertEqual([], discarded)
        release.set()
        base.eventually(lambda: discarded == [self.devices[0]], 'discarded')

    def test_patience(self) -> None:
        # What takes long by its nature does not make a device suspect, as
        # long as it gets on.
        def work(device: device_module.Device) -> int:
            for _ in range(30):
                time.sleep(0.05)
                timed.beat()
            return 1

        results, _ = self.fleet(0.6).run(work, patience=60)
        self.assertEqual(4, len(results))

    def test_patience_is_not_for_those_that_hang(self) -> None:
        fleet = self.fleet(0.2)
        release = threading.Event()
        self.addCleanup(release.set)
        begin = time.monotonic()
        results, failures = fleet.run(
            lambda device: device.path == self.devices[0] and release.wait(),
            patience=600)
        self.assertLess(time.monotonic() - begin, 60)
        self.assertEqual(self.devices[1:], sorted(results))
        self.assertIsInstance(failures[self.devices[0]],
                              exceptions.DeviceTimeout)
        self.assertTrue(fleet.devices[self.devices[0]].avoided())

    def test_attach(self) -> None:
        self.lab.take_away(self.devices[2])
        with base.nothing_left_behind():
            attached, failures = self.fleet().attach()
            self.assertEqual([self.devices[2]], list(failures))
            self.assertEqual(3, len(attached))
            for each in attached.values():
                each.close()

    def test_attach_refuses_another_set(self) -> None:
        fleet = self.fleet()
        fleet.store_id = NEW
        with base.nothing_left_behind():
            attached, failures = fleet.attach()
        self.assertEqual({}, attached)
        self.assertEqual(4, len(failures))


class OrderTest(base.LabTest):

    def test_as_placement_says(self) -> None:
        fleet = self.fleet()
        for each in fleet.attach()[0].values():
            each.close()
        seen = set()
        for _ in range(20):
            image_id = self.image_id()
            order = fleet.order(image_id, self.devices)
            self.assertEqual(sorted(self.devices), sorted(order))
            self.assertEqual(
                order, fleet.order(image_id, reversed(self.devices)))
            seen.add(tuple(order))
        self.assertLess(5, len(seen))

    def test_used_zones_come_last(self) -> None:
        fleet = self.fleet()
        for each in fleet.attach()[0].values():
            each.close()
        order = fleet.order(self.image_id(), self.devices,
                            ['zone1', 'zone2'])
        self.assertEqual(set(self.devices[1:3]), set(order[2:]))

    def test_devices_never_seen_come_last(self) -> None:
        fleet = self.fleet()
        self.lab.take_away(self.devices[3])
        for each in fleet.attach()[0].values():
            each.close()
        order = fleet.order(self.image_id(), self.devices)
        self.assertEqual(self.devices[3], order[3])
        self.assertEqual(4, len(order))

    def test_no_device_is_lost(self) -> None:
        # A disk that was cloned, while the store was running.
        fleet = self.fleet()
        shutil.copyfile(f'{self.devices[0]}/{device_module.IDENTITY}',
                        f'{self.devices[1]}/{device_module.IDENTITY}')
        for each in fleet.attach()[0].values():
            each.close()
        self.assertEqual(
            sorted(self.devices),
            sorted(fleet.order(self.image_id(), self.devices)))


class SurveyTest(base.LabTest):
    """Which of several uploads counts, and what is said of the others."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()
        self.old = local.describe(self.image, DATA, OLD, 1.0)
        self.new = local.describe(self.image, DATA, NEW, 2.0)

    def delete(self, device: str, generation: str) -> None:
        """Make a mark that an upload was deleted."""
        name = layout.Upload(self.image, generation).name
        with open(f'{self.lab.root(device)}/'
                  f'{layout.deleted_directory(self.image)}/{name}', 'w'):
            pass

    def place(self, device: str, state: str) -> None:
        """Bring a device into a state, by its letters."""
        for letter in state:
            if letter == 'o':
                self.lab.plant(device, self.old, DATA)
            elif letter == 'n':
                self.lab.plant(device, self.new, DATA)
            elif letter == 'd':
                self.lab.plant(device, self.new, DATA + b'more')
            else:
                self.delete(device, {'O': OLD, 'N': NEW}[letter])

    def clear(self) -> None:
        """Take everything away again."""
        for device in self.devices:
            shutil.rmtree(self.lab.place(device, self.image),
                          ignore_errors=True)
            for name in self.names(device, layout.deleted_directory(
                    self.image)):
                os.unlink(f'{device}/{layout.deleted_directory(self.image)}/'
                          f'{name}')

    def test_every_combination(self) -> None:
        # What a device can hold: nothing, an old copy, a new one, or a
        # damaged one; and marks that one or both were deleted.
        fleet = self.fleet()
        one = ['', 'o', 'n', 'd', 'O', 'N', 'nO', 'oN', 'oO', 'nN', 'ON']
        for states in itertools.combinations_with_replacement(one, 3):
            for device, state in zip(self.devices, states, strict=False):
                self.place(device, state)
            with fleet.survey(self.image) as survey:
                self._check(states, survey, None)
            for generation in (OLD, NEW):
                with fleet.survey(self.image, generation) as survey:
                    self._check(states, survey, generation)
            self.clear()

    def _check(self, states: tuple[str, ...], survey: fleet_module.Survey,
               generation: str | None) -> None:
        letters = ''.join(states)
        live = [each for each, copy, mark in ((NEW, 'n', 'N'),
                                              (OLD, 'o', 'O'))
                if copy in letters and mark not in letters
                and generation in (None, each)]
        current = live[0] if live else None
        self.assertEqual(current, survey.current, (states, generation))
        letter = {NEW: 'n', OLD: 'o', None: '-'}[current]

        def where(wanted: str) -> set[str]:
            return {device for device, state in
                    zip(self.devices, states, strict=False)
                    if any(each in state for each in wanted)}

        for found, wanted in ((survey.sound(), letter),
                              (survey.damaged(), 'd'),
                              (survey.stale(),
                               'on'.replace(letter, ''))):
            self.assertEqual(where(wanted or '-'),
                             {finding.path for finding in found},
                             (states, generation))
        absence = survey.absence()
        gone = generation is not None and (
            {NEW: 'N', OLD: 'O'}[generation] in letters)
        # A damaged copy may be of the other upload that is there.
        other = generation is not None and (
            {NEW: 'o', OLD: 'n'}[generation] in letters)
        self.assertIs(
            exceptions.DamagedImage if 'd' in letters and not (gone or other)
            else exceptions.ImageNotFound, type(absence), states)

    def test_nothing(self) -> None:
        with base.nothing_left_behind():
            with self.fleet().survey(self.image) as survey:
                self.assertIsNone(survey.current)
                self.assertEqual([[], [], []], [
                    survey.sound(), survey.damaged(), survey.stale()])

    def test_leaves_nothing_open(self) -> None:
        self.place(self.devices[0], 'o')
        self.place(self.devices[1], 'n')
        self.place(self.devices[2], 'O')
        fleet = self.fleet()
        with base.nothing_left_behind():
            with fleet.survey(self.image) as survey:
                self.assertEqual(NEW, survey.current)
            with testtools.ExpectedException(ZeroDivisionError):
                with fleet.survey(self.image):
                    raise ZeroDivisionError

    def test_uploads_of_one_moment(self) -> None:
        # Whatever counts, it counts for everybody.
        other = local.describe(self.image, DATA, OLD, 2.0)
        for devices in ((0, 1), (1, 0)):
            self.lab.plant(self.devices[devices[0]], other, DATA)
            self.lab.plant(self.devices[devices[1]], self.new, DATA)
            with self.fleet().survey(self.image) as survey:
                self.assertEqual(NEW, survey.current)
            self.clear()

    def test_best_device_first(self) -> None:
        for device in self.devices[:3]:
            self.place(device, 'n')
        fleet = self.fleet()
        with fleet.survey(self.image) as survey:
            self.assertEqual(
                fleet.order(self.image, self.devices[:3]),
                [finding.path for finding in survey.sound()])

    def test_device_away(self) -> None:
        self.place(self.devices[0], 'n')
        self.lab.take_away(self.devices[0])
        with self.fleet().survey(self.image) as survey:
            self.assertEqual([self.devices[0]], list(survey.failures))
            absence = survey.absence()
        self.assertIsInstance(absence, exceptions.ImageUnavailable)
        self.assertIn(self.devices[0], str(absence))

    def test_deleted_for_certain_though_a_device_is_away(self) -> None:
        self.delete(self.devices[1], NEW)
        self.lab.take_away(self.devices[0])
        with self.fleet().survey(self.image, NEW) as survey:
            self.assertIsInstance(survey.absence(),
                                  exceptions.ImageNotFound)
        with self.fleet().survey(self.image, OLD) as survey:
            self.assertIsInstance(survey.absence(),
                                  exceptions.ImageUnavailable)

    def test_hung_device(self) -> None:
        self.place(self.devices[0], 'n')
        self.place(self.devices[1], 'n')
        self.lab.hang(self.devices[0])
        with base.nothing_left_behind():
            with self.fleet(base.SHORT).survey(self.image) as survey:
                self.assertEqual(NEW, survey.current)
                self.assertIsInstance(survey.failures[self.devices[0]],
                                      exceptions.DeviceTimeout)
            self.lab.wake(self.devices[0])

    def test_marks_that_cannot_be_looked_up(self) -> None:
        # The device has no copy; that its marks cannot be read shows only
        # when it is asked about the others'.
        self.place(self.devices[0], 'n')
        marks = f'{self.devices[1]}/{layout.deleted_directory(self.image)}'
        os.rmdir(marks)
        with open(marks, 'w'):
            pass
        self.addCleanup(os.mkdir, marks)
        self.addCleanup(os.unlink, marks)
        fleet = self.fleet()
        with base.nothing_left_behind():
            for _ in range(3):
                with fleet.survey(self.image) as survey:
                    self.assertEqual([self.devices[1]],
                                     list(survey.failures))
                    self.assertEqual(NEW, survey.current)

    def test_device_that_begins_to_hang_in_between(self) -> None:
        self.place(self.devices[0], 'n')
        fleet = self.fleet()
        # As if another thread had just waited for it in vain.
        real = fleet_module.look

        def look(attached: Any, *args: Any) -> Any:
            found = real(attached, *args)
            fleet.devices[self.devices[1]].avoid()
            return found

        self.patch(fleet_module, 'look', look)
        with base.nothing_left_behind():
            with fleet.survey(self.image) as survey:
                self.assertEqual(NEW, survey.current)
                self.assertEqual([self.devices[1]], list(survey.failures))


class LookTest(base.LabTest):
    """What is found wrong with a copy."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()
        self.manifest = local.describe(self.image, DATA)
        self.lab.plant(self.devices[0], self.manifest, DATA)
        self.place = self.lab.place(self.devices[0], self.image)

    def look(self) -> fleet_module.Finding:
        """Look for the image on the first device."""
        device = device_module.Device(self.devices[0], 60)
        with base.nothing_left_behind():
            finding = fleet_module.look(device.attach(), self.image)
            finding.close()
            finding.close()
        return finding

    def assertDamaged(self, *words: str) -> None:
        finding = self.look()
        self.assertFalse(finding.sound)
        for word in words:
            self.assertIn(word, finding.damage)

    def test_sound(self) -> None:
        finding = self.look()
        self.assertTrue(finding.sound)
        self.assertEqual(self.manifest, finding.manifest)
        self.assertEqual('', finding.damage)

    def test_none(self) -> None:
        shutil.rmtree(self.place)
        finding = self.look()
        self.assertEqual((None, '', False), (
            finding.manifest, finding.damage, finding.sound))
        self.assertRaises(ValueError, finding.described)

    def test_no_manifest(self) -> None:
        os.unlink(f'{self.place}manifest')
        self.assertDamaged('No such file')

    def test_no_data(self) -> None:
        os.unlink(f'{self.place}data')
        self.assertDamaged('No such file')

    def test_nothing_in_it(self) -> None:
        for name in ('data', 'manifest'):
            os.unlink(f'{self.place}{name}')
        self.assertDamaged('No such file')

    def test_every_byte_of_the_manifest(self) -> None:
        path = f'{self.place}manifest'
        for offset in range(os.path.getsize(path)):
            local.flip(path, offset)
            self.assertDamaged('manifest')
            local.flip(path, offset)
        self.assertTrue(self.look().sound)

    def test_manifest_cut_or_empty(self) -> None:
        for length in (100, 0):
            os.truncate(f'{self.place}manifest', length)
            self.assertDamaged(f'only {length} bytes')

    def test_manifest_of_any_length(self) -> None:
        os.truncate(f'{self.place}manifest', manifest.MAX_LENGTH + 1)
        self.assertDamaged('bytes, at most')

    def test_data_of_another_length(self) -> None:
        for length in (0, len(DATA) - 1, len(DATA) + 1, 1 << 40):
            os.truncate(f'{self.place}data', length)
            self.assertDamaged(f'{length} bytes, not {len(DATA)}')

    def test_copy_of_another_image(self) -> None:
        other = self.image_id()
        os.unlink(f'{self.place}manifest')
        with open(f'{self.place}manifest', 'wb') as file:
            file.write(manifest.pack(local.describe(other, DATA)))
        self.assertDamaged('another image', other)

    def test_copy_of_another_set(self) -> None:
        with open(f'{self.place}manifest', 'wb') as file:
            file.write(manifest.pack(local.describe(
                self.image, DATA, store_id=NEW)))
        self.assertDamaged('another set', NEW)

    def test_links(self) -> None:
        for name in ('data', 'manifest'):
            os.rename(f'{self.place}{name}', f'{self.place}{name}.real')
            os.symlink(f'{name}.real', f'{self.place}{name}')
            self.assertDamaged('symbolic links')

    def test_directories(self) -> None:
        for name in ('data', 'manifest'):
            os.unlink(f'{self.place}{name}')
            os.mkdir(f'{self.place}{name}')
            self.assertDamaged()

    def test_later_version_is_not_damage(self) -> None:
        # An upgrade was rolled back: nothing may be put aside for it.
        packed = manifest.pack(self.manifest)[:-32]
        with open(f'{self.place}manifest', 'wb') as file:
            file.write(test_manifest.patched(8, b'\2\0', packed))
        device = device_module.Device(self.devices[0], 60)
        with base.nothing_left_behind():
            error = self.assertRaises(
                exceptions.DeviceError, fleet_module.look, device.attach(),
                self.image)
        self.assertIn('version 2', str(error))

    def test_pipes_instead_of_files(self) -> None:
        for name in (layout.DATA, layout.MANIFEST):
            os.rename(f'{self.place}{name}', f'{self.place}{name}.real')
            os.mkfifo(f'{self.place}{name}')
            self.assertDamaged('not a regular file')
            os.rename(f'{self.place}{name}.real', f'{self.place}{name}')

    def test_directories_that_are_links(self) -> None:
        """What is there is not ours, nor any fault of the copy."""
        elsewhere = self.useFixture(fixtures.TempDir()).path
        shard = layout.shard(self.image)
        for name in (f'images/{shard}', f'deleted/{shard}', 'images',
                     'deleted'):
            place = f'{self.devices[0]}/{name}'
            shutil.copytree(place, f'{elsewhere}/there')
            os.rename(place, place + '.real')
            os.symlink(f'{elsewhere}/there', place)
            with base.nothing_left_behind():
                error = self.assertRaises(NotADirectoryError, self.look)
            self.assertIn(name.split('/')[-1], str(error))
            os.unlink(place)
            os.rename(place + '.real', place)
            shutil.rmtree(f'{elsewhere}/there')

    def test_shortage_of_descriptors_is_not_damage(self) -> None:
        def fail(name: str, dir_fd: int, limit: int) -> bytes:
            raise OSError(24, 'Too many open files')

        device = device_module.Device(self.devices[0], 60)
        attached = device.attach()
        self.patch(fleet_module.fsio, 'read_file', fail)
        self.assertRaises(OSError, fleet_module.look, attached, self.image)
        self.assertEqual(-1, attached.fd)


#: Takes a lock, says so, and keeps it until it is told to go.
_LOCK = """\
import sys
from easystack_image.blockstore.local import fleet
made = fleet.Fleet(sys.argv[3].split(','), 60)
with made.locked(sys.argv[1], sys.argv[2]):
    print('locked', flush=True)
    sys.stdin.read()
"""


class LockTest(base.LabTest):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.image_id()

    def another_process(self, purpose: str = 'commit') -> Any:
        """Have another process hold the lock."""
        process = subprocess.Popen(
            [sys.executable, '-c', _LOCK, self.image, purpose,
             ','.join(reversed(self.devices))], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.stdin.close)
        self.assertEqual('locked\n', process.stdout.readline())
        return process

    def test_one_at_a_time(self) -> None:
        one, two = self.fleet(), self.fleet()
        with base.nothing_left_behind():
            with one.locked(self.image, 'commit') as mine:
                self.assertTrue(mine)
                with two.locked(self.image, 'commit', wait=False) as free:
                    self.assertFalse(free)
                # Another purpose is another lock.
                with two.locked(self.image, 'repair', wait=False) as free:
                    self.assertTrue(free)
            with two.locked(self.image, 'commit', wait=False) as free:
                self.assertTrue(free)

    def test_between_processes(self) -> None:
        process = self.another_process()
        with self.fleet().locked(self.image, 'commit', wait=False) as free:
            self.assertFalse(free)
        process.stdin.close()
        process.wait()
        with self.fleet().locked(self.image, 'commit', wait=False) as free:
            self.assertTrue(free)

    def test_goes_with_its_process(self) -> None:
        process = self.another_process()
        process.send_signal(signal.SIGKILL)
        with self.fleet().locked(self.image, 'commit') as mine:
            self.assertTrue(mine)

    def test_is_waited_for(self) -> None:
        process = self.another_process()
        timer = threading.Timer(0.2, process.stdin.close)
        timer.start()
        self.addCleanup(timer.join)
        with self.fleet().locked(self.image, 'commit') as mine:
            self.assertTrue(mine)
            self.assertTrue(process.stdin.closed)

    def test_is_not_waited_for_for_ever(self) -> None:
        self.another_process()
        fleet = self.fleet(0.5)
        begin = time.monotonic()
        with base.nothing_left_behind():
            self.assertRaises(exceptions.BlockStoreError, self._lock, fleet)
        self.assertGreaterEqual(time.monotonic() - begin, 0.5)

    def _lock(self, fleet: fleet_module.Fleet) -> None:
        with fleet.locked(self.image, 'commit'):
            self.fail('locked twice')

    def test_is_given_back_after_an_error(self) -> None:
        fleet = self.fleet()
        with testtools.ExpectedException(ZeroDivisionError):
            with fleet.locked(self.image, 'commit'):
                raise ZeroDivisionError
        with fleet.locked(self.image, 'commit', wait=False) as free:
            self.assertTrue(free)

    def test_whatever_the_order(self) -> None:
        # In which the devices are listed.
        with self.fleet().locked(self.image, 'commit'):
            for paths in itertools.permutations(self.devices, 4):
                self.check_busy(*paths)

    def check_busy(self, *paths: str) -> None:
        """See that a process with these devices finds the lock taken."""
        fleet = fleet_module.Fleet(list(paths), 60)
        with fleet.locked(self.image, 'commit', wait=False) as free:
            self.assertFalse(free, paths)

    def test_one_device_in_common_is_enough(self) -> None:
        for one in itertools.combinations(self.devices, 2):
            with fleet_module.Fleet(list(one), 60).locked(self.image,
                                                          'commit'):
                for two in itertools.combinations(self.devices, 2):
                    if set(one).intersection(two):
                        self.check_busy(*two)

    def test_for_the_whole_set_as_well(self) -> None:
        one, two = (fleet_module.Fleet(paths, 60) for paths in (
            self.devices[:3], self.devices[2:]))
        with one.locked_everywhere('heal') as mine:
            self.assertTrue(mine)
            with two.locked_everywhere('heal') as free:
                self.assertFalse(free)
        with two.locked_everywhere('heal') as free:
            self.assertTrue(free)

    def test_a_device_that_came_back(self) -> None:
        self.lab.take_away(self.first)
        with self.fleet().locked(self.image, 'commit'):
            self.lab.bring_back(self.first)
            self.check_busy(*self.devices)

    def test_a_device_at_two_paths(self) -> None:
        again = f'{self.useFixture(fixtures.TempDir()).path}/again'
        os.symlink(self.devices[0], again)
        fleet = fleet_module.Fleet([*self.devices, again], 60)
        with fleet.locked(self.image, 'commit', wait=False) as free:
            self.assertTrue(free)
            self.check_busy(again)

    def test_earlier_releases(self) -> None:
        # They lock the first device that they can use, and that one only.
        name = f'{self.first}/{layout.lock_file(self.image, "commit")}'
        with self.fleet().locked(self.image, 'commit'), open(name) as file:
            self.assertRaises(BlockingIOError, fcntl.flock, file,
                              fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(name) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.check_busy(*self.devices)

    def test_nobody_waits_for_ever(self) -> None:
        """Many at once, with different devices: each gets it, alone."""
        inside, most = [], []

        def work(paths: list[str]) -> None:
            fleet = fleet_module.Fleet(paths, 60)
            for _ in range(5):
                with fleet.locked(self.image, 'commit'):
                    inside.append(paths)
                    most.append(len(inside))
                    inside.pop()

        # Any two of them have a device in common.
        sets = [list(paths) for paths in
                itertools.permutations(self.devices, 3)][::3]
        with futures.ThreadPoolExecutor(len(sets)) as pool:
            for each in [pool.submit(work, paths) for paths in sets]:
                each.result()
        self.assertEqual([1] * 5 * len(sets), most)

    @property
    def first(self) -> str:
        """The device that is locked first."""
        return min(self.devices, key=lambda path: local.identity(
            self.devices.index(path)).device_id)

    def test_a_device_that_cannot_be_written(self) -> None:
        os.rmdir(f'{self.first}/locks')
        self.addCleanup(os.mkdir, f'{self.first}/locks')
        with self.fleet().locked(self.image, 'commit') as mine:
            self.assertTrue(mine)
            with self.fleet().locked(self.image, 'commit',
                                     wait=False) as free:
                self.assertFalse(free)

    def test_no_device_can_be_written(self) -> None:
        for device in self.devices:
            os.rmdir(f'{device}/locks')
            self.addCleanup(os.mkdir, f'{device}/locks')
        with base.nothing_left_behind():
            self.assertRaises(exceptions.NotEnoughCopies, self._lock,
                              self.fleet())

    def test_no_device_is_there(self) -> None:
        for device in self.devices:
            self.lab.take_away(device)
        self.assertRaises(exceptions.NotEnoughCopies, self._lock,
                          self.fleet())


class LockAfarTest(LockTest):
    """The same where a lock is asked for, as on FUSE."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(fleet_module.fsio, 'on_disk', lambda status: False)
