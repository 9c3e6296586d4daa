"""A rehearsal of everything that those who keep a repository have to do.

It makes keys and a repository of its own, publishes, replaces keys, revokes,
lets signatures expire, and sees each time what a client makes of it.  Nobody
should replace a lost key for the first time when one is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import datetime
from pathlib import Path
import time

from easystack_image import exceptions
from easystack_image.ota import settings
from easystack_image.ota.client import updater
from easystack_image.ota.release import build
from easystack_image.ota.release import ceremony
from easystack_image.ota.release import channels
from easystack_image.ota.release import index as indexes
from easystack_image.ota.release import keys
from easystack_image.ota.release import publish
from easystack_image.ota.release import repository as repositories
from easystack_image.ota.release import sample

#: How many keys each role has here, and how many must sign.
_THRESHOLDS = {repositories.ROOT: (3, 2), repositories.TARGETS: (3, 2),
               'stable': (3, 2), 'candidate': (1, 1),
               repositories.SNAPSHOT: (1, 1), repositories.TIMESTAMP: (1, 1)}
_CHANNEL = indexes.CHANNELS[0]


class Rehearsal:
    """A rehearsal.

    :param directory: an empty one; keys, repository and client are in it
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = repositories.Repository(directory / 'repository')
        self._keys: dict[str, list[Path]] = {}
        self._client_state = settings.Settings(
            repository=f'file://{directory}/repository/public',
            trusted_root=str(directory / 'root.json'),
            state_directory=str(directory / 'client'))

    def run(self) -> Iterator[str]:
        """Do it; yield what was done, step by step.

        :raises easystack_image.exceptions.OtaError: if something is not as
            it should be
        """
        for step in (self.begin, self.release, self.one_signature,
                     self.lost_key, self.revoke, self.expire):
            yield step()

    def begin(self) -> str:
        """Make keys and a repository, and give the client its root."""
        for role, (count, _) in _THRESHOLDS.items():
            self._keys[role] = []
            for number in range(1, count + 1):
                self._new_key(role, f'{role}-{number}')
        ceremony.initialise(self.repository, {
            role: self._holders(role) for role in _THRESHOLDS}, {}, _now())
        self.sign_and_publish(_THRESHOLDS)
        # A client wants it so that no others may change it.
        self.repository.write(
            self.directory / 'root.json',
            (self.repository.metadata / '1.root.json').read_bytes())
        return ('made keys, and a repository: 2 of 3 keys sign root, targets '
                'and stable')

    def release(self) -> str:
        """Publish a release, and get it as a client."""
        self.add('1.0.0', 1)
        self.sign_and_publish([_CHANNEL])
        path = updater.Client(self._client_state).download()
        if path is None:
            raise exceptions.InvalidRelease('the client finds no release')
        return 'published release 1.0.0; a client got it, and verified it'

    def one_signature(self) -> str:
        """See that one signature of two does not do."""
        self.add('1.1.0', 2)
        publish.sign(self.repository, [keys.load(self._keys[_CHANNEL][0])])
        self._expect(exceptions.NotSigned, self._publish)
        publish.sign(self.repository, [keys.load(self._keys[_CHANNEL][1])])
        self._publish()
        return 'release 1.1.0 was not published before a second key signed it'

    def lost_key(self) -> str:
        """Replace a key of root and stable that was lost."""
        for role in (repositories.ROOT, _CHANNEL):
            self._keys[role].pop(0)
            self._new_key(role, f'{role}-4')
            ceremony.rotate(self.repository, {role: self._holders(role)},
                            _now())
        self.sign_and_publish([repositories.ROOT, repositories.TARGETS,
                               _CHANNEL])
        self._expect_next('1.1.0')
        return ('replaced a lost key of root and one of stable; a client '
                'that knows the first root only follows')

    def revoke(self) -> str:
        """Revoke a release, and see that nobody gets it."""
        channels.revoke(self.repository, _CHANNEL, [2], 'a rehearsal',
                        _now())
        self.sign_and_publish([_CHANNEL])
        self._expect(exceptions.RefusedRelease, lambda: updater.Client(
            self._client_state).download('1.1.0'))
        self._expect_next('1.0.0')
        return 'revoked release 1.1.0; a client refuses it'

    def expire(self) -> str:
        """Let the signatures expire, and publish again."""
        days = repositories.EXPIRY[repositories.TIMESTAMP] + 1
        self._publish(_now() - datetime.timedelta(days=days))
        self._expect(exceptions.Untrusted, lambda: updater.Client(
            self._client_state).check())
        self._publish()
        self._expect_next('1.0.0')
        return ('let timestamp expire, which a client refuses; published '
                'again, and all is well')

    def add(self, version: str, number: int) -> None:
        """Stage a release in the channel."""
        folder = sample.write(self.directory / 'releases' / version, version,
                              number)
        channels.add(self.repository, _CHANNEL, build.build(
            folder, self.directory / 'archives'), _now())

    def sign_and_publish(self, roles: Iterable[str]) -> None:
        """Sign with the keys of roles that there are, and publish."""
        for role in roles:
            if role not in repositories.ONLINE:
                # A new root is signed with keys of the one before, too.
                publish.sign(self.repository, [
                    keys.load(path) for path in self._keys[role]])
        self._publish()

    def _publish(self, now: datetime.datetime | None = None) -> None:
        publish.publish(self.repository, [
            keys.load(self._keys[role][0]) for role in repositories.ONLINE],
            now or _now())

    def _new_key(self, role: str, name: str) -> None:
        path = self.directory / 'keys' / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        keys.create(path)
        self._keys[role].append(path)

    def _holders(self, role: str) -> ceremony.Holders:
        return ceremony.Holders(_THRESHOLDS[role][1], [
            keys.load(path).public_key for path in self._keys[role]])

    def _expect(self, error: type[Exception],
                action: Callable[[], object]) -> None:
        try:
            action()
        except error:
            return
        raise exceptions.InvalidRelease(
            f'{error.__name__} was expected, and nothing of it happened')

    def _expect_next(self, version: str) -> None:
        found = updater.Client(self._client_state).check().next
        if found is None or found.version != version:
            raise exceptions.InvalidRelease(
                f'{version} should be offered to a client, not {found}')


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
