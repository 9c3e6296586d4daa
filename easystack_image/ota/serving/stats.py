"""What uWSGI says of an instance."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
from pathlib import Path
import socket
import time
from typing import Any

from easystack_image import exceptions
from easystack_image.ota.serving import deadline

#: Far more than the workers of one host have to tell, in bytes.
_LIMIT = 16 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """One worker process, as its master knows it.

    :param number: from 1 on
    :param pid: 0 while there is none
    :param accepting: whether it has loaded the application, and takes
        requests
    :param busy: how many requests it is at
    :param requests: how many it has begun
    :param threads: how many it can be at
    """

    number: int
    pid: int
    accepting: bool
    busy: int
    requests: int
    threads: int = 1


def read(path: Path, timeout: float) -> list[Worker]:
    """Return the workers of an instance.

    :param path: the socket of its statistics
    :param timeout: seconds for all of it
    :raises InstanceError: if the master does not answer, or not sensibly
    """
    try:
        with deadline.Connection(path, time.monotonic()
                                 + timeout) as connection:
            text = _read_all(connection)
        return [_worker(each) for each in json.loads(text)['workers']]
    except OSError as error:
        raise exceptions.InstanceError(
            f'uWSGI does not answer at {path}: {error}') from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise exceptions.InstanceError(
            f'uWSGI answers strangely at {path}: {error!r}') from error


def _read_all(connection: socket.socket) -> bytes:
    parts = []
    size = 0
    while part := connection.recv(1 << 16):
        size += len(part)
        if size > _LIMIT:
            raise ValueError(f'more than {_LIMIT} bytes')
        parts.append(part)
    return b''.join(parts)


def _worker(record: Mapping[str, Any]) -> Worker:
    return Worker(
        number=record['id'], pid=record['pid'],
        accepting=bool(record['accepting']),
        busy=sum(core['in_request'] for core in record['cores']),
        requests=record['requests'], threads=len(record['cores']))
