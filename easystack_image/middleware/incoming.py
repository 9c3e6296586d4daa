"""Image data that a client sends: ``PUT …/file`` and ``PUT …/stage``.

What can be judged by the beginning is refused before Glance hears of the
request, so the image stays ``queued`` and nothing has to be cleaned up.  What
shows only later (more bytes than allowed, a wrong checksum) is an error of
the body while Glance reads it.  It is one of WebOb's: for those, Glance
restores the image and lets the store delete what it had written
(``glance/api/v2/image_data.py``, ``upload`` and ``stage``).
"""

from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Any

import webob
from webob import exc

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.content import rules as rules_module
from easystack_image.content import stream as stream_module
from easystack_image.middleware import answers
from easystack_image.middleware import asking
from easystack_image.middleware import bodies

LOG = logging.getLogger(__name__)

_TYPE = 'application/octet-stream'


class Body:
    """A judged stream as the body of a request to Glance.

    When Glance first reads it, the image is no longer ``queued``, so what it
    declares can no longer change; whoever changed it between our look and
    Glance's is found out then.

    :param stream: what it is read from
    :param declares: returns what the image declares now
    :param judged: what it was judged by, None if it was not yet
    """

    def __init__(self, stream: stream_module.Stream,
                 declares: Callable[[], declaration.Declaration],
                 judged: declaration.Declaration | None) -> None:
        self._stream = stream
        self._declares = declares
        self._judged = judged
        self._checked = False
        #: Why it was refused, once it was.
        self.error: exceptions.ContentError | None = None

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        :raises webob.exc.HTTPError: if the image is refused
        """
        try:
            if self.error:
                raise self.error
            if not self._checked:
                self._check()
            return self._stream.read(size)
        except exceptions.ContentError as error:
            self.error = error
            raise answers.of(error) from error

    def _check(self) -> None:
        declared = self._declares()
        if self._judged is None:
            self._stream.look()
        if declared != self._judged:
            self._stream.judge(declared)
        self._checked = True


class Uploads:
    """Judges image data that clients send.

    :param app: what stands behind the filter
    :param rules: which images are let in
    :param drain_size: how much of a refused body is still read, in bytes
    :param drain_time: for how long, in seconds
    """

    def __init__(self, app: asking.Application, rules: rules_module.Rules,
                 drain_size: int, drain_time: float) -> None:
        self._app = app
        self._glance = asking.Glance(app)
        self._rules = rules
        self._drain_size = drain_size
        self._drain_time = drain_time

    def __call__(self, environ: asking.Environ, image_id: str,
                 what: str) -> webob.Response | None:
        """Return the answer, or None to pass the request on as it is.

        :param what: ``file`` or ``stage``
        """
        request = webob.Request(environ)
        if request.content_type != _TYPE:
            # Glance refuses it.
            return None
        source = bodies.source_of(environ)
        stream = stream_module.Stream(source, self._rules,
                                      bodies.length_of(environ))
        shown = self._glance.show(environ, image_id)
        image = shown.json_body if shown.status_int == 200 else {}
        judged = None
        if image.get('status') == 'queued':
            try:
                judged = self._judge(stream, image)
            except exceptions.ContentError as error:
                return self._refuse(environ, image_id, source, error)
        body = Body(stream, lambda: self.declared(environ, image_id), judged)
        bodies.replace(environ, body)
        answer = request.get_response(self._app)
        if body.error:
            return self._refuse(environ, image_id, source, body.error)
        # Whoever makes an image of a server or of a volume copies what the
        # image had, and the checksum would be that of other data.
        over = {declaration.ERROR} | (
            {declaration.EXPECTED_HASH} if what == 'file' else set())
        if answer.status_int == 204 and over.intersection(image):
            self._glance.set_properties(environ, image_id,
                                        **dict.fromkeys(over))
        return answer

    def _judge(self, stream: stream_module.Stream,
               image: dict[str, Any]) -> declaration.Declaration:
        declared = declaration.of_image(image)
        self._rules.check_declared(declared)
        try:
            stream.look()
        except OSError as error:
            raise exceptions.DownloadFailed(
                'The body of the request broke off') from error
        stream.judge(declared)
        return declared

    def declared(self, environ: asking.Environ,
                 image_id: str) -> declaration.Declaration:
        """Return what an image declares now.

        :raises easystack_image.exceptions.ContentRefused: if that cannot be
            found out
        """
        shown = self._glance.show(environ, image_id)
        if shown.status_int != 200:
            raise exceptions.ContentRefused(
                f'Image {image_id} cannot be judged: Glance answers '
                f'{shown.status}')
        return declaration.of_image(shown.json_body)

    def _refuse(self, environ: asking.Environ, image_id: str, source: Any,
                error: exceptions.ContentError) -> webob.Response:
        LOG.warning('Image %(image)s: data refused: %(error)s',
                    {'image': image_id, 'error': error})
        # First, because a client that is cut off may look there.
        self._glance.set_properties(environ, image_id,
                                    **{declaration.ERROR: str(error)})
        # Of a body that is far too long, nobody should wait for more.
        if (bodies.length_of(environ) or 0) <= self._drain_size:
            bodies.drain(source, self._drain_size, self._drain_time)
        answer: exc.HTTPError = answers.of(error)
        return answer


