"""What Glance would fail at in the body of a request (500).

Only that: whatever else is wrong with a body, Glance says by itself.
"""

from __future__ import annotations

import json
import math
from typing import Any

from easystack_image import exceptions

#: How deep objects and lists may be in one another; a schema of metadata
#: definitions is not half as deep.
MAX_DEPTH = 64
#: Bytes of the longest text that the columns for texts hold (MySQL's TEXT).
MAX_TEXT = (1 << 16) - 1
#: The media types of a change, and where its operations say what is changed.
PATCH_TYPES = {
    'application/openstack-images-v2.0-json-patch':
        ('add', 'remove', 'replace'),
    'application/openstack-images-v2.1-json-patch': ('path',),
}

#: What requests have that say nothing special.
JSON = 'application/json'
CHANGES = 'application/openstack-images-v2.1-json-patch'
#: Those of HTML forms.  Glance knows none; it has bodies of this type read
#: as JSON, for it is what curl says of everything.  But Routes looks for a
#: parameter ``_method`` in them.
FORMS = ('application/x-www-form-urlencoded', 'multipart/form-data')


def check(body: bytes) -> Any:
    """Return what a body says, None if it is no JSON.

    :raises easystack_image.exceptions.InvalidRequest: if it is nested too
        deeply, or has characters, texts or numbers that cannot be stored
    """
    try:
        content = json.loads(body, parse_constant=_refuse_constant,
                             parse_float=_finite)
    except exceptions.InvalidRequest:
        raise
    except ValueError:
        return None
    except RecursionError:
        raise _too_deep() from None
    level = [content]
    for _ in range(MAX_DEPTH):
        level = _below(level)
        if not level:
            return content
    raise _too_deep()


def _refuse_constant(name: str) -> None:
    raise exceptions.InvalidRequest(
        f'The body is not JSON: {name} is no number')


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise exceptions.InvalidRequest('The body has a number that is too '
                                        'large')
    return number


def _too_deep() -> exceptions.InvalidRequest:
    return exceptions.InvalidRequest(
        f'The body is nested more than {MAX_DEPTH} levels deep')


def _below(level: list[Any]) -> list[Any]:
    """Return what is one level deeper; check the texts on this one."""
    found: list[Any] = []
    for value in level:
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, dict):
            found += value.keys()
            found += value.values()
        elif isinstance(value, list):
            found += value
    return found


def _check_text(text: str) -> None:
    if '\0' in text:
        raise exceptions.InvalidRequest(
            'The body has the character U+0000 in a text')
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise exceptions.InvalidRequest(
            'The body has half a character (a surrogate) in a text'
            ) from None
    if length > MAX_TEXT:
        raise exceptions.InvalidRequest(
            f'The body has a text of {length} bytes; at most {MAX_TEXT} can '
            'be stored')


def check_image(content: Any) -> None:
    """See that a new image is described by an object.

    :raises easystack_image.exceptions.InvalidRequest: if it is not
    """
    if content is not None and not isinstance(content, dict):
        raise exceptions.InvalidRequest(
            'The body must be a JSON object, with the properties of the '
            'image')


def type_of_changes(content: Any, media_type: str) -> str:
    """Return the media type that Glance wants changes of an image to have.

    The manual knows none but JSON's, and its changes are those of the later
    one of Glance's two.
    """
    if media_type == JSON and isinstance(content, list):
        return CHANGES
    return media_type


def check_changes(content: Any, media_type: str) -> None:
    """See that changes of an image say what they change by a text.

    :param media_type: of the body
    :raises easystack_image.exceptions.InvalidRequest: if one does not
    """
    members = PATCH_TYPES.get(media_type)
    if members is None or not isinstance(content, list):
        return
    for change in content:
        for member in members:
            if isinstance(change, dict) and not isinstance(
                    change.get(member, ''), str):
                raise exceptions.InvalidRequest(
                    f'"{member}" of a change must be a text: a JSON pointer, '
                    'such as "/name"')


def check_import(content: Any) -> None:
    """See that an import has the form that Glance counts on.

    :raises easystack_image.exceptions.InvalidRequest: naming what has not
    """
    if content is None:
        return
    _check_member('The body', content, dict, 'an object')
    method = content.get('method', {})
    _check_member('"method"', method, dict, 'an object')
    for name, value in method.items():
        if value is not None:
            _check_member(f'"{name}" of "method"', value, str, 'a text')
    stores = content.get('stores') or []
    _check_member('"stores"', stores, list, 'a list')
    for store in stores:
        _check_member('A store', store, str, 'a text')


def _check_member(what: str, value: Any, kind: type, called: str) -> None:
    if not isinstance(value, kind):
        raise exceptions.InvalidRequest(f'{what} must be {called}')
