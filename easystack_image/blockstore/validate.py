"""Checks of arguments that every engine shares."""

from __future__ import annotations

import contextlib
import hashlib
import uuid

from easystack_image import exceptions


def canonical_uuid(value: object, what: str = 'image id') -> str:
    """Return a UUID in its canonical form (lower case, with hyphens).

    :raises easystack_image.exceptions.InvalidRequest: if ``value`` is no
        UUID string with hyphens; an image id becomes a file name, so nothing
        else is let through
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            canonical = str(uuid.UUID(value))
            if canonical == value.lower():
                return canonical
    raise exceptions.InvalidRequest(
        f'{what} must be a UUID such as '
        f'123e4567-e89b-12d3-a456-426614174000, not {value!r:.80}')


def byte_count(value: object, what: str) -> int:
    """Return ``value`` if it is a number of bytes.

    :raises easystack_image.exceptions.InvalidRequest: if it is no integer,
        or negative
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise exceptions.InvalidRequest(
            f'{what} must be a number of bytes, 0 or more, not {value!r:.80}')
    return value


def hash_algorithm(value: object) -> str:
    """Return ``value`` if it names a digest that an image may have.

    :raises easystack_image.exceptions.InvalidRequest: if hashlib does not
        know it, or it has no fixed length of at most 64 bytes
    """
    try:
        length = hashlib.new(str(value), usedforsecurity=False).digest_size
    except (ValueError, TypeError):
        length = 0
    if not 0 < length <= 64:
        raise exceptions.InvalidRequest(
            f'unknown digest algorithm {value!r:.80}; sha512 is usual')
    return str(value)
