"""What users are told when the bytes of an image are refused."""

from __future__ import annotations

from webob import exc

from easystack_image import exceptions


class UnsupportedContent(
        exc.HTTPUnsupportedMediaType):  # type: ignore[misc]
    """415 that says why; WebOb's own speaks of the header Content-Type."""

    body_template_obj = exc.WSGIHTTPException.body_template_obj


_STATUS: list[tuple[type[exceptions.ContentError], type[exc.HTTPError]]] = [
    (exceptions.ContentRefused, UnsupportedContent),
    (exceptions.NoContent, exc.HTTPBadRequest),
    (exceptions.ContentTooLarge, exc.HTTPRequestEntityTooLarge),
    (exceptions.ChecksumMismatch, exc.HTTPBadRequest),
    (exceptions.UrlRefused, exc.HTTPBadRequest),
    (exceptions.DownloadFailed, exc.HTTPBadRequest),
]


def of(error: exceptions.ContentError) -> exc.HTTPError:
    """Return the answer to whoever sent what was refused."""
    kind = next((answer for error_kind, answer in _STATUS
                 if isinstance(error, error_kind)), exc.HTTPBadRequest)
    return kind(explanation=str(error))
