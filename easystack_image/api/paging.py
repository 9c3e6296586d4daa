"""How to go through all of a list of images, page by page.

Pages are asked for as any client of Glance asks: with ``limit``, and with
``marker``, the last image of the page before.  All else of the client's query
is passed on to the letter.

In a list in the order of ``created_at`` (Glance's default) each page is asked
for with a bound to that time as well.  It leaves nothing out, for the marker
says the same and more.  But the marker is a condition that a database works
out for each image there is, and the bound one that it finds in its index: the
time for a page does not grow with the length of the list.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
import datetime
from typing import Any
import urllib.parse

Image = Mapping[str, Any]

#: Images of the first page, so that they come soon.
FIRST = 100
#: Images of a page at most.
MOST = 600
#: How much JSON a page should have, in bytes: with many large properties
#: there are fewer images on it.
BYTES = 5 << 17
#: How many rows Glance should read for a page: one for each pair of a
#: property and a tag of an image (``_image_get_all`` in
#: ``glance/db/sqlalchemy/api.py`` joins them).  Each takes 3 KiB of memory.
ROWS = 8 * MOST
#: What Glance shows of each image, besides its own properties.
_COMMON = 22
#: By how much a page may have more images than the last one.
GROWTH = 4
#: How many images are remembered.
_REMEMBERED = 4 * MOST
_ORDER = 'created_at'


class Query:
    """A client's query: what bounds the list, and all the rest.

    The rest is passed on to the letter, bytes that mean nothing included.
    So is a limit that is none: Glance knows what to say of it.

    :param query_string: as WSGI has it
    """

    def __init__(self, query_string: str) -> None:
        self._rest = [part for part in query_string.split('&') if part]
        self.marker = self._pull('marker')
        limit = self._pull('limit')
        self.limit = _number(limit)
        self._bounded = limit is None or self.limit is not None
        if limit is not None and not self._bounded:
            self._rest.append(f'limit={urllib.parse.quote(limit)}')
        #: The direction of the list in time, ``asc`` or ``desc``; None if
        #: that cannot be used.
        self.direction = self._direction()

    def _pull(self, name: str) -> str | None:
        """Remove the one parameter with a name, and return its value.

        :returns: None if there is none, or if there are several
        """
        found = [part for part in self._rest if _split(part)[0] == name]
        if len(found) != 1:
            return None
        self._rest.remove(found[0])
        return _split(found[0])[1]

    def _direction(self) -> str | None:
        """As ``_get_sorting_params`` in ``glance/api/v2/images.py``."""
        given: dict[str, str] = {}
        for name, value in map(_split, self._rest):
            given.setdefault(name, value)
        first = given.get('sort', '').split(',')[0]
        key, _, direction = (part.strip() for part in first.partition(':'))
        key = key or given.get('sort_key', _ORDER)
        direction = direction or given.get('sort_dir', 'desc')
        if (key != _ORDER or direction not in ('asc', 'desc')
                or _ORDER in given):
            return None
        return direction

    def page(self, size: int, marker: str | None = None,
             created_at: str | None = None) -> str:
        """Return the query for a page.

        :param size: images on it at most
        :param marker: the image before it
        :param created_at: when that was made, if it is known
        """
        pairs = {'limit': str(size)} if self._bounded else {}
        if marker is not None:
            pairs['marker'] = marker
        bound = self._bound(created_at)
        if bound is not None:
            pairs[_ORDER] = bound
        return '&'.join([*self._rest, urllib.parse.urlencode(pairs)])

    def _bound(self, created_at: str | None) -> str | None:
        """Return a filter that all images of a page pass."""
        if self.direction == 'asc':
            return f'gte:{created_at or "1970-01-01T00:00:00Z"}'
        if self.direction == 'desc':
            return f'lte:{_after(created_at)}'
        return None


class Paging:
    """What to ask next, and what of the answer is new.

    :param query: the client's
    :param keep: whether an image belongs to the list; what it leaves out
        does not count for ``limit``
    """

    def __init__(self, query: Query,
                 keep: Callable[[Image], bool] | None = None) -> None:
        self._query = query
        self._keep = keep
        self._left = query.limit
        self._size = FIRST
        #: Whether there may be another page.
        self.more = self._left != 0
        #: Where the list can be gone on with, in its order: the ids and the
        #: times of images.
        self._trail: collections.deque[tuple[str | None, str | None]] = (
            collections.deque([(query.marker, None)], _REMEMBERED))
        self._seen: collections.deque[str] = collections.deque(
            maxlen=_REMEMBERED)
        self._back = 1

    def next_query(self) -> str:
        """Return the query for the next page."""
        return self._query.page(self._page_size(), *self._trail[-1])

    def _page_size(self) -> int:
        # Who picks among the images needs more than are left to be picked.
        if self._left is None or self._keep is not None:
            return self._size
        return min(self._size, self._left)

    def step_back(self) -> bool:
        """Let the next page begin behind an earlier image.

        For a list whose last image was deleted meanwhile, and so is no
        marker any more.  Known images on that page are not listed again.

        :returns: whether there is an earlier one
        """
        if len(self._trail) == 1:
            return False
        for _ in range(min(self._back, len(self._trail) - 1)):
            self._trail.pop()
        self._back *= 2
        return True

    def take(self, images: Sequence[Image], size: int,
             more: bool) -> list[Image]:
        """Return those images of a page that are to be listed.

        :param images: all of the page
        :param size: of the page, in bytes
        :param more: whether there is another one
        """
        self.more = more
        self._back = 1
        self._trail.extend((image['id'], image.get(_ORDER))
                           for image in images)
        if images:
            self._size = max(1, min(
                len(images) * BYTES // size,
                len(images) * ROWS // sum(map(_rows, images)),
                self._size * GROWTH, MOST))
        seen = set(self._seen)
        new = [image for image in images if image['id'] not in seen]
        self._seen.extend(image['id'] for image in new)
        if self._keep is not None:
            new = list(filter(self._keep, new))
        if self._left is not None:
            new = new[:self._left]
            self._left -= len(new)
            self.more = more and self._left > 0
        return new


def _split(part: str) -> tuple[str, str]:
    """Return name and value of a parameter."""
    name, _, value = part.partition('=')
    return urllib.parse.unquote_plus(name), urllib.parse.unquote_plus(value)


def _rows(image: Image) -> int:
    """Return about how many rows Glance reads for an image."""
    return (max(1, len(image) - _COMMON)
            * max(1, len(image.get('tags') or ())))


def _number(text: str | None) -> int | None:
    """Return what Glance takes for a limit as a number; else None."""
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    return number if number >= 0 else None


def _after(created_at: str | None) -> str:
    """Return a time that is not before the one that is shown of an image.

    Of a fraction of a second, which some databases have, nothing is shown.
    """
    try:
        shown = datetime.datetime.fromisoformat(created_at or '')
        later = shown + datetime.timedelta(seconds=1)
    except (ValueError, OverflowError):
        return '9999-12-31T23:59:59Z'
    return later.strftime('%Y-%m-%dT%H:%M:%SZ')
