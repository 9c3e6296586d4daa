"""Making, signing and publishing, as those who do it go about it."""

from __future__ import annotations

from collections.abc import Callable
import copy
import dataclasses
import datetime
import json
import os
from pathlib import Path
import shutil
import stat
import subprocess
import sys
from typing import Any

import fixtures
from tuf.api.metadata import TargetFile

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.release import ceremony
from easystack_image.ota.release import channels
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import keys
from easystack_image.ota.release import publish
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release import review
from tests.unit.ota import base

ROLES = repositories.ROLES


class KeysTest(base.Case):

    def test_round_trip(self) -> None:
        public = keys.create(self.root / 'key')
        self.assertEqual(public, keys.load_public(self.root / 'key.pub'))
        signature = keys.load(self.root / 'key').sign(b'data')
        public.verify_signature(signature, b'data')
        self.assertNotIn(b'PRIVATE', (self.root / 'key.pub').read_bytes())

    def test_nothing_is_overwritten(self) -> None:
        keys.create(self.root / 'key')
        before = (self.root / 'key').read_bytes()
        self.assertRaises(FileExistsError, keys.create, self.root / 'key')
        self.assertEqual(before, (self.root / 'key').read_bytes())

    def test_others_may_read_it(self) -> None:
        keys.create(self.root / 'key')
        for mode in (0o640, 0o604, 0o622):
            (self.root / 'key').chmod(mode)
            error = self.assertRaises(exceptions.NotSigned, keys.load,
                                      self.root / 'key')
            self.assertIn('others may read', str(error))

    def test_without_cryptography(self) -> None:
        """On a machine that only installs."""
        keys.create(self.root / 'key')
        for call in ('create', 'load'):
            done = subprocess.run(
                [sys.executable, '-c', 'import sys, pathlib\n'
                 'sys.modules["cryptography"] = None\n'
                 'from easystack_image import exceptions\n'
                 'from easystack_image.ota.release import keys\n'
                 'try:\n'
                 f'    keys.{call}(pathlib.Path("key"))\n'
                 'except exceptions.NotSigned as error:\n'
                 '    print(error)\n'],
                capture_output=True, text=True, cwd=self.root, timeout=120)
            self.assertIn('easystack-image[ota-release]', done.stdout,
                          done.stderr)

    def test_no_keys(self) -> None:
        keys.create(self.root / 'key')
        keys.create(self.root / 'other')
        text = (self.root / 'key').read_bytes()
        for data in (b'', b'secret words', text[:100], text[40:]):
            (self.root / 'key').write_bytes(data)
            error = self.assertRaises(exceptions.NotSigned, keys.load,
                                      self.root / 'key')
            self.assertNotIn('secret', str(error))
        for data in (b'', b'[]', b'{}', b'{"keyid": 1}', b'{"keyid": "1"}'):
            (self.root / 'other.pub').write_bytes(data)
            self.assertRaises(exceptions.NotSigned, keys.load_public,
                              self.root / 'other.pub')


class WritingTest(base.Case):
    """Where others may write: what they put there is not followed."""

    def setUp(self) -> None:
        super().setUp()
        self.repository = repositories.Repository(self.root / 'repository')
        self.path = self.repository.metadata / 'timestamp.json'
        self.key = self.root / 'key'
        self.key.write_text('private')
        self.key.chmod(0o600)

    def assertUntouched(self) -> None:
        self.assertEqual(('private', 0o600), (
            self.key.read_text(), stat.S_IMODE(self.key.stat().st_mode)))

    def test_a_link_takes_the_place_of_a_file(self) -> None:
        def rename(*arguments: Any) -> None:
            real(*arguments)
            self.path.unlink()
            self.path.symlink_to(self.key)

        real = fsio.rename
        self.patch(fsio, 'rename', rename)
        self.repository.write(self.path, b'data')
        self.assertUntouched()

    def test_killed_when_a_file_has_its_name(self) -> None:
        def rename(*arguments: Any) -> None:
            real(*arguments)
            raise KeyboardInterrupt

        real = fsio.rename
        self.patch(fsio, 'rename', rename)
        self.assertRaises(KeyboardInterrupt, self.repository.write,
                          self.path, b'data')
        self.assertEqual(0o644, stat.S_IMODE(self.path.stat().st_mode))

    def test_a_link_takes_the_place_of_a_copy(self) -> None:
        def unlink(*arguments: Any, **others: Any) -> None:
            real(*arguments, **others)
            new.symlink_to(self.key)

        source = self.root / 'source'
        source.write_text('data')
        new = self.path.with_name(f'{self.path.name}{fsio.NEW}')
        new.parent.mkdir(parents=True)
        new.write_text('cut sh')
        real = os.unlink
        with fixtures.MonkeyPatch('os.unlink', unlink):
            self.assertRaises(FileExistsError, self.repository.link, source,
                              self.path)
        self.assertUntouched()
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        self.repository.link(source, self.path)
        self.assertUntouched()
        self.assertEqual(('data', 0o644), (
            self.path.read_text(), stat.S_IMODE(self.path.stat().st_mode)))
        self.assertEqual([self.path.name], os.listdir(self.path.parent))


class CommandTest(base.Case):
    """By the command, as the documentation has it."""

    def setUp(self) -> None:
        super().setUp()
        self.repository = self.root / 'repository'

    def release(self, *arguments: object, code: int = 0) -> str:
        done = subprocess.run(
            [base.COMMAND, 'release', *map(str, arguments)],
            capture_output=True, text=True, cwd=self.root, timeout=120)
        self.assertEqual(code, done.returncode, done.stderr)
        self.assertNotIn('Traceback', done.stderr)
        return done.stdout + done.stderr

    def make(self) -> None:
        for name in ('anna', 'berta', 'carla', 'online'):
            keys.create(self.root / name)
        held = 'anna.pub,berta.pub,carla.pub'
        self.release('init', self.repository, *(
            f'--role={role}=2:{held}' for role in repositories.OFFLINE), *(
            f'--role={role}=1:online.pub' for role in repositories.ONLINE),
            '--days=timestamp=3')

    def test_from_key_to_status(self) -> None:
        self.release('key', 'dora')
        self.make()
        said = self.release('review', self.repository)
        self.assertIn('root has timestamp signed by 1 of the keys', said)
        self.release('sign', self.repository, '--yes', '--key=anna')
        said = self.release('publish', self.repository, '--key=online',
                            code=1)
        self.assertIn('1 of the 2 keys', said)
        self.assertFalse((self.repository / 'public').exists() and list(
            (self.repository / 'public').rglob('*.json')))
        said = self.release('sign', self.repository, '--yes', '--key=berta')
        for name in ('anna', 'berta', 'carla'):
            self.assertRegex(
                said, 'targets has stable signed by 2 of the keys .*'
                + keys.load_public(self.root / f'{name}.pub').keyid)
        self.assertIn('stable 1: 2 of 2 keys', said)
        said = self.release('publish', self.repository, '--key=anna', code=1)
        self.assertIn('--key', said)
        self.release('publish', self.repository, '--key=online')
        self.assertFalse((self.repository / 'staged').exists())
        archive = self.archive()
        self.release('add', self.repository, archive, '--channel=candidate')
        self.release('sign', self.repository, '--yes', '--key=carla',
                     '--key=anna')
        self.release('publish', self.repository, '--key=online')
        self.release('status', self.repository)
        # Of what holds for three days, not much can be left.
        self.release('status', self.repository, '--warn-days=3650')
        for role, margin, days in (('timestamp', 7, 3), ('stable', 7, 180)):
            state, = (each for each in publish.states(
                repositories.Repository(self.repository))
                if each.role == role)
            self.assertEqual(days, state.period.days)
            # A quarter of its time, or the margin: what is less.
            least = min(datetime.timedelta(days=margin), state.period / 4)
            for seconds, soon in ((60, False), (-60, True)):
                self.assertIs(soon, state.ends_soon(
                    state.expires - least - datetime.timedelta(
                        seconds=seconds),
                    datetime.timedelta(days=margin)), (role, seconds))
        repositories.Repository(self.repository).write_expiry(
            {'timestamp': 40})
        said = self.release('status', self.repository, code=3)
        self.assertIn('signed again soon: timestamp', said)
        self.release('status', self.repository, '--warn-days=1')
        self.release('renew', self.repository, 'stable')
        self.release('publish', self.repository, '--key=online', '--renew')
        self.assertTrue((self.repository / 'staged/stable.json').exists())

    def test_wrong_use(self) -> None:
        for arguments in (('init', 'x'), ('init', 'x', '--role=root'),
                          ('init', 'x', '--role=root=2'),
                          ('init', 'x', '--role=boss=1:a.pub'),
                          ('renew', 'x', 'timestamp'), ('sign', 'x'),
                          ('add', 'x', 'y', '--channel=beta'), ()):
            self.release(*arguments, code=2)
        self.release('status', 'nowhere', code=1)
        self.release('key', '/nowhere/key', code=1)


class CeremonyTest(base.SiteCase):
    """What is signed by whom, in a repository that is published."""

    def setUp(self) -> None:
        super().setUp()
        self.mine = self.own_site()
        self.server.folder = self.mine.repository.root / 'public'

    def states(self) -> dict[str, publish.State]:
        return {state.role: state
                for state in publish.states(self.mine.repository)}

    def test_once_is_enough(self) -> None:
        self.assertRaises(exceptions.InvalidRelease, ceremony.initialise,
                          self.mine.repository, {
                              role: self.mine._holders(role)
                              for role in ROLES}, {}, base.now())

    def test_every_role_has_keys(self) -> None:
        error = self.assertRaises(
            exceptions.NotSigned, ceremony.initialise,
            repositories.Repository(self.root / 'new'),
            {'root': self.mine._holders('root')}, {}, base.now())
        self.assertIn('targets', str(error))

    def test_thresholds_that_cannot_be_met(self) -> None:
        key, other = (each.public_key for each in
                      self.mine.signers('root', 2))
        for threshold, found in ((0, [key]), (2, [key]), (2, [key, key]),
                                 (3, [key, other])):
            self.assertRaises(exceptions.NotSigned, ceremony.Holders,
                              threshold, found)

    def test_every_role_can_have_other_keys(self) -> None:
        """And a client that knows the first root only follows."""
        for role in ROLES:
            old = self.mine._keys[role]
            self.mine._keys[role] = []
            for number in range(len(old)):
                self.mine._new_key(role, f'new-{role}-{number}')
            ceremony.rotate(self.mine.repository,
                            {role: self.mine._holders(role)}, base.now())
            if role == 'root':
                publish.sign(self.mine.repository,
                             [keys.load(path) for path in old])
            drafts = set(self.mine.repository.drafts())
            self.mine.sign_and_publish([
                each for each in repositories.OFFLINE if each in drafts])
            self.assertEqual('1.0.0', self.client().check().next.version)
        root = self.mine.repository.latest('root').signed
        self.assertEqual(5, root.version)
        self.assertEqual(
            {key.public_key.keyid for role in ('root', 'targets', *(
                repositories.ONLINE)) for key in self.mine.signers(role)},
            set(root.keys))

    def test_a_new_root_needs_the_old_keys(self) -> None:
        self.mine._keys['root'] = []
        for number in range(3):
            self.mine._new_key('root', f'thief-{number}')
        ceremony.rotate(self.mine.repository,
                        {'root': self.mine._holders('root')}, base.now())
        error = self.assertRaises(exceptions.NotSigned,
                                  self.mine.sign_and_publish, ['root'])
        self.assertIn('root is signed by 0 of the 2', str(error))

    def test_who_may_not_sign(self) -> None:
        self.mine.add('1.1.0', 2)
        error = self.assertRaises(
            exceptions.NotSigned, publish.sign, self.mine.repository,
            self.mine.signers('root', 1))
        self.assertIn('stable', str(error))

    def test_a_change_voids_signatures(self) -> None:
        self.mine.add('1.1.0', 2)
        publish.sign(self.mine.repository, self.mine.signers('stable', 2))
        self.mine.add('1.2.0', 3)
        self.assertEqual((0, 2), (self.states()['stable'].signed,
                                  self.states()['stable'].threshold))
        self.mine.sign_and_publish(['stable'])
        # Two drafts are one version.
        self.assertEqual(3, self.states()['stable'].version)
        self.assertEqual('1.2.0', self.client().check().next.version)

    def test_who_signs_is_told_what(self) -> None:
        self.mine.add('1.1.0', 2)
        channels.raise_floor(self.mine.repository, 'stable', 1, base.now())
        channels.revoke(self.mine.repository, 'stable', [1], 'why',
                        base.now())
        path, = (self.mine.repository.staged / 'targets/stable').glob(
            '*1.1.0.tar')
        validity, *changes, left, made = review.changes(self.mine.repository,
                                                  'stable')
        self.assertEqual(
            ['offers stable/easystack-image-1.1.0.tar with SHA-256 '
             + path.name.partition('.')[0], 'has the floor 1',
             'has number 1 revoked: why'], changes)
        until = base.now() + datetime.timedelta(days=180)
        self.assertEqual('is version 3, and holds until '
                         f'{until:%Y-%m-%d}', validity)
        self.assertEqual('leaves 1 releases that may be installed, the '
                         'newest is 1.1.0 (number 2)', left)
        self.assertIn(f'made at {base.now():%Y-%m-%d}', made)

    def test_drafts_that_were_tampered_with(self) -> None:
        """Where drafts lie, others may be: nobody signs what is not so."""
        self.mine.add('1.1.0', 2)
        path, = (self.mine.repository.staged / 'targets/stable').glob(
            '*1.1.0.tar')
        path.write_bytes(self.archive('1.1.0', 2, minimum=1).read_bytes())
        command = subprocess.run(
            [base.COMMAND, 'release', 'sign', '--yes',
             self.mine.repository.root, '--key', self.mine._keys['stable'][0]],
            capture_output=True, text=True, timeout=120)
        self.assertEqual(1, command.returncode)
        self.assertIn('is not the release 1.1.0', command.stderr)
        self.assertEqual(0, self.states()['stable'].signed)
        draft = self.mine.repository.latest('stable')
        del draft.signed.targets['stable/easystack-image-1.0.0.tar']
        self.mine.repository.stage('stable', draft, base.now())
        error = self.assertRaises(
            exceptions.InvalidRelease, review.changes, self.mine.repository,
            'stable')
        self.assertIn('does not offer it', str(error))

    def tampered(self, role: str, change: Callable[[Any], object]) -> str:
        """Return why a draft that somebody changed is refused.

        :param change: changes the signed part, as JSON has it
        """
        ceremony.renew(self.mine.repository, [role], base.now())
        path = self.mine.repository.staged / f'{role}.json'
        record = json.loads(path.read_bytes())
        change(record['signed'])
        path.write_text(json.dumps(record))
        message = ''
        for action in (
                lambda: review.changes(self.mine.repository, role),
                lambda: publish.sign(self.mine.repository,
                                     self.mine.signers(role)),
                lambda: list(publish.states(self.mine.repository)),
                self.mine._publish):
            try:
                action()
            except (exceptions.InvalidRelease, exceptions.NotSigned) as error:
                message = str(error)
            else:
                self.fail(f'{role} was taken')
        self.mine.repository.discard()
        return message

    def test_what_no_draft_of_ours_has(self) -> None:
        """It is refused before anybody is asked to judge it."""
        for change in (
                lambda root: root.update(consistent_snapshot=False),
                lambda root: root.update(comment='hello'),
                lambda root: root.update(spec_version='2.0.0'),
                lambda root: root['roles']['root'].update(comment='hello'),
                lambda root: root['keys'].update({'00' * 32: next(iter(
                    root['keys'].values()))})):
            self.tampered('root', change)
        for change in (
                lambda targets: targets['delegations']['roles'][0].update(
                    paths=['*']),
                lambda targets: targets['delegations']['roles'][0].update(
                    terminating=False),
                lambda targets: targets['delegations']['roles'].append(
                    {**targets['delegations']['roles'][0], 'name': 'x',
                     'paths': ['stable/*']}),
                lambda targets: targets['delegations']['roles'].pop()):
            self.tampered('targets', change)
        for change in (
                lambda stable: stable.update(delegations={
                    'keys': {}, 'roles': []}),
                lambda stable: stable['targets'].pop('stable/index.json'),
                lambda stable: stable['targets']['stable/index.json'].update(
                    custom={'a': 1})):
            self.tampered('stable', change)

    def test_targets_offers_nothing_itself(self) -> None:
        """It would count for more than what the channels offer."""
        def change(targets: Any) -> None:
            targets['targets']['stable/index.json'] = TargetFile.from_data(
                'stable/index.json', b'{}', ['sha256']).to_dict()

        self.assertIn('targets offers files itself: stable/index.json',
                      self.tampered('targets', change))

    def test_other_keys_under_the_same_ids(self) -> None:
        thief = keys.create(self.root / 'thief').to_dict()

        def change(signed: Any) -> None:
            held = signed['keys'] if 'keys' in signed else (
                signed['delegations']['keys'])
            for keyid in held:
                held[keyid] = thief

        for role in ('root', 'targets'):
            self.assertIn('somebody has tampered with it',
                          self.tampered(role, change))

    def test_one_key_under_two_ids(self) -> None:
        keys.create(self.root / 'key')
        public = json.loads((self.root / 'key.pub').read_bytes())
        for change in ({'keyid': '00' * 32},
                       {'keyval': {'public': public['keyval'][
                           'public'].upper()}},
                       {'comment': 'mine'}, {'scheme': 'ed25519ph'},
                       {'keytype': 'rsa'}, {'keyval': {}}):
            (self.root / 'two.pub').write_text(
                json.dumps({**copy.deepcopy(public), **change}))
            self.assertRaises(exceptions.NotSigned, keys.load_public,
                              self.root / 'two.pub')
        key = keys.load_public(self.root / 'key.pub')
        same = copy.deepcopy(key)
        same.keyid = '00' * 32
        self.assertRaises(exceptions.NotSigned, ceremony.Holders, 2,
                          [key, same])

    def test_who_signs_is_told_what_is_taken_back(self) -> None:
        channels.raise_floor(self.mine.repository, 'stable', 1, base.now())
        channels.revoke(self.mine.repository, 'stable', [1], 'why',
                        base.now())
        self.mine.sign_and_publish(['stable'])
        draft, index = channels.read(self.mine.repository, 'stable')
        ceremony.put_index(self.mine.repository, draft, indexes.Index(
            'stable', releases=index.releases), base.now())
        self.mine.repository.stage('stable', draft, base.now())
        _, *changes, _, _ = review.changes(self.mine.repository, 'stable')
        self.assertEqual(['LOWERS the floor from 1 to 0',
                          'NO LONGER has number 1 revoked: why'], changes)

    def test_an_index_that_lies_of_what_is_published(self) -> None:
        """Nothing is staged but the index; its release is another."""
        draft, index = channels.read(self.mine.repository, 'stable')
        release = dataclasses.replace(index.releases[0], python=('3.12',),
                                      database=('expand',))
        ceremony.put_index(self.mine.repository, draft, indexes.Index(
            'stable', releases=(release,)), base.now())
        self.mine.repository.stage('stable', draft, base.now())
        error = self.assertRaises(
            exceptions.InvalidRelease, review.changes, self.mine.repository,
            'stable')
        self.assertIn('is not the release 1.0.0', str(error))
        # Or what it names is not what is there.
        path, = (self.mine.repository.staged / 'targets/stable').glob('*')
        path.write_bytes(path.read_bytes().replace(b'3.12', b'3.13'))
        error = self.assertRaises(
            exceptions.InvalidRelease, review.changes, self.mine.repository,
            'stable')
        self.assertIn('is not the file that stable names', str(error))

    def test_typing_errors_that_could_not_be_undone(self) -> None:
        site, now = self.mine.repository, base.now()
        for number in (2, 9000):
            error = self.assertRaises(
                exceptions.InvalidRelease, channels.raise_floor, site,
                'stable', number, now)
            self.assertIn(f'no release from number {number} on', str(error))
        error = self.assertRaises(
            exceptions.InvalidRelease, channels.revoke, site, 'stable',
            [1, 77777], 'why', now)
        self.assertIn('number 77777', str(error))
        self.assertEqual([], list(site.drafts()))
        channels.revoke(site, 'stable', [1], 'why', now)
        self.assertRaises(exceptions.InvalidRelease, channels.raise_floor,
                          site, 'stable', 1, now)
        self.assertIn('leaves NOTHING that may be installed',
                      review.changes(site, 'stable'))
        channels.raise_floor(site, 'stable', 9000, now, force=True)
        channels.revoke(site, 'stable', [77777], 'why', now, force=True)
        _, index = channels.read(site, 'stable')
        self.assertEqual((9000, {1: 'why', 77777: 'why'}),
                         (index.floor, index.revoked))

    def test_a_clock_that_was_ahead(self) -> None:
        """Clients say whose fault it is; it can be made good."""
        later = base.now() + datetime.timedelta(days=2)
        self.archive('1.1.0', 2)
        channels.add(self.mine.repository, 'stable',
                     self.root / 'archives/easystack-image-1.1.0.tar', later)
        self.mine.sign_and_publish(['stable'])
        error = self.assertRaises(exceptions.ClockSetBack,
                                  self.client().check)
        self.assertIn('by a machine whose clock is ahead', str(error))
        arguments = [base.COMMAND, 'release', 'floor',
                     self.mine.repository.root, '1', '--channel', 'stable']
        for more, code in (([], 1), (['--accept-clock'], 0)):
            done = subprocess.run([*arguments, *more], capture_output=True,
                                  text=True, timeout=120)
            self.assertEqual(code, done.returncode, done.stderr)
            self.assertIs(bool(code), 'was ahead' in done.stderr)
        self.mine.sign_and_publish(['stable'])
        self.assertEqual('1.1.0', self.client().check().next.version)

    def test_times_that_no_calendar_has(self) -> None:
        for made in (-1, 10 ** 15):
            self.assertRaises(exceptions.InvalidRelease, indexes.Index,
                              'stable', made)
        for made in ('1e400', '[' * 100000):
            self.assertRaises(
                exceptions.InvalidRelease, indexes.load,
                ('{"format": 1, "channel": "stable", "floor": 0, "releases": '
                 f'[], "revoked": {{}}, "made": {made}}}').encode(), 'stable')

    def test_numbers_are_of_all_channels(self) -> None:
        site, now = self.mine.repository, base.now()
        for version, number in (('1.1.0', 1), ('1.0.0', 2)):
            error = self.assertRaises(
                exceptions.InvalidRelease, channels.add, site, 'candidate',
                self.archive(version, number), now)
            self.assertIn('stable has release 1.0.0', str(error))
        path = self.archive('1.2.0', 3)
        for channel in ('candidate', 'stable'):
            channels.add(site, channel, path, now)
        self.assertEqual(['stable'], channels.revoke(
            site, 'candidate', [3], 'why', now))
        self.assertEqual([], channels.revoke(site, 'stable', [3], 'why', now))
        self.assertEqual([], channels.revoke(site, 'stable', [1], 'why', now))
        # What is revoked in one does not come back in another.
        draft, index = channels.read(site, 'stable')
        channels._stage(site, draft, indexes.Index('stable'), now)
        error = self.assertRaises(
            exceptions.InvalidRelease, channels.add, site, 'stable', path,
            now)
        self.assertIn('is revoked in candidate', str(error))

    def test_who_signs_is_told_of_all_keys(self) -> None:
        ceremony.renew(self.mine.repository, ['root'], base.now())
        found = review.changes(self.mine.repository, 'root')
        self.assertEqual(5, len(found))
        self.assertTrue(all(line.endswith(', as before')
                            for line in found[1:]))

    def test_signing_again(self) -> None:
        ceremony.renew(self.mine.repository, ['root', 'candidate'],
                       base.now())
        self.mine.sign_and_publish(['root', 'candidate'])
        found = self.states()
        self.assertEqual((2, 2), (found['root'].version,
                                  found['candidate'].version))
        self.assertEqual('1.0.0', self.client().check().next.version)

    def test_who_is_cut_short_does_it_again(self) -> None:
        """Killed at any file that is written; clients see old or new."""
        self.mine.add('1.1.0', 2)
        publish.sign(self.mine.repository, self.mine.signers('stable', 2))
        real = repositories.Repository.write
        written: list[Path] = []

        def write(this: Any, path: Path, *others: Any) -> None:
            real(this, path, *others)
            written.append(path)
            if len(written) == stop:
                raise KeyboardInterrupt

        self.patch(repositories.Repository, 'write', write)
        for stop in range(1, 4):
            written.clear()
            self.assertRaises(KeyboardInterrupt, self.mine._publish)
            self.assertEqual(
                '1.0.0' if stop < 3 else '1.1.0',
                self.client().check().next.version)
        stop = 0
        self.mine._publish()
        self.assertEqual('1.1.0', self.client().check().next.version)
        self.assertEqual([], list(self.mine.repository.drafts()))

    def renew(self) -> int:
        return publish.renew(self.mine.repository, [
            keys.load(self.mine._keys[role][0])
            for role in repositories.ONLINE], base.now())

    def test_a_timer_leaves_drafts_alone(self) -> None:
        """Half signed or ready, whatever they are of."""
        self.mine.add('1.1.0', 2)
        publish.sign(self.mine.repository, self.mine.signers('stable', 1))
        before = self.mine.repository.published('timestamp').signed.version
        self.assertEqual(before + 1, self.renew())
        publish.sign(self.mine.repository, self.mine.signers('stable', 2))
        self.assertEqual(before + 2, self.renew())
        self.assertEqual('1.0.0', self.client().check().next.version)
        # New keys of its own count when they are published.
        ceremony.rotate(self.mine.repository, {
            'timestamp': self.mine._holders('root')}, base.now())
        self.assertEqual(before + 3, self.renew())
        self.assertEqual('1.0.0', self.client().check().next.version)
        self.assertEqual(['root', 'stable'],
                         list(self.mine.repository.drafts()))
        (self.mine.repository.staged / 'root.json').unlink()
        self.mine._publish()
        self.assertEqual('1.1.0', self.client().check().next.version)

    def test_a_timer_before_all(self) -> None:
        new = repositories.Repository(self.root / 'new')
        self.assertRaises(exceptions.InvalidRelease, publish.renew, new, [],
                          base.now())

    def test_an_old_draft(self) -> None:
        """What is published can be had by all, with its signatures."""
        for version in ('1.1.0', '1.2.0'):
            self.mine.add(version, int(version[2]) + 1)
            self.mine.sign_and_publish(['stable'])
        staged = self.mine.repository.staged
        for role, number in (('stable', 2), ('root', 1)):
            if role == 'root':
                ceremony.renew(self.mine.repository, [role], base.now())
                self.mine.sign_and_publish([role])
            staged.mkdir()
            shutil.copyfile(self.mine.repository.metadata /
                            f'{number}.{role}.json', staged / f'{role}.json')
            error = self.assertRaises(exceptions.InvalidRelease,
                                      self.mine._publish)
            self.assertIn(f'{role} is version {number}, and version',
                          str(error))
            shutil.rmtree(staged)
        self.assertEqual('1.2.0', self.client().check().next.version)

    def test_one_after_another(self) -> None:
        self.mine.add('1.1.0', 2)
        command = [base.COMMAND, 'release', 'sign', '--yes',
                   self.mine.repository.root, '--key',
                   self.mine._keys['stable'][0]]
        with self.mine.repository.locked():
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            self.assertRaises(subprocess.TimeoutExpired, process.wait, 3)
            self.assertEqual(0, self.states()['stable'].signed)
        self.assertEqual(0, process.wait(60))
        self.assertEqual(1, self.states()['stable'].signed)

    def test_the_same_release_twice(self) -> None:
        other = self.archive('1.0.0', 1, minimum=0, database=['expand'])
        error = self.assertRaises(
            exceptions.InvalidRelease, channels.add, self.mine.repository,
            'stable', other, base.now())
        self.assertIn('has release 1.0.0', str(error))

    def test_promotion(self) -> None:
        """The same archive, first in candidate, then in stable."""
        path = self.archive('1.1.0', 2)
        channels.add(self.mine.repository, 'candidate', path, base.now())
        self.mine.sign_and_publish(['candidate'])
        self.assertEqual('1.0.0', self.client().check().next.version)
        self.options['channel'] = 'candidate'
        self.assertEqual('1.1.0', self.client().check().next.version)
        self.options['channel'] = 'stable'
        channels.add(self.mine.repository, 'stable', path, base.now())
        self.mine.sign_and_publish(['stable'])
        self.assertEqual('1.1.0', self.client().check().next.version)
