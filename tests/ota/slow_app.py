"""A WSGI application that takes its time, and tells who answers.

``GET /?SECONDS`` answers after a while, ``GET /many`` with more than sockets
take at once; anything with a body is read to its end, and answered with the
number of its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import os
import time
from typing import Any

BLOCK = 1 << 16
#: Bytes of a long answer.
MANY = 32 << 20


def application(environ: dict[str, Any],
                start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request."""
    size = 0
    while part := environ['wsgi.input'].read(BLOCK):
        size += len(part)
    time.sleep(float(environ['QUERY_STRING'] or 0))
    instance = os.path.basename(os.environ['EASYSTACK_OTA_INSTANCE'])
    start_response('200 OK', [('Content-Type', 'text/plain'),
                              ('X-Instance', instance)])
    if environ['PATH_INFO'] == '/many':
        return [bytes(MANY)]
    return [str(size).encode()]
