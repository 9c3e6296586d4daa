"""The parameters of a list of images, in everybody's spelling.

The manual's (``changes-since``, ``sort-key``, ``type`` …) are those of the
image API that Nova once had; Glance's own go on to work.  What is asked of
Glance is in Glance's words; what the client gets back is in its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Any
import urllib.parse

from easystack_image import exceptions
from easystack_image.api import filters

Pairs = Sequence[tuple[str, str]]

PATH = '/v2/images'
#: Values of ``type`` that are values of the property ``image_type``; all
#: other images are of the type ``image``.
SPECIAL_TYPES = ('snapshot', 'backup')
ANY_OTHER_TYPE = 'image'
#: How many properties and tags may be asked for at once: each is a join for
#: the database, and 61 tables are the most that MariaDB can join.
MAX_JOINS = 16

_SPELLINGS = {'sort-key': 'sort_key', 'sort-dir': 'sort_dir',
              'changes_since': 'changes-since'}
_SORTING = {'sort_key': filters.SORT_KEYS, 'sort_dir': filters.SORT_DIRS}
#: What Glance takes several of.
_REPEATABLE = ('sort_key', 'sort_dir', 'tag')
#: What is no filter, nor any image's property.
_OTHERS = ('changes-since', 'limit', 'marker', 'sort', 'sort_dir', 'sort_key')
_MAX_LIMIT = 2**31 - 1
_BEYOND_UTF8MB3 = re.compile('[\0\U00010000-\U0010ffff]')


@dataclasses.dataclass(frozen=True, slots=True)
class ListQuery:
    """What is asked for in a list, understood."""

    #: The client's own words.
    given: Pairs
    #: The same in Glance's.
    asked: Pairs
    #: Whether snapshots and backups are to be left out, which Glance cannot.
    only_images: bool = False
    #: How many images at most; None for as many as Glance likes.
    limit: int | None = None

    def wants(self, image: Mapping[str, Any]) -> bool:
        """Tell whether an image that Glance lists belongs to the list."""
        return not (self.only_images
                    and image.get('image_type') in SPECIAL_TYPES)

    @property
    def plain(self) -> bool:
        """Whether Glance's own answer is right as it is, with its links."""
        names = {name for name, _ in self.given}
        return (not self.only_images and list(self.given) == list(self.asked)
                and len(names) == len(self.given))

    def link(self, marker: str = '') -> str:
        """Return a link to the list, in the client's words.

        :param marker: the image that the page begins behind
        """
        pairs = [(name, value) for name, value in self.given
                 if name != 'marker']
        return link(pairs + ([('marker', marker)] if marker else []))


def link(pairs: Pairs) -> str:
    """Return a path with parameters, as Glance writes it in its answers."""
    return f'{PATH}?{encode(pairs)}' if pairs else PATH


def encode(pairs: Pairs) -> str:
    """Return parameters as a URL has them."""
    return urllib.parse.urlencode(list(pairs))


def split(query_string: str) -> list[tuple[str, str]]:
    """Return the parameters of a URL.

    :param query_string: as WSGI has it
    :raises easystack_image.exceptions.InvalidRequest: if they are not in
        UTF-8, or nothing that Glance's databases could hold
    """
    try:
        # WebOb, and thus Glance, takes a semicolon for an ampersand.
        pairs = urllib.parse.parse_qsl(
            query_string.replace(';', '&').encode('latin-1').decode(),
            keep_blank_values=True, errors='strict')
    except (UnicodeError, ValueError):
        raise exceptions.InvalidRequest(
            'The parameters of the URL are not in UTF-8') from None
    for name, value in pairs:
        if _BEYOND_UTF8MB3.search(name) or _BEYOND_UTF8MB3.search(value):
            raise filters.invalid(
                _BEYOND_UTF8MB3.sub('?', name),
                'it has a character that no image has (U+0000, or one '
                'beyond U+FFFF)')
    return pairs


def check_method(query_string: str) -> None:
    """See that nobody changes the method of a request by a parameter.

    Routes has it, for HTML forms: ``GET ?_method=PATCH`` would get past
    everything that looks at methods.

    :raises easystack_image.exceptions.InvalidRequest: if somebody does
    """
    if '_method' in query_string and any(
            name == '_method' for name, _ in split(query_string)):
        raise filters.invalid('_method', 'the method of a request is what '
                                         'HTTP says')


def is_lost(query_string: str, uri: str) -> bool:
    """Tell whether the server lost the parameters of a request.

    uWSGI leaves them out without a word where ``buffer-size`` has no room
    for them; they are there twice, the first time in the URI.  A list would
    be one of everything.

    :param query_string: as WSGI has it
    :param uri: as the client sent it, '' if that is not known
    """
    return not query_string and bool(uri.partition('?')[2])


def parse(query_string: str) -> ListQuery:
    """Return what is asked for.

    Parameters without a value are as good as absent.

    :param query_string: as WSGI has it
    :raises easystack_image.exceptions.InvalidRequest: naming the parameter
        that makes no sense
    """
    given = split(query_string)
    found: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    for name, value in given:
        if value.strip():
            known = _SPELLINGS.get(name, name)
            found.setdefault(known, []).append(value)
            spelled[known] = name
    _check_counts(found)
    for name in ('sort', 'sort_key'):
        _check_sorting(spelled.get(name, name), found.get(name, ()))
    only_images = _translate_type(found)
    _translate_changes_since(found)
    limit = _limit(found)
    asked = [(name, _ask(name, value, spelled.get(name, name)))
             for name, values in found.items() for value in values]
    # In the client's order where it is in Glance's words anyway.
    if sorted(asked) == sorted(given):
        asked = given
    return ListQuery(given, asked, only_images, limit)


def _check_counts(found: dict[str, list[str]]) -> None:
    joins = 0
    for name, values in found.items():
        if not name:
            raise exceptions.InvalidRequest(
                'A parameter of the URL has no name')
        if name not in _REPEATABLE:
            if len(set(values)) > 1:
                raise filters.invalid(name, 'it is there more than once')
            del values[1:]
        if name == 'tag' or (name not in _OTHERS
                             and filters.is_property(name)):
            joins += len(values)
    if joins > MAX_JOINS:
        raise exceptions.InvalidRequest(
            f'Images can be searched by at most {MAX_JOINS} properties and '
            f'tags at once, not by {joins}')


def _check_sorting(name: str, values: Sequence[str]) -> None:
    """See that a list is sorted by no more keys than there are.

    With a marker, the square of their number is what the database is asked.
    """
    most = len(filters.SORT_KEYS)
    if sum(1 + value.count(',') for value in values) > most:
        raise filters.invalid(name, f'there are {most} keys to sort by')


def _translate_type(found: dict[str, list[str]]) -> bool:
    """Tell whether Glance's answer has to be picked over."""
    if 'type' not in found:
        return False
    value = filters.choice('type', found.pop('type')[0],
                           (ANY_OTHER_TYPE, *SPECIAL_TYPES))
    only_images = value == ANY_OTHER_TYPE
    given = found.get('image_type', [value])[0]
    # All snapshots there are would be looked through for nothing.
    if given in SPECIAL_TYPES if only_images else given != value:
        raise filters.invalid('type', 'it contradicts "image_type"')
    if not only_images:
        found['image_type'] = [value]
    return only_images


def _translate_changes_since(found: dict[str, list[str]]) -> None:
    if 'changes-since' not in found:
        return
    since = filters.time('changes-since', found.pop('changes-since')[0])
    if 'updated_at' in found:
        raise filters.invalid('changes-since',
                              'it cannot be together with "updated_at"')
    found['updated_at'] = [f'gte:{since}']


def _limit(found: dict[str, list[str]]) -> int | None:
    if 'limit' not in found:
        return None
    found['limit'] = [filters.number('limit', found['limit'][0], _MAX_LIMIT)]
    return int(found['limit'][0])


def _ask(name: str, value: str, spelled: str) -> str:
    """Return the value of a parameter, as Glance understands it.

    :param spelled: the parameter's name, as the client knows it
    """
    if name in _SORTING:
        return filters.choice(spelled, value, _SORTING[name])
    if name == 'tag' or name in _OTHERS:
        return value
    return filters.check(name, value)
