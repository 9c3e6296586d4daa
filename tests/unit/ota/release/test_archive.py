"""Archives and lock files: the same from the same, and nothing else in."""

from __future__ import annotations

import io
import os
from pathlib import Path
import shutil
import tarfile
from typing import Any

from easystack_image import exceptions
from easystack_image import fsio
from easystack_image.ota.release import archive
from easystack_image.ota.release import build
from easystack_image.ota.release import lock
from easystack_image.ota.release import sample
from tests.unit.ota import base


class BuildTest(base.Case):

    def test_the_same_folder_gives_the_same_bytes(self) -> None:
        first = self.archive('1.0.0', 1)
        other = self.root / 'other'
        before = os.umask(0o077)
        try:
            sample.write(other, '1.0.0', 1)
        finally:
            os.umask(before)
        os.utime(other / 'requirements.lock', (0, 0))
        second = build.build(other, self.root / 'second')
        self.assertEqual(first.read_bytes(), second.read_bytes())
        self.assertEqual('easystack-image-1.0.0.tar', first.name)
        self.assertEqual([first.name], os.listdir(first.parent))

    def test_what_is_in_it(self) -> None:
        path = self.archive('1.0.0', 7, minimum=5, revokes=[6],
                            database=['expand'])
        with tarfile.open(path) as tar:
            self.assertEqual(
                ['release.json', 'config/sample.conf', 'requirements.lock',
                 'wheels/easystack_sample-1.0.0-py3-none-any.whl'],
                tar.getnames())
        found = archive.inspect(path)
        self.assertEqual((7, 5, (6,), ('expand',)), (
            found.number, found.minimum, found.revokes, found.database))

    def test_long_names(self) -> None:
        """As wheels for many systems have them."""
        folder = sample.write(self.root / 'folder', '1.0.0', 1)
        name = 'config/' + '_'.join(['manylinux'] * 15)
        (folder / name).write_text('x')
        first = build.build(folder, self.root / 'first')
        self.assertEqual(1, archive.inspect(first).files[name].size)
        self.assertEqual(first.read_bytes(), build.build(
            folder, self.root / 'second').read_bytes())

    def test_unpack(self) -> None:
        path = self.archive('1.0.0', 1)
        target = self.root / 'target'
        target.mkdir()
        fd = fsio.open_directory(str(target))
        self.addCleanup(os.close, fd)
        self.assertEqual(archive.inspect(path), archive.unpack(path, fd))
        for name in ('requirements.lock', 'config/sample.conf'):
            self.assertEqual(
                (self.root / 'release-1.0.0' / name).read_bytes(),
                (target / name).read_bytes())

    def test_bad_folders(self) -> None:
        for name, change in (
                ('none', lambda path: (path / 'release.toml').unlink()),
                ('no lock', lambda path: (
                    path / 'requirements.lock').unlink()),
                ('no toml', lambda path: (
                    path / 'release.toml').write_text('version = ')),
                ('files', lambda path: (path / 'release.toml').write_text(
                    'version = "1"\nnumber = 1\n[files]\n')),
                ('link', lambda path: (path / 'config/x').symlink_to('/')),
                ('hidden', lambda path: (path / 'config/.x').touch()),
                ('no zip', lambda path: next((path / 'wheels').iterdir()
                                             ).write_bytes(b'PK')),
                ('deep', lambda path: (path / 'release.toml').write_text(
                    'a = ' + '[' * 100000)),
                ('no wheel', lambda path: shutil.rmtree(path / 'wheels')),
                ('surplus', lambda path: sample.make_wheel(
                    path / 'wheels', '2.0.0'))):
            folder = sample.write(self.root / name, '1.0.0', 1)
            change(folder)
            error = self.assertRaises(
                (exceptions.InvalidRelease, FileNotFoundError),
                build.build, folder, self.root / 'out')
            self.assertNotEqual('', str(error))
            if (self.root / 'out').exists():
                self.assertEqual([], os.listdir(self.root / 'out'), name)


class ReadTest(base.Case):
    """Archives that somebody else has put together."""

    def setUp(self) -> None:
        super().setUp()
        self.good = self.archive('1.0.0', 1)
        with tarfile.open(self.good) as tar:
            self.members: list[tuple[tarfile.TarInfo, bytes]] = [
                (member, tar.extractfile(member).read()) for member in tar]

    def write(self, members: list[tuple[tarfile.TarInfo, bytes]],
              **others: Any) -> Path:
        path = self.root / 'bad.tar'
        with tarfile.open(path, 'w', **others) as tar:
            for member, data in members:
                tar.addfile(member, io.BytesIO(data))
        return path

    def assertBad(self, path: Path, *words: str) -> None:
        error = self.assertRaises(exceptions.InvalidRelease, archive.inspect,
                                  path)
        for word in (str(path), *words):
            self.assertIn(word, str(error))

    def test_what_follows_its_end(self) -> None:
        data = self.good.read_bytes()
        path = self.root / 'bad.tar'
        for end in (b'x', bytes(1), bytes(10240), b'x' * 10240):
            path.write_bytes(data + end)
            self.assertBad(path, 'should end')
        # In what fills it up, and without all of its end.
        for bad in (data[:-1] + b'x', data[:-512]):
            path.write_bytes(bad)
            self.assertBad(path, 'should end')

    def test_nonsense_that_tarfile_stumbles_over(self) -> None:
        deep = b'[' * 100000
        info = tarfile.TarInfo('release.json')
        info.size = len(deep)
        self.assertIn('is no JSON', str(self.assertRaises(
            exceptions.InvalidRelease, archive.inspect,
            self.write([(info, deep)]))))
        for headers in ({'GNU.sparse.map': 'x,y'},
                        {'GNU.sparse.map': '1'},
                        {'GNU.sparse.size': 'x'},
                        {'GNU.sparse.major': '1', 'GNU.sparse.minor': '0'}):
            info = tarfile.TarInfo('config/x')
            info.pax_headers = headers
            self.assertRaises(
                exceptions.InvalidRelease, archive.inspect, self.write(
                    [*self.members, (info, b'')], format=tarfile.PAX_FORMAT))

    def test_good(self) -> None:
        archive.inspect(self.write(self.members))

    def test_order(self) -> None:
        self.assertBad(self.write(self.members[1:]), 'begin with')

    def test_lacking(self) -> None:
        for number in range(1, len(self.members)):
            self.assertBad(self.write(
                self.members[:number] + self.members[number + 1:]),
                'is declared, but lacking')

    def test_twice(self) -> None:
        self.assertBad(self.write(self.members + self.members[1:2]),
                       'twice')
        self.assertBad(self.write(self.members + self.members[:1]),
                       'not declared')

    def test_surplus(self) -> None:
        member = tarfile.TarInfo('config/more')
        self.assertBad(self.write([*self.members, (member, b'')]),
                       'not declared')

    def test_no_plain_files(self) -> None:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                     tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo('config/sample.conf')
            member.type = kind
            member.linkname = '/etc/passwd'
            self.assertBad(self.write([
                self.members[0], (member, b''), *self.members[2:]]),
                'no plain file')

    def test_cut_short(self) -> None:
        data = self.good.read_bytes()
        path = self.root / 'cut.tar'
        for size in (0, 100, 512, 600, 1500, 3000, len(data) // 2):
            path.write_bytes(data[:size])
            self.assertRaises(exceptions.InvalidRelease, archive.inspect,
                              path)

    def test_every_byte_counts(self) -> None:
        """A byte changed in a file of it is noticed."""
        data = self.good.read_bytes()
        path = self.root / 'flipped.tar'
        for text in (b'# of 1.0.0', b'PK\x03\x04', b'easystack_sample=='):
            changed = bytearray(data)
            changed[data.index(text) + 3] ^= 1
            path.write_bytes(changed)
            self.assertBad(path, 'not the file that is declared')

    def test_compressed(self) -> None:
        """What grows without end when it is unpacked is not even begun."""
        path = self.root / 'bad.tar.gz'
        with tarfile.open(path, 'w:gz') as tar:
            for member, data in self.members:
                tar.addfile(member, io.BytesIO(data))
        self.assertBad(path, 'no tar archive')


class LockTest(base.Case):
    HASH = 'a' * 64
    LINE = f'One-Two==1.0 --hash=sha256:{HASH}'

    def test_parse(self) -> None:
        found = lock.parse(
            '# written by a program\n\n'
            f'one.two[extra]==1.0 \\\n    --hash=sha256:{self.HASH} \\\n'
            f'    --hash=sha256:{"b" * 64}\n    # via three\n'
            f'three==2!1.0+x ; python_version < "3.12" \\\n'
            f'    --hash=sha256:{self.HASH}  # words\n')
        self.assertEqual([
            lock.Requirement('one-two', '1.0',
                             frozenset({self.HASH, 'b' * 64}), True),
            lock.Requirement('three', '2!1.0+x', frozenset({self.HASH}),
                             False)], found)

    def test_nothing_from_elsewhere(self) -> None:
        for line in ('one==1.0', f'one>=1.0 --hash=sha256:{self.HASH}',
                     f'one --hash=sha256:{self.HASH}',
                     f'one==1.0 --hash=md5:{"a" * 32}',
                     f'one==1.0 --hash=sha256:{"a" * 63}',
                     f'one @ https://example.org/one.whl '
                     f'--hash=sha256:{self.HASH}',
                     '--index-url https://example.org', '-r other.txt',
                     '-e .', './one.whl', f'{self.LINE} --no-binary :all:',
                     f'{self.LINE} -r x', f'one==1.* --hash=sha256:'
                     f'{self.HASH}'):
            error = self.assertRaises(exceptions.InvalidRelease, lock.parse,
                                      f'{self.LINE}\n{line}\n')
            self.assertIn('line 2', str(error))
        self.assertRaises(exceptions.InvalidRelease, lock.parse,
                          self.LINE + ' \\')

    def test_check(self) -> None:
        wheel = 'one_two-1.0-py3-none-any.whl'
        lock.check(self.LINE, {wheel: self.HASH})
        for wheels, words in (
                ({}, 'no wheel meets the lock file for one-two'),
                ({wheel: 'b' * 64}, 'is not the file'),
                ({wheel: self.HASH, 'x-1-py3-none-any.whl': self.HASH},
                 'does not ask for x-1'),
                ({'nonsense.whl': self.HASH}, 'does not ask for nonsense')):
            error = self.assertRaises(exceptions.InvalidRelease, lock.check,
                                      self.LINE, wheels)
            self.assertIn(words, str(error))
        self.assertRaises(exceptions.InvalidRelease, lock.check, '# no\n', {})

    def test_some_are_for_other_machines(self) -> None:
        lock.check(f'one==1 ; sys_platform == "win32" '
                   f'--hash=sha256:{self.HASH}\n'
                   f'two==1 --hash=sha256:{self.HASH}',
                   {'two-1-py3-none-any.whl': self.HASH})
