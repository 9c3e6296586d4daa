"""Attacks on the way to a release: each is refused, with a reason.

A real web server serves what the attacker has made of a repository, and the
command itself asks it.  Most attackers have the repository, some have keys.
"""

from __future__ import annotations

import copy
import datetime
import io
import json
import os
from pathlib import Path
import shutil
import tarfile
import time
import types
import zipfile

from securesystemslib.signer import CryptoSigner
import testtools
from tuf.api.metadata import MetaFile
from tuf.api.metadata import TargetFile
from tuf.api.serialization import DeserializationError
from tuf.ngclient._internal import trusted_metadata_set

from easystack_image import exceptions
from easystack_image.ota import home
from easystack_image.ota.journal import journal
from easystack_image.ota.journal import records
from easystack_image.ota.release import archive
from easystack_image.ota.release import build
from easystack_image.ota.release import channels
from easystack_image.ota.release import declaration as declarations
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release import sample
from easystack_image.ota.release import wheel as wheels
from tests.unit.ota import base
from tests.unit.ota import server

_CHECK = wheels.check
ROOT, TIMESTAMP = repositories.ROOT, repositories.TIMESTAMP


class AttackCase(base.SiteCase):
    """Release 1.0.0 first; then 1.1.0, to which nobody has upgraded yet."""

    @classmethod
    def prepare(cls) -> None:
        super().prepare()
        cls.before = shutil.copytree(cls.site.repository.root / 'public',
                                     cls.site.directory / 'before')
        cls.publish('1.1.0', 2)

    def find(self, pattern: str) -> Path:
        """Return the one file of the repository that has such a path."""
        found, = self.public.glob(pattern)
        return found

    def assertNothing(self) -> None:
        """Nothing was taken, not even for a moment, as a release."""
        self.assertEqual([], [name for name in self.downloaded()
                              if not name.endswith('.part')])


class TargetTest(AttackCase):

    def test_bit_flip(self) -> None:
        path = self.find('targets/stable/*1.1.0.tar')
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        self.refuse('cannot be trusted', 'hash')
        self.assertEqual([], self.downloaded())

    def test_too_large(self) -> None:
        path = self.find('targets/stable/*1.1.0.tar')
        path.write_bytes(path.read_bytes() + bytes(1024))
        self.refuse('cannot be trusted', 'more than')
        self.assertNothing()

    def test_too_small(self) -> None:
        path = self.find('targets/stable/*1.1.0.tar')
        path.write_bytes(path.read_bytes()[:-1024])
        self.refuse('cannot be read', 'ends after', code=4)
        self.assertNothing()

    def test_another_release_under_its_name(self) -> None:
        shutil.copyfile(self.find('targets/stable/*1.0.0.tar'),
                        self.find('targets/stable/*1.1.0.tar'))
        self.refuse('hash')
        self.assertNothing()

    def test_larger_than_this_machine_takes(self) -> None:
        self.options['maximum_size'] = 1
        stable = base.read(self.public, 'stable')
        target = stable.signed.targets['stable/easystack-image-1.1.0.tar']
        target.length = 2 * 1024 * 1024
        stable.signed.version += 1
        self.site.sign_as(self.public, stable, 'stable',
                          self.site.signers('stable'))
        self.site.reissue(self.public, 'stable')
        self.refuse('at most 1048576')

    def test_unknown_name(self) -> None:
        self.refuse('no release', '6.6.6', run=('download', '6.6.6'))
        # In the index, and not signed itself.
        stable = base.read(self.public, 'stable')
        del stable.signed.targets['stable/easystack-image-1.1.0.tar']
        stable.signed.version += 1
        self.site.sign_as(self.public, stable, 'stable',
                          self.site.signers('stable'))
        self.site.reissue(self.public, 'stable')
        self.refuse('no signed stable/easystack-image-1.1.0.tar')
        self.assertNothing()


class MetadataTest(AttackCase):

    def test_too_large(self) -> None:
        path = self.find('metadata/timestamp.json')
        path.write_bytes(path.read_bytes() + b' ' * 20000)
        self.refuse('cannot be trusted', 'more than')

    def test_rollback_of_the_repository(self) -> None:
        self.succeed('check')
        self.server.folder = self.before
        self.refuse('cannot be trusted', 'version', run=('check',))

    def test_rollback_of_snapshot(self) -> None:
        self.succeed('check')
        # With the key of timestamp.
        self.site.reissue(self.public, snapshot_version=2)
        self.refuse('cannot be trusted', 'version', run=('check',))

    def test_rollback_of_targets(self) -> None:
        self.succeed('check')
        # With the keys of snapshot and timestamp.
        self.find('metadata/3.stable.json').unlink()
        self.site.reissue(self.public, 'stable')
        self.refuse('cannot be trusted',
                    'Expected stable.json version 2, got 3', run=('check',))

    def test_one_signature_of_two(self) -> None:
        self.check_signers(self.site.signers('stable', 1),
                           'signed by 1/2 keys')

    def test_foreign_keys(self) -> None:
        self.check_signers([CryptoSigner.generate_ed25519()
                            for _ in range(2)], 'signed by 0/2 keys')
        # Those of another role are foreign, too.
        self.check_signers(self.site.signers(ROOT), 'signed by 0/2 keys')

    def check_signers(self, signers: list[CryptoSigner],
                      *words: str) -> None:
        stable = base.read(self.public, 'stable')
        stable.signed.version += 1
        self.site.sign_as(self.public, stable, 'stable', signers)
        self.site.reissue(self.public, 'stable')
        self.refuse('cannot be trusted', *words, run=('check',))

    def test_duplicate_signature(self) -> None:
        stable = base.read(self.public, 'stable')
        stable.signed.version += 1
        # The same file, with two good signatures, is taken.
        self.site.sign_as(self.public, stable, 'stable',
                          self.site.signers('stable', 2))
        self.site.reissue(self.public, 'stable')
        self.succeed('check')
        self.site.sign_as(self.public, stable, 'stable',
                          self.site.signers('stable', 1))
        path = self.find('metadata/4.stable.json')
        record = json.loads(path.read_bytes())
        signature, = record['signatures']
        shutil.rmtree(self.root / 'state')
        # One alone is one of two; twice the same is no metadata at all.
        self.refuse('signed by 1/2 keys', run=('check',))
        path.write_text(json.dumps(
            {**record, 'signatures': [signature, signature]}))
        error = self.assertRaises(
            DeserializationError, base.read, self.public, 'stable')
        self.assertIn('Multiple signatures found for keyid',
                      str(error.__cause__))
        self.refuse('cannot be trusted', 'Failed to deserialize JSON',
                    run=('check',))

    def test_the_same_key_twice(self) -> None:
        """Under two names, it would count for two."""
        stable = base.read(self.public, 'stable')
        stable.signed.version += 1
        signer, = self.site.signers('stable', 1)
        self.site.sign_as(self.public, stable, 'stable', [signer])
        path = self.find('metadata/4.stable.json')
        record = json.loads(path.read_bytes())
        record['signatures'].append(
            {**record['signatures'][0], 'keyid': '00' * 32})
        path.write_text(json.dumps(record))
        self.site.reissue(self.public, 'stable')
        self.refuse('signed by 1/2 keys', run=('check',))

    def test_one_key_under_two_ids(self) -> None:
        """Those who sign targets were made to delegate like that."""
        targets = base.read(self.public, 'targets')
        signer, = self.site.signers('stable', 1)
        delegations = targets.signed.delegations
        twin = copy.deepcopy(signer.public_key)
        twin.keyid = '00' * 32
        delegations.keys = {each.keyid: each for each in (
            signer.public_key, twin, *(
                each.public_key for each in self.site.signers('candidate')))}
        delegations.roles['stable'].keyids = [signer.public_key.keyid,
                                              twin.keyid]
        targets.signed.version += 1
        self.site.sign_as(self.public, targets, 'targets',
                          self.site.signers('targets'))
        stable = base.read(self.public, 'stable')
        stable.signed.version += 1
        self.site.sign_as(self.public, stable, 'stable', [signer])
        path = self.find('metadata/4.stable.json')
        record = json.loads(path.read_bytes())
        record['signatures'].append(
            {**record['signatures'][0], 'keyid': twin.keyid})
        path.write_text(json.dumps(record))
        self.site.reissue(self.public, 'targets', 'stable')
        # For tuf, these are two of two.
        self.assertTrue(targets.signed.get_verification_result(
            'stable', stable.signed_bytes, base.read(
                self.public, 'stable').signatures).verified)
        self.refuse('cannot be trusted', 'called key ' + twin.keyid,
                    run=('check',))

    def test_targets_offers_something_itself(self) -> None:
        """It would count for more than what the channel offers."""
        targets = base.read(self.public, 'targets')
        target = TargetFile.from_data('stable/index.json', b'{}', ['sha256'])
        targets.signed.targets[target.path] = target
        targets.signed.version += 1
        self.site.sign_as(self.public, targets, 'targets',
                          self.site.signers('targets'))
        self.site.reissue(self.public, 'targets')
        self.refuse('cannot be trusted', 'past the keys of the channels',
                    run=('check',))

    def test_freeze(self) -> None:
        """What is good today is given out for ever."""
        self.client().check()
        days = datetime.timedelta(
            days=repositories.EXPIRY[TIMESTAMP], seconds=1)

        class Later(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Later:
                return super().now(tz) + days

        self.patch(trusted_metadata_set, 'datetime', types.SimpleNamespace(
            datetime=Later, timezone=datetime.timezone))
        client = self.client(now=lambda: time.time() + days.total_seconds())
        error = self.assertRaises(exceptions.Untrusted, client.check)
        self.assertIn('out of date', str(error))
        self.assertIn('timestamp.json is expired', str(error))

    def test_expired_timestamp(self) -> None:
        timestamp = base.read(self.public, TIMESTAMP)
        timestamp.signed.version += 1
        timestamp.signed.expires = base.now().replace(
            microsecond=0) - datetime.timedelta(seconds=1)
        self.site.sign_as(self.public, timestamp, TIMESTAMP,
                          self.site.signers(TIMESTAMP))
        self.refuse('out of date', 'timestamp.json is expired',
                    run=('check',))
        # Those who carry sticks can do something about it themselves.
        self.options['repository'] = self.public.as_uri()
        self.refuse('out of date', 'on a stick', run=('check',))

    def test_expired_root(self) -> None:
        root = base.read(self.public, ROOT)
        root.signed.version += 1
        root.signed.expires = base.now().replace(
            microsecond=0) - datetime.timedelta(days=1)
        self.site.sign_as(self.public, root, ROOT, self.site.signers(ROOT))
        self.refuse('out of date', 'root.json is expired', run=('check',))
        # It is not forgotten: the root before it is no better now.
        self.find('metadata/2.root.json').unlink()
        self.refuse('root.json is expired', run=('check',))

    def test_a_root_of_its_own(self) -> None:
        root = base.read(self.public, ROOT)
        root.signed.version += 1
        own = [CryptoSigner.generate_ed25519() for _ in range(2)]
        for role in root.signed.roles.values():
            role.keyids = [each.public_key.keyid for each in own]
        root.signed.keys = {each.public_key.keyid: each.public_key
                            for each in own}
        self.site.sign_as(self.public, root, ROOT, own)
        self.refuse('root was signed by 0/2 keys', run=('check',))

    def test_mix_and_match(self) -> None:
        """Old targets with new snapshots, each of them properly signed."""
        # Names and versions only: nothing else tells them apart.
        self.site.reissue(self.public, 'stable', 'candidate', 'targets')
        meta = base.read(self.public, repositories.SNAPSHOT).signed.meta
        self.assertEqual(MetaFile(3), meta['stable.json'])
        self.succeed('check')
        shutil.rmtree(self.root / 'state')
        shutil.copyfile(self.before / 'metadata' / '2.stable.json',
                        self.find('metadata/3.stable.json'))
        self.refuse('cannot be trusted', 'Expected stable v3, got v2',
                    run=('check',))

    def test_one_channel_speaks_for_another(self) -> None:
        """The key of candidate signs what looks like stable."""
        candidate = base.read(self.public, 'candidate')
        stable = base.read(self.public, 'stable')
        candidate.signed.targets.update(stable.signed.targets)
        candidate.signed.version += 1
        self.site.sign_as(self.public, candidate, 'candidate',
                          self.site.signers('candidate'))
        del stable.signed.targets['stable/easystack-image-1.1.0.tar']
        stable.signed.version += 1
        self.site.sign_as(self.public, stable, 'stable',
                          self.site.signers('stable'))
        self.site.reissue(self.public, 'stable', 'candidate')
        self.refuse('no signed stable/easystack-image-1.1.0.tar')

    def test_nonsense(self) -> None:
        for data in (b'', b'[]', b'<html>please log in</html>'):
            self.find('metadata/timestamp.json').write_bytes(data)
            self.refuse('cannot be trusted', run=('check',))


class ReleaseTest(AttackCase):
    """Genuine, and not to be installed."""

    def test_below_the_floor(self) -> None:
        self.client().raise_floor(2)
        self.refuse('1.0.0', 'below 2', run=('download', '1.0.0'))
        self.assertEqual([], self.downloaded())
        self.succeed('download', '1.1.0')

    def test_below_the_floor_of_the_channel(self) -> None:
        site = self.own_site()
        channels.raise_floor(site.repository, 'stable', 2, base.now())
        site.sign_and_publish(['stable'])
        self.server.folder = site.repository.root / 'public'
        self.refuse('1.0.0', 'below 2', run=('download', '1.0.0'))
        # For good, even if the channel says otherwise some day.
        self.assertEqual(2, json.loads(
            (self.root / 'state/memory.json').read_text())['floor'])

    def test_revoked(self) -> None:
        site = self.own_site()
        channels.revoke(site.repository, 'stable', [2], 'it eats images',
                        base.now())
        site.sign_and_publish(['stable'])
        self.server.folder = site.repository.root / 'public'
        self.refuse('1.1.0', 'it eats images', run=('download', '1.1.0'))
        self.assertIn('1.0.0', self.succeed('download').output)
        # A channel cannot forget it.
        draft, index = channels.read(site.repository, 'stable')
        channels._stage(site.repository, draft, indexes.Index(
            'stable', releases=index.releases), base.now())
        site.sign_and_publish(['stable'])
        self.refuse('it eats images', run=('download', '1.1.0'))


class TimeTest(AttackCase):

    def test_slow_retrieval(self) -> None:
        self.options['timeout'] = 1
        for part, trick in (('timestamp.json', server.drip),
                            ('2.root.json', server.drip_header),
                            ('index.json', server.drip_chunk),
                            ('1.1.0.tar', server.hang),
                            ('1.1.0.tar', server.drip)):
            self.server.tricks = {part: trick}
            began = time.monotonic()
            refused = self.refuse('cannot be read', code=4)
            # Which of both limits is met first depends on the machine.
            self.assertRegex(refused.errors, 'too slow|timed out')
            self.assertLess(time.monotonic() - began, 40)
        self.assertNothing()

    def test_endless_data(self) -> None:
        for part in ('timestamp.json', '2.root.json', 'snapshot.json',
                     'index.json', '1.1.0.tar'):
            self.server.tricks = {part: server.endless}
            self.refuse('cannot be trusted', 'more than')
        self.assertNothing()

    def test_clock_set_back(self) -> None:
        self.succeed('check')
        # As if three days had passed, and the clock were set back then.
        self.client(now=lambda: time.time() + 3 * 86400).check()
        self.refuse('set the clock right', run=('check',))
        self.refuse('set the clock right')
        self.succeed('check', '--accept-clock')
        self.succeed('check')

    def test_clock_never_right(self) -> None:
        """Not even the first time: an index tells when it was made."""
        client = self.client(now=lambda: time.time() - 86400)
        error = self.assertRaises(exceptions.ClockSetBack, client.check)
        self.assertIn('set the clock right', str(error))


class InsideTest(AttackCase):
    """Somebody swaps what is inside a release, before or after it is built."""

    def rewrite(self, path: Path, *, declare: bool,
                renamed: dict[str, str] | None = None) -> Path:
        """Swap the wheel in an archive.

        :param declare: whether the declaration is that of the new wheel;
            if not, the wheel has the size of the old one, too
        :param renamed: new names of members
        """
        other = sample.make_wheel(self.root, '1.1.0', 'import antigravity\n')
        release = archive.inspect(path)
        files = dict(release.files)
        name = next(each for each in files if each.endswith('.whl'))
        if declare:
            files[name] = archive.describe(other)
        else:
            data = bytearray(self.wheel(path, name))
            data[-30] ^= 1
            other.write_bytes(data)
        record = {**release.record(), 'files': {
            (renamed or {}).get(each, each): {
                'size': file.size, 'sha256': file.sha256}
            for each, file in files.items()}}
        target = self.root / 'swapped.tar'
        with tarfile.open(path) as old, tarfile.open(target, 'w') as new:
            for member in old:
                data = old.extractfile(member).read()
                if member.name == archive.DECLARATION:
                    data = json.dumps(record).encode()
                elif member.name == name:
                    data = other.read_bytes()
                member.name = (renamed or {}).get(member.name, member.name)
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
        return target

    def wheel(self, path: Path, name: str) -> bytes:
        with tarfile.open(path) as tar:
            return tar.extractfile(name).read()

    def check_refused(self, path: Path, *words: str) -> None:
        """Nobody takes it: not who publishes, nor who installs."""
        for run in (('release', 'add', self.site.repository.root, path,
                     '--channel', 'stable'), ('slots', 'build', path)):
            self.refuse(*words, run=run)
        self.assertFalse((self.root / 'opt' / 'slots').exists())

    def test_swapped_on_the_server(self) -> None:
        path = self.find('targets/stable/*1.1.0.tar')
        shutil.copyfile(self.rewrite(path, declare=True), path)
        self.refuse('cannot be trusted')
        self.assertNothing()

    def test_swapped_wheel(self) -> None:
        path = self.find('targets/stable/*1.1.0.tar')
        self.check_refused(self.rewrite(path, declare=False),
                           'is not the file that is declared')

    def test_swapped_wheel_and_declaration(self) -> None:
        path = self.find('targets/stable/*1.1.0.tar')
        self.check_refused(self.rewrite(path, declare=True),
                           'is not the file that the lock file asks for')

    def test_consistent_swap(self) -> None:
        """Wheel, lock file and declaration: nothing in it tells."""
        self.succeed('download', '1.1.0')
        path = self.archive('1.1.0', 2, minimum=1)
        target = self.root / 'state/downloads/easystack-image-1.1.0.tar'
        for each in (path, Path(shutil.copy(path, target))):
            self.refuse('not what was downloaded here',
                        run=('slots', 'build', each))
        self.assertFalse((self.root / 'opt' / 'slots').exists())
        self.succeed('slots', 'build', '--unsigned', path)
        # The one in its place is not it, and is got once more.
        self.succeed('download', '1.1.0')
        self.succeed('slots', 'build', target)
        self.assertEqual(archive.inspect(target), declarations.load(
            (self.root / 'opt/slots/1.1.0/release.json').read_bytes()))

    def test_signed_with_another_declaration_than_its_index(self) -> None:
        """Both are signed; a client still sees that they differ."""
        path = self.archive('1.1.0', 2, minimum=1)
        stable = base.read(self.public, 'stable')
        target = TargetFile.from_file('stable/easystack-image-1.1.0.tar',
                                      str(path), ['sha256'])
        stable.signed.targets[target.path] = target
        stable.signed.version += 1
        self.site.sign_as(self.public, stable, 'stable',
                          self.site.signers('stable'))
        self.site.reissue(self.public, 'stable')
        shutil.copyfile(path, self.public / 'targets' / indexes.location(
            target.path, target.hashes['sha256']))
        self.refuse('not what the index of its channel says')
        self.assertNothing()

    def test_path_traversal(self) -> None:
        path = self.find('targets/stable/*1.1.0.tar')
        self.check_refused(self.rewrite(path, declare=True, renamed={
            'config/sample.conf': '../../evil'}), 'is not allowed in it')
        for name in ('config/../../evil', '/etc/evil', 'config//evil',
                     'config/./evil', 'wheels/../x.whl', 'wheels/a/b.whl',
                     'config/.hidden', 'etc/passwd', 'config/a\nb',
                     'config/a\\b', 'pyvenv.cfg', 'config', 'release.json'):
            error = self.assertRaises(
                exceptions.InvalidRelease, archive.inspect, self.rewrite(
                    path, declare=True,
                    renamed={'config/sample.conf': name}))
            self.assertIn('is not allowed in it', str(error))

    def test_path_traversal_inside_a_wheel(self) -> None:
        """Declared, locked and hashed, as who builds releases could do."""
        for number, name in enumerate((
                '../../../../evil.py', '/etc/evil.py', 'a/../../evil.py',
                'a\\..\\evil.py', 'C:evil.py', 'a//evil.py', './evil.py')):
            folder = sample.write(self.root / f'wheel-{number}', '6.6.6', 6)
            path, = (folder / 'wheels').iterdir()
            with zipfile.ZipFile(path, 'a') as wheel:
                wheel.writestr(name, 'import antigravity\n')
            (folder / 'requirements.lock').write_text(
                f'easystack_sample==6.6.6 --hash=sha256:'
                f'{archive.describe(path).sha256}\n')
            error = self.assertRaises(exceptions.InvalidRelease, build.build,
                                      folder, self.root / 'out')
            self.assertIn('a name that leads elsewhere', str(error))
            # Whoever made an archive of it without asking us.
            self.patch(wheels, 'check', lambda *arguments: None)
            made = build.build(folder, self.root / 'out')
            self.patch(wheels, 'check', _CHECK)
            target = self.root / f'unpacked-{number}'
            target.mkdir()
            fd = os.open(target, os.O_RDONLY)
            self.addCleanup(os.close, fd)
            error = self.assertRaises(exceptions.InvalidRelease,
                                      archive.unpack, made, fd)
            self.assertIn('a name that leads elsewhere', str(error))

    def test_path_traversal_by_the_version(self) -> None:
        for version in ('../../1.1.0', '1.1.0/../../x', '/1.1.0', '1.1.0\n',
                        '..', '.', '', '1.1.0 x'):
            self.assertRaises(exceptions.InvalidRelease,
                              declarations.Declaration, version, 1,
                              python=('3.11',))
        self.refuse('no release', run=('download', '../../1.1.0'))
        self.refuse('not installed', run=('slots', 'verify', '../../etc'))


class JournalTest(AttackCase):

    def test_replay_of_an_old_journal(self) -> None:
        place = home.Home(self.root / 'state')
        with journal.Journal(place).writer() as writer:
            writer.open(records.Kind.INSTALL, None, '1.0.0')
            writer.begin(records.Step.STAGE)
        shutil.copytree(self.root / 'state/journal', self.root / 'old')
        with journal.Journal(place).writer() as writer:
            writer.done(records.Step.STAGE)
            writer.close(records.Outcome.COMMITTED)
        self.assertIn('committed', self.succeed('history').output)
        # Its lines only, as who wants the upgrade to be resumed would do.
        shutil.copy(self.root / 'old/000001.jsonl',
                    self.root / 'state/journal/000001.jsonl')
        self.refuse('it is an old one', run=('history',))
        with testtools.ExpectedException(exceptions.JournalError):
            with journal.Journal(place).writer():
                pass
        # All of it, as from a backup; or nothing of it.
        shutil.rmtree(self.root / 'state/journal')
        shutil.copytree(self.root / 'old', self.root / 'state/journal')
        self.refuse('it is an old one', run=('history',))
        os.unlink(self.root / 'state/journal/000001.jsonl')
        self.refuse('it is an old one', run=('history',))
