"""The engines, and what all tests of the suite share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import gc
import hashlib
import os
import threading
import time
from typing import Any, TypeVar
import uuid

import fixtures
import testscenarios
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import engine as engine_module
from tests.contract import lab as lab_module
from tests.contract import local
from tests.contract import memory

#: Every engine, and its laboratory.
ENGINES = [
    ('local', {'lab_class': local.LocalLab}),
    ('memory', {'lab_class': memory.MemoryLab}),
]

_SINGLE = 'of_single_copies'
T = TypeVar('T')

load_tests = testscenarios.load_tests_apply_scenarios

_IDS = uuid.UUID('b3a1c1de-31d5-44c7-9b5f-3ad20ae6a3a6')
GOOD = engine_module.CopyState.GOOD
DAMAGED = engine_module.CopyState.DAMAGED
MISSING = engine_module.CopyState.MISSING
STALE = engine_module.CopyState.STALE
UNREACHABLE = engine_module.CopyState.UNREACHABLE


def eventually(condition: Callable[[], Any], what: str,
               seconds: float = 60.0) -> Any:
    """Wait until a condition is true; return what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f'not within {seconds:g} s: {what}')
        time.sleep(0.01)


def open_files() -> dict[str, str]:
    """Return the open descriptors of this process, and what they lead to."""
    found = {}
    for name in os.listdir('/proc/self/fd'):
        with contextlib.suppress(FileNotFoundError):
            found[name] = os.readlink(f'/proc/self/fd/{name}')
    return found


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Check that threads and open files are the same before and after.

    Both may take a moment to go: a thread that was told to stop, a file that
    it closes at its end.
    """
    threads, files = set(threading.enumerate()), open_files()
    yield

    def left() -> list[object]:
        return [
            *(set(threading.enumerate()) - threads),
            *(f'{name} -> {target}' for name, target in open_files().items()
              if files.get(name) != target)]

    deadline = time.monotonic() + 10
    while left():
        # Only then, because it takes its time.
        gc.collect()
        if not left():
            break
        if time.monotonic() > deadline:
            raise AssertionError(f'left behind: {left()}')
        time.sleep(0.01)


def of_single_copies(what: T) -> T:
    """Mark a test, or a class of tests, that is about single copies.

    An engine that leaves its copies to a cluster has none in its hands that
    could be damaged or taken away: for it, there are the other tests.
    """
    setattr(what, _SINGLE, True)
    return what


def about_whole_images(case: type[ContractTest],
                       lab_class: type[lab_module.Lab],
                       ) -> type[ContractTest] | None:
    """Return the tests of a class that are not about single copies.

    :param lab_class: what they run in, in place of all others
    :returns: a class of the same name, or None if it has no such test
    """
    if getattr(case, _SINGLE, False):
        return None
    scenarios = [(name.replace('local', lab_class.name, 1),
                  {**given, 'lab_class': lab_class})
                 for name, given in case.scenarios
                 if given['lab_class'] is local.LocalLab]
    # A test that is None is none.
    left_out = {name: None for name in dir(case) if name.startswith('test_')
                and hasattr(getattr(case, name), _SINGLE)}
    made = type(case.__name__, (case,), left_out | {'scenarios': scenarios})
    if not any(getattr(made, name) for name in dir(made)
               if name.startswith('test_')):
        return None
    return made


class ContractTest(testtools.TestCase):
    """A test that runs once per engine.

    Modules with such tests have ``load_tests = base.load_tests``.
    """

    scenarios = ENGINES
    lab_class: type[lab_module.Lab]

    def setUp(self) -> None:
        super().setUp()
        # What is logged is shown with a test that fails.
        self.useFixture(fixtures.FakeLogger())
        self.lab = self.useFixture(self.lab_class())
        self.block = self.lab.block_size
        self.chunk = self.lab.chunk_size
        self.engine = self.lab.engine()
        self._ids = 0

    def image_id(self) -> str:
        """Return a new image id, the same in every run."""
        self._ids += 1
        return str(uuid.uuid5(_IDS, f'{self.id()} {self._ids}'))

    def read(self, image_id: str, *args: Any, engine: Any = None,
             **kwargs: Any) -> bytes:
        """Return what a reader hands out."""
        reader = (engine or self.engine).open(image_id, *args, **kwargs)
        with contextlib.closing(reader):
            return b''.join(reader)

    def states(self, image_id: str, **kwargs: Any) -> dict[str, Any]:
        """Return the states of an image's copies, by device."""
        return {copy.device: copy.state for copy in
                self.engine.list_copies(image_id, **kwargs)}

    def good(self, image_id: str, engine: Any = None) -> list[str]:
        """Return the devices whose copies of an image are good."""
        return [copy.device for copy in
                (engine or self.engine).list_copies(image_id, verify=True)
                if copy.state is GOOD]

    def assertStored(self, info: engine_module.ImageInfo,
                     data: bytes) -> None:
        """Check everything that is known of an image."""
        self.assertEqual(len(data), info.size)
        self.assertEqual(
            hashlib.md5(data).hexdigest(), info.md5)  # noqa: S324
        self.assertEqual(hashlib.new(info.algorithm, data).hexdigest(),
                         info.multihash)
        for known in (self.engine.info(info.image_id),
                      self.engine.info(info.image_id, info.generation)):
            self.assertEqual(info, dataclasses.replace(
                known, created_at=info.created_at))
        # Not assertEqual: it would print megabytes.
        self.assertTrue(self.read(info.image_id) == data, 'wrong bytes')

    def assertAbsent(self, image_id: str) -> None:
        """Check that nothing is known of an image, nor lies about."""
        for call in (self.engine.info, self.engine.open, self.engine.delete,
                     self.engine.list_copies, self.engine.repair):
            self.assertRaises(exceptions.ImageNotFound, call, image_id)
        self.assertEqual([], self.lab.holders(image_id))
        self.assertEqual([], self.lab.leftovers())
