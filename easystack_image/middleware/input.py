"""The bodies of requests: read once, and there to be read again."""

from __future__ import annotations

import io
from typing import Any

from easystack_image.middleware import bodies
from easystack_image.middleware import wsgi


class TooLarge(Exception):
    """The body of a request is larger than it may be."""


def take(environ: wsgi.Environ, limit: int) -> bytes:
    """Read the body of a request, and put it back in one piece.

    :param limit: bytes that it may have
    :raises TooLarge: if it has more; what is left of it is not read
    :raises ValueError: if its length is no number
    """
    source = bodies.source_of(environ)
    if bodies.in_chunks(environ):
        body = _read(source, limit + 1)
        if len(body) > limit:
            raise TooLarge
    else:
        length = int(environ.get('CONTENT_LENGTH') or 0)
        if length > limit:
            raise TooLarge
        body = _read(source, length)
    environ.pop('HTTP_TRANSFER_ENCODING', None)
    environ['CONTENT_LENGTH'] = str(len(body))
    environ['wsgi.input'] = io.BytesIO(body)
    return body


def _read(source: Any, length: int) -> bytes:
    """Read so many bytes, fewer only if there are no more."""
    pieces = []
    while length > 0:
        piece = source.read(length)
        if not piece:
            break
        pieces.append(piece)
        length -= len(piece)
    return b''.join(pieces)
