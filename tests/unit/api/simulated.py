"""A list of images that is paged through as Glance's is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
import urllib.parse

Image = dict[str, Any]


def image(number: int, **properties: Any) -> Image:
    """Return an image; those with higher numbers are younger."""
    hours, rest = divmod(number, 3600)
    return {'id': f'{number:08}-0000-0000-0000-000000000000',
            'name': f'image {number}', 'tags': [],
            'created_at': f'2026-02-{1 + hours // 24:02}T{hours % 24:02}:'
                          f'{rest // 60:02}:{rest % 60:02}Z'} | properties


class Listing:
    """Images, the youngest first as Glance has them.

    :param images: in any order
    :param maximum: Glance's ``api_limit_max``
    """

    def __init__(self, images: Sequence[Image], maximum: int = 1000) -> None:
        self.images = sorted(images, key=_order, reverse=True)
        self.maximum = maximum
        #: The parameters of each page that was asked for.
        self.asked: list[dict[str, str]] = []
        #: Called before each page.
        self.meanwhile: Callable[[Listing], None] = lambda listing: None

    def page(self, query_string: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the record of a page."""
        self.meanwhile(self)
        asked = dict(urllib.parse.parse_qsl(query_string, True))
        self.asked.append(asked)
        limit = asked.get('limit', '25')
        if not limit.isdigit():
            return 400, {'message': 'limit param must be an integer'}
        images = list(self.images)
        if asked.get('sort_dir') == 'asc':
            images.reverse()
        if 'marker' in asked:
            ids = [each['id'] for each in images]
            if asked['marker'] not in ids:
                return 400, {'message': 'No image found'}
            images = images[ids.index(asked['marker']) + 1:]
        images = [each for each in images
                  if _passes(asked.get('created_at', ''), each)]
        size = min(int(limit), self.maximum)
        record: dict[str, Any] = {'images': images[:size]}
        if images[:size] and len(images[:size]) == size:
            record['next'] = '/v2/images?marker=' + images[size - 1]['id']
        return 200, record


def _order(each: Image) -> tuple[str, str]:
    return each['created_at'], each['id']


def _passes(bound: str, each: Image) -> bool:
    operator, _, time = bound.partition(':')
    return {'': True, 'lte': each['created_at'] <= time,
            'gte': each['created_at'] >= time}[operator]
