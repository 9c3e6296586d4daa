"""Which resource of the image API a path is for.

As ``glance/api/middleware/version_negotiation.py`` and
``glance/api/v2/router.py`` have it.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from easystack_image import exceptions

#: How a client asks for a version in ``Accept`` instead of the path.
_VERSION_TYPE = 'application/vnd.openstack.images-'
_IMAGES = re.compile(r'/images(?:/([^/]+)(/file|/import)?)?',
                     re.ASCII)
_VERSIONED = re.compile(r'/*v2(?:\.\d+)?(/.*)', re.ASCII | re.DOTALL)


class Resource(enum.Enum):
    """What a request is about, as far as it matters here."""

    IMAGES = 'images'
    IMAGE = ''
    FILE = '/file'
    IMPORT = '/import'
    OTHER = 'other'


class Route(NamedTuple):
    """A resource, and the image that it belongs to."""

    resource: Resource
    #: As it stands in the path; '' without an image.
    image_id: str = ''


#: Where the bytes of images are sent to.
_UPLOAD = re.compile(r'.*/images/[^/]+/(?:file|stage)/?', re.DOTALL)
_CONTROL = re.compile(r'[\x00-\x1f\x7f]')

OTHER = Route(Resource.OTHER)
_LIST = Route(Resource.IMAGES)


def find(path: str, accept: str = '') -> Route:
    """Return what a request is about.

    :param path: ``PATH_INFO``
    :param accept: the header ``Accept``
    """
    if '/images' not in path:
        return OTHER
    if not accept.startswith(_VERSION_TYPE):
        versioned = _VERSIONED.fullmatch(path)
        if versioned is None:
            return OTHER
        path = versioned[1]
    match = _IMAGES.fullmatch(path)
    if match is None:
        return OTHER
    if match[1] is None:
        return _LIST
    return Route(Resource(match[2] or ''), match[1])


def is_upload(method: str, path: str) -> bool:
    """Tell whether the body of a request is the data of an image."""
    return method == 'PUT' and _UPLOAD.fullmatch(path) is not None


def check_path(path: str) -> None:
    """See that Glance can read a path.

    :param path: ``PATH_INFO``
    :raises easystack_image.exceptions.InvalidRequest: if it cannot, or would
        take it for another one: Routes overlooks a newline at the end
    """
    if not path.isascii():
        try:
            path.encode('latin-1').decode()
        except UnicodeError:
            raise exceptions.InvalidRequest(
                'The path of the URL is not in UTF-8') from None
    if _CONTROL.search(path):
        raise exceptions.InvalidRequest(
            'The path of the URL has control characters')
