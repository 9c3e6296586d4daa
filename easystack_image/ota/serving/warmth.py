"""Requests that a worker makes of itself before it serves any other.

The first request of a fresh process reads policy files, opens a connection
to the database and imports what nobody imported before.  Users should not
wait for that.  Whoever controls the instance writes the requests into a file;
each worker that waits at the gate makes them of its own application, and
writes down what came of it (:mod:`easystack_image.ota.serving.warming`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from easystack_image.ota.serving import layout

#: In a path: the image that was made by the last ``POST`` before.
IMAGE = '{image}'
#: The most bytes of results that are read.
_LIMIT = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request, with a token perhaps: it is kept in a file with mode 0600.

    :param path: with its query string, and perhaps :data:`IMAGE`: without an
        image, the request is left out then
    :param body: what is sent, as text
    :param size: how many bytes of data are sent, if there is no body
    """

    path: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    method: str = 'GET'
    body: str = ''
    size: int = 0

    @property
    def name(self) -> str:
        """What operators are told."""
        return f'{self.method} {self.path}'

    @property
    def alone(self) -> bool:
        """Whether it needs nothing before it, and changes nothing."""
        return self.method == 'GET' and IMAGE not in self.path


@dataclasses.dataclass(frozen=True, slots=True)
class Results:
    """What came of the requests of one worker the first time.

    :param process: which has made them
    :param answers: the request, and its status line, what the application
        raised, or None if it was left out
    """

    process: int
    answers: Sequence[tuple[str, str | None]]

    @property
    def statuses(self) -> list[str | None]:
        """What came of each."""
        return [status for _, status in self.answers]


def ask(place: layout.Place, requests: Sequence[Request],
        rounds: int = 1) -> None:
    """Have all workers that wait at the gate make requests.

    :param rounds: how often each makes all of them, one after the other
    :raises OSError: if the file cannot be written
    """
    text = json.dumps({'rounds': rounds, 'requests': [
        dataclasses.asdict(each) for each in requests]})
    layout.write(place.warm, text)


def forget(place: layout.Place) -> None:
    """Remove the requests, and the tokens in them."""
    place.warm.unlink(missing_ok=True)


def results(place: layout.Place) -> dict[int, Results]:
    """Return what came of the requests, by worker.

    A worker that has not made them all yet is not in it, or still with what
    a process before it has made.
    """
    found: dict[int, Results] = {}
    for worker, fd in place.of_workers(layout.WARM):
        try:
            found[worker] = _results(json.loads(os.pread(fd, _LIMIT, 0)))
        except (ValueError, LookupError, TypeError, RecursionError):
            # Its file is the service's, and may be anything.
            continue
    return found


def _results(told: Any) -> Results:
    process, answers = told['process'], told['answers']
    if not isinstance(process, int):
        raise TypeError(f'no process: {process!r}')
    return Results(process, tuple(
        (str(request), answer if answer is None else str(answer))
        for request, answer in answers))


def read(text: bytes) -> tuple[list[Request], int]:
    """Return the requests that were asked for, and how many rounds."""
    asked = json.loads(text)
    return [Request(**each) for each in asked['requests']], asked['rounds']


def write_results(place: layout.Place, worker: int,
                  found: Results) -> None:
    """Write down what came of the requests."""
    temporary = Path(f'{place.warm}.new.{worker}')
    temporary.write_text(json.dumps(dataclasses.asdict(found)))
    temporary.rename(f'{place.warm}.{worker}')
