"""The demonstration, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import hashlib
from pathlib import Path
import shutil
import subprocess
from typing import Any, BinaryIO

import openstack
from oslo_utils.imageutils import format_inspector

from tests.demo import disk_image
from tests.demo import screen as screen_module
from tests.functional import processes
from tests.functional import server

_PIECE = 1 << 20

#: How long the self-repair may take, in seconds.
_PATIENCE = 90


class Failed(Exception):
    """The demonstration did not show what it should."""


class Story:
    """One run: an image is stored, damaged, read and mended.

    :param root: a directory for everything
    :param image: a file of the user's, or None to generate one
    :param size: of the generated image, in bytes
    """

    def __init__(self, root: Path, screen: screen_module.Screen,
                 image: Path | None, size: int) -> None:
        self.screen = screen
        self.root = root
        self.devices = server.make_devices(root)
        self.glance = server.Glance(
            root, [server.block_store('copies', self.devices)],
            database=server.SQLite(root / 'glance.sqlite'))
        self.file = image or root / 'disk.raw'
        self._generate = None if image else size
        self.sha512 = ''
        self.image: Any = None
        self.cloud = openstack.connect(
            load_yaml_config=False, load_envvars=False, auth_type='none',
            endpoint=self.glance.url, image_api_version='2')

    def run(self) -> None:
        """Tell the whole story.

        :raises Failed: where it does not end well
        """
        self.start_glance()
        self.create_image()
        self.show_copies('Where its copies are', ['good'] * 3)
        place = self.copy_directory('DEVICE') / 'data'
        self.screen.say(f'   Each is a plain file:\n   {place}')
        self.spoil()
        self.download()
        self.wait_for_repair()
        self.list_images()

    def start_glance(self) -> None:
        """Start Glance on three fresh devices."""
        self.screen.step('A Glance with the store "copies" on three devices')
        for line in ('[DEFAULT] enabled_backends = copies:easystack_block',
                     '[glance_store] default_backend = copies',
                     '[copies] easystack_block_devices = DISK1,DISK2,DISK3',
                     '[copies] easystack_block_allow_shared_disk = true'):
            self.screen.say(f'   {line}', 'dim')
        with self.screen.waiting('Laying out the database'):
            self.glance.prepare()
        with self.screen.waiting('easystack-image-manage device init'):
            self.glance.init_devices()
        with self.screen.waiting('Starting glance-api under uWSGI'):
            self.glance.start()
        self.screen.fact('API', self.glance.url)

    def create_image(self) -> None:
        """Create an image with the ordinary client."""
        self.screen.step('An image, created with openstacksdk')
        if self._generate:
            with self.screen.waiting('Making up a disk image'):
                disk_image.write(self.file, self._generate)
        size = self.file.stat().st_size
        with (self.file.open('rb') as file,
              self.screen.bytes_bar('Uploading', size) as bar):
            # The client wants no more than this, whatever its types say.
            counted: Any = _Counted(file, size, lambda count: bar.advance(
                bar.task_ids[0], count))
            self.image = self.cloud.image.create_image(
                self.file.name, data=counted, size=size,
                disk_format=_disk_format(self.file), container_format='bare',
                allow_duplicates=True)
        self.image = self.cloud.image.get_image(self.image.id)
        self.sha512 = _sha512(self.file)
        self.screen.fact('Image', self.image.id)
        self.screen.fact('Status', self.image.status)
        self.screen.fact('sha512', f'{self.sha512[:48]}...')
        if (self.image.status != 'active'
                or self.image.hash_value != self.sha512):
            raise Failed('Glance does not report the digest of the file')

    def copy_directory(self, device: str | Path) -> Path:
        """Return where the copy on a device is."""
        return server.copy_directory(Path(device), self.image.id)

    def show_copies(self, title: str, expected: list[str]) -> None:
        """Show the copies as the command sees them, and as the disks are."""
        self.screen.step(title)
        self.screen.say('   $ easystack-image-manage ... copies show --verify '
                        'IMAGE', 'dim')
        rows = self.glance.copies(self.image.id, '--verify')
        self.screen.copies(rows, {
            row['device']: self.digest_on(row['device']) for row in rows})
        if sorted(row['state'] for row in rows) != expected:
            raise Failed(f'not what should be seen: {expected}')

    def digest_on(self, device: str) -> str:
        """Return the digest of the plain file on a device, '' without one."""
        path = self.copy_directory(device) / 'data'
        return _sha512(path) if path.exists() else ''

    def spoil(self) -> None:
        """Flip bytes in one copy, and remove another."""
        # In the order in which a download turns to them.
        first, second = [Path(row['device']) for row in
                         self.glance.copies(self.image.id)][:2]
        size = self.file.stat().st_size
        offsets = [size * part // 7 for part in (1, 3, 6)]
        with (self.copy_directory(first) / 'data').open('r+b') as file:
            for offset in offsets:
                file.seek(offset)
                byte = file.read(1)
                file.seek(offset)
                file.write(bytes([byte[0] ^ 0xff]))
        shutil.rmtree(self.copy_directory(second))
        self.show_copies(
            f'Damage: three bytes flipped on {first.name}, '
            f'the copy on {second.name} removed',
            ['damaged', 'good', 'missing'])

    def download(self) -> None:
        """Download the image and compare it with the file."""
        self.screen.step('The same image, downloaded from what is left')
        digest = hashlib.sha512()
        response = self.cloud.image.download_image(self.image, stream=True)
        with self.screen.bytes_bar('Downloading', self.image.size) as bar:
            for piece in response.iter_content(_PIECE):
                digest.update(piece)
                bar.advance(bar.task_ids[0], len(piece))
        self.screen.fact('sha512', f'{digest.hexdigest()[:48]}...')
        if digest.hexdigest() != self.sha512:
            raise Failed('other bytes than those that were stored')
        self.screen.say('   The same, to the last bit.', 'green')

    def wait_for_repair(self) -> None:
        """Wait until every device holds the right bytes again."""
        with self.screen.waiting('Self-repair in the background'):
            try:
                processes.poll(self.mended, 'the repair', _PATIENCE, 0.5)
            except TimeoutError as exc:
                raise Failed(str(exc)) from exc
        self.show_copies('Three good copies again', ['good'] * 3)
        put_aside = sum(path.is_dir() for device in self.devices
                        for path in (device / 'quarantine').iterdir())
        self.screen.fact('Put aside', f'{put_aside} damaged copy, kept in '
                                      f'the quarantine of its device')

    def mended(self) -> bool:
        """Tell whether every device holds a copy of the right bytes."""
        return all(self.digest_on(str(device)) == self.sha512
                   for device in self.devices)

    def client_command(self) -> list[str]:
        """Return the command line that lists the images."""
        return [processes.script('openstack'), '--os-auth-type', 'none',
                '--os-endpoint', self.glance.url, 'image', 'list']

    def list_images(self) -> None:
        """Show what the ordinary command line sees."""
        self.screen.step('And from the command line')
        command = self.client_command()
        self.screen.paste('   $ openstack ' + ' '.join(command[1:]))
        try:
            self.screen.paste(processes.check(command))
        except subprocess.TimeoutExpired as exc:
            raise Failed(str(exc)) from exc


class _Counted:
    """A file that tells how much of it has been read."""

    def __init__(self, file: BinaryIO, size: int,
                 tell: Callable[[int], object]) -> None:
        self._file = file
        self._size = size
        self._tell = tell

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(_PIECE):
            yield piece

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(max(size, _PIECE) if size > 0 else size)
        self._tell(len(piece))
        return piece


def _sha512(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha512').hexdigest()


def _disk_format(path: Path) -> str:
    """Return what Glance calls the format of a file."""
    found = str(format_inspector.detect_file_format(str(path)))
    return 'raw' if found in ('gpt', 'raw', 'None') else found
