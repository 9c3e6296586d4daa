"""Bodies of requests, before Glance reads them.

Under uWSGI, Glance reads a body that comes in chunks past ``wsgi.input``
(``glance/common/wsgi.py``, ``Request.body_file``), so what stands in its way
has to read it the same way, and hand it on as one that is not in chunks.
"""

from __future__ import annotations

import time
from typing import Any

try:
    import uwsgi
except ImportError:
    # Another server, which takes chunks apart by itself.
    uwsgi = None

_PIECE = 1 << 20


def source_of(environ: dict[str, Any]) -> Any:
    """Return what the body of a request can be read from."""
    if uwsgi is not None and in_chunks(environ):
        return _Chunks()
    return environ['wsgi.input']


def in_chunks(environ: dict[str, Any]) -> bool:
    """Tell whether the length of the body is not known before its end."""
    encoding = environ.get('HTTP_TRANSFER_ENCODING', '')
    return bool(encoding.strip().lower() == 'chunked')


def length_of(environ: dict[str, Any]) -> int | None:
    """Return how many bytes the body has, None if that is not known."""
    text = environ.get('CONTENT_LENGTH') or ''
    return int(text) if text.isdigit() and not in_chunks(environ) else None


def replace(environ: dict[str, Any], source: Any) -> None:
    """Let the body of a request be read from another source."""
    environ['wsgi.input'] = source
    environ.pop('webob._body_file', None)
    environ['webob.is_body_seekable'] = False
    environ['wsgi.input_terminated'] = True
    if in_chunks(environ):
        # One that Glance knows, and takes for a readable body.
        environ['HTTP_TRANSFER_ENCODING'] = 'identity'


def drain(source: Any, size: int, seconds: float) -> None:
    """Read on, and forget what is read.

    :param size: how many bytes at most
    :param seconds: for how long at most, but for the last read
    """
    deadline = time.monotonic() + seconds
    try:
        while size > 0 and time.monotonic() < deadline:
            piece = source.read(min(size, _PIECE))
            if not piece:
                return
            size -= len(piece)
    except OSError:
        # The client has gone, or sends no more: nobody waits for an answer.
        return


class _Chunks:
    """A body in chunks, as uWSGI hands it out."""

    def __init__(self) -> None:
        self._rest = b''
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes as asked for, fewer at the end."""
        pieces, length = [self._rest], len(self._rest)
        while not self._ended and (size < 0 or length < size):
            piece = uwsgi.chunked_read()
            if not piece:
                self._ended = True
            pieces.append(piece)
            length += len(piece)
        data = b''.join(pieces)
        if size < 0:
            size = length
        self._rest = data[size:]
        return data[:size]
