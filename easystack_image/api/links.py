"""Links of an image, as Nova showed them with images and shows with servers.

``self`` with the version of the API, ``bookmark`` without one, for clients
that keep it longer than a version lives; ``alternate`` is where the image
service has it.
"""

from __future__ import annotations

from typing import Any

MEDIA_TYPE = 'application/vnd.openstack.image'


def of(base: str, image_id: str) -> list[dict[str, str]]:
    """Return the links of an image.

    :param base: the URL of the image service, without its version
    """
    base = base.rstrip('/')
    bookmark = f'{base}/images/{image_id}'
    return [{'rel': 'self', 'href': f'{base}/v2/images/{image_id}'},
            {'rel': 'bookmark', 'href': bookmark},
            {'rel': 'alternate', 'href': bookmark, 'type': MEDIA_TYPE}]


def add(image: dict[str, Any], base: str) -> None:
    """Put the links into an image, as Glance shows it."""
    image['links'] = of(base, image['id'])
