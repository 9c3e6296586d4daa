"""The jobs of the updater, which are killed: see :mod:`tests.crash.child`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import tempfile

from easystack_image.ota import home
from easystack_image.ota import settings
from easystack_image.ota.client import updater
from easystack_image.ota.journal import journal
from easystack_image.ota.journal import records
from easystack_image.ota.slots import building
from easystack_image.ota.slots import slots
from tests.crash import child

#: What an upgrade writes in its journal, in turn.
LINES = ('open', 'begin', 'done', 'begin', 'failed', 'close')


def _client(job: child.Job) -> updater.Client:
    return updater.Client(settings.Settings(**job['settings']))


def _check(job: child.Job, tell: Callable[..., None]) -> object:
    following = _client(job).check().next
    return following.version if following else None


def _download(job: child.Job, tell: Callable[..., None]) -> object:
    return str(_client(job).download())


def make_slots(directory: str, uv: str = 'uv') -> slots.Slots:
    """Return the slots in a directory."""
    return slots.Slots(Path(directory), building.Builder(uv, 'python3'))


def _select(job: child.Job, tell: Callable[..., None]) -> object:
    found = make_slots(job['directory'])
    slot = found.get(job['version'])
    if slot is None:
        raise AssertionError(f'{job["version"]} is not there')
    found.select(slot)
    return None


def _collect(job: child.Job, tell: Callable[..., None]) -> object:
    return make_slots(job['directory']).collect(job['keep'])


def _build(job: child.Job, tell: Callable[..., None]) -> object:
    return str(make_slots(job['directory'], job['uv']).build(
        Path(job['archive'])).path)


def _upgrade(job: child.Job, tell: Callable[..., None]) -> object:
    """Write the journal of an upgrade, and tell of each line."""
    with journal.Journal(home.Home(Path(job['home']))).writer() as writer:
        for number in range(len(LINES)):
            add_line(writer, number)
            tell(churned=LINES[number])
    return None


def add_line(writer: journal.Writer, number: int) -> None:
    """Write one of :data:`LINES`."""
    line = LINES[number]
    if line == 'open':
        writer.open(records.Kind.UPGRADE, '1.0.0', '1.1.0')
    elif line == 'close':
        writer.close(records.Outcome.ROLLED_BACK)
    else:
        step = records.Step.STAGE if number < 3 else records.Step.CHECK
        if line == 'failed':
            writer.failed(step, 'it does not import')
        else:
            getattr(writer, line)(step)


JOBS: child.Jobs = {'check': _check, 'download': _download,
                    'select': _select, 'collect': _collect, 'build': _build,
                    'upgrade': _upgrade}

if __name__ == '__main__':
    # It is found out once, by making a file there: not within a job.
    tempfile.gettempdir()
    child.main(JOBS)
