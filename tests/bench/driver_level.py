"""Measure a store through its driver, called as Glance calls it.

Every measurement runs in a fresh process, so that its memory and its CPU
time are those of one transfer and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import gc
import io
import multiprocessing
from multiprocessing import connection
import os
from pathlib import Path
import signal
import traceback
from typing import Any
import uuid

import glance_store
from oslo_config import cfg
import psutil

from tests.bench import meter
from tests.bench import results
from tests.bench import sources
from tests.bench import stores

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
    """What Glance hands to a driver: something with ``read`` and no more."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def read(self, size: int) -> bytes:
        return self._raw.read(size) or b''


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

    def add(self, image_id: str, raw: io.RawIOBase,
            size: int) -> tuple[str, str, str]:
        """Store an image; return its URI, md5 and multihash."""
        uri, written, md5, multihash, _ = glance_store.add_with_multihash(
            cfg.CONF, image_id, _Stream(raw), size, self._name, _ALGORITHM)
        if written != size:
            raise sources.WrongBytes(f'{self._name} stored {written} bytes '
                                     f'of {size}')
        return uri, md5, multihash

    def get(self, uri: str) -> Iterator[bytes]:
        """Return the chunks of an image, as Glance iterates over them."""
        chunks, _ = glance_store.get(uri, self._name)
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


def _add(store: Configured,
         source: sources.Source) -> tuple[Stored, results.Sample]:
    """Add an image, then read it back and compare it, unmeasured."""
    opened = _OpenStore(store)
    opened.warm_up()
    image_id = str(uuid.uuid4())
    uri = ''

    def work() -> int:
        nonlocal uri
        with source.path.open('rb', buffering=0) as raw:
            uri, md5, multihash = opened.add(image_id, raw, source.size)
        if (md5, multihash) != (source.md5, source.sha512):
            raise sources.WrongBytes(f'{store.name} returned other '
                                     'digests than the data has')
        return source.size

    sample = _measure(work)
    sources.compare(opened.get(uri), source.path)
    return Stored(image_id, uri), sample


def _get(store: Configured, source: sources.Source,
         image: Stored) -> results.Sample:
    """Get an image that the page cache holds, then delete it."""
    opened = _OpenStore(store)
    opened.warm_up()

    def work() -> int:
        return sum(sum(map(len, opened.get(image.uri)))
                   for _ in range(results.GETS))

    sample = _measure(work)
    sources.check_length(sample.size, results.GETS * source.size)
    opened.delete(image.uri)
    return sample


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

    :param directory: where their images go; existing and empty
    """

    operations = ('add', 'get')

    def __init__(self, directory: Path) -> None:
        self._stores = {
            kind.name: Configured(kind.name, stores.configure(
                kind, directory / kind.name)) for kind in stores.KINDS}
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
        return {'add': added, 'get': self._run(_get, store, source, image)}

    def _run(self, function: Callable[..., Any], store: Configured,
             *arguments: object) -> Any:
        """Run a function in a process of its own."""
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
