"""Slots: built for real by uv, sealed, chosen, kept and removed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import shutil
import signal
import stat
import subprocess
import sys
from typing import Any

import fixtures

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota import home
from easystack_image.ota.release import archive as archives
from easystack_image.ota.release import build
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import sample
from easystack_image.ota.slots import building
from easystack_image.ota.slots import seal
from easystack_image.ota.slots import slots as slots_module
from easystack_image.ota.slots import using
from tests.functional import processes
from tests.unit.ota import base

VERSION = f'3.{sys.version_info.minor}'


class SlotsCase(base.Case):

    def setUp(self) -> None:
        super().setUp()
        self.place = self.root / 'opt'
        self.slots = self.make_slots()
        # Or what is left cannot be removed by who is not root.
        self.addCleanup(self._unprotect)

    def _unprotect(self) -> None:
        for path in (self.place / 'slots').glob('*'):
            seal.unprotect(path)

    def make_slots(self, uv: object = base.UV,
                   python: str = sys.executable) -> slots_module.Slots:
        return slots_module.Slots(self.place,
                                  building.Builder(str(uv), python))

    def start(self, path: Path, **others: Any) -> subprocess.Popen[str]:
        """Start a process that has a file of a slot."""
        process = subprocess.Popen(
            [sys.executable, '-c', 'import sys; print(); sys.stdin.read()',
             path / 'code.py'], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, **others)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        process.stdout.readline()
        return process


class BuildTest(SlotsCase):

    def test_build(self) -> None:
        # No setting of the environment leads anywhere else.
        for name, value in (('UV_INDEX_URL', 'http://127.0.0.1:1'),
                            ('PIP_TARGET', '/nowhere'),
                            ('UV_TARGET', '/nowhere'),
                            ('PYTHONPATH', '/nowhere')):
            self.useFixture(fixtures.EnvironmentVariable(name, value))
        slot = self.slots.build(self.archive('1.0.0', 1))
        self.assertEqual(self.place / 'slots' / '1.0.0', slot.path)
        self.assertEqual(('1.0.0', VERSION),
                         (slot.release.version, slot.seal.python))
        found = subprocess.run(
            [slot.path / 'bin/python', '-I', '-c',
             f'import {sample.PACKAGE} as s; print(s.VERSION, s.__file__)'],
            capture_output=True, text=True, check=True, cwd='/')
        version, file = found.stdout.split()
        self.assertEqual('1.0.0', version)
        self.assertTrue(Path(file).is_relative_to(slot.path))
        self.assertEqual('# of 1.0.0\n',
                         (slot.path / 'config/sample.conf').read_text())
        self.assertEqual(slot.release, declarations.load(
            (slot.path / 'release.json').read_bytes()))
        slot.verify()
        self.assertEqual(['lock', 'slots'], sorted(os.listdir(self.place)))

    def test_nobody_writes_to_it(self) -> None:
        before = os.umask(0o077)
        try:
            slot = self.slots.build(self.archive('1.0.0', 1))
        finally:
            os.umask(before)
        for path in [slot.path, *slot.path.rglob('*')]:
            if not path.is_symlink():
                mode = stat.S_IMODE(path.stat().st_mode)
                self.assertEqual(0o444, mode & 0o666, path)
                # Who may run it are all, or nobody.
                self.assertIn(mode & 0o111, (0o111, 0), path)
                self.assertTrue(mode & 0o111 or path.is_file(), path)

    def test_again(self) -> None:
        archive = self.archive('1.0.0', 1)
        slot = self.slots.build(archive)
        before = os.stat(slot.path / seal.NAME)
        self.assertEqual(slot, self.slots.build(archive))
        after = os.stat(slot.path / seal.NAME)
        # It was read since.
        self.assertEqual((before.st_ino, before.st_mtime_ns),
                         (after.st_ino, after.st_mtime_ns))

    def test_modes_are_mended(self) -> None:
        """Of a slot whose builder was killed after it had sealed it."""
        archive = self.archive('1.0.0', 1)
        path = self.slots.build(archive).path
        path.chmod(0o755)
        (path / seal.NAME).chmod(0o600)
        (path / 'config/sample.conf').chmod(0o644)
        self.slots.build(archive)
        self.assertEqual([0o555, 0o444, 0o444], [
            stat.S_IMODE((path / name).stat().st_mode)
            for name in ('.', seal.NAME, 'config/sample.conf')])

    def test_killed_while_it_is_sealed(self) -> None:
        """A seal that is there can be read by whoever serves."""
        path = self.root / 'slot'
        path.mkdir()
        self.addCleanup(seal.unprotect, path)
        real = fsio.rename

        def rename(*arguments: Any) -> None:
            real(*arguments)
            raise KeyboardInterrupt

        with fixtures.MonkeyPatch('easystack_image.fsio.rename', rename):
            self.assertRaises(
                KeyboardInterrupt, seal.write, path,
                declarations.Declaration('1.0', 1, python=(VERSION,)),
                VERSION)
        self.assertEqual(0o444, stat.S_IMODE(
            (path / seal.NAME).stat().st_mode))

    def test_another_of_the_same_version(self) -> None:
        first = self.slots.build(self.archive('1.0.0', 1))
        shutil.rmtree(self.root / 'release-1.0.0')
        second = self.slots.build(self.archive('1.0.0', 2))
        self.assertEqual((first.path, 2), (second.path,
                                           second.release.number))
        second.verify()
        # Not if it may be needed.
        self.slots.select(second)
        shutil.rmtree(self.root / 'release-1.0.0')
        error = self.assertRaises(exceptions.SlotError, self.slots.build,
                                  self.archive('1.0.0', 3))
        self.assertIn('another release of version 1.0.0', str(error))
        second.verify()

    def test_damaged(self) -> None:
        archive = self.archive('1.0.0', 1)
        slot = self.slots.build(archive)
        self.slots.select(slot)
        for name in (seal.NAME, 'config/sample.conf'):
            for path in (slot.path, slot.path / 'config', slot.path / name):
                path.chmod(0o755)
            (slot.path / name).write_text('{')
            user = self.start(slot.path)
            error = self.assertRaises(exceptions.SlotError,
                                      self.slots.build, archive)
            self.assertIn('is damaged, and is in use', str(error))
            user.kill()
            user.wait()
            self.slots.build(archive).verify()
            self.assertEqual(slot.path, self.slots.current().path)

    def test_unfinished(self) -> None:
        path = self.place / 'slots' / '1.0.0' / 'lib' / 'old'
        path.mkdir(parents=True)
        self.assertIsNone(self.slots.get('1.0.0'))
        self.slots.build(self.archive('1.0.0', 1)).verify()
        self.assertFalse(path.exists())

    def test_wrong_python(self) -> None:
        archive = self.archive('1.0.0', 1, python=['3.99'])
        error = self.assertRaises(exceptions.RefusedRelease,
                                  self.slots.build, archive)
        self.assertIn('is for Python 3.99', str(error))
        self.assertIsNone(self.slots.get('1.0.0'))

    def test_no_programs(self) -> None:
        archive = self.archive('1.0.0', 1)
        for slots in (self.make_slots(uv='/no/uv'),
                      self.make_slots(python='/no/python')):
            error = self.assertRaises(exceptions.SlotError, slots.build,
                                      archive)
            self.assertIn('cannot be run', str(error))
            self.assertIn('[easystack_ota]', str(error))

    def test_incomplete(self) -> None:
        """A dependency that the lock file forgot is not got elsewhere."""
        folder = sample.write(self.root / 'folder', '1.0.0', 1)
        wheels = folder / 'wheels'
        path = sample.make_wheel(wheels, '1.0.0', requires='absent>=1')
        (folder / 'requirements.lock').write_text(
            f'{sample.PACKAGE}==1.0.0 --hash=sha256:'
            f'{archives.describe(path).sha256}\n')
        archive = build.build(folder, self.root)
        error = self.assertRaises(exceptions.SlotError, self.slots.build,
                                  archive)
        self.assertIn('absent', str(error))
        self.assertIsNone(self.slots.get('1.0.0'))


#: In the place of uv: goes on for ever, as does what it starts, and makes the
#: slot anew whenever that is gone.
_ENDLESS = """\
#!/bin/sh
for slot; do :; done
(while :; do mkdir -p "$slot/lib"; sleep 0.01; done) &
echo $$ $! > pids.new
mv pids.new pids
wait
"""


class KilledTest(SlotsCase):
    """The updater is killed while uv builds a slot."""

    def setUp(self) -> None:
        super().setUp()
        uv = self.root / 'uv'
        uv.write_text(_ENDLESS.replace('pids', f'{self.root}/pids'))
        uv.chmod(0o755)
        self.addCleanup(self.end)
        self.path = self.archive('1.0.0', 1)
        self.pid = os.fork()
        if not self.pid:
            try:
                self.make_slots(uv).build(self.path)
            finally:
                os._exit(1)
        processes.poll((self.root / 'pids').exists, 'uv')

    def living(self) -> list[int]:
        return [int(each) for each in (self.root / 'pids').read_text().split()
                if Path(f'/proc/{each}').exists()]

    def end(self) -> None:
        for each in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def kill(self, *pids: int) -> None:
        for each in (self.pid, *pids):
            os.kill(each, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def build(self) -> None:
        """Build it as soon as that is possible."""
        def is_free() -> bool:
            return not home.Home(self.place).in_use()

        processes.poll(is_free, 'the lock')
        self.slots.build(self.path).verify()

    def test_updater(self) -> None:
        """What it started does not go on, and is gone before others build."""
        self.kill()
        self.build()
        self.assertEqual([], self.living())

    def test_updater_and_leash(self) -> None:
        """Whoever builds waits for it."""
        leash, = Path(f'/proc/{self.pid}/task/{self.pid}/children'
                      ).read_text().split()
        self.kill(int(leash))
        error = self.assertRaises(exceptions.AlreadyRunning,
                                  self.slots.build, self.path)
        self.assertIn('build of one that was killed is still at work',
                      str(error))
        self.assertEqual(2, len(self.living()))
        self.end()
        self.build()


class VerifyTest(SlotsCase):

    def setUp(self) -> None:
        super().setUp()
        self.slot = self.slots.build(self.archive('1.0.0', 1))
        self.lib, = self.slot.path.glob(f'lib/*/site-packages/'
                                        f'{sample.PACKAGE}.py')

    def assertDiffers(self, name: str) -> None:
        error = self.assertRaises(exceptions.SlotError, self.slot.verify)
        self.assertIn('not as it was built: 1 differ', str(error))
        self.assertIn(name, str(error))

    def change(self) -> Path:
        seal.unprotect(self.slot.path)
        return self.lib

    def test_changed(self) -> None:
        path = self.change()
        path.chmod(0o644)
        path.write_text(path.read_text() + '#')
        self.assertDiffers(path.name)

    def test_added(self) -> None:
        (self.change().parent / 'sitecustomize.py').touch()
        self.assertDiffers('sitecustomize.py')

    def test_removed(self) -> None:
        self.change().unlink()
        self.assertDiffers(self.lib.name)

    def test_turned_into_a_link(self) -> None:
        path = self.change()
        path.rename(self.root / 'elsewhere.py')
        path.symlink_to(self.root / 'elsewhere.py')
        self.assertDiffers(self.lib.name)

    def test_damaged_seal(self) -> None:
        self.change()
        (self.slot.path / seal.NAME).chmod(0o644)
        for text in ('', '[]', '{"format": 2}', '{"format": 1}'):
            (self.slot.path / seal.NAME).write_text(text)
            self.assertRaises(exceptions.SlotError, self.slots.get, '1.0.0')

    def test_what_was_read_is_kept(self) -> None:
        """Until the file is another one, or changed."""
        path = self.change() and self.slot.path / seal.NAME
        found = seal.read(self.slot.path)
        self.assertIs(found, seal.read(self.slot.path))
        other = path.with_name('other')
        other.write_bytes(path.read_bytes())
        other.rename(path)
        again = seal.read(self.slot.path)
        self.assertIsNot(found, again)
        self.assertEqual(found, again)
        path.chmod(0o644)
        path.write_text(path.read_text().replace('"1.0.0"', '"1.0.1"'))
        self.assertEqual('1.0.1', self.slots.get('1.0.0').release.version)
        path.unlink()
        self.assertIsNone(seal.read(self.slot.path))

    def test_few_are_kept(self) -> None:
        source = self.slot.path / seal.NAME
        for number in range(30):
            path = self.root / str(number)
            path.mkdir()
            (path / seal.NAME).write_bytes(source.read_bytes())
            self.assertIs(seal.read(path), seal.read(path))
        self.assertLessEqual(len(seal._KEPT), 4)


class PointerTest(SlotsCase):
    """With slots that have next to nothing in them."""

    def make(self, version: str, number: int) -> slots_module.Slot:
        path = self.place / 'slots' / version
        path.mkdir(parents=True)
        (path / 'code.py').write_text(f'{number}\n')
        seal.write(path, declarations.Declaration(
            version, number, python=(VERSION,)), VERSION)
        return self.slots.get(version)

    def use(self, *versions: str) -> None:
        for version in versions:
            self.slots.select(self.slots.get(version))

    def names(self) -> tuple[str | None, str | None]:
        return tuple(slot and slot.release.version for slot in (
            self.slots.current(), self.slots.previous()))

    def test_before_the_first(self) -> None:
        self.assertEqual((None, None), self.names())
        self.assertEqual([], self.slots.all())
        self.assertEqual([], self.slots.collect(0))

    def test_select(self) -> None:
        for number in (1, 2, 3):
            self.make(f'{number}.0', number)
        self.use('1.0')
        self.assertEqual(('1.0', None), self.names())
        self.use('2.0')
        self.assertEqual(('2.0', '1.0'), self.names())
        # Once more changes nothing, and loses nothing.
        self.use('2.0')
        self.assertEqual(('2.0', '1.0'), self.names())
        self.use('3.0', '2.0')
        self.assertEqual(('2.0', '3.0'), self.names())
        self.assertEqual(self.place / 'slots/2.0',
                         (self.place / 'current').resolve())

    def test_never_missing(self) -> None:
        """Looked at all the time while it is switched."""
        for number in (1, 2):
            self.make(f'{number}.0', number)
        self.use('1.0')
        watcher = subprocess.Popen(
            [sys.executable, '-c', _WATCH, str(self.place / 'current')],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        watcher.stdout.readline()
        for _ in range(50):
            self.use('2.0', '1.0')
        looks, missing = watcher.communicate('end\n')[0].split()
        self.assertGreater(int(looks), 100)
        self.assertEqual('0', missing)

    def test_gone(self) -> None:
        slot = self.make('1.0', 1)
        self._unprotect()
        shutil.rmtree(slot.path)
        self.assertRaises(exceptions.SlotError, self.slots.select, slot)

    def test_leads_elsewhere(self) -> None:
        self.make('1.0', 1)
        self.use('1.0')
        for leads_to in ('/etc', 'slots/1.0', 'generations/9', 'x/1'):
            (self.place / 'current').unlink()
            (self.place / 'current').symlink_to(leads_to)
            self.assertRaises(exceptions.SlotError, self.slots.current)

    def test_names_lead_nowhere(self) -> None:
        self.make('1.0', 1)
        for name in ('', '.', '..', '../slots/1.0', '1.0/', '/etc'):
            self.assertIsNone(self.slots.get(name), name)

    def test_collect(self) -> None:
        for number in range(1, 7):
            self.make(f'{number}.0', number)
        (self.place / 'slots' / '9.0' / 'lib').mkdir(parents=True)
        self.use('4.0', '3.0', '1.0', '2.0')
        # Those used last stay, then the newest; what is unfinished goes.
        self.assertEqual({'5.0', '6.0', '9.0'}, set(self.slots.collect(2)))
        self.assertEqual(['1.0', '2.0', '3.0', '4.0'], [
            slot.release.version for slot in self.slots.all()])
        self.assertEqual({'3.0', '4.0'}, set(self.slots.collect(0)))
        self.assertEqual(('2.0', '1.0'), self.names())
        self.assertEqual([], os.listdir(self.place / 'trash'))
        self.make('7.0', 7)
        self.use('7.0')
        self.assertEqual(('7.0', '2.0'), self.names())

    def test_one_is_damaged(self) -> None:
        """The others can be used, and it can be got rid of."""
        for number in range(1, 5):
            self.make(f'{number}.0', number)
        self.use('1.0', '2.0', '3.0')
        for name in ('2.0', '4.0'):
            path = self.place / 'slots' / name
            path.chmod(0o755)
            (path / seal.NAME).chmod(0o644)
            (path / seal.NAME).write_bytes(b'{"format": 1')
        self.assertEqual(['1.0', '3.0'], [
            slot.release.version for slot in self.slots.all()])
        self.assertEqual(['2.0', '4.0'], self.slots.damaged())
        self.assertEqual(('3.0', '1.0'), self.names())
        user = self.start(self.place / 'slots/4.0')
        self.assertEqual(['2.0'], self.slots.collect(9))
        user.kill()
        user.wait()
        self.assertEqual(['4.0'], self.slots.collect(9))
        self.assertEqual([], self.slots.damaged())

    def test_what_is_in_use_stays(self) -> None:
        for number in range(1, 5):
            self.make(f'{number}.0', number)
        self.use('3.0', '4.0')
        user = self.start(self.place / 'slots/2.0')
        self.assertEqual(['1.0'], self.slots.collect(0))
        user.kill()
        user.wait()
        self.assertEqual(['2.0'], self.slots.collect(0))

    def test_what_is_needed_stays(self) -> None:
        for number in range(1, 6):
            self.make(f'{number}.0', number)
        self.use('3.0', '4.0')
        self.assertEqual(['1.0'], self.slots.collect(1, {'2.0', '9.0'}))
        self.assertEqual({'2.0', '5.0'}, set(self.slots.collect(0)))

    def test_processes(self) -> None:
        slot = self.make('1.0', 1)
        other = self.make('1.0.1', 2)
        self.assertEqual([], using.processes(slot.path))
        given = self.start(slot.path)
        entered = self.start(self.root, cwd=slot.path)
        self.start(other.path)
        self.assertEqual(sorted([given.pid, entered.pid]),
                         using.processes(slot.path))


#: Looks whether a link leads somewhere until it is told to end.
_WATCH = """\
import os, sys, threading
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), end.set())).start()
looks = missing = 0
print(flush=True)
while not end.is_set():
    looks += 1
    missing += not os.path.isdir(sys.argv[1])
print(looks, missing)
"""
