"""What the crash tests have in common: devices, processes, and judgement."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import logging
import os
from pathlib import Path
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any
import uuid

import fixtures
import testtools

from easystack_image import exceptions
from easystack_image.blockstore import engine as contract
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import manifest
from easystack_image.blockstore.local import provision
import tests
from tests.crash import child
from tests.crash import steps

COPIES = 3
MIN_COPIES = 2
BLOCK = manifest.BLOCK_SIZE
GOOD = ['good'] * COPIES


def content(*parts: int, seed: int) -> bytes:
    """Return bytes: random ones, or zeros where a part is negative."""
    source = random.Random(seed)
    return b''.join(source.randbytes(part) if part > 0 else bytes(-part)
                    for part in parts)


#: Of an image that was acknowledged long before anything happens.
EARLIER = content(4321, seed=1)
#: Three blocks: one with little in it, a hole, and a tail.
DATA = content(5000, 5000 - 2 * BLOCK, 12345, seed=2)


#: The parts of a file that are no holes: where they begin, and their bytes.
Parts = list[tuple[int, bytes]]


def read_parts(path: str) -> Parts:
    """Read a file, but not its holes: unfinished ones have large ones."""
    parts, end = [], 0
    with open(path, 'rb', buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        while end < size:
            try:
                begin = os.lseek(fd, end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(fd, begin, os.SEEK_HOLE)
            parts.append((begin, os.pread(fd, end - begin, begin)))
    return [*parts, (size, b'')]


def write_parts(path: str, parts: Parts) -> None:
    """Create a file as :func:`read_parts` returned it."""
    with open(path, 'xb', buffering=0) as file:
        for begin, data in parts:
            os.pwrite(file.fileno(), data, begin)
        file.truncate(parts[-1][0])


def new_id(shard: int) -> str:
    """Return a new image id.

    :param shard: its first byte; images with different ones share no lock
    """
    return f'{shard:02x}{str(uuid.uuid4())[2:]}'


@dataclasses.dataclass
class Step:
    """One change that a process made, or was about to make."""

    device: int
    number: int
    name: str
    place: str
    ended: bool = False

    def __str__(self) -> str:
        return f'{self.name} {self.place}'

    @property
    def generation(self) -> str:
        """The upload whose unfinished copy it changes, or ''."""
        match = re.match(r'tmp/upload\.([0-9a-f-]{36})', self.place)
        return match[1] if match else ''

    @property
    def commits(self) -> bool:
        """Whether it makes an upload an image."""
        return self.name == 'rename' and self.place.startswith('images/')

    @property
    def marks(self) -> bool:
        """Whether it marks an upload as deleted."""
        return self.name == 'create' and self.place.startswith('deleted/')


@dataclasses.dataclass
class Run:
    """What a process did before it was killed."""

    #: Where it was to be stopped.
    cut: steps.Cut | None = None
    steps: list[Step] = dataclasses.field(default_factory=list)
    #: Whether it reached the step at which it was to be stopped.
    stopped: bool = False
    #: What it told when its work was done, in a list, or nothing.
    acknowledged: list[Any] = dataclasses.field(default_factory=list)
    churned: list[str] = dataclasses.field(default_factory=list)
    error: str = ''

    def __str__(self) -> str:
        if self.cut is None or not self.stopped:
            return f'{self.cut}, but it got through'
        return f'{self.cut} ({self.on(self.cut.device)[-1]})'

    def on(self, device: int) -> list[Step]:
        """Return the steps on one device."""
        return [step for step in self.steps if step.device == device]

    def begun(self, kind: Callable[[Step], bool]) -> bool:
        """Tell whether a step of a kind was reached."""
        return any(map(kind, self.steps))

    def ended(self, kind: Callable[[Step], bool]) -> bool:
        """Tell whether a step of a kind was certainly done."""
        return any(step.ended and kind(step) for step in self.steps)


class Worker:
    """Does jobs in processes of their own, one after the other.

    :param module: whose jobs they are
    """

    def __init__(self, module: str = 'tests.crash.child') -> None:
        self._server = subprocess.Popen(
            [sys.executable, '-m', module],
            cwd=Path(tests.__file__).parents[1], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._pid = 0
        self._run: Run | None = None

    def begin(self, kind: str, devices: Sequence[str],
              cut: steps.Cut | None = None, **others: Any) -> None:
        """Begin a job; see :mod:`tests.crash.child`."""
        job = {'kind': kind, 'devices': list(devices),
               'cut': dataclasses.asdict(cut) if cut else None, **others}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + '\n')
        self._server.stdin.flush()
        self._run = Run(cut)

    def follow(self) -> Iterator[Run]:
        """Yield what the process did so far, whenever there is news."""
        assert self._server.stdout is not None
        assert self._run is not None
        for line in self._server.stdout:
            message = json.loads(line)
            if 'end' in message:
                self._pid = 0
                if self._run.error:
                    raise AssertionError(self._run.error)
                assert message['end'] == -signal.SIGKILL, message
                return
            self._take(self._run, message)
            yield self._run
        raise AssertionError('the process that forks others has ended')

    def _take(self, run: Run, message: dict[str, Any]) -> None:
        if 'pid' in message:
            self._pid = message['pid']
        elif 'begun' in message:
            run.steps.append(Step(*message['begun']))
        elif 'ended' in message:
            for step in run.steps:
                if [step.device, step.number] == message['ended']:
                    step.ended = True
        elif 'stopped' in message:
            run.stopped = True
        elif 'churned' in message:
            run.churned.append(message['churned'])
        elif 'acknowledged' in message:
            run.acknowledged.append(message['acknowledged'])
        elif 'bypassed' in message:
            run.error = 'changed past fsio: ' + message['bypassed']
        else:
            run.error = message['error']

    def finish(self) -> Run:
        """Wait for the end of the job; return what it did.

        :raises AssertionError: if it failed, or ended in another way than
            being killed
        """
        for _ in self.follow():
            pass
        assert self._run is not None
        return self._run

    def run(self, kind: str, devices: Sequence[str],
            cut: steps.Cut | None = None, **others: Any) -> Run:
        """Do a job."""
        self.begin(kind, devices, cut, **others)
        return self.finish()

    def wait_until_frozen(self) -> bool:
        """Wait until the process is frozen at its cut.

        :returns: False if its work was done before it came to the cut
        """
        for run in self.follow():
            if run.acknowledged or run.error:
                return False
            if run.stopped:
                break
        status = Path(f'/proc/{self._pid}/stat')
        deadline = time.monotonic() + steps.PATIENCE
        while status.read_text().rsplit(')')[1].split()[0] != 'T':
            if time.monotonic() > deadline:
                raise AssertionError('the process is not frozen')
            time.sleep(0.001)
        return True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        os.killpg(self._pid, signal.SIGCONT)

    def kill(self) -> Run:
        """Kill the process group of the job."""
        os.killpg(self._pid, signal.SIGKILL)
        return self.finish()

    def close(self) -> None:
        """End all processes."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(10)


@dataclasses.dataclass
class Node:
    """A file or directory as it was."""

    #: What is in a file; None for a directory.
    parts: Parts | None
    #: What tells whether a file is still the same.
    stamp: tuple[int, ...]


#: What lies in a directory, by relative path.
Tree = dict[str, Node]


def _entries(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all that lies in a directory; what holds others comes first."""
    waiting = [str(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def _stamp(entry: os.DirEntry[str]) -> tuple[int, ...]:
    if entry.is_dir(follow_symlinks=False):
        return ()
    status = entry.stat(follow_symlinks=False)
    return (status.st_mode, status.st_ino, status.st_size,
            status.st_mtime_ns, status.st_ctime_ns)


#: Runs a process that is stopped at a cut.
Act = Callable[[steps.Cut], Run]
#: Returns what kind of outcome a run had, if it is right.
Judge = Callable[[Run], str]
Engine = contract.Engine


class Devices:
    """Three devices, and what lies on them.

    :param root: an empty directory
    :param count: how many devices, if not three
    """

    def __init__(self, root: Path, count: int = COPIES) -> None:
        self.root = root
        self.paths = [str(root / f'disk{number}') for number in range(count)]
        for path in self.paths:
            Path(path).mkdir()
        provision.initialise(self.paths)

    def tree(self) -> Tree:
        """Remember all that lies on the devices."""
        tree = {}
        for entry in _entries(self.root):
            stamp = _stamp(entry)
            tree[entry.path] = Node(
                read_parts(entry.path) if stamp else None, stamp)
        return tree

    def restore(self, tree: Tree) -> None:
        """Make all as it was when ``tree`` was remembered."""
        current = {entry.path: _stamp(entry)
                   for entry in _entries(self.root)}
        for path in reversed(current):
            if path not in tree or tree[path].stamp != current[path]:
                (os.unlink if current[path] else os.rmdir)(path)
        for path, node in tree.items():
            if current.get(path) == node.stamp:
                continue
            if node.parts is None:
                os.mkdir(path)
                continue
            write_parts(path, node.parts)
            with os.scandir(os.path.dirname(path)) as entries:
                node.stamp = next(_stamp(entry) for entry in entries
                                  if entry.path == path)

    def named(self, word: str, without: Sequence[str] = ()) -> list[str]:
        """Return the paths on the devices that have ``word`` in them.

        :param without: top directories of the devices to leave out
        """
        names = (os.path.relpath(f'{path}/{name}', self.root)
                 for path, directories, files in os.walk(self.root)
                 for name in [*directories, *files] if word in name)
        return sorted(name for name in names
                      if name.split('/')[1] not in without)

    def in_directory(self, name: str) -> list[str]:
        """Return what lies in a top directory of the devices."""
        return [f'{path}/{name}/{entry}' for path in self.paths
                if os.path.isdir(path) for entry in
                sorted(os.listdir(f'{path}/{name}'))]

    def copy(self, image_id: str, device: int) -> Path:
        """Return the directory that is the copy of an image."""
        return Path(self.paths[device], 'images', image_id[:2], image_id)

    @contextlib.contextmanager
    def without(self, device: int) -> Iterator[None]:
        """Take a device away for a while."""
        away = self.root / 'away'
        os.rename(self.paths[device], away)
        try:
            yield
        finally:
            os.rename(away, self.paths[device])


def make_directory() -> Path:
    """Return a new directory, on a disk unless TMPDIR says otherwise."""
    place = None if 'TMPDIR' in os.environ else '/var/tmp'  # noqa: S108
    return Path(tempfile.mkdtemp(prefix='easystack-crash-', dir=place))


class TestCase(testtools.TestCase):
    """A test with three devices and an image on them, written earlier."""

    def setUp(self) -> None:
        super().setUp()
        timeout = int(os.environ.get('OS_TEST_TIMEOUT', 0))
        if timeout:
            self.useFixture(fixtures.Timeout(timeout, gentle=True))
        # Shown if the test fails; the engine has much to say here.
        self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        self.directory = self.temporary_directory()
        self.devices = self.make_devices()
        self.earlier = new_id(0xea)
        self.image_id = new_id(0x1d)
        self.source = self.directory / 'source'
        self.source.write_bytes(DATA)
        self.write(self.restart(), self.earlier, EARLIER)
        self.baseline = self.devices.tree()

    def temporary_directory(self) -> Path:
        """Return a new directory of this test."""
        path = make_directory()
        self.addCleanup(shutil.rmtree, path)
        return path

    def make_devices(self) -> Devices:
        """Return the devices of this test, which are empty."""
        return Devices(self.temporary_directory())

    def worker(self) -> Worker:
        """Return a new worker, which ends with the test."""
        worker = Worker()
        self.addCleanup(worker.close)
        return worker

    def restart(self, **options: Any) -> engine_module.LocalEngine:
        """Return a new engine on the devices, started."""
        engine = child.make_engine(self.devices.paths, **options)
        self.addCleanup(engine.close)
        engine.start()
        return engine

    def write(self, engine: contract.Engine, image_id: str,
              data: bytes) -> contract.ImageInfo:
        """Upload an image."""
        return engine.write(image_id, io.BytesIO(data), len(data))

    def upload_job(self, image_id: str) -> dict[str, Any]:
        """Return the job of uploading :data:`DATA`."""
        return {'kind': 'write', 'image_id': image_id,
                'source': str(self.source), 'size': len(DATA)}

    def cuts(self, act: Act, others: Sequence[str] = ('behind', 'ahead'),
             devices: Iterable[int] = range(COPIES),
             moments: Sequence[str] = ('before', 'after', 'middle'),
             ) -> Iterator[Run]:
        """Stop a process at every step that there is, one after the other.

        For each device: at its first step, its second one, and so on, until
        the process gets through without reaching such a step (and is killed
        after telling so).

        :param act: runs a process that is stopped at a cut
        :param moments: of a step; the middle is that of each write
        """
        for device, other in itertools.product(devices, others):
            for number in itertools.count(1):
                cut = steps.Cut(device, number, moments[0], other)
                run = act(cut)
                yield run
                if not run.stopped:
                    break
                name = run.on(device)[-1].name
                for moment in moments[1:]:
                    if moment != 'middle' or name == 'write_at':
                        yield act(dataclasses.replace(cut, moment=moment))

    def begin_anew(self) -> None:
        """Make the devices as they were before the process was killed."""
        self.devices.restore(self.baseline)

    def judge_all(self, runs: Iterable[Run],
                  judge: Judge) -> dict[str, int]:
        """Judge the outcome of every run, and begin anew after each.

        Goes on after a failure, to report all of them together.

        :param judge: returns what kind of outcome it is, if it is right
        :returns: how often each kind of outcome was seen
        """
        seen: collections.Counter[str] = collections.Counter()
        wrong: list[str] = []
        for run in runs:
            try:
                seen[judge(run)] += 1
            except Exception as error:
                wrong.append(f'{run}: {type(error).__name__}: {error}')
            if len(wrong) >= 10:
                break
            self.begin_anew()
        if wrong:
            self.fail(f'{len(wrong)} wrong, {dict(seen)} right:\n'
                      + '\n'.join(wrong))
        return seen

    def check_whole(self, engine: contract.Engine, image_id: str,
                    data: bytes, good: int = COPIES) -> str:
        """See that an image is whole in ``good`` copies; return its upload."""
        info = engine.info(image_id)
        self.assertEqual(
            (len(data), hashlib.md5(data, usedforsecurity=False).hexdigest(),
             hashlib.sha512(data).hexdigest()),
            (info.size, info.md5, info.multihash))
        self.assertTrue(data == b''.join(engine.open(image_id)),
                        'the image reads back different')
        copies = [copy for copy in engine.list_copies(image_id, verify=True)
                  if copy.state is contract.CopyState.GOOD]
        self.assertEqual(good, len(copies))
        for copy in copies:
            self.assertTrue(data == Path(copy.path).read_bytes(),
                            f'{copy.path} has other bytes')
        return info.generation

    def check_earlier(self, engine: contract.Engine,
                      good: int = COPIES) -> None:
        """See that the image that was there before is as it was."""
        self.check_whole(engine, self.earlier, EARLIER, good)

    def check_gone(self, engine: contract.Engine, image_id: str,
                   generation: str | None = None) -> None:
        """See that an image is not served, in any way."""
        for ask in (engine.info, engine.open, engine.list_copies):
            self.assertRaises(exceptions.ImageNotFound, ask, image_id)
        if generation:
            for ask in (engine.info, engine.open):
                self.assertRaises(exceptions.ImageNotFound, ask, image_id,
                                  generation=generation)

    def check_no_trace(self, image_id: str) -> None:
        """See that nothing is left of an image but marks that it is gone."""
        self.assertEqual([], self.devices.named(image_id, ['deleted']))

    def check_swept(self, quarantined: int = 0) -> None:
        """See that nothing lies about on the devices."""
        self.assertEqual([], self.devices.in_directory('tmp'))
        self.assertEqual([], self.devices.in_directory('repair'))
        self.assertEqual(quarantined,
                         len(self.devices.in_directory('quarantine')))

    def wait_for(self, reached: Callable[[], object], what: str,
                 patience: float = steps.PATIENCE) -> None:
        """Wait until something holds, at most ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while not reached():
            if time.monotonic() > deadline:
                self.fail(f'waited in vain for {what}')
            time.sleep(0.01)

    def sweep_all(self, swept: Callable[[], object]) -> None:
        """Have all swept as by a process that serves images."""
        engine = self.restart(self_repair=True)
        for _ in engine.open(self.earlier):
            pass
        self.wait_for(swept, 'the sweep')
        engine.close()
