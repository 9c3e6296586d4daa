"""Signed is what somebody has seen, and said yes to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
from typing import Any

from easystack_image import exceptions
from easystack_image.cmd.ota import main
from easystack_image.cmd.ota import output
from easystack_image.cmd.ota import releases
from easystack_image.ota.release import ceremony
from easystack_image.ota.release import channels
from easystack_image.ota.release import publish
from easystack_image.ota.release import repository as repositories
from tests.unit.ota import base


class SignTest(base.SiteCase):

    def setUp(self) -> None:
        super().setUp()
        self.mine = self.own_site()
        self.repository = self.mine.repository
        self.key = self.mine._keys['stable'][0]
        self.mine.add('1.1.0', 2)

    def sign(self, *options: object) -> tuple[object, ...]:
        return ('release', 'sign', self.repository.root, '--key', self.key,
                *options)

    def signed(self, role: str = 'stable') -> int:
        return len(self.repository.draft(role).signatures)

    def swap(self) -> None:
        """Stage another draft, as whoever can write to the folder would."""
        channels.raise_floor(self.repository, 'stable', 2, base.now())

    def expected(self) -> dict[str, str]:
        """Return what the command says to expect."""
        found = dict(re.findall(r'--expect (\w+)=([0-9a-f]{64})\n', (
            self.succeed('release', 'review', self.repository.root).errors)))
        self.assertEqual({
            role: hashlib.sha256(
                self.repository.draft(role).signed_bytes).hexdigest()
            for role in self.repository.drafts()}, found)
        return found

    def test_what_was_reviewed(self) -> None:
        stable = self.expected()['stable']
        self.swap()
        result = self.command(*self.sign('--expect', f'stable={stable}'))
        self.assertEqual(1, result.code)
        self.assertIn('stable is not the one that was reviewed',
                      result.errors)
        self.assertEqual(0, self.signed())
        stable = self.expected()['stable']
        self.succeed(*self.sign('--expect', f'stable={stable}'))
        self.assertEqual(1, self.signed())

    def test_no_other_is_signed(self) -> None:
        """Though the keys may, and the others were read before it."""
        ceremony.renew(self.repository, ['root', 'targets'], base.now())
        found = self.expected()
        signers = [each for role in found for each in self.mine.signers(role)]
        self.assertRaises(exceptions.InvalidRelease, publish.sign,
                          self.repository, signers,
                          found | {'stable': found['root']})
        self.assertRaises(exceptions.InvalidRelease, publish.sign,
                          self.repository, signers,
                          found | {'candidate': found['root']})
        self.assertEqual([0] * 3, [self.signed(role) for role in found])
        del found['targets']
        self.assertRaises(exceptions.NotSigned, publish.sign,
                          self.repository, self.mine.signers('targets'),
                          found)
        publish.sign(self.repository, [
            *self.mine.signers('root'), *self.mine.signers('stable')], found)
        self.assertEqual([3, 0, 3], [self.signed(role) for role in (
            'root', 'targets', 'stable')])

    def test_nobody_to_ask(self) -> None:
        result = self.command(*self.sign())
        self.assertEqual(1, result.code)
        self.assertIn('there is no terminal to ask at', result.errors)
        self.assertEqual(0, self.signed())
        self.succeed(*self.sign('--yes'))
        self.assertEqual(1, self.signed())
        for options in (('--expect', 'stable'), ('--expect', 'stable=12'),
                        ('--expect', f'snapshot={"0" * 64}'),
                        ('--yes', '--expect', f'stable={"0" * 64}')):
            self.assertEqual(2, self.command(*self.sign(*options)).code)

    def answer(self, words: bytes) -> str:
        """Answer at a terminal; return what was said there."""
        ours, theirs = os.openpty()
        try:
            os.write(ours, words)
            done = subprocess.run(
                [base.COMMAND, *map(str, self.sign())], stdin=theirs,
                stderr=theirs, timeout=120)
            os.set_blocking(ours, False)
            said = b''
            with contextlib.suppress(BlockingIOError):
                while True:
                    said += os.read(ours, 4096)
            return f'{done.returncode} {said.decode()}'
        finally:
            os.close(ours)
            os.close(theirs)

    def test_somebody_is_asked(self) -> None:
        for words in (b'no\n', b'y\n', b'\n', b'\x04'):
            said = self.answer(words)
            self.assertIn('Is this what you want to sign?', said)
            self.assertEqual('1', said[0])
            self.assertEqual(0, self.signed())
        said = self.answer(b'yes\n')
        self.assertLess(said.index('offers stable/easystack-image-1.1.0.tar'),
                        said.index('Is this what you want to sign?'))
        self.assertEqual('0', said[0])
        self.assertEqual(1, self.signed())

    def test_while_somebody_thinks(self) -> None:
        """The folder is free; what is in it then is not what was seen."""
        def ask(question: str) -> bool:
            with repositories.Repository(self.repository.root).locked():
                self.swap()
            return True

        self.patch(output, 'say', lambda text: None)
        self.patch(output, 'can_ask', lambda: True)
        self.patch(output, 'ask', ask)
        self.assertRaises(exceptions.InvalidRelease, releases.run_sign,
                          self.arguments())
        self.assertEqual(0, self.signed())
        # Another signature is no other draft.
        self.patch(output, 'ask', lambda question: publish.sign(
            self.repository, self.mine.signers('stable')[1:]))
        releases.run_sign(self.arguments())
        self.assertEqual(3, self.signed())

    def test_who_does_not_see_it_is_not_asked(self) -> None:
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        os.write(ours, b'yes\n')
        done = subprocess.run([base.COMMAND, *map(str, self.sign())],
                              stdin=theirs, stderr=subprocess.PIPE,
                              timeout=120)
        self.assertEqual(1, done.returncode)
        self.assertIn(b'no terminal', done.stderr)
        self.assertEqual(0, self.signed())

    def arguments(self) -> Any:
        return main.make_parser().parse_args([*map(str, self.sign())])
