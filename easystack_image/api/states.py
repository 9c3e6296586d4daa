"""In which states an image may be changed or read, and what to say if not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

#: States of an image whose data should be there.
_WITH_DATA = ('active', 'deactivated')


def why_not_modified(image: Mapping[str, Any],
                     allowed: Collection[str]) -> str:
    """Return why the properties of an image may not be changed now.

    :param image: as ``GET /v2/images/{image_id}`` shows it
    :param allowed: the states in which they may; none for all of them
    :returns: '' if they may
    """
    status = str(image.get('status'))
    if not allowed or status in allowed:
        return ''
    return (f'Image {image.get("id")} is {status}: it can be modified only '
            f'while it is {" or ".join(sorted(allowed))}')


def lost_data(image: Mapping[str, Any]) -> str:
    """Return what to say of an image whose data was not found.

    :param image: as ``GET /v2/images/{image_id}`` shows it
    :returns: '' if there is no data to be expected
    """
    if image.get('status') not in _WITH_DATA or not image.get('size'):
        return ''
    return (f'The data of image {image.get("id")} is not found in any of '
            'its stores')
