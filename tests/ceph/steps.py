"""The processes that are killed.

``python -m tests.ceph.steps CONF POOL USER`` reads jobs (JSON, one per line)
and forks a process for each, which does the job and never ends by itself in
another way than being killed: at the step that the job names, or else right
after it has told that the work is done.  A step is a call of Ceph's modules
that changes something in the cluster.  What became of each job is written as
JSON, one per line.

This process itself makes no connection, so that it can fork safely, and a job
costs a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable
import io
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any, NoReturn
from unittest import mock

from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import connection
from easystack_image.blockstore.ceph import engine as engine_module
from easystack_image.blockstore.ceph import layout
from easystack_image.blockstore.ceph import removal
from easystack_image.blockstore.ceph import writer
from tests.contract import sources

MIB = 1 << 20
#: Calls that change something, of an RBD image, the pool, and RBD.
CHANGES = frozenset({
    'resize', 'aio_write', 'flush', 'create_snap', 'protect_snap',
    'unprotect_snap', 'remove_snap', 'metadata_set', 'lock_exclusive',
    'unlock', 'operate_write_op', 'write_full', 'write', 'remove_object',
    'create', 'rename', 'remove', 'open'})
#: Those that are made of several changes.
COMPOUND = frozenset({'create', 'rename', 'remove', 'remove_snap'})
#: Seconds after which a process that a test forgot ends.
LIFETIME = 120
#: Bytes of an image: several writes.
SIZE = 4 * MIB + 77

Job = dict[str, Any]


def kill() -> NoReturn:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        signal.pause()


class Counter:
    """Counts the steps, notes their names, and stops the process at one.

    :param cut: the how manieth step, from 1; 0: none
    :param delay: how long after its begin, in seconds; None: before
    """

    def __init__(self, cut: int, delay: float | None) -> None:
        self._cut = cut
        self._delay = delay
        self.names: list[str] = []

    def call(self, name: str, function: Callable[..., Any], *args: Any,
             **kwargs: Any) -> Any:
        """Call one of Ceph's functions."""
        if name in CHANGES:
            self.names.append(name)
            if len(self.names) == self._cut:
                if self._delay is None:
                    kill()
                threading.Timer(self._delay, kill).start()
        return function(*map(_real, args), **kwargs)

    def install(self) -> None:
        """Put this between the engine and Ceph's modules, for good."""
        module = _Module(self)
        bindings.rbd = lambda: module
        connect = connection.Cluster._connect

        def connected(cluster: connection.Cluster) -> tuple[Any, Any]:
            rados, ioctx = connect(cluster)
            return rados, _Proxy(ioctx, self)

        connection.Cluster._connect = connected


class _Proxy:
    """An object of Ceph's modules whose calls are counted."""

    def __init__(self, real: Any, counter: Counter) -> None:
        self._real = real
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if name not in CHANGES:
            return value if not callable(value) else (
                lambda *args, **kwargs: value(*map(_real, args), **kwargs))
        return lambda *args, **kwargs: self._counter.call(
            name, value, *args, **kwargs)


def _real(argument: Any) -> Any:
    return argument._real if isinstance(argument, _Proxy) else argument


class _Module:
    """The module ``rbd``, whose calls are counted."""

    def __init__(self, counter: Counter) -> None:
        self._module = bindings.rbd()
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def RBD(self) -> _Proxy:
        return _Proxy(self._module.RBD(), self._counter)

    def Image(self, ioctx: Any, name: str | None, **options: Any) -> _Proxy:
        # Whoever opens it for reading only leaves no trace.
        what = 'look' if options['read_only'] else 'open'
        return _Proxy(self._counter.call(
            what, self._module.Image, ioctx, name, **options), self._counter)


def _write(engine: engine_module.CephEngine, job: Job) -> object:
    data = sources.noise(SIZE, job['seed'])
    # In several steps if the size is not told.
    with mock.patch.object(writer, 'STEP', 4 * MIB):
        return engine.write(job['image_id'], io.BytesIO(data),
                            job.get('size')).generation


def _delete(engine: engine_module.CephEngine, job: Job) -> object:
    return engine.delete(job['image_id'])


def _discard(engine: engine_module.CephEngine, job: Job) -> object:
    """Do what a sweep does with an upload that nobody writes."""
    cluster = engine._connection.cluster()
    upload = layout.Upload(job['image_id'], job['generation'])
    return cluster.run(lambda: removal.discard(cluster, upload))


JOBS: dict[str, Callable[[engine_module.CephEngine, Job], object]] = {
    'write': _write, 'delete': _delete, 'discard': _discard}


def run(job: Job, options: dict[str, Any], messages: int) -> None:
    """Do a job, and be killed.

    :param messages: descriptor to tell what happens to
    """
    def tell(**message: Any) -> None:
        os.write(messages, json.dumps(message).encode() + b'\n')

    signal.alarm(LIFETIME)
    logging.disable()
    try:
        counter = Counter(job['cut'], job['delay'])
        counter.install()
        engine = engine_module.CephEngine.from_options(options)
        engine.start()
        counter.names.clear()
        done = JOBS[job['kind']](engine, job)
        tell(acknowledged=True, result=done, steps=counter.names)
        if job['delay'] is not None:
            time.sleep(2 * job['delay'])
    except BaseException:
        tell(error=traceback.format_exc()[-3000:])
    finally:
        kill()


def main(conf: str, pool: str, user: str) -> None:
    """Fork a process for each job; end with the standard input."""
    options = {'self_repair': False, 'ceph_conf': conf, 'ceph_pool': pool,
               'ceph_user': user, 'ceph_timeout': 10}
    for line in sys.stdin:
        messages, told = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(messages)
            run(json.loads(line), options, told)
        os.close(told)
        with open(messages) as lines:
            result: dict[str, Any] = {}
            for each in lines:
                result |= json.loads(each)
        os.waitpid(pid, 0)
        print(json.dumps(result), flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
