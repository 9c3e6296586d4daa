"""Lists of images that are more than one answer of Glance."""

from __future__ import annotations

import json
from typing import Any

from easystack_image.api import query
from easystack_image.middleware import wsgi

#: How many pages to look through before a page that is not full is good
#: enough, if it is not empty either.
_PATIENCE = 20
#: Glance's own default for the most that a page may have.
_LARGEST = 1000


def dump(answer: wsgi.Answer, record: Any) -> None:
    """Make a record the body of an answer, written as Glance writes it."""
    answer.replace(json.dumps(record, ensure_ascii=False).encode())


def rewrite(answer: wsgi.Answer, asked: query.ListQuery) -> wsgi.Answer:
    """Give a page of Glance's the links that the client understands."""
    if answer.code != 200:
        return answer
    page = json.loads(answer.read())
    page['first'] = asked.link()
    if 'next' in page:
        page['next'] = asked.link(page['images'][-1]['id'])
    dump(answer, page)
    return answer


def pick(app: wsgi.Application, environ: wsgi.Environ,
         asked: query.ListQuery) -> wsgi.Answer:
    """Return a page of those images that Glance cannot be asked for.

    Its pages are looked through until there are enough.  The marker of the
    next page is an image like any other, so nothing is lost or shown twice
    in between.

    :param environ: of the request, not yet passed on to anybody
    :returns: Glance's own answer, where that is no list
    """
    pairs = list(asked.asked)
    kept: list[Any] = []
    wanted: int | None = None
    size = 0
    for seen in range(1, 1 << 31):
        answer = wsgi.call(app, wsgi.subrequest(
            environ, environ['PATH_INFO'], query.encode(pairs)))
        if answer.code != 200:
            return answer
        page = json.loads(answer.read())
        images = page['images']
        more = 'next' in page
        if seen == 1:
            # Glance allows no more than this at once.
            wanted = len(images) if more else None
        marker = _fill(kept, images, asked, wanted)
        full = wanted is not None and len(kept) >= wanted
        if not more or full or (seen >= _PATIENCE and kept):
            break
        size = min(_LARGEST, max(2 * size, 100))
        pairs = [(name, value) for name, value in asked.asked
                 if name not in ('limit', 'marker')]
        pairs += [('limit', str(size)), ('marker', marker)]
    page['images'] = kept
    page.pop('next', None)
    if more or (images and images[-1]['id'] != marker):
        page['next'] = asked.link(marker)
    page['first'] = asked.link()
    dump(answer, page)
    return answer


def _fill(kept: list[Any], images: list[Any], asked: query.ListQuery,
          wanted: int | None) -> str:
    """Take what belongs to the list out of a page.

    :param wanted: how many there may be in all; None for any number
    :returns: the image that was looked at last
    """
    marker = ''
    for image in images:
        marker = image['id']
        if asked.wants(image):
            kept.append(image)
            if wanted is not None and len(kept) >= wanted:
                break
    return marker
