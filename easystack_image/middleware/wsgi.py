"""Calling an application as a server would (PEP 3333).

For filters that look at an answer before it leaves, or ask something else
first.  Bodies that nobody looks at are handed on as they are: a download
stays a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import io
import itertools
from typing import Any

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
#: Where WebOb keeps what Glance calls ``request.context``.
ATTRIBUTES = 'webob.adhoc_attrs'


class Answer:
    """What an application answered.

    :param status: such as ``200 OK``
    :param headers: of the answer, in order
    :param body: not begun yet
    """

    __slots__ = ('body', 'headers', 'status')

    def __init__(self, status: str, headers: Headers,
                 body: Iterable[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def code(self) -> int:
        """The status as a number."""
        return int(self.status[:3])

    def header(self, name: str) -> str:
        """Return the first header of this name, '' if there is none.

        :param name: in lower case
        """
        for each, value in self.headers:
            if each.lower() == name:
                return value
        return ''

    def read(self, limit: int | None = None) -> bytes:
        """Return the body, and close it.

        :param limit: bytes after which it may be cut off
        """
        pieces = []
        length = 0
        try:
            for piece in self.body:
                pieces.append(piece)
                length += len(piece)
                if limit is not None and length >= limit:
                    break
        finally:
            self.close()
        return b''.join(pieces)

    def close(self) -> None:
        """Let the application know that its body is not wanted any more."""
        close = getattr(self.body, 'close', None)
        if close is not None:
            close()

    def replace(self, body: bytes, content_type: str = '') -> None:
        """Give it another body, which must be closed already.

        :param content_type: if it is another one as well
        """
        gone = {'content-length', 'content-encoding'}
        if content_type:
            gone.add('content-type')
        self.headers = [(name, value) for name, value in self.headers
                        if name.lower() not in gone]
        if content_type:
            self.headers.append(('Content-Type', content_type))
        self.headers.append(('Content-Length', str(len(body))))
        self.body = [body]


class _Resumed:
    """A body whose beginning had to be read already."""

    def __init__(self, begun: list[bytes], rest: Iterator[bytes],
                 body: Iterable[bytes]) -> None:
        self._pieces = itertools.chain(begun, rest)
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        close = getattr(self._body, 'close', None)
        if close is not None:
            close()


def call(app: Application, environ: Environ) -> Answer:
    """Return what an application answers, its body unread.

    :raises Exception: whatever the application lets escape
    """
    begun: list[bytes] = []
    started: list[tuple[str, Headers]] = []

    def start_response(status: str, headers: Headers,
                       exc_info: Any = None) -> Callable[[bytes], Any]:
        # Nothing has left yet, so whoever thinks better of it may do so.
        del exc_info
        started[:] = [(status, list(headers))]
        return begun.append

    body = app(environ, start_response)
    if started and not begun:
        return Answer(*started[0], body)
    # It may start as late as with the first piece of its body.
    pieces = iter(body)
    while not started:
        begun.append(next(pieces))
    return Answer(*started[0], _Resumed(begun, pieces, body))


def subrequest(environ: Environ, path: str, query_string: str = '',
               ) -> Environ:
    """Return a request to look at something else, for the same user.

    :param environ: of the request at hand, not yet passed on to anybody;
        its body is left alone
    :param path: ``PATH_INFO`` of the new one
    """
    asked = environ.copy()
    for name in ('CONTENT_TYPE', 'HTTP_TRANSFER_ENCODING', 'HTTP_RANGE',
                 'HTTP_CONTENT_RANGE', 'HTTP_CONTENT_LENGTH',
                 'HTTP_CONTENT_TYPE', 'HTTP_EXPECT'):
        asked.pop(name, None)
    asked.update({'REQUEST_METHOD': 'GET', 'PATH_INFO': path,
                  'QUERY_STRING': query_string, 'CONTENT_LENGTH': '0',
                  'wsgi.input': io.BytesIO()})
    return asked


def context_of(environ: Environ) -> Any:
    """Return the context of a request, or None.

    :param environ: what the filter ``context`` of Glance was given
    """
    return environ.get(ATTRIBUTES, {}).get('context')
