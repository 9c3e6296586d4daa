"""Tags in the path of a request, in UTF-8 as everywhere else.

Routes, by which Glance finds what a request is about, hands on what stands in
a path as WSGI has it, a character for each byte (PEP 3333).  A tag that is
not ASCII would be stored as another one (``PUT
/v2/images/{image_id}/tags/{tag}``), and not be found (``DELETE``).

This stands right before Routes: whoever else looks at a path does so through
WebOb, which wants it as WSGI has it.
"""

from __future__ import annotations

from collections.abc import Iterable
import re

from easystack_image.middleware import wsgi

#: Behind the version, which Glance's root application takes away.
_TAG = re.compile(r'/images/[^/]+/tags/[^/]+', re.DOTALL)


class Tags:
    """Glance's application, told of tags as they are.

    :param app: the application; what it does with a tag must not ask WebOb
        for the path
    """

    def __init__(self, app: wsgi.Application) -> None:
        self._app = app

    def __call__(self, environ: wsgi.Environ,
                 start_response: wsgi.StartResponse) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        path = environ.get('PATH_INFO', '')
        if not path.isascii() and _TAG.fullmatch(path):
            environ = environ | {'PATH_INFO': _decoded(path)}
        return self._app(environ, start_response)


def _decoded(path: str) -> str:
    """Return a path as text, or as it is if it is none."""
    try:
        return path.encode('latin-1').decode()
    except UnicodeError:
        return path
