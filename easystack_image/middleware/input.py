"""The bodies of requests: read once, and there to be read again."""

from __future__ import annotations

import io
import json
from typing import Any

from webob import exc

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


def take_json(environ: wsgi.Environ, limit: int) -> Any:
    """Read a body of JSON, and put back the very bytes that were read.

    Glance gets what was judged, and nothing that might still be on the wire.

    :param limit: bytes that it may have
    :returns: None if it is none: Glance refuses it
    :raises webob.exc.HTTPError: if it is too large, too deep, or of no length
    """
    try:
        body = take(environ, limit)
    except TooLarge as error:
        raise exc.HTTPRequestEntityTooLarge(
            explanation='The body of this request must have at most '
                        f'{limit} bytes: it holds no image data.') from error
    except ValueError as error:
        raise exc.HTTPBadRequest(
            explanation='The header Content-Length is no number') from error
    # As WebOb keeps it beside the environment of WSGI.
    environ.pop('webob._body_file', None)
    environ['webob.is_body_seekable'] = True
    try:
        return json.loads(body)
    except ValueError:
        return None
    except RecursionError as error:
        # Glance fails at it.
        raise exc.HTTPBadRequest(
            explanation='The JSON is nested too deeply') from error


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
