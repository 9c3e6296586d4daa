"""Measure a store through its driver, called as Glance calls it.

Every measurement runs in a fresh process, so that its memory and its CPU
time are those of one transfer and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import gc
import io
import multiprocessing
from multiprocessing import connection
import os
from pathlib import Path
import random
import signal
import sys
import traceback
from typing import Any
import uuid

import crc32c
import glance_store
from oslo_config import cfg
import psutil

from tests.bench import meter
from tests.bench import results
from tests.bench import sources

_ALGORITHM = 'sha512'

_WARM_UP = os.urandom(65536)


@dataclasses.dataclass(frozen=True, slots=True)
class Configured:
    """A store, and the file that configures it."""

    name: str
    config_file: Path


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What Glance keeps of a stored image."""

    image_id: str
    uri: str


class _Stream:
    """What Glance hands to a driver: something with ``read`` and no more.

    :param piece: how many bytes it gives at most, whatever is asked for
    """

    def __init__(self, raw: io.RawIOBase, piece: int) -> None:
        self._raw = raw
        self._piece = piece

    def read(self, size: int) -> bytes:
        return self._raw.read(min(size, self._piece)) or b''


class _OpenStore:
    """A store as glance_store's multi-store code makes it from a file."""

    def __init__(self, store: Configured) -> None:
        self._name = store.name
        conf = cfg.CONF
        conf.register_opt(cfg.DictOpt('enabled_backends'))
        conf([], project='glance',
             default_config_files=[str(store.config_file)])
        glance_store.register_store_opts(conf)
        glance_store.create_multi_stores(conf)
        # Raises if the driver did not start.
        glance_store.get_store_from_store_identifier(self._name)

    def add(self, image_id: str, raw: io.RawIOBase, size: int,
            piece: int = sys.maxsize) -> tuple[str, str, str]:
        """Store an image; return its URI, md5 and multihash."""
        uri, written, md5, multihash, _ = glance_store.add_with_multihash(
            cfg.CONF, image_id, _Stream(raw, piece), size, self._name,
            _ALGORITHM)
        if written != size:
            raise sources.WrongBytes(f'{self._name} stored {written} bytes '
                                     f'of {size}')
        return uri, md5, multihash

    def get(self, uri: str, offset: int = 0,
            length: int | None = None) -> Iterator[bytes]:
        """Return the chunks of an image, as Glance iterates over them."""
        chunks, _ = glance_store.get(uri, self._name, offset=offset,
                                     chunk_size=length)
        return iter(chunks)

    def delete(self, uri: str) -> None:
        """Delete an image."""
        glance_store.delete(uri, self._name)

    def warm_up(self) -> None:
        """Send a tiny image there and back, so that all is imported."""
        uri, _, _ = self.add(str(uuid.uuid4()), io.BytesIO(_WARM_UP),
                             len(_WARM_UP))
        if b''.join(self.get(uri)) != _WARM_UP:
            raise sources.WrongBytes(f'{self._name} returned other bytes '
                                     'than it was given')
        self.delete(uri)


def _measure(work: Callable[[], int]) -> results.Sample:
    """Measure this process, with the disk at rest."""
    gc.collect()
    # What others left to be written would be written during the measurement.
    os.sync()
    process = psutil.Process()
    return meter.measure(work, [process], meter.resident_mib([process]))


def _add(store: Configured, source: sources.Source,
         piece: int = sys.maxsize) -> tuple[Stored, results.Sample]:
    """Add an image, then read it back and compare it, unmeasured.

    :param piece: how many bytes the source gives at a time
    """
    opened = _OpenStore(store)
    opened.warm_up()
    image_id = str(uuid.uuid4())
    uri = ''

    def work() -> int:
        nonlocal uri
        with source.path.open('rb', buffering=0) as raw:
            uri, md5, multihash = opened.add(image_id, raw, source.size,
                                             piece)
        if (md5, multihash) != (source.md5, source.sha512):
            raise sources.WrongBytes(f'{store.name} returned other '
                                     'digests than the data has')
        return source.size

    sample = _measure(work)
    sources.compare(opened.get(uri), source.path)
    return Stored(image_id, uri), sample


def _get(store: Configured, source: sources.Source, image: Stored,
         gets: int) -> results.Sample:
    """Get an image some times; the page cache holds it, if it can."""
    opened = _OpenStore(store)
    opened.warm_up()

    def work() -> int:
        return sum(sum(map(len, opened.get(image.uri)))
                   for _ in range(gets))

    sample = _measure(work)
    sources.check_length(sample.size, gets * source.size)
    return sample


def _ranges(store: Configured, source: sources.Source,
            image: Stored) -> results.Sample:
    """Get ranges of an image, and compare them."""
    opened = _OpenStore(store)
    opened.warm_up()
    offsets = random.Random(source.size).choices(
        range(source.size - results.MIB), k=results.RANGES)
    # The bytes themselves would count as the store's memory.
    found: list[int] = []

    def work() -> int:
        size = 0
        for offset in offsets:
            data = b''.join(opened.get(image.uri, offset, results.MIB))
            found.append(crc32c.crc32c(data))
            size += len(data)
        return size

    sample = _measure(work)
    with source.path.open('rb', buffering=0) as file:
        for offset, checksum in zip(offsets, found, strict=True):
            if crc32c.crc32c(os.pread(file.fileno(), results.MIB,
                                      offset)) != checksum:
                raise sources.WrongBytes(
                    f'{store.name} returned other bytes from {offset} on')
    return sample


def _delete(store: Configured, image: Stored) -> None:
    _OpenStore(store).delete(image.uri)


def _child(pipe: connection.Connection, function: Callable[..., Any],
           arguments: tuple[object, ...]) -> None:
    """Run a function and send what it returned, or why it did not."""
    # Ctrl-C reaches the whole process group; the parent ends us then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pipe.send((function(*arguments), None))
    except Exception:
        pipe.send((None, traceback.format_exc()))


class DriverLevel:
    """Measures the stores of a run.

    :param stores: the file that configures each, by its name
    :param gets: how many gets make one sample
    :param rest: called before each measurement, to wait until nothing is
        done any more on account of the one before
    """

    operations = ('add', 'get')

    def __init__(self, stores: Mapping[str, Path], gets: int = results.GETS,
                 rest: Callable[[], object] = lambda: None) -> None:
        self._stores = {name: Configured(name, path)
                        for name, path in stores.items()}
        self._gets = gets
        self._rest = rest
        # A server that has imported all drivers, and forks: importing them
        # anew each time would take longer than most of the transfers.
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(['tests.bench.preload'])

    def measure(self, name: str,
                source: sources.Source) -> dict[str, results.Sample]:
        """Add an image to a store, compare it, get it and delete it.

        :raises RuntimeError: if a transfer failed or bytes were wrong
        """
        store = self._stores[name]
        image, added = self._run(_add, store, source)
        got = self._run(_get, store, source, image, self._gets)
        self._run(_delete, store, image)
        return {'add': added, 'get': got}

    def measure_short(self, name: str, source: sources.Source,
                      piece: int) -> results.Sample:
        """Add an image from a source that gives little at a time.

        :param piece: how much, in bytes
        """
        store = self._stores[name]
        image, sample = self._run(_add, store, source, piece)
        self._run(_delete, store, image)
        return sample

    def measure_ranges(self, name: str,
                       source: sources.Source) -> results.Sample:
        """Get ranges of an image."""
        store = self._stores[name]
        image, _ = self._run(_add, store, source)
        sample = self._run(_ranges, store, source, image)
        self._run(_delete, store, image)
        return sample

    def _run(self, function: Callable[..., Any], store: Configured,
             *arguments: object) -> Any:
        """Run a function in a process of its own."""
        self._rest()
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_child, args=(sender, function, (store, *arguments)))
        process.start()
        sender.close()
        try:
            result, error = receiver.recv()
        except EOFError:
            result, error = None, 'its process ended without a word'
        except BaseException:
            process.terminate()
            raise
        finally:
            receiver.close()
            process.join()
        if error:
            raise RuntimeError(f'driver, {store.name}: {error}')
        return result
