"""The client as the commands and an upgrade use it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time

import fixtures
from tuf.api.metadata import TargetFile

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.client import memory
from easystack_image.ota.journal import journal
from easystack_image.ota.journal.records import Kind
from easystack_image.ota.journal.records import Outcome
from easystack_image.ota.release import channels
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import index as indexes
from easystack_image.ota.slots import building
from easystack_image.ota.slots import slots
from tests.unit.ota import base
from tests.unit.ota import server as servers


class UpdaterTest(base.SiteCase):

    @classmethod
    def prepare(cls) -> None:
        super().prepare()
        cls.publish('1.1.0', 2)

    def test_from_nothing_to_a_slot(self) -> None:
        found = self.succeed('check', '-f', 'json').json
        self.assertEqual((None, '1.1.0', None), (
            found['installed'], found['next'], found['warning']))
        self.assertEqual([('1.1.0', 2), ('1.0.0', 1)], [
            (each['version'], each['number']) for each in found['releases']])
        path = self.succeed('download', '1.0.0', '-f', 'json').json['archive']
        slot = self.succeed('slots', 'build', path, '-f', 'json').json
        self.select('1.0.0')
        self.assertEqual(slot['path'] + '\n',
                         self.succeed('slots', 'path').output)
        self.assertRegex(self.succeed('check').output,
                         '(?m)^1.0.0 +1 +installed$')
        self.succeed('slots', 'build', self.downloaded_archive('1.1.0'))
        self.select('1.1.0')
        self.succeed('slots', 'verify', '1.1.0')
        self.assertEqual(['previous', 'current'], [
            row['use'] for row in self.succeed(
                'slots', 'list', '-f', 'json').json])
        result = self.succeed('download', '-f', 'json')
        self.assertIsNone(result.json['archive'])
        self.assertIn('nothing newer', result.errors)
        self.assertEqual([], self.succeed(
            'slots', 'collect', '--keep=0', '-f', 'json').json)

    def select(self, version: str) -> None:
        found = slots.Slots(self.root / 'opt',
                            building.Builder('uv', 'python3'))
        found.select(found.get(version))

    def downloaded_archive(self, version: str) -> str:
        path: str = self.succeed('download', version,
                                 '-f', 'json').json['archive']
        return path

    def test_the_installed_release_is_revoked(self) -> None:
        self.succeed('slots', 'build', self.downloaded_archive('1.1.0'))
        self.select('1.1.0')
        mine = self.own_site()
        channels.revoke(mine.repository, 'stable', [2], 'it eats images',
                        base.now())
        mine.sign_and_publish(['stable'])
        self.server.folder = mine.repository.root / 'public'
        self.options['run_directory'] = self.root / 'run'
        for command in ('check', 'download', 'upgrade', 'status'):
            result = self.command(command, '-f', 'json')
            self.assertEqual(3, result.code)
            self.assertIn('is revoked: it eats images', result.errors)
        self.assertIn('eats images', result.json['warning'])

    def test_releases_of_a_later_format(self) -> None:
        """An old updater goes on to get those that it understands."""
        data = next((self.public / 'targets/stable').glob(
            '*.index.json')).read_bytes()
        for path in (self.public / 'targets/stable').glob('*.index.json'):
            data = max(data, path.read_bytes(), key=len)
        record = json.loads(data)
        record['releases'].append({'format': 2, 'anything': []})
        stable = base.read(self.public, 'stable')
        target = TargetFile.from_data(
            'stable/index.json', json.dumps(record).encode(), ['sha256'])
        stable.signed.targets[target.path] = target
        stable.signed.version += 1
        self.site.sign_as(self.public, stable, 'stable',
                          self.site.signers('stable'))
        self.site.reissue(self.public, 'stable')
        (self.public / 'targets' / indexes.location(
            target.path, target.hashes['sha256'])).write_text(
                json.dumps(record))
        result = self.command('check', '-f', 'json')
        self.assertEqual((3, '1.1.0'), (result.code, result.json['next']))
        self.assertIn('1 releases that this updater does not understand',
                      result.errors)
        self.succeed('download')
        # Who makes the next index must know all that is in it.
        self.assertRaises(exceptions.InvalidRelease, indexes.load,
                          json.dumps(record).encode(), 'stable')

    def test_resumed_by_the_next_command(self) -> None:
        self.server.tricks['1.1.0.tar'] = servers.break_off(1000)
        self.refuse('cannot be read', 'broke', code=4)
        part, = self.downloaded()
        size = (self.root / 'state/downloads' / part).stat().st_size
        self.assertEqual(5000, size)
        self.server.tricks.clear()
        self.succeed('download')
        self.assertEqual(size, self.server.requests[-1][1])
        self.assertEqual(['easystack-image-1.1.0.tar'], self.downloaded())

    def test_what_an_upgrade_needs_stays(self) -> None:
        """The archives and slots of one that did not end."""
        for version in ('1.1.0', '1.0.0'):
            self.succeed('slots', 'build', self.downloaded_archive(version))
        with journal.Journal(home.Home(self.root / 'state')
                             ).writer() as writer:
            self.downloaded_archive('1.1.0')
            writer.open(Kind.UPGRADE, None, '1.1.0')
            self.downloaded_archive('1.0.0')
            self.assertEqual(
                ['easystack-image-1.0.0.tar', 'easystack-image-1.1.0.tar'],
                self.downloaded())
            collect = ('slots', 'collect', '--keep', '0', '-f', 'json')
            self.assertEqual([{'removed': '1.0.0'}],
                             self.succeed(*collect).json)
            writer.close(Outcome.ABANDONED)
        self.downloaded_archive('1.0.0')
        self.assertEqual(['easystack-image-1.0.0.tar'], self.downloaded())
        self.assertEqual([{'removed': '1.1.0'}], self.succeed(*collect).json)

    def test_stopped_by_a_signal(self) -> None:
        """Ctrl-C ends it at once, and nothing is lost."""
        self.server.tricks['1.1.0.tar'] = servers.pause_after(3000)
        process = subprocess.Popen(
            [base.COMMAND, '--config-file', self.write_config(), 'download'],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60
        while not [name for name in self.downloaded() if (
                self.root / 'state/downloads' / name).stat().st_size]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual((130, '', ''), (process.returncode, output, errors))
        self.server.tricks.clear()
        self.succeed('download')
        self.assertEqual(3000, self.server.requests[-1][1])

    def test_from_a_stick(self) -> None:
        """Without a server, from a folder that cannot be written."""
        self.options['repository'] = self.public.as_uri()
        self.succeed('check')
        self.succeed('download')
        self.assertEqual([], self.server.requests)

    def test_by_a_proxy(self) -> None:
        self.options['repository'] = 'http://releases.invalid'
        self.options['proxy'] = self.server.url
        self.succeed('download')
        self.assertTrue(self.server.proxied)

    def test_a_directory_of_the_server(self) -> None:
        os.rename(self.public, self.root / 'images')
        self.server.folder = self.root
        self.options['repository'] = f'{self.server.url}/images/'
        self.succeed('download')

    def test_nobody_there(self) -> None:
        self.options['repository'] = 'http://127.0.0.1:1'
        self.refuse('cannot be read', 'refused', code=4)
        self.options['repository'] = (self.root / 'none').as_uri()
        self.refuse('cannot be read', 'there is no', code=4)

    def test_two_at_once(self) -> None:
        with home.Home(self.root / 'state').locked():
            self.refuse('is in use', code=4)
        self.succeed('download')

    def test_configuration(self) -> None:
        self.options['trusted_root'] = '/nowhere/root.json'
        self.refuse('trusted_root', '1.root.json')
        del self.options['repository']
        self.refuse('repository is not set')

    def test_a_root_of_others(self) -> None:
        """Whoever can change it decides who may sign."""
        root = self.root / 'root.json'
        shutil.copyfile(self.options['trusted_root'], root)
        self.options['trusted_root'] = root
        for mode in (0o664, 0o646):
            root.chmod(mode)
            self.refuse(f'{root} may be changed by others', 'trusted_root',
                        f'chmod go-w {root}')
        root.chmod(0o644)
        self.succeed('check')
        with fixtures.MonkeyPatch('os.geteuid', lambda: 54321):
            if os.getuid() == 0:
                self.client().check()
                os.chown(root, 12345, -1)
            error = self.assertRaises(exceptions.ConfigurationError,
                                      self.client()._root)
        self.assertIn(f'{root} belongs to user', str(error))
        self.assertIn(f'chown root {root}', str(error))

    def test_no_release_yet(self) -> None:
        self.options['channel'] = 'candidate'
        result = self.succeed('check', '-f', 'json').json
        self.assertEqual(([], None), (result['releases'], result['next']))
        self.assertIsNone(self.client().download())

    def test_no_room(self) -> None:
        self.patch(os, 'fstatvfs', lambda fd: os.statvfs_result(
            (4096, 4096, 10, 1, 1, 10, 1, 1, 0, 255)))
        error = self.assertRaises(exceptions.RefusedRelease,
                                  self.client().download)
        self.assertIn('has 4096 left', str(error))

    def test_progress(self) -> None:
        seen: list[tuple[int, int]] = []
        path = self.client().download(
            progress=lambda done, size: seen.append((done, size)))
        size = path.stat().st_size
        self.assertEqual((size, size), seen[-1])

    def test_silent_for_days(self) -> None:
        """Whoever keeps newer releases away is noticed."""
        self.options['run_directory'] = self.root / 'run'
        self.succeed('check')
        place = home.Home(self.root / 'state')
        self.server.folder = self.root / 'gone'
        self.options['repository'] = 'http://127.0.0.1:9/'
        self.assertEqual(4, self.command('check').code)
        memory.update(place, lambda seen: dataclasses.replace(
            seen, seen=seen.seen - 7 * 86400))
        result = self.command('check', '-f', 'json')
        self.assertEqual(3, result.code)
        self.assertIn('7 days', result.json['attention'])
        self.assertIn('has not answered for 7 days', result.errors)
        status = self.command('status', '-f', 'json')
        self.assertEqual(3, status.code)
        self.assertIn('has not answered for 7 days',
                      ' '.join(status.json['attention']))
        self.options['check_warn_days'] = 0
        self.assertEqual(4, self.command('check').code)

    def test_floor_while_something_is_downloaded(self) -> None:
        """A download may take hours, and an upgrade ends meanwhile."""
        self.succeed('check')
        place = home.Home(self.root / 'state')
        with place.locked():
            memory.raise_floor(place, 7)
        self.assertEqual(7, memory.load(place).floor)

    def test_memory_is_damaged(self) -> None:
        self.succeed('check')
        for text in ('', '[]', '{"format": 2}', '{"format": 1}'):
            (self.root / 'state' / memory.NAME).write_text(text)
            self.refuse('memory.json is damaged', run=('check',))

    def test_directories_are_private(self) -> None:
        self.succeed('download')
        for path in (self.root / 'state').rglob('*'):
            self.assertEqual(0, path.stat().st_mode & 0o077, path)

    def test_metadata_is_damaged(self) -> None:
        """It is got again: the root is never taken from there alone."""
        self.succeed('check')
        for path in (self.root / 'state' / 'metadata').iterdir():
            path.write_bytes(b'{')
        self.succeed('check')
        for path in (self.root / 'state' / 'metadata').iterdir():
            json.loads(path.read_bytes())

    def test_floor_of_an_upgrade(self) -> None:
        client = self.client(installed=declarations.Declaration(
            '1.1.0', 2, python=('3.11',)))
        client.raise_floor(2)
        client.raise_floor(1)
        error = self.assertRaises(exceptions.RefusedRelease, client.download,
                                  '1.0.0')
        self.assertIn('below 2', str(error))
