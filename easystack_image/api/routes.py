"""Which resource of the image API a path is for.

As ``glance/api/middleware/version_negotiation.py`` and
``glance/api/v2/router.py`` have it.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

#: How a client asks for a version in ``Accept`` instead of the path.
_VERSION_TYPE = 'application/vnd.openstack.images-'
# Routes takes a newline at the end for the end.
_IMAGES = re.compile(r'/images(?:/([^/\n]+)(/file)?)?\n?', re.ASCII)
_VERSIONED = re.compile(r'/*v2(?:\.\d+)?(/.*)', re.ASCII | re.DOTALL)


class Resource(enum.Enum):
    """What a request is about, as far as it matters here."""

    IMAGES = 'images'
    IMAGE = 'image'
    FILE = 'file'
    OTHER = 'other'


class Route(NamedTuple):
    """A resource, and the image that it belongs to."""

    resource: Resource
    #: As it stands in the path; '' without an image.
    image_id: str = ''


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
    return Route(Resource.FILE if match[2] else Resource.IMAGE, match[1])
