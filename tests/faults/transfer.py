"""One transfer in a process of its own, which measures its memory.

``python -m tests.faults.transfer upload|download SIZE ID DEVICE...`` prints
one line of JSON: whether all went well, and the peak of the resident memory
above what the process had when it was idle (bytes).
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
import sys

from easystack_image.blockstore.local import engine as local
from easystack_image.blockstore.local import settings as settings_module
from tests.faults import base

#: What the images are made of: no two of its blocks are the same.
PIECE = base.content(8 * base.MIB, seed=9)


class Repeated:
    """A source of PIECE, again and again."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Return what comes next."""
        size = min(size, self._left, len(PIECE) - self._position)
        piece = PIECE[self._position:self._position + size]
        self._position = (self._position + size) % len(PIECE)
        self._left -= size
        return piece


def _memory(name: str) -> int:
    """Return a line of /proc/self/status, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        key, _, value = line.partition(':')
        if key == name:
            return int(value.split()[0]) * 1024
    raise KeyError(name)


def _upload(engine: local.LocalEngine, image_id: str, size: int) -> bool:
    info = engine.write(image_id, Repeated(size), size)
    return info.size == size and len(engine.list_copies(image_id)) == 3


def _download(engine: local.LocalEngine, image_id: str, size: int) -> bool:
    source = Repeated(size)
    with contextlib.closing(engine.open(image_id)) as reader:
        # Pieces are blocks, of which PIECE holds whole ones.
        return (all(piece == source.read(len(piece)) for piece in reader)
                and not source.read(1))


def main(what: str, size: str, image_id: str, *devices: str) -> None:
    """Do a transfer, and tell how it went."""
    engine = local.LocalEngine(settings_module.Settings(
        devices, self_repair=False))
    engine.start()
    transfer = {'upload': _upload, 'download': _download}[what]
    idle = _memory('VmRSS')
    # So that the peak is that of the transfer.
    Path('/proc/self/clear_refs').write_text('5')
    good = transfer(engine, image_id, int(size))
    print(json.dumps({'above_idle': _memory('VmHWM') - idle,
                      'good': good}))
    engine.close()


if __name__ == '__main__':
    main(*sys.argv[1:])
