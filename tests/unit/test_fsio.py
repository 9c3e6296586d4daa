"""System calls, one by one, on a real file system."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import socket
import stat
import threading
from typing import Any

import fixtures
import testtools

from easystack_image import fsio
from tests.contract import base


class HomeTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.home = self.useFixture(fixtures.TempDir()).path
        self.fd = fsio.open_directory(self.home)
        self.addCleanup(os.close, self.fd)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.home))

    def file(self) -> int:
        """Return the descriptor of a file, which is no directory."""
        fd = fsio.create('a file', self.fd)
        self.addCleanup(os.close, fd)
        return fd


class FsioTest(HomeTest):

    def test_only_directories_are_opened_as_such(self) -> None:
        fsio.write_file('file', b'', self.fd)
        self.assertRaises(NotADirectoryError, fsio.open_directory,
                          f'{self.home}/file')
        self.assertRaises(NotADirectoryError, fsio.open_directory, 'file',
                          self.fd)
        self.assertRaises(FileNotFoundError, fsio.open_directory, 'no',
                          self.fd)

    def test_no_link_is_followed_on_the_way(self) -> None:
        elsewhere = self.useFixture(fixtures.TempDir()).path
        os.makedirs(f'{elsewhere}/inner/most')
        os.makedirs(f'{self.home}/real/inner')
        os.symlink(elsewhere, f'{self.home}/real/link')
        fsio.write_file('file', b'', self.fd)
        with base.nothing_left_behind():
            for path in ('real/link/inner', 'real/link/inner/most',
                         'file/inner', 'real/link/none'):
                for call in (fsio.open_directory, fsio.status, fsio.exists):
                    error = self.assertRaises(NotADirectoryError, call, path,
                                              self.fd)
                    self.assertIn(f'{path}: ', str(error))
            self.assertRaises(NotADirectoryError, fsio.open_directory,
                              'real/link', self.fd)
            self.assertRaises(FileNotFoundError, fsio.status, 'no/no/file',
                              self.fd)
            self.assertFalse(fsio.exists('no/no/file', self.fd))
            self.assertTrue(fsio.exists('real/link', self.fd))
            with fsio.directory('real/inner', self.fd) as fd:
                self.assertEqual(os.stat(f'{self.home}/real/inner').st_ino,
                                 os.fstat(fd).st_ino)

    def test_only_plain_files_are_opened_as_such(self) -> None:
        """Nobody waits for what stands in the place of one."""
        os.mkfifo(f'{self.home}/pipe')
        os.mkdir(f'{self.home}/directory')
        os.symlink('file', f'{self.home}/link')
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f'{self.home}/socket')
        fsio.write_file('file', b'some', self.fd)
        with base.nothing_left_behind():
            for name, number in (('pipe', errno.EINVAL),
                                 ('directory', errno.EINVAL),
                                 ('link', errno.ELOOP),
                                 ('socket', errno.ENXIO),
                                 ('none', errno.ENOENT)):
                for call in (fsio.open_file,
                             functools.partial(fsio.read_file, limit=9)):
                    error = self.assertRaises(OSError, call, name,
                                              dir_fd=self.fd)
                    self.assertEqual(number, error.errno, name)
            self.assertEqual(b'some', fsio.read_file('file', self.fd, 9))

    def test_descriptors_are_not_inherited(self) -> None:
        self.assertFalse(os.get_inheritable(self.fd))
        fd = fsio.create('file', self.fd)
        self.addCleanup(os.close, fd)
        self.assertFalse(os.get_inheritable(fd))

    def test_directory_for_a_while(self) -> None:
        fsio.mkdir('inner', self.fd)
        with base.nothing_left_behind():
            with fsio.directory('inner', self.fd) as fd:
                self.assertEqual([], os.listdir(fd))
            try:
                with fsio.directory('inner', self.fd):
                    raise ValueError('on purpose')
            except ValueError:
                pass

    def test_only_their_owner_may_enter(self) -> None:
        mask = os.umask(0)
        try:
            fsio.mkdir('inner', self.fd)
            os.close(fsio.create('file', self.fd))
        finally:
            os.umask(mask)
        self.assertEqual(0o700, stat.S_IMODE(
            os.stat(f'{self.home}/inner').st_mode))
        self.assertEqual(0o600, stat.S_IMODE(
            os.stat(f'{self.home}/file').st_mode))

    def test_create_takes_no_existing_name(self) -> None:
        fsio.write_file('file', b'content', self.fd)
        os.symlink('target', f'{self.home}/link')
        for name in ('file', 'link'):
            self.assertRaises(FileExistsError, fsio.create, name, self.fd)
        self.assertEqual(['file', 'link'], self.names())
        self.assertEqual(b'content', fsio.read_file('file', self.fd, 100))

    def test_write_at(self) -> None:
        fd = fsio.create('file', self.fd)
        self.addCleanup(os.close, fd)
        fsio.write_at(fd, b'world', 5)
        fsio.write_at(fd, memoryview(b'hello'), 0)
        fsio.write_at(fd, b'', 100)
        self.assertEqual(b'helloworld', fsio.read_file('file', self.fd, 100))

    def test_write_at_goes_on_after_a_short_write(self) -> None:
        # A pipe of a file system: it takes seven bytes at a time.
        real = os.pwrite
        self.useFixture(fixtures.MonkeyPatch(
            'os.pwrite', lambda fd, data, offset:
            real(fd, data[:7], offset)))
        fd = fsio.create('file', self.fd)
        self.addCleanup(os.close, fd)
        fsio.write_at(fd, bytes(range(100)), 3)
        self.assertEqual(bytes(3) + bytes(range(100)),
                         fsio.read_file('file', self.fd, 200))

    def test_write_at_does_not_go_on_for_ever(self) -> None:
        self.useFixture(fixtures.MonkeyPatch(
            'os.pwrite', lambda fd, data, offset: 0))
        error = self.assertRaises(OSError, fsio.write_at, self.fd, b'x', 0)
        self.assertEqual(errno.EIO, error.errno)

    def test_write_at_raises_what_the_system_does(self) -> None:
        fd = os.open('/dev/full', os.O_WRONLY)
        self.addCleanup(os.close, fd)
        error = self.assertRaises(OSError, fsio.write_at, fd, b'x', 0)
        self.assertEqual(errno.ENOSPC, error.errno)

    def test_truncate_makes_holes(self) -> None:
        fd = fsio.create('file', self.fd)
        self.addCleanup(os.close, fd)
        fsio.truncate(fd, 1 << 30)
        self.assertEqual(1 << 30, os.fstat(fd).st_size)
        self.assertLess(os.fstat(fd).st_blocks * 512, 1 << 20)
        fsio.truncate(fd, 3)
        self.assertEqual(bytes(3), fsio.read_file('file', self.fd, 100))

    def test_fsync(self) -> None:
        fd = fsio.create('file', self.fd)
        fsio.fsync(fd)
        fsio.fsync(self.fd)
        os.close(fd)
        self.assertRaises(OSError, fsio.fsync, fd)

    def test_rename(self) -> None:
        fsio.mkdir('from', self.fd)
        fsio.mkdir('to', self.fd)
        with fsio.directory('from', self.fd) as source, \
                fsio.directory('to', self.fd) as target:
            fsio.mkdir('copy', source)
            fsio.rename('copy', 'new', source, target)
            self.assertEqual([], os.listdir(source))
            # An empty directory is replaced, one with content is not.
            fsio.mkdir('copy', source)
            fsio.rename('copy', 'new', source, target)
            fsio.write_file('file', b'', target)
            fsio.rename('file', 'new/file', target, target)
            fsio.mkdir('copy', source)
            error = self.assertRaises(OSError, fsio.rename, 'copy', 'new',
                                      source, target)
            self.assertIn(error.errno, (errno.ENOTEMPTY, errno.EEXIST))
            self.assertEqual(['copy'], os.listdir(source))

    def test_remove_tree(self) -> None:
        fsio.remove_tree('not there', self.fd)
        fsio.mkdir('tree', self.fd)
        with fsio.directory('tree', self.fd) as tree:
            for name in ('data', 'manifest'):
                fsio.write_file(name, b'x', tree)
        os.symlink('/etc/passwd', f'{self.home}/tree/link')
        with base.nothing_left_behind():
            fsio.remove_tree('tree', self.fd)
        self.assertEqual([], self.names())
        self.assertTrue(os.path.exists('/etc/passwd'))

    def test_remove_tree_goes_one_level_deep(self) -> None:
        os.makedirs(f'{self.home}/tree/inner')
        with base.nothing_left_behind():
            self.assertRaises(OSError, fsio.remove_tree, 'tree', self.fd)
        self.assertTrue(os.path.isdir(f'{self.home}/tree/inner'))

    def test_remove_tree_follows_no_link(self) -> None:
        os.mkdir(f'{self.home}/other')
        fsio.write_file('file', b'', self.fd)
        os.rename(f'{self.home}/file', f'{self.home}/other/file')
        os.symlink('other', f'{self.home}/link')
        self.assertRaises(OSError, fsio.remove_tree, 'link', self.fd)
        self.assertTrue(os.path.exists(f'{self.home}/other/file'))

    def test_unlink_and_rmdir(self) -> None:
        fsio.write_file('file', b'', self.fd)
        fsio.mkdir('inner', self.fd)
        self.assertRaises(OSError, fsio.rmdir, 'file', self.fd)
        self.assertRaises(OSError, fsio.unlink, 'inner', self.fd)
        fsio.unlink('file', self.fd)
        fsio.rmdir('inner', self.fd)
        self.assertEqual([], self.names())

    def test_replace_link(self) -> None:
        for leads_to in ('slots/1', 'slots/2'):
            # As a crash leaves it.
            fsio.symlink('slots/3', 'current' + fsio.NEW, self.fd)
            with base.nothing_left_behind():
                fsio.replace_link(leads_to, 'current', self.fd)
            self.assertEqual(leads_to, os.readlink(f'{self.home}/current'))
            self.assertEqual(['current'], self.names())
        self.assertRaises(FileExistsError, fsio.symlink, 'slots/3',
                          'current', self.fd)

    def test_write_file(self) -> None:
        with base.nothing_left_behind():
            fsio.write_file('file', b'content', self.fd)
            self.assertRaises(FileExistsError, fsio.write_file, 'file',
                              b'other', self.fd)
        self.assertEqual(b'content', fsio.read_file('file', self.fd, 7))

    def test_try_lock(self) -> None:
        fsio.write_file('file', b'', self.fd)
        first, second = (fsio.open_file('file', self.fd) for _ in range(2))
        self.addCleanup(os.close, second)
        self.assertTrue(fsio.try_lock(first))
        for how in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            self.assertFalse(fsio.try_lock(second, how))
        # Several may read.
        for fd in (first, second):
            self.assertTrue(fsio.try_lock(fd, fcntl.LOCK_SH))
        self.assertFalse(fsio.try_lock(first))
        # Whoever ends lets go.
        os.close(first)
        self.assertTrue(fsio.try_lock(second))

    def test_exists(self) -> None:
        self.assertFalse(fsio.exists('file', self.fd))
        os.symlink('nowhere', f'{self.home}/link')
        self.assertTrue(fsio.exists('link', self.fd))
        self.assertRaises(NotADirectoryError, fsio.exists, 'link/x/y',
                          self.file())


class ReadFileTest(HomeTest):

    def test_limit(self) -> None:
        fsio.write_file('file', b'12345', self.fd)
        for limit in (5, 6, 1 << 40):
            self.assertEqual(b'12345',
                             fsio.read_file('file', self.fd, limit))
        with base.nothing_left_behind():
            error = self.assertRaises(OSError, fsio.read_file, 'file',
                                      self.fd, 4)
        self.assertEqual(errno.EFBIG, error.errno)

    def test_empty(self) -> None:
        fsio.write_file('file', b'', self.fd)
        self.assertEqual(b'', fsio.read_file('file', self.fd, 0))

    def test_missing(self) -> None:
        self.assertRaises(FileNotFoundError, fsio.read_file, 'file', self.fd,
                          10)

    def test_links_are_not_followed(self) -> None:
        os.symlink('/etc/passwd', f'{self.home}/link')
        error = self.assertRaises(OSError, fsio.read_file, 'link', self.fd,
                                  1 << 20)
        self.assertEqual(errno.ELOOP, error.errno)

    def test_directory(self) -> None:
        fsio.mkdir('inner', self.fd)
        with base.nothing_left_behind():
            self.assertRaises(OSError, fsio.read_file, 'inner', self.fd, 10)
            self.assertRaises(OSError, fsio.read_file, 'inner', self.fd,
                              1 << 20)


class ReplaceFileTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.place = self.useFixture(fixtures.TempDir()).path
        self.fd = os.open(self.place, os.O_RDONLY)
        self.addCleanup(os.close, self.fd)

    def content(self, name: str = 'file') -> bytes:
        with open(f'{self.place}/{name}', 'rb') as file:
            return file.read()

    def test_new_and_again(self) -> None:
        for data in (b'', b'one', b'another'):
            fsio.replace_file('file', data, self.fd)
            self.assertEqual(data, self.content())
            self.assertEqual(['file'], os.listdir(self.place))

    def test_mode(self) -> None:
        """It never has the name with another mode."""
        seen = []
        real = fsio.rename

        def rename(source: str, *others: Any) -> None:
            seen.append(stat.S_IMODE(os.stat(f'{self.place}/{source}').st_mode))
            real(source, *others)

        self.useFixture(fixtures.MonkeyPatch(
            'easystack_image.fsio.rename', rename))
        before = os.umask(0o077)
        try:
            fsio.replace_file('file', b'', self.fd)
            fsio.replace_file('file', b'', self.fd, 0o444)
        finally:
            os.umask(before)
        self.assertEqual([0o600, 0o444], seen)
        self.assertEqual(0o444, stat.S_IMODE(
            os.stat(f'{self.place}/file').st_mode))

    def test_unfinished(self) -> None:
        fsio.replace_file('file', b'old', self.fd)
        with open(f'{self.place}/file.new', 'w') as file:
            file.write('cut sh')
        fsio.replace_file('file', b'new', self.fd)
        self.assertEqual(b'new', self.content())
        self.assertEqual(['file'], os.listdir(self.place))

    def test_unfinished_is_discarded(self) -> None:
        for name in ('file.new', 'other.new', 'file'):
            with open(f'{self.place}/{name}', 'w'):
                pass
        fsio.discard_unfinished(['file', 'missing'], self.fd)
        self.assertEqual({'file', 'other.new'},
                         set(os.listdir(self.place)))

    def test_several_at_once(self) -> None:
        # Each content is whole, whoever comes last.
        contents = [bytes([number]) * 200000 for number in range(6)]
        fsio.replace_file('file', contents[0], self.fd)
        errors: list[BaseException] = []

        def replace(data: bytes) -> None:
            # As another process has it.
            fd = os.open(self.place, os.O_RDONLY)
            try:
                for _ in range(20):
                    fsio.replace_file('file', data, fd)
            except BaseException as error:
                errors.append(error)
            finally:
                os.close(fd)

        threads = [threading.Thread(target=replace, args=[data])
                   for data in contents]
        for thread in threads:
            thread.start()
        seen = set()
        while any(thread.is_alive() for thread in threads):
            seen.add(self.content())
        for thread in threads:
            thread.join()
        self.assertEqual([], errors)
        self.assertLessEqual(seen | {self.content()}, set(contents))
