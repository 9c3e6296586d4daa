"""The processes that are killed: ``python -m tests.crash.child``.

It reads jobs (JSON, one per line) and forks a process for each, which does
the job in a session of its own and never ends by itself in another way than
being killed: at the step that the job names, or else right after it has told
that the work is done.  What happens is written as JSON, one per line.  This
process itself starts no thread, so that it can fork safely, and imports
nothing but the engine, so that a job costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

from easystack_image.blockstore.local import engine as engine_module
from easystack_image.blockstore.local import layout
from easystack_image.blockstore.local import provision
from easystack_image.blockstore.local import settings
from easystack_image.blockstore.local import work
from tests.crash import steps

Job = dict[str, Any]
#: What does each kind of job; it can tell of what happens meanwhile.
Jobs = dict[str, Callable[[Job, Callable[..., None]], object]]
#: Seconds after which a process that a test forgot ends.
LIFETIME = 240


def make_engine(devices: list[str], **others: Any) -> (
        engine_module.LocalEngine):
    """Return an engine, not started, as the tests use it."""
    options = {'allow_shared_disk': True, 'self_repair': False, **others}
    return engine_module.LocalEngine(settings.Settings(devices, **options))


def _started(job: Job) -> engine_module.LocalEngine:
    engine = make_engine(job['devices'], **job.get('options', {}))
    engine.start()
    return engine


def _write(job: Job, tell: Callable[..., None]) -> object:
    with open(job['source'], 'rb', buffering=0) as source:
        return _started(job).write(job['image_id'], source,
                                   job['size']).generation


def _delete(job: Job, tell: Callable[..., None]) -> object:
    return _started(job).delete(job['image_id'], job['generation'])


def _repair(job: Job, tell: Callable[..., None]) -> object:
    return [copy.state.value for copy in
            _started(job).repair(job['image_id'])]


def _initialise(job: Job, tell: Callable[..., None]) -> object:
    return provision.initialise(job['configured'])


def _serve(job: Job, tell: Callable[..., None]) -> object:
    """Start, read an image, and sweep as a process that serves does."""
    engine = _started(job)
    for _ in engine.open(job['image_id']):
        pass
    deadline = time.monotonic() + steps.PATIENCE
    while any(map(os.path.exists, job['leftovers'])) or any(
            os.listdir(os.path.join(path, layout.TMP))
            for path in job['devices']):
        if time.monotonic() > deadline:
            raise TimeoutError(f'still there: {job["leftovers"]}')
        time.sleep(0.002)
    return None


def _churn(job: Job, tell: Callable[..., None]) -> object:
    """Write, read and delete images until a file appears; count them."""
    engine = _started(job)
    with open(job['source'], 'rb') as source:
        data = source.read()
    for number, image_id in enumerate(job['image_ids']):
        if os.path.exists(job['stop']):
            return number
        with open(job['source'], 'rb', buffering=0) as source:
            engine.write(image_id, source, len(data))
        if b''.join(engine.open(image_id)) != data:
            raise AssertionError(f'image {image_id} reads back different')
        good = [copy.state.value for copy in
                engine.list_copies(image_id, verify=True)]
        if good != ['good'] * 3:
            raise AssertionError(f'image {image_id}: {good}')
        if number % 2:
            engine.delete(image_id)
        tell(churned=image_id)
    raise AssertionError('more images were needed')


def _rebuild(job: Job, tell: Callable[..., None]) -> object:
    """Have every image where it belongs."""
    return len(_started(job).membership.rebuild(work.Job()))


def _drain(job: Job, tell: Callable[..., None]) -> object:
    """Empty a device and have it leave the set."""
    engine = _started(job)
    engine.membership.drain(job['old'])
    left = engine.membership.empty(job['old'], work.Job())
    engine.membership.remove(job['old'])
    return left


def _replace(job: Job, tell: Callable[..., None]) -> object:
    engine = _started(job)
    engine.membership.replace(job['old'], job['new'])
    return len(engine.membership.rebuild(work.Job()))


def _heal(job: Job, tell: Callable[..., None]) -> object:
    """Do one round of the healer."""
    healer = _started(job).healer(lambda status: None)
    return healer.once(threading.Event()).below_copies


JOBS: Jobs = {
    'write': _write, 'delete': _delete, 'repair': _repair,
    'rebuild': _rebuild, 'drain': _drain, 'replace': _replace,
    'heal': _heal, 'initialise': _initialise, 'serve': _serve, 'churn': _churn}


def run(job: Job, messages: int, jobs: Jobs) -> None:
    """Do a job, and be killed.

    :param messages: descriptor to tell what happens to
    """
    def tell(**message: Any) -> None:
        # Short enough to be written as a whole, whichever thread it is.
        os.write(messages, json.dumps(message).encode() + b'\n')

    os.setsid()
    signal.alarm(LIFETIME)
    logging.disable()
    try:
        cut = steps.Cut(**job['cut']) if job.get('cut') else None
        steps.Counter(job['devices'], cut, tell,
                      job.get('brief', False),
                      job.get('elsewhere', ())).install()
        done = jobs[job['kind']](job, tell)
        tell(acknowledged=done)
    except BaseException:
        tell(error=traceback.format_exc()[-3000:])
    finally:
        steps.kill_group()


def main(jobs: Jobs) -> None:
    """Fork a process for each job; end with the standard input."""
    for line in sys.stdin:
        messages, told = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(messages)
            run(json.loads(line), told, jobs)
        os.close(told)
        sys.stdout.write(json.dumps({'pid': pid}) + '\n')
        sys.stdout.flush()
        with open(messages) as lines:
            for message in lines:
                sys.stdout.write(message)
                sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        end = os.waitstatus_to_exitcode(status)
        sys.stdout.write(json.dumps({'end': end}) + '\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main(JOBS)
