"""What values the parameters of a list of images may have.

Glance hands most of them to its database as they come.  There a wrong one
finds nothing, or makes Glance fail (500): ``_make_conditions_from_filters``
in ``glance/db/sqlalchemy/api.py``.
"""

from __future__ import annotations

from collections.abc import Callable
import datetime
import re

from easystack_image import exceptions

#: ``STATUSES`` in ``glance/db/sqlalchemy/api.py``, and two that images have
#: for the time of an import.
STATUSES = ('active', 'deactivated', 'deleted', 'importing', 'killed',
            'pending_delete', 'queued', 'saving', 'uploading')
VISIBILITIES = ('all', 'community', 'private', 'public', 'shared')
MEMBER_STATUSES = ('accepted', 'all', 'pending', 'rejected')
SORT_KEYS = ('container_format', 'created_at', 'disk_format', 'id', 'name',
             'size', 'status', 'updated_at')
SORT_DIRS = ('asc', 'desc')

#: The greatest number that the column of a number holds.
_NUMBERS = {'min_disk': 2**31 - 1, 'min_ram': 2**31 - 1,
            'size': 2**63 - 1, 'virtual_size': 2**63 - 1}
_COMPARISONS = ('gt', 'gte', 'lt', 'lte', 'neq')
_RANGE = re.compile(r'(.+)_(?:min|max)', re.DOTALL)
#: A time whose plus sign nobody encoded in the URL, where it is a space.
_SPACED_ZONE = re.compile(r'([^T]*T.*) (\d\d:?\d\d)', re.DOTALL)

#: Attributes of Glance's model of an image, which it takes for columns.
#: A property may have such a name, and cannot be searched for.
_UNSEARCHABLE = frozenset((
    'delete', 'deleted_at', 'get', 'items', 'iteritems', 'keys', 'locations',
    'members', 'metadata', 'mro', 'next', 'properties', 'registry', 'save',
    'tags', 'to_dict', 'update', 'values', '_as_dict', '_extra_keys',
    '_is_protocol', '_sa_class_manager', '_sa_registry', '_sa_instance_state',
    # Routes takes it for the method of the request.
    '_method',
    # Our own query would be lost in Glance's.
    'os_hidden_min', 'os_hidden_max'))


def invalid(name: str, reason: str) -> exceptions.InvalidRequest:
    """Return the error of a parameter.

    :param name: as the client spells it
    :param reason: what is wrong, and what is allowed
    """
    return exceptions.InvalidRequest(f'Parameter "{name}": {reason}')


def time(name: str, value: str) -> str:
    """Return a time as Glance and all of its databases understand it.

    :param value: ISO 8601; in UTC if it does not say otherwise
    :returns: in UTC, in whole seconds, as images have it
    :raises easystack_image.exceptions.InvalidRequest: if it is no time
    """
    spaced = _SPACED_ZONE.fullmatch(value)
    try:
        given = datetime.datetime.fromisoformat(
            f'{spaced[1]}+{spaced[2]}' if spaced else value)
        if given.tzinfo is not None:
            given = given.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise invalid(name, f'"{value}" is not a time; write it in ISO 8601, '
                            'such as 2026-02-25T11:28:54Z') from None
    return f'{given.replace(tzinfo=None).isoformat(timespec="seconds")}Z'


def number(name: str, value: str, maximum: int) -> str:
    """Return a whole number in plain digits.

    :raises easystack_image.exceptions.InvalidRequest: if it is none, or not
        between 0 and the maximum
    """
    try:
        given = int(value)
    except ValueError:
        given = -1
    if not 0 <= given <= maximum:
        raise invalid(name, f'must be a whole number from 0 to {maximum}')
    return str(given)


def choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return one of several words, in lower case.

    :raises easystack_image.exceptions.InvalidRequest: if it is another one
    """
    given = value.strip().lower()
    if given not in allowed:
        raise invalid(name, f'"{value}" is not one of {", ".join(allowed)}')
    return given


def _status(name: str, value: str) -> str:
    operator, colon, words = value.strip().lower().partition(':')
    if operator == 'in' and colon:
        return 'in:' + ','.join(
            choice(name, word.strip().strip('"'), STATUSES)
            for word in words.split(','))
    return choice(name, words if operator == 'eq' and colon
                  else value, STATUSES)


def _text(name: str, value: str) -> str:
    """Return a text that Glance does not take for an operator."""
    operator, colon, _ = value.partition(':')
    if operator in _COMPARISONS and colon:
        raise invalid(name, f'cannot be compared by "{operator}:", only by '
                            '"eq:" and "in:"')
    if not colon or operator in ('eq', 'in'):
        return value
    return f'eq:{value}'


def _moment(name: str, value: str) -> str:
    operator, colon, moment = value.partition(':')
    if colon and operator in (*_COMPARISONS, 'eq'):
        return f'{operator}:{time(name, moment)}'
    return time(name, value)


def _number(name: str, value: str) -> str:
    return number(name, value, _NUMBERS[name])


def _boolean(name: str, value: str) -> str:
    return choice(name, value, ('true', 'false'))


def _not_deleted(name: str, value: str) -> str:
    """There are no others; Glance ignores what is asked."""
    return choice(name, value, ('false',))


_CHECKS: dict[str, Callable[[str, str], str]] = {
    'container_format': _text,
    'created_at': _moment,
    'deleted': _not_deleted,
    'disk_format': _text,
    'id': _text,
    'member_status': lambda name, value: choice(name, value, MEMBER_STATUSES),
    'name': _text,
    'os_hidden': _boolean,
    'protected': _boolean,
    'status': _status,
    'updated_at': _moment,
    'visibility': lambda name, value: choice(name, value, VISIBILITIES),
    **dict.fromkeys(_NUMBERS, _number),
}
#: Columns that are compared with whatever is given.
_PLAIN = ('checksum', 'owner', 'os_hash_algo', 'os_hash_value')


def is_property(name: str) -> bool:
    """Tell whether a filter is by a property that Glance does not know."""
    return not (name in _CHECKS or name in _PLAIN or _RANGE.fullmatch(name))


def check(name: str, value: str) -> str:
    """Return what to ask Glance for.

    :param name: of one of Glance's filters, or of a property
    :param value: not empty
    :raises easystack_image.exceptions.InvalidRequest: if Glance would fail,
        or would find nothing, whatever images there are
    """
    known = _CHECKS.get(name)
    if known is not None:
        return known(name, value)
    if name in _UNSEARCHABLE or (name.startswith('__')
                                 and name.endswith('__')):
        hint = '; write "tag" for each of them' if name == 'tags' else ''
        raise invalid(name, f'images cannot be searched by it{hint}')
    bound = _RANGE.fullmatch(name)
    if bound is None:
        return value
    if bound[1] not in _NUMBERS:
        raise invalid(name, f'there are bounds for {", ".join(_NUMBERS)} '
                            'only')
    return number(name, value, _NUMBERS[bound[1]])
