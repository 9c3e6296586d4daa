"""Lists of images as CSV: a filter for Glance's pipeline.

``GET /v2/images`` with ``Accept: text/csv`` answers with all images that the
same request without it would list on all of its pages.  They come from the
application below, a page at a time, and leave as they come: neither memory
nor the time to the first byte grows with their number, and nothing is held
between two pages, least of all a connection to the database.

What is asked below is what a client would ask, for the same user: policies,
visibility and the protection of properties hold as they do in JSON.

It stands right behind ``context``.  There the user is known once and for
all, and a token that expires in the middle of a long list does no harm, as
it does none to a long download.  Whatever else is asked passes by untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import copy
import datetime
import fcntl
import json
import logging
import socket
import struct
import sys
import termios
import time
from typing import Any

from webob import acceptparse

from easystack_image import exceptions
from easystack_image.api import export
from easystack_image.api import paging
from easystack_image.middleware import wsgi

LOG = logging.getLogger(__name__)

#: What versionnegotiation makes of every version.
_PATH = '/v2/images'
_JSON = 'application/json'
#: In the environment of a request: whether an image belongs to the list.  For
#: a filter above that knows what Glance cannot be asked.
KEEP = 'easystack_image.export.keep'
#: Seconds that the client has to read that the list is cut short.
_LAST_ROW = 5


class ExportFilter:
    """Answers requests for lists as CSV, and passes on all others.

    :param app: what stands behind it
    """

    def __init__(self, app: wsgi.Application) -> None:
        self._app = app

    def __call__(self, environ: wsgi.Environ,
                 start_response: wsgi.StartResponse) -> Iterable[bytes]:
        """Answer a request, as PEP 3333 has it."""
        if not _is_for_us(environ):
            return self._app(environ, start_response)
        # In time to answer an error as such: whether the user may list
        # images, and whether the query makes sense.
        query = paging.Query(environ.get('QUERY_STRING', ''))
        answer = _ask(self._app, environ, query.page(0, query.marker))
        if answer.code != 200:
            start_response(answer.status, answer.headers)
            return answer.body
        answer.close()
        name = export.file_name(datetime.datetime.now(datetime.UTC))
        start_response('200 OK', [
            ('Content-Type', export.CONTENT_TYPE),
            ('Content-Disposition', f'attachment; filename="{name}"'),
            ('X-Content-Type-Options', 'nosniff'),
            ('Vary', 'Accept')])
        return _body(_Pages(self._app, environ, paging.Paging(
            query, environ.get(KEEP))), _request_id(environ))


def wanted(accept: str) -> bool:
    """Tell whether a client wants a list as CSV.

    That is: names it, and does not prefer JSON.

    :param accept: the header ``Accept``
    """
    if 'csv' not in accept.lower():
        return False
    # Without parameters: nobody refuses a table for its byte order mark.
    ranges = {media_range.partition(';')[0].lower(): quality
              for media_range, quality, *_ in
              acceptparse.create_accept_header(accept).parsed or []}
    quality = ranges.get(export.MEDIA_TYPE, 0)
    if not quality:
        return False
    if _JSON in ranges:
        return bool(quality > ranges[_JSON])
    return bool(quality >= ranges.get('*/*', 0))


def _is_for_us(environ: wsgi.Environ) -> bool:
    return (environ['REQUEST_METHOD'] == 'GET'
            and environ.get('PATH_INFO') == _PATH
            and wanted(environ.get('HTTP_ACCEPT', '')))


def _ask(app: wsgi.Application, environ: wsgi.Environ,
         query: str) -> wsgi.Answer:
    """Ask for a page, for the user of a request."""
    asked = wsgi.subrequest(environ, _PATH, query)
    asked['HTTP_ACCEPT'] = _JSON
    attributes = asked.get(wsgi.ATTRIBUTES, {})
    if 'context' in attributes:
        # A fresh one: Glance's check of protected properties adds roles to
        # it, for each property of each image.
        context = copy.copy(attributes['context'])
        context.roles = list(context.roles)
        asked[wsgi.ATTRIBUTES] = {**attributes, 'context': context}
    return wsgi.call(app, asked)


class _Pages(Iterator[bytes]):
    """The pages of a list as CSV, each when it is asked for."""

    def __init__(self, app: wsgi.Application, environ: wsgi.Environ,
                 pages: paging.Paging) -> None:
        self._app = app
        self._environ = environ
        self._pages = pages

    def __next__(self) -> bytes:
        """Return the next page.

        :raises easystack_image.exceptions.ListInterrupted: if it cannot be
            had
        """
        if not self._pages.more:
            raise StopIteration
        answer = _ask(self._app, self._environ, self._pages.next_query())
        while answer.code in (400, 404) and self._pages.step_back():
            # A marker that is gone: all else has been asked before, with
            # success.
            answer.close()
            answer = _ask(self._app, self._environ, self._pages.next_query())
        body = answer.read()
        if answer.code != 200:
            raise exceptions.ListInterrupted(
                f'Glance answered {answer.status} to the next page of a '
                f'list: {body[:500].decode(errors="replace")}')
        page = json.loads(body)
        return export.rows(self._pages.take(
            page['images'], len(body), 'next' in page))


def _body(pages: Iterable[bytes], request_id: str) -> Iterator[bytes]:
    """Yield the bytes of a file; see that no half is taken for a whole."""
    yield export.header()
    try:
        yield from pages
    except Exception:
        LOG.exception('A list of images as CSV was cut short, request %s',
                      request_id)
        yield export.cut_short(request_id)
        _break_connection()
        raise


def _request_id(environ: wsgi.Environ) -> str:
    context = wsgi.context_of(environ)
    return getattr(context, 'request_id', None) or 'an unknown request'


def _break_connection() -> None:
    """Have the connection of this request end with a reset, not in order.

    Most servers send an answer of unknown length in chunks, and leave the
    last one out after an exception: the client knows that something is
    missing.  uWSGI closes the connection as it does after a whole answer.
    """
    uwsgi: Any = sys.modules.get('uwsgi')
    if uwsgi is None:
        return
    try:
        with socket.socket(fileno=socket.dup(uwsgi.connection_fd())) as same:
            _wait_until_sent(same)
            # socket(7): no lingering; what is not sent yet is thrown away.
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack('ii', 1, 0))
    except OSError as error:
        LOG.warning('The connection cannot be reset: %s', error)


def _wait_until_sent(connection: socket.socket) -> None:
    """Give the last row a chance to arrive: tcp(7), ``SIOCOUTQ``."""
    deadline = time.monotonic() + _LAST_ROW
    while time.monotonic() < deadline:
        waiting = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
        if not any(waiting):
            return
        time.sleep(0.01)


def factory(global_conf: Mapping[str, str],
            **local_conf: str) -> Callable[[wsgi.Application], ExportFilter]:
    """Return the filter, as paste.deploy wants it."""
    del global_conf, local_conf
    return ExportFilter
