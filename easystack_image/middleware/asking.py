"""Requests that a filter makes of Glance, for the user whose request it has.

They go to what stands behind the filter, within the same process; so Glance
applies its own policy, and an error is Glance's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import logging
import sys
from typing import Any

import webob

from easystack_image.middleware import wsgi

LOG = logging.getLogger(__name__)

Environ = wsgi.Environ
Application = wsgi.Application

_PATCH = 'application/openstack-images-v2.1-json-patch'
#: What belongs to one request only.
_DROPPED = ('HTTP_IF_MATCH', 'HTTP_IF_NONE_MATCH',
            'HTTP_X_OPENSTACK_IMAGE_SIZE', 'webob._body_file',
            'webob._parsed_query_vars', 'webob.is_body_seekable',
            'wsgi.input_terminated')


def blank(environ: Environ, method: str, path: str) -> webob.Request:
    """Return a request of the same user, without a body.

    It outlives the request that it is made from.

    :param path: below the application, not encoded
    """
    asked = {name: value for name, value in wsgi.subrequest(
        environ, path).items()
        if name not in _DROPPED and not name.startswith('uwsgi.')}
    asked['wsgi.errors'] = sys.stderr
    asked['REQUEST_METHOD'] = method
    asked['HTTP_ACCEPT'] = 'application/json'
    return webob.Request(asked)


class Glance:
    """The application behind the filter.

    :param app: the application
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    def send(self, request: webob.Request) -> webob.Response:
        """Return Glance's answer, whatever it is."""
        return request.get_response(self._app)

    def show(self, environ: Environ, image_id: str) -> webob.Response:
        """Ask for the record of an image."""
        return self.send(blank(environ, 'GET', f'/v2/images/{image_id}'))

    def post(self, environ: Environ, path: str,
             body: Mapping[str, Any]) -> webob.Response:
        """Send a request with a body of JSON."""
        request = blank(environ, 'POST', path)
        request.content_type = 'application/json'
        request.body = json.dumps(body).encode()
        return self.send(request)

    def patch(self, environ: Environ, image_id: str,
              changes: Sequence[Mapping[str, Any]]) -> webob.Response:
        """Change the record of an image."""
        request = blank(environ, 'PATCH', f'/v2/images/{image_id}')
        request.content_type = _PATCH
        request.body = json.dumps(changes).encode()
        return self.send(request)

    def refusal(self, environ: Environ,
                image: Mapping[str, Any]) -> webob.Response | None:
        """Return Glance's answer to whoever may not change an image.

        It is asked for a change that changes nothing.

        :returns: None if he may
        """
        answer = self.patch(environ, image['id'], [
            {'op': 'replace', 'path': '/min_disk',
             'value': image['min_disk']}])
        return None if answer.status_int == 200 else answer

    def set_properties(self, environ: Environ, image_id: str,
                       **properties: str | None) -> bool:
        """Set properties of an image, and remove those that are None.

        Nobody's request fails because this does; the log tells of it.

        :returns: whether it was done
        """
        shown = self.show(environ, image_id)
        if shown.status_int != 200:
            return False
        image = shown.json_body
        changes: list[dict[str, Any]] = []
        for name, value in properties.items():
            if value is not None:
                changes.append({'op': 'add', 'path': f'/{name}',
                                'value': value})
            elif name in image:
                changes.append({'op': 'remove', 'path': f'/{name}'})
        if not changes:
            return True
        answer = self.patch(environ, image_id, changes)
        if answer.status_int != 200:
            LOG.warning('Image %(image)s: properties %(names)s could not be '
                        'set: %(status)s',
                        {'image': image_id, 'names': ', '.join(properties),
                         'status': answer.status})
        return bool(answer.status_int == 200)

    def beginning(self, environ: Environ, image_id: str,
                  size: int) -> tuple[webob.Response, bytes]:
        """Ask for the data of an image, and take the first of them.

        Not by a range: not every store can read one.

        :param size: how many bytes
        :returns: the answer, without a body, and the bytes
        """
        request = blank(environ, 'GET', f'/v2/images/{image_id}/file')
        answer = request.get_response(self._app)
        pieces, length = [], 0
        body = answer.app_iter
        try:
            for piece in body:
                pieces.append(piece)
                length += len(piece)
                if length >= size:
                    break
        finally:
            close = getattr(body, 'close', None)
            if close is not None:
                close()
        return answer, b''.join(pieces)[:size]
