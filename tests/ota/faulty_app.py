"""Glance, with a fault in front: what a bad release would do.

Which one stands in the file that ``EASYSTACK_TEST_FAULT`` names, if it is
there; it counts from the next request on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import os
from pathlib import Path
from typing import Any

from glance.wsgi import api

FAULT = Path(os.environ['EASYSTACK_TEST_FAULT'])
REFUSED = [('Content-Type', 'text/plain')]


def application(environ: dict[str, Any],
                start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request, or spoil the answer."""
    fault = FAULT.read_text() if FAULT.exists() else ''
    method, path = environ['REQUEST_METHOD'], environ['PATH_INFO']
    is_data = path.endswith('/file')
    if fault == 'upload' and is_data and method == 'PUT':
        start_response('503 Service Unavailable', REFUSED)
        return [b'no room']
    if fault == 'delete' and method == 'DELETE':
        start_response('403 Forbidden', REFUSED)
        return [b'not today']
    answer: Iterable[bytes] = api.application(environ, start_response)
    if fault in ('corrupt', 'short') and is_data and method == 'GET':
        return _spoilt(answer, fault)
    return answer


def _spoilt(pieces: Iterable[bytes], fault: str) -> Iterator[bytes]:
    """Yield other bytes, or fewer, than there are."""
    for piece in pieces:
        yield bytes(len(piece)) if fault == 'corrupt' else piece[:-1]
