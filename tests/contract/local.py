"""A laboratory for the local engine: directories that stand for disks."""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import shutil
import tempfile
from typing import Any
import uuid

import crc32c
import fixtures

from easystack_image import fsio
from easystack_image.blockstore import pipeline
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest
from tests.contract import hanging
from tests.contract import lab

_NAMESPACE = uuid.UUID('6f1c4f2e-63c5-4d43-a7c2-0d2c6dbb1f5a')
STORE_ID = str(uuid.uuid5(_NAMESPACE, 'set'))
DEVICES = 4
#: Where the files lie that come and go; the directories themselves stay.
_SHARDED = [f'{name}/{shard}' for name in device_module.SHARDED
            for shard in device_module.SHARDS]
_FLAT = [name for name in device_module.DIRECTORIES
         if name not in device_module.SHARDED]


def identity(number: int, store_id: str = STORE_ID) -> device_module.Identity:
    """Return the identity of device ``number``, the same in each run."""
    return device_module.Identity(
        str(uuid.uuid5(_NAMESPACE, f'device {number}')), store_id,
        f'zone{number}', 1.0)


def prepare(path: str, who: device_module.Identity) -> None:
    """Make a device of a new directory."""
    os.mkdir(path)
    device_module.initialise(path, who)


class _Pool:
    """Sets of prepared devices, used again: making one takes half a second.

    A set that cannot be cleaned up completely is not used again.
    """

    def __init__(self) -> None:
        self._root = ''
        self._idle: list[str] = []
        self._made = 0

    def take(self) -> str:
        """Return a directory with clean devices in it."""
        if self._idle:
            return self._idle.pop()
        if not self._root:
            self._root = tempfile.mkdtemp(prefix='easystack-image-test')
            atexit.register(self._clean_up, os.getpid())
        self._made += 1
        home = f'{self._root}/{self._made}'
        os.mkdir(home)
        for number in range(DEVICES):
            prepare(f'{home}/disk{number}', identity(number))
        return home

    def give_back(self, home: str) -> None:
        """Clean devices up, for the next who takes them."""
        if self._reset(home):
            self._idle.append(home)
        else:
            shutil.rmtree(home)

    def _reset(self, home: str) -> bool:
        expected = {*device_module.DIRECTORIES, device_module.IDENTITY}
        if set(os.listdir(home)) != {f'disk{number}' for number in
                                     range(DEVICES)}:
            return False
        for number in range(DEVICES):
            path = f'{home}/disk{number}'
            if set(os.listdir(path)) != expected or any(
                    set(os.listdir(f'{path}/{name}')) !=
                    set(device_module.SHARDS)
                    for name in device_module.SHARDED):
                return False
            with open(f'{path}/{device_module.IDENTITY}', 'rb') as file:
                if file.read() != identity(number).pack():
                    return False
            for name in [*_FLAT, *_SHARDED]:
                # Tests take rights away, and give back others.
                os.chmod(f'{path}/{name}', fsio.DIRECTORY_MODE)
                _empty(f'{path}/{name}')
        return True

    def _clean_up(self, pid: int) -> None:
        # A child that this process forked must not take them away.
        if pid == os.getpid():
            shutil.rmtree(self._root, ignore_errors=True)


def _empty(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


_POOL = _Pool()


class LocalLab(lab.Lab):
    """Four directories with the identities of devices."""

    name = 'local'
    block_size = manifest.BLOCK_SIZE
    chunk_size = pipeline.CHUNK_SIZE

    def _setUp(self) -> None:
        home = _POOL.take()
        self.devices = [f'{home}/disk{number}' for number in range(DEVICES)]
        self._away: set[str] = set()
        self._full: set[str] = set()
        self._filling = False
        self._hanging: hanging.Hanging | None = None
        self.addCleanup(self._give_back, home)

    def _give_back(self, home: str) -> None:
        for device in list(self._away):
            self.bring_back(device)
        _POOL.give_back(home)

    def options(self) -> dict[str, Any]:
        return {'devices': self.devices, 'copies': 3, 'min_copies': 2,
                'io_timeout': 30, 'allow_shared_disk': True,
                'direct_io': True, 'self_repair': True,
                'sweep_interval': 300}

    def engine_class(self) -> type[engine_module.LocalEngine]:
        return engine_module.LocalEngine

    def failing_options(self) -> dict[str, Any]:
        return {**self.options(), 'devices': ['disk1', 'disk2', 'disk3']}

    def engine(self, **options: Any) -> engine_module.LocalEngine:
        made = super().engine(**options)
        assert isinstance(made, engine_module.LocalEngine)
        return made

    def housekeeping(self, made: Any) -> None:
        made.sweeper.sweep()

    def root(self, device: str) -> str:
        """Return where the files of a device are at the moment."""
        return device + '.away' if device in self._away else device

    def place(self, device: str, image_id: str, name: str = '') -> str:
        """Return the path of a copy, or of a file in it."""
        return os.path.join(self.root(device),
                            layout.copy_directory(image_id), name)

    def content(self, device: str, image_id: str) -> bytes | None:
        try:
            with open(self.place(device, image_id, layout.DATA),
                      'rb') as file:
                return file.read()
        except FileNotFoundError:
            return None

    def damage(self, device: str, image_id: str, offset: int) -> None:
        flip(self.place(device, image_id, layout.DATA), offset)

    def drop(self, device: str, image_id: str) -> None:
        shutil.rmtree(self.place(device, image_id))

    def take_away(self, device: str) -> None:
        # What is left is what an unmounted disk leaves: its mount point.
        os.rename(device, device + '.away')
        os.mkdir(device)
        self._away.add(device)

    def bring_back(self, device: str) -> None:
        # Fails if something was written to the mount point.
        os.rmdir(device)
        os.rename(device + '.away', device)
        self._away.remove(device)

    def fill(self, device: str) -> None:
        # Without root there is no small file system to be had; tests/faults
        # fills real ones.
        if not self._filling:
            self._filling = True
            real = fsio.write_at

            def write_at(fd: int, data: Any, offset: int) -> None:
                path = os.readlink(f'/proc/self/fd/{fd}')
                if len(data) and any(path.startswith(f'{each}/')
                                     for each in self._full):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                real(fd, data, offset)

            self.useFixture(fixtures.MonkeyPatch(
                'easystack_image.fsio.write_at', write_at))
        self._full.add(device)

    def make_room(self, device: str) -> None:
        self._full.remove(device)

    def hang(self, device: str) -> None:
        """Make whoever opens a device wait, until :meth:`wake`."""
        if self._hanging is None:
            self._hanging = self.useFixture(hanging.Hanging())
        self._hanging.hang(device)

    def wake(self, device: str) -> None:
        """Undo :meth:`hang`; who waited goes on."""
        assert self._hanging is not None
        self._hanging.wake(device)

    def plant(self, device: str, content: manifest.Manifest,
              data: bytes) -> None:
        """Put a copy on a device, as whatever made it left it."""
        place = self.place(device, content.image_id)
        os.mkdir(place)
        for name, each in ((layout.DATA, data),
                           (layout.MANIFEST, manifest.pack(content))):
            with open(f'{place}/{name}', 'wb') as file:
                file.write(each)

    def put_aside(self, image_id: str) -> int:
        return len([name for device in self.devices
                    for name in os.listdir(
                        f'{self.root(device)}/{layout.QUARANTINE}')
                    if name.startswith(image_id)])

    def leftovers(self) -> list[str]:
        found = []
        for device in self.devices:
            root = self.root(device)
            found += [f'{root}/{layout.TMP}/{name}'
                      for name in os.listdir(f'{root}/{layout.TMP}')]
            for shard in device_module.SHARDS:
                directory = f'{root}/{layout.IMAGES}/{shard}'
                found += [f'{directory}/{name}'
                          for name in os.listdir(directory)
                          if set(os.listdir(f'{directory}/{name}'))
                          != {layout.DATA, layout.MANIFEST}]
        return found


def describe(image_id: str, data: bytes, generation: str = '',
             created_at: float = 1.0, **fields: Any) -> manifest.Manifest:
    """Return the manifest that an upload of ``data`` would have."""
    block = fields.get('block_size', manifest.BLOCK_SIZE)
    return manifest.Manifest(**{
        'image_id': image_id,
        'generation': generation or str(uuid.uuid5(_NAMESPACE, image_id)),
        'store_id': STORE_ID, 'size': len(data), 'created_at': created_at,
        'md5': hashlib.md5(data).digest(),  # noqa: S324
        'algorithm': 'sha512', 'multihash': hashlib.sha512(data).digest(),
        'checksums': b''.join(
            crc32c.crc32c(data[begin:begin + block]).to_bytes(4, 'little')
            for begin in range(0, len(data), block)), **fields})


def flip(path: str, offset: int, mask: int = 0xff) -> None:
    """Change one byte of a file; ``mask`` says which bits of it."""
    with open(path, 'r+b', buffering=0) as file:
        byte = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte[0] ^ mask]), offset)
