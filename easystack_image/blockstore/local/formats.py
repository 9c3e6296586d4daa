"""Which formats of what lies on devices this release knows.

An upgrade must not lead to a release that cannot read the copies that there
are, nor to one whose copies the release before it cannot read: there would
be no way back.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import json
import os
from typing import Any

from easystack_image import fsio
from easystack_image.blockstore.local import device as device_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import manifest
from easystack_image.blockstore.local import timed

#: The identity files of devices, and the manifests of copies.
DEVICE, COPY = 'device', 'copy'
_VERSION = slice(len(manifest.MAGIC), len(manifest.MAGIC) + 2)


@dataclasses.dataclass(frozen=True)
class Format:
    """The format of one kind of thing: numbers of its versions."""

    kind: str
    reads: tuple[int, ...]
    writes: int


KNOWN = (Format(DEVICE, (device_module.FORMAT,), device_module.FORMAT),
         Format(COPY, (manifest.VERSION,), manifest.VERSION))


def found(paths: Sequence[str], timeout: float) -> dict[str, dict[int, int]]:
    """Return how many there are of each version, by the kinds of things.

    What is damaged, or of no format at all, does not count: others look for
    that.

    :param paths: of devices; those that are not there do not count
    :param timeout: seconds that a device may take without getting on
    """
    counts: dict[str, dict[int, int]] = {DEVICE: {}, COPY: {}}
    for answer in timed.gather(
            {path: functools.partial(_on_device, path) for path in paths},
            float('inf'), 'device-formats', quiet=timeout).values():
        if isinstance(answer, FileNotFoundError | NotADirectoryError):
            continue
        if isinstance(answer, Exception):
            raise answer
        for kind, version in answer:
            counts[kind][version] = counts[kind].get(version, 0) + 1
    return counts


def _on_device(path: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    fd = fsio.open_directory(path)
    try:
        with contextlib.suppress(ValueError, TypeError):
            identity: dict[str, Any] = json.loads(fsio.read_file(
                device_module.IDENTITY, fd, 65536))
            found.append((DEVICE, int(identity['format'])))
        for shard in device_module.SHARDS:
            timed.beat()
            with contextlib.suppress(FileNotFoundError), fsio.directory(
                    f'{layout.IMAGES}/{shard}', fd) as directory:
                found += [(COPY, version) for name in os.listdir(directory)
                          if (version := _of_copy(name, directory))]
    finally:
        os.close(fd)
    return found


def _of_copy(name: str, directory: int) -> int:
    """Return the version of a copy's manifest, 0 for none."""
    timed.beat()
    with contextlib.suppress(OSError), fsio.directory(
            name, directory) as copy:
        file = fsio.open_file(layout.MANIFEST, copy)
        try:
            header = os.pread(file, _VERSION.stop, 0)
        finally:
            os.close(file)
        if header.startswith(manifest.MAGIC):
            return int.from_bytes(header[_VERSION], 'little')
    return 0
