"""Each failure, as Glance gets to see it and as the log tells it.

The failures are real ones, on real directories: devices that are renamed
away, that hang (reading a FIFO that nobody writes to), that are full (a
limit on the size of files), copies with other bytes in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import fcntl
import io
import logging
import os
from pathlib import Path
import resource
from typing import Any

import fixtures
from glance_store import exceptions as store_exceptions
from glance_store import location as store_location

from easystack_image import exceptions
from easystack_image.blockstore.local import layout
from tests.unit.store import base

SIZE = 3 * base.MIB
DATA = base.content(SIZE)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Have the kernel refuse larger files to this process (EFBIG).

    To the engine that is the same as a full device: a write that fails for
    lack of room.  Python ignores the signal that comes with it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    with path.open('r+b') as file:
        file.seek(offset)
        byte, = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


class ErrorsCase(base.StoreTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.store = self.configured(self.devices.paths, io_timeout=1)

    def add(self, **arguments: Any) -> tuple[Any, ...]:
        return self.store.add(base.new_id(), io.BytesIO(DATA), SIZE,
                              'sha512', **arguments)

    def check(self, error: type[Exception] | tuple[type[Exception], ...],
              call: Callable[..., object],
              *arguments: object) -> Exception:
        """See a call fail; return the error.

        Users get to see its message: it must not tell about devices.
        """
        raised = self.assertRaises(error, call, *arguments)
        self.assertNotIn(str(self.devices.root), str(raised))
        self.assertNotEqual('', str(raised))
        self.assertNotIn('%', str(raised))
        return raised

    def check_logged(self, *numbers: int) -> None:
        """See devices named in the log, as errors."""
        errors = [line for line in self.log.output.splitlines()
                  if line.startswith('ERROR easystack_image.')]
        for number in numbers:
            self.assertIn(str(self.devices.paths[number]),
                          '\n'.join(errors))

    def copies(self, location: store_location.Location) -> list[Path]:
        """Return the data files of an image's copies."""
        return self.devices.data_files(location.store_location.image_id)


class UploadErrorsTest(ErrorsCase):

    def test_too_few_devices(self) -> None:
        with self.devices.away(0, 2):
            self.check(store_exceptions.StorageWriteDenied, self.add)
        self.check_logged(0, 2)

    def test_enough_devices(self) -> None:
        with self.devices.away(1):
            uri = self.add()[0]
            self.assertEqual(DATA, self.read(self.location(uri)))
        self.assertNotIn('ERROR', self.log.output)

    def test_devices_that_vanish_during_the_upload(self) -> None:
        """Bytes in an unmounted file system are no copy."""
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)

        def chunks() -> Iterator[bytes]:
            yield DATA[:-1]
            stack.enter_context(self.devices.away(0, 1))
            yield DATA[-1:]

        image_id = base.new_id()
        self.check(store_exceptions.StorageWriteDenied, self.store.add,
                   image_id, chunks(), SIZE, 'sha512')
        self.check_logged(0, 1)
        stack.close()
        # They are back now; what they hold must not count.
        self.assertRaises(
            store_exceptions.NotFound, self.store.get,
            self.location(f'easystack-block://{self.store.engine.store_id}/'
                          f'{image_id}/{base.new_id()}'))
        self.assertEqual([], self.devices.data_files(image_id))

    def test_all_devices_full(self) -> None:
        with file_size_limit(base.MIB):
            self.check(store_exceptions.StorageFull, self.add)
        self.check_logged(0, 1, 2)
        self.assertEqual([], self.devices.leftovers())

    def test_a_full_device_among_others_that_are_away(self) -> None:
        """What can be done about it is to make room."""
        with self.devices.away(1), file_size_limit(base.MIB):
            self.check(store_exceptions.StorageFull, self.add)

    def test_all_devices_hang(self) -> None:
        with self.devices.hanging(0, 1, 2):
            self.check(store_exceptions.TimeoutError, self.add)
        self.check_logged(0, 1, 2)

    def test_one_hangs_and_one_is_away(self) -> None:
        with self.devices.hanging(0), self.devices.away(1):
            self.check(store_exceptions.StorageWriteDenied, self.add)
        self.check_logged(0, 1)

    def test_one_hangs(self) -> None:
        with self.devices.hanging(2):
            uri = self.add()[0]
            self.assertEqual(DATA, self.read(self.location(uri)))

    def test_image_is_locked_by_another_process(self) -> None:
        """Glance answers 503, not 500, to what the driver raises here."""
        image_id = base.new_id()
        name = layout.lock_file(image_id, 'commit')
        with contextlib.ExitStack() as stack:
            for path in self.devices.paths:
                fd = os.open(path / name, os.O_RDWR | os.O_CREAT, 0o600)
                stack.callback(os.close, fd)
                fcntl.flock(fd, fcntl.LOCK_EX)
            self.check((store_exceptions.StorageWriteDenied,
                        store_exceptions.TimeoutError), self.store.add,
                       image_id, io.BytesIO(DATA), SIZE, 'sha512')
        self.assertIn('another process', self.log.output)
        self.assertEqual([], self.devices.leftovers())

    def test_bad_arguments_are_not_logged_as_errors(self) -> None:
        """Users' mistakes are no operator's business."""
        self.check(store_exceptions.Invalid, self.store.add, base.new_id(),
                   io.BytesIO(b'x'), 2, 'sha512')
        self.check(store_exceptions.Invalid, self.store.add, 'no uuid',
                   io.BytesIO(b'x'), 1, 'sha512')
        self.assertNotIn('ERROR', self.log.output)


class DownloadErrorsTest(ErrorsCase):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.upload(DATA)

    def test_damage_is_not_noticed(self) -> None:
        one, two, _ = self.copies(self.image)
        flip(one, 0)
        two.unlink()
        self.assertEqual(DATA, self.read(self.image))

    def test_first_bytes_are_damaged_in_all_copies(self) -> None:
        """It is known before the response begins."""
        for path in self.copies(self.image):
            flip(path, 0)
        self.check(store_exceptions.RemoteServiceUnavailable,
                   self.store.get, self.image)
        self.check_logged(0, 1, 2)

    def test_later_bytes_are_damaged_in_all_copies(self) -> None:
        """The response breaks off, after right bytes only."""
        for path in self.copies(self.image):
            flip(path, base.MIB + 5)
        body, size = self.store.get(self.image)
        self.assertEqual(SIZE, size)
        self.assertEqual(DATA[:base.MIB], next(body))
        for _ in range(2):
            self.check(store_exceptions.RemoteServiceUnavailable, next,
                       body)
        self.check_logged(0, 1, 2)

    def test_good_ranges_of_a_damaged_image(self) -> None:
        for path in self.copies(self.image):
            flip(path, base.MIB + 5)
        data = self.read(self.image, offset=2 * base.MIB)
        self.assertEqual(DATA[2 * base.MIB:], data)

    def test_damaged_manifests(self) -> None:
        for path in self.copies(self.image):
            flip(path.with_name(layout.MANIFEST), 40)
        for call in (self.store.get, self.store.get_size):
            self.check(store_exceptions.RemoteServiceUnavailable, call,
                       self.image)
        self.check_logged(0, 1, 2)

    def test_all_devices_are_away(self) -> None:
        with self.devices.away(0, 1, 2):
            for call in (self.store.get, self.store.get_size):
                self.check(store_exceptions.RemoteServiceUnavailable, call,
                           self.image)
        self.check_logged(0, 1, 2)
        self.assertEqual(DATA, self.read(self.image))

    def test_device_that_may_have_it_is_away(self) -> None:
        """"Not found" would have Glance forget the image."""
        for path in self.copies(self.image)[1:]:
            path.with_name(layout.MANIFEST).unlink()
            path.unlink()
            path.parent.rmdir()
        with self.devices.away(0):
            self.check(store_exceptions.RemoteServiceUnavailable,
                       self.store.get, self.image)
        self.check_logged(0)
        self.assertEqual(DATA, self.read(self.image))

    def test_all_devices_hang(self) -> None:
        with self.devices.hanging(0, 1, 2):
            self.check(store_exceptions.RemoteServiceUnavailable,
                       self.store.get, self.image)
        self.check_logged(0, 1, 2)

    def test_two_devices_hang(self) -> None:
        with self.devices.hanging(0, 1):
            self.assertEqual(DATA, self.read(self.image))


class DeleteErrorsTest(ErrorsCase):

    def setUp(self) -> None:
        super().setUp()
        self.image = self.upload(DATA)

    def test_all_devices_are_away(self) -> None:
        """It is not deleted, and Glance must not believe that it is."""
        with self.devices.away(0, 1, 2):
            error = self.check(Exception, self.store.delete, self.image)
        self.assertIsInstance(error, store_exceptions.GlanceStoreException)
        self.assertNotIsInstance(error, store_exceptions.NotFound)
        self.check_logged(0, 1, 2)
        self.assertEqual(DATA, self.read(self.image))

    def test_in_use(self) -> None:
        """No local image depends on another; the engine may be another."""
        def refuse(*arguments: object) -> None:
            raise exceptions.ImageInUse('image has clones')

        with fixtures.MonkeyPatch('easystack_image.blockstore.local.engine.'
                                  'LocalEngine.delete', refuse):
            error = self.check(store_exceptions.InUseByStore,
                               self.store.delete, self.image)
        self.assertEqual('image has clones', str(error))


class UnconfiguredTest(base.TestCase):
    """A store that could not be configured says so."""

    def setUp(self) -> None:
        super().setUp()
        self.store = self.make_store([])
        self.store.configure()
        self.image = base.location_of(
            'easystack-block://' + '/'.join([base.new_id()] * 3), self.store)

    def test_upload(self) -> None:
        error = self.assertRaises(
            store_exceptions.StoreAddDisabled, self.store.add,
            base.new_id(), io.BytesIO(b'x'), 1, 'sha512')
        self.assertIn('disabled', str(error))

    def check(self, call: Callable[..., object]) -> None:
        error = self.assertRaises(
            store_exceptions.RemoteServiceUnavailable, call, self.image)
        self.assertIn('not configured', str(error))

    def test_download(self) -> None:
        """It is not "not found": the image may be there."""
        self.check(self.store.get)
        self.check(self.store.get_size)

    def test_delete(self) -> None:
        """On "not found" and "not supported" Glance forgets the image.

        Of all other errors, it answers 503 to this one only.
        """
        error = self.assertRaises(store_exceptions.TimeoutError,
                                  self.store.delete, self.image)
        self.assertIn('not configured', str(error))


class TreeTest(base.StoreTestCase):
    """Every error of ours that an engine may raise becomes one of theirs."""

    def test_whole_tree(self) -> None:
        def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
            for each in kind.__subclasses__():
                yield each
                yield from subclasses(each)

        location = self.upload(b'data')
        # The rest of the tree is for the configuration, and for operators.
        kinds = {*subclasses(exceptions.BlockStoreError),
                 exceptions.BlockStoreError, exceptions.InvalidRequest}
        self.assertLess(8, len(kinds))
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        for kind in kinds:
            arguments = (('/disk', 'broken', 5) if issubclass(
                kind, exceptions.DeviceError) else ('broken',))

            def fail(*_: object, **__: object) -> None:
                raise kind(*arguments)  # noqa: B023

            engine = 'easystack_image.blockstore.local.engine.LocalEngine.'
            for name, call in (('open', self.store.get),
                               ('delete', self.store.delete),
                               ('info', self.store.get_size)):
                with fixtures.MonkeyPatch(engine + name, fail):
                    error = self.assertRaises(
                        store_exceptions.GlanceStoreException, call,
                        location)
                    self.assertNotIn('/disk', str(error))
