"""Requests that a filter makes of what stands behind it."""

from __future__ import annotations

import webob

from easystack_image.middleware import wsgi

Environ = wsgi.Environ
Application = wsgi.Application


def show_image(app: Application, request: webob.Request,
               image_id: str) -> webob.Response:
    """Ask Glance for an image, for the user of a request.

    Whether there is such an image, and whether that user may see it, is then
    Glance's own answer, to the letter.

    :param app: what stands behind the filter
    :param request: it is left as it is
    :param image_id: as it stands in the path, not encoded once more
    """
    asked = request.copy_get()
    # Not by its property, which would encode once more what is encoded.
    asked.environ['PATH_INFO'] = f'/v2/images/{image_id}'
    asked.query_string = ''
    # There is no body any more, and no part of the image is asked for.
    for name in ('HTTP_TRANSFER_ENCODING', 'HTTP_RANGE'):
        asked.environ.pop(name, None)
    return asked.get_response(app)
