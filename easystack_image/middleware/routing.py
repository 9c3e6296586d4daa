"""Requests that Glance would take for others than they look like.

Routes, by which Glance finds what a request is about, overlooks a newline at
the end of a path, and lets a parameter ``_method`` stand for the method.
Filters that look at path and method must not be passed by like that.
``easystack_api`` refuses such requests as well; but each filter works alone.
"""

from __future__ import annotations

from typing import Any

from webob import exc

from easystack_image import exceptions
from easystack_image.api import query
from easystack_image.api import routes


def refusal(environ: dict[str, Any]) -> exc.HTTPException | None:
    """Return what to answer to a request that is not what it looks like.

    :returns: None for all others
    """
    try:
        routes.check_path(environ.get('PATH_INFO', ''))
        query.check_method(environ.get('QUERY_STRING', ''))
    except exceptions.InvalidRequest as error:
        # Knows by itself whether the client wants JSON or HTML.
        return exc.HTTPBadRequest(explanation=str(error))
    return None
