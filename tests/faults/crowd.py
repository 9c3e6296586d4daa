"""Half of a crowd: a process in which many threads transfer at once.

``python -m tests.faults.crowd NUMBER DEVICE...`` says ``ready``, and begins
when it is told to go on by a line on its standard input.  It prints one line
of JSON: what went wrong, and which of the uploads of the one image that all
want to store was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
import contextlib
import itertools
import json
import sys
import threading
import uuid

from glance_store import exceptions as store_exceptions

from tests.faults import base

THREADS = 8
PROCESSES = 2
#: The one that all want to store.
CONTESTED = str(uuid.uuid5(uuid.NAMESPACE_OID, 'contested'))


def image_id(process: int, thread: int) -> str:
    """Return the id of the image that a thread stores."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f'{process}.{thread}'))


def image(process: int, thread: int) -> bytes:
    """Return its bytes: another size for each, and no multiple of anything.

    Every other one has zeros in it.
    """
    seed = process * THREADS + thread
    data = base.content(4 * base.MIB + seed * 300001, seed)
    if thread % 2:
        data = data[:base.MIB] + bytes(3 * base.MIB) + data[base.MIB:]
    return data


def own(process: int, thread: int) -> bytes:
    """Return what a thread would have the contested image be."""
    return base.content(2 * base.MIB + 17, 1000 + process * THREADS + thread)


class Crowd:
    """The threads of one process, and the store that they share."""

    def __init__(self, process: int, devices: list[str]) -> None:
        self._process = process
        self._client = base.Client(devices, io_timeout=30)
        self._start = threading.Barrier(THREADS)

    def run(self) -> dict[str, list[object]]:
        """Let the threads do their transfers, all at once."""
        with futures.ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(self._transfer, range(THREADS)))
        self._client.engine.close()
        return {
            'faults': [fault for faults, _ in results for fault in faults],
            'won': [thread for thread, (_, won) in enumerate(results)
                    if won]}

    def _transfer(self, thread: int) -> tuple[list[str], bool]:
        self._start.wait()
        try:
            return list(self._faults(thread)), self._contest(thread)
        except Exception as error:
            return [f'{self._process}.{thread}: {error!r}'], False

    def _faults(self, thread: int) -> Iterator[str]:
        data = image(self._process, thread)
        uri = self._client.upload(
            image_id(self._process, thread), base.Scripted(data, {}),
            len(data) if thread % 3 else 0)
        for times in range(2):
            if self._client.download(uri) != data:
                yield f'{self._process}.{thread}: download {times} differs'
        # Whatever others have stored by now is whole.
        for process, other in itertools.product(
                range(PROCESSES), (thread, (thread + 1) % THREADS)):
            with contextlib.suppress(base.exceptions.ImageNotFound), \
                    contextlib.closing(self._client.engine.open(
                        image_id(process, other))) as reader:
                if b''.join(reader) != image(process, other):
                    yield f'{self._process}.{thread}: {other} differs'

    def _contest(self, thread: int) -> bool:
        data = own(self._process, thread)
        try:
            self._client.upload(CONTESTED, base.Scripted(data, {}),
                                len(data))
        except store_exceptions.Duplicate:
            return False
        return True


def main(process: str, *devices: str) -> None:
    """Be one half of the crowd."""
    crowd = Crowd(int(process), list(devices))
    print('ready', flush=True)
    sys.stdin.readline()
    print(json.dumps(crowd.run()), flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
