"""Devices that are added, drained, replaced; and the images on them."""

from __future__ import annotations

from collections.abc import Callable
import io
from pathlib import Path
import select
import shutil
import subprocess
import time

from easystack_image.blockstore.local import device
from tests.unit.cmd import base
from tests.unit.store import base as store_base

MIB = store_base.MIB


class MovingCase(base.CommandCase):
    """Three devices with images on them, and two directories more."""

    IMAGES = 8
    SIZE = MIB + 321

    def setUp(self) -> None:
        super().setUp()
        self.paths = [self.root / f'disk{number}' for number in range(5)]
        for path in self.paths:
            path.mkdir()
        self.configure(3)
        self.done('device', 'init')
        self.images = self.store(self.IMAGES)

    def configure(self, count: int, **options: object) -> None:
        """List the first devices in the configuration."""
        self.write_config(copies={'devices': self.paths[:count], **options})

    def store(self, count: int, size: int = SIZE) -> dict[str, bytes]:
        """Store images on the devices that are prepared."""
        prepared = [path for path in self.paths
                    if (path / device.IDENTITY).exists()]
        engine = base.local_engine(prepared)
        images = {}
        for number in range(count):
            data = store_base.content(size, number)
            image_id = store_base.new_id()
            engine.write(image_id, io.BytesIO(data), size)
            images[image_id] = data
        engine.close()
        return images

    def done(self, *arguments: object, code: int = 0) -> base.Result:
        """Run a command for its rows; see how it ends."""
        result = self.manage(*arguments, '-f', 'json')
        self.assertEqual(code, result.code, result)
        return result

    def row(self, *arguments: object, code: int = 0) -> dict[str, object]:
        """Run a command that prints one row; return it."""
        row, = self.done(*arguments, code=code).rows
        return dict(row)

    def devices(self) -> dict[str, dict[str, object]]:
        """Return what is listed of each device, by its name."""
        return {Path(row['device']).name: dict(row)
                for row in self.done('device', 'list').rows}

    def states(self) -> dict[str, object]:
        return {name: row['state'] for name, row in self.devices().items()}

    def holders(self, image_id: str) -> list[str]:
        """Return the devices that have a copy, by name."""
        return [path.name for path in self.paths
                if self.copy(path, image_id).exists()]

    def copy(self, path: Path, image_id: str) -> Path:
        return path / 'images' / image_id[:2] / image_id / 'data'

    def check_whole(self, *excluded: Path) -> None:
        """See three good copies of each image, on other devices."""
        for image_id, data in self.images.items():
            holders = self.holders(image_id)
            self.assertEqual(3, len(holders), holders)
            self.assertFalse({path.name for path in excluded}
                             & set(holders))
            for name in holders:
                self.assertEqual(data, self.copy(
                    self.root / name, image_id).read_bytes())

    def contents(self) -> dict[str, tuple[float, bytes]]:
        """Return all files on the devices, but for those to lock."""
        return {str(path): (path.stat().st_mtime, path.read_bytes())
                for top in self.paths for path in top.rglob('*')
                if path.is_file() and path.parent.name != 'locks'}

    def lose(self, path: Path) -> None:
        """Have a disk die, and a new one mounted in its place."""
        shutil.rmtree(path)
        path.mkdir()

    def clock(self) -> float:
        return time.monotonic()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        until = self.clock() + 60
        while not condition():
            self.assertLess(self.clock(), until, 'it did not come to be')
            time.sleep(0.05)

    def started(self, *arguments: object) -> subprocess.Popen[str]:
        """Start long work, slowly; return once some of it is done."""
        process = self.start(*arguments, '--rate-limit', '1',
                             '--report-every', '0.1')
        assert process.stderr is not None
        while True:
            ready, _, _ = select.select([process.stderr], [], [], 30)
            line = process.stderr.readline()
            self.assertTrue(ready and line, 'no line of progress')
            # First it may look for what there is to do.
            if ' images, ' in line and ': 0/' not in line and (
                    not line.startswith('look: ')):
                return process


class Away:
    """A device that is away for a while."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._elsewhere = path.with_suffix('.away')

    def __enter__(self) -> None:
        self._path.rename(self._elsewhere)

    def __exit__(self, *_: object) -> None:
        self._elsewhere.rename(self._path)
