"""Whoever can write to ``public`` has no draft made, or signed, of that."""

from __future__ import annotations

from collections.abc import Callable
import datetime
import json
from pathlib import Path
import shutil
from typing import Any
from unittest import mock

from tuf.api.metadata import TargetFile

from easystack_image import exceptions
from easystack_image.ota.release import ceremony
from easystack_image.ota.release import channels
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import keys
from easystack_image.ota.release import publish
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release import review
from tests.unit.ota import base

ROLES = repositories.ROLES


class Killed(base.Site):
    """A site that is killed at each file that it writes to publish."""

    killed = 0

    def see(self) -> None:
        """Look at it when it was."""

    def _publish(self, now: datetime.datetime | None = None) -> None:
        real = repositories.Repository.write
        written: list[Path] = []

        def write(this: Any, path: Path, *others: Any) -> None:
            real(this, path, *others)
            written.append(path)
            if len(written) > self.killed:
                raise KeyboardInterrupt

        while True:
            written.clear()
            with mock.patch.object(repositories.Repository, 'write', write):
                try:
                    super()._publish(now)
                    return
                except KeyboardInterrupt:
                    self.killed += 1
            self.see()


class PublishedCase(base.SiteCase):

    def setUp(self) -> None:
        super().setUp()
        self.mine = self.own_site()
        self.repository = self.mine.repository
        self.folder = self.repository.root / 'public'
        self.new = self.archive('1.1.0', 2)

    def edit(self, name: str, change: Callable[[Any], object]) -> None:
        """Change what is published, and leave the signatures as they are."""
        path = self.folder / 'metadata' / name
        record = json.loads(path.read_bytes())
        change(record['signed'])
        path.write_text(json.dumps(record))

    def actions(self) -> dict[str, Callable[[], object]]:
        """Return all that begins with what is published."""
        site, now = self.repository, base.now()
        return {
            'add': lambda: channels.add(site, 'stable', self.new, now),
            'revoke': lambda: channels.revoke(site, 'stable', [1], 'x', now),
            'floor': lambda: channels.raise_floor(site, 'stable', 1, now),
            'renew': lambda: ceremony.renew(site, ['stable'], now),
            'rotate': lambda: ceremony.rotate(
                site, {'stable': self.mine._holders('root')}, now),
            'status': lambda: list(publish.states(site)),
            'publish': self.mine._publish,
            'timer': lambda: publish.renew(site, [
                keys.load(self.mine._keys[role][0])
                for role in repositories.ONLINE], now)}

    def refused(self, *words: str) -> None:
        """Nothing begins with it; nor is a draft signed that did before."""
        before = {path: path.read_bytes()
                  for path in self.folder.rglob('*.json')}
        for name, action in self.actions().items():
            error = self.assertRaises(exceptions.Untrusted, action)
            for word in words:
                self.assertIn(word, str(error), name)
            self.assertEqual([], list(self.repository.drafts()), name)
        self.assertEqual(before, {path: path.read_bytes() for path
                                  in self.folder.rglob('*.json')})

    def draft_refused(self, role: str) -> None:
        for action in (
                lambda: review.changes(self.repository, role),
                lambda: publish.sign(self.repository,
                                     self.mine.signers(role))):
            self.assertRaises(exceptions.Untrusted, action)
        self.assertEqual({}, self.repository.draft(role).signatures)


class EditedTest(PublishedCase):

    def replace_index(self, data: bytes) -> Callable[[Any], object]:
        """Publish an index; return what names it in a channel."""
        target = TargetFile.from_data('stable/index.json', data, ['sha256'])
        (self.folder / 'targets' / indexes.location(
            target.path, target.hashes['sha256'])).write_bytes(data)
        return lambda signed: signed['targets'].update(
            {target.path: target.to_dict()})

    def test_another_archive_of_a_release(self) -> None:
        other = self.archive('1.0.0', 1, database=['expand'])
        target = TargetFile.from_file(
            'stable/easystack-image-1.0.0.tar', str(other), ['sha256'])
        shutil.copyfile(other, self.folder / 'targets' / indexes.location(
            target.path, target.hashes['sha256']))
        ceremony.renew(self.repository, ['stable'], base.now())
        self.edit('2.stable.json', lambda signed: signed['targets'].update(
            {target.path: target.to_dict()}))
        self.draft_refused('stable')
        self.repository.discard()
        self.refused('2.stable.json is not the file that was published')

    def test_without_hashes_the_signature_counts(self) -> None:
        """As if the keys that are online had been stolen, too."""
        self.edit('2.stable.json', lambda signed: signed.update(version=3))
        (self.folder / 'metadata/2.stable.json').rename(
            self.folder / 'metadata/3.stable.json')
        self.mine.reissue(self.folder, 'stable')
        self.refused('3.stable.json is not signed as it must be')

    def test_what_was_revoked(self) -> None:
        channels.raise_floor(self.repository, 'stable', 1, base.now())
        channels.revoke(self.repository, 'stable', [1], 'x', base.now())
        self.mine.sign_and_publish(['stable'])
        _, index = channels.read(self.repository, 'stable')
        self.edit('3.stable.json', self.replace_index(indexes.Index(
            'stable', index.made, releases=index.releases).dump()))
        self.refused('3.stable.json is not the file')

    def test_a_key_more(self) -> None:
        thief = keys.create(self.root / 'thief')

        def add(held: Any) -> None:
            held['keys'][thief.keyid] = thief.to_dict()

        def add_root(signed: Any) -> None:
            add(signed)
            signed['roles']['root']['keyids'].append(thief.keyid)

        def add_stable(signed: Any) -> None:
            add(signed['delegations'])
            for role in signed['delegations']['roles']:
                role['keyids'].append(thief.keyid)

        ceremony.renew(self.repository, ['root', 'targets'], base.now())
        whole = (self.folder / 'metadata/1.root.json').read_bytes()
        self.edit('1.root.json', add_root)
        self.draft_refused('root')
        staged = self.repository.staged
        staged.rename(self.root / 'staged')
        self.refused('1.root.json is not')
        (self.folder / 'metadata/1.root.json').write_bytes(whole)
        self.edit('1.targets.json', add_stable)
        self.refused('1.targets.json is not the file')
        (self.root / 'staged').rename(staged)
        self.draft_refused('targets')

    def test_an_index_or_an_archive_in_place(self) -> None:
        ceremony.renew(self.repository, ['stable'], base.now())
        for name in ('*.tar', '*.index.json'):
            for path in (self.folder / 'targets/stable').glob(name):
                path.write_bytes(path.read_bytes() + b' ')
            self.assertRaises(exceptions.InvalidRelease, review.changes,
                              self.repository, 'stable')

    def test_one_role_speaks_for_another(self) -> None:
        """Their keys may be the same."""
        snapshot = base.read(self.folder, 'snapshot')
        self.mine.sign_as(self.folder, snapshot, 'timestamp',
                          self.mine.signers('timestamp'))
        self.refused('timestamp.json is of the type snapshot')

    def test_taken_away(self) -> None:
        for name in ('1.root', 'timestamp', '2.snapshot', '1.targets',
                     '2.stable', '1.candidate'):
            path = self.folder / 'metadata' / f'{name}.json'
            path.rename(self.root / 'away')
            self.refused('lack')
            (self.root / 'away').rename(path)
        shutil.rmtree(self.folder)
        self.refused('what was published has been taken away')
        self.assertRaises(exceptions.Untrusted, ceremony.initialise,
                          self.repository, {
                              role: self.mine._holders(role)
                              for role in ROLES}, {}, base.now())


class RootTest(PublishedCase):

    def follow(self, version: int, number: int, role: str) -> None:
        """Publish a root that the keys of a role have signed."""
        root = base.read(self.folder, 'root')
        root.signed.version = version
        self.mine.sign_as(self.folder, root, 'root', self.mine.signers(role))
        path = self.folder / 'metadata' / f'{version}.root.json'
        path.rename(path.with_name(f'{number}.root.json'))

    def test_a_root_that_does_not_follow(self) -> None:
        first = self.folder / 'metadata/1.root.json'
        whole = first.read_bytes()
        for version, number, role, words in (
                (2, 2, 'targets', '2.root.json is not signed'),
                (3, 2, 'root', '2.root.json is version 3, not 2'),
                (3, 3, 'root', '2.root.json is lacking')):
            self.follow(version, number, role)
            self.refused(words)
            (first.parent / f'{number}.root.json').unlink()
        first.write_bytes(whole)
        for name in ('x.root.json', 'targets.root.json'):
            (first.parent / name).write_bytes(b'')
        self.assertEqual(1, self.repository.published('root').signed.version)

    def test_one_key_under_two_ids(self) -> None:
        root = base.read(self.folder, 'root')
        signer, = self.mine.signers('root', 1)
        root.signed.keys['00' * 32] = signer.public_key
        root.signed.roles['timestamp'].keyids.append('00' * 32)
        root.signed.version = 2
        self.mine.sign_as(self.folder, root, 'root',
                          self.mine.signers('root'))
        self.refused('somebody has tampered with it')

    def other_repository(self) -> None:
        """Publish a repository of somebody else's in our place."""
        other = base.Site(self.root / 'other')
        other.directory.mkdir()
        other.begin()
        shutil.rmtree(self.folder)
        shutil.copytree(other.repository.root / 'public', self.folder)
        self.mine._keys = other._keys

    def test_another_repository(self) -> None:
        self.other_repository()
        self.refused('1.root.json is not the root in',
                     repositories.TRUSTED)

    def test_a_root_of_ones_own(self) -> None:
        """In a folder that others have made."""
        own = self.root / 'own.json'
        shutil.copyfile(self.folder / 'metadata/1.root.json', own)
        self.other_repository()
        (self.repository.root / repositories.TRUSTED).unlink()
        self.options['trusted_root'] = own
        result = self.succeed('release', 'renew', self.repository.root,
                              'stable')
        result = self.succeed('release', 'review', self.repository.root)
        self.assertIn('no root to be trusted was given', result.errors)
        run = ('release', 'review', self.repository.root)
        self.refuse('1.root.json is not the root in', str(own),
                    run=(*run, '--trusted-root', own))
        self.refuse('1.root.json is not the root in', str(own),
                    run=('--trusted-root', own, *run))
        shutil.rmtree(self.folder)
        self.refuse('taken away', run=(*run, '--trusted-root', own))
        own.unlink()
        self.refuse('own.json', run=(*run, '--trusted-root', own))


class GenuineTest(PublishedCase):
    """What looks odd, and is not."""

    def test_expired(self) -> None:
        old = base.now() - datetime.timedelta(days=4000)
        ceremony.renew(self.repository, repositories.OFFLINE, old)
        for role in repositories.OFFLINE:
            publish.sign(self.repository, self.mine.signers(role))
        self.mine._publish(old)
        self.assertRaises(exceptions.Untrusted, self.client_of_mine().check)
        ceremony.renew(self.repository, repositories.OFFLINE, base.now())
        self.mine.sign_and_publish(repositories.OFFLINE)
        self.assertEqual('1.0.0', self.client_of_mine().check().next.version)

    def client_of_mine(self) -> Any:
        self.server.folder = self.folder
        return self.client()

    def test_before_all(self) -> None:
        site = base.Site(self.root / 'new')
        site.directory.mkdir()
        site.begin()
        root = site.repository.metadata / '1.root.json'
        self.assertEqual(root.read_bytes(), (
            site.repository.root / repositories.TRUSTED).read_bytes())
        self.assertEqual(dict.fromkeys(ROLES, 1), {
            role: site.repository.published(role).signed.version
            for role in ROLES})

    def test_cut_short_before_all(self) -> None:
        site = Killed(self.root / 'new')
        site.directory.mkdir()
        site.begin()
        # Four roles, snapshot, timestamp, and the root that is kept.
        self.assertEqual(7, site.killed)
        self.assertEqual([], list(site.repository.drafts()))

    def test_cut_short_with_all_keys_new(self) -> None:
        """Between the new root and the rest, nobody signs."""
        old = self.mine._keys['root']
        for role in ROLES:
            self.mine._keys[role] = []
            for number in range(3):
                self.mine._new_key(role, f'new-{role}-{number}')
            ceremony.rotate(self.repository,
                            {role: self.mine._holders(role)}, base.now())
        publish.sign(self.repository, [keys.load(path) for path in old])
        for role in repositories.OFFLINE:
            publish.sign(self.repository, self.mine.signers(role))
        seen = []

        def see() -> None:
            try:
                seen.append(review.changes(self.repository, 'stable') and 'ok')
            except exceptions.Untrusted as error:
                self.assertIn('has to be run again', str(error))
                seen.append('no')

        site = Killed(self.mine.directory)
        site._keys, site.see = self.mine._keys, see
        site._publish()
        self.assertEqual(6, site.killed)
        self.assertEqual(['no'] * 5 + ['ok'], seen)
        self.assertEqual('1.0.0', self.client_of_mine().check().next.version)

    def test_a_rotation_in_progress(self) -> None:
        """Half signed drafts of all are reviewed; others go on."""
        self.mine._keys['root'].pop()
        self.mine._new_key('root', 'dora')
        for role in ('root', 'stable'):
            ceremony.rotate(self.repository,
                            {role: self.mine._holders('root')}, base.now())
        publish.sign(self.repository, self.mine.signers('root', 1))
        for role in self.repository.drafts():
            review.changes(self.repository, role)
        self.actions()['timer']()
        self.mine.add('1.1.0', 2)
        self.assertEqual(['root', 'targets', 'stable'],
                         list(self.repository.drafts()))
