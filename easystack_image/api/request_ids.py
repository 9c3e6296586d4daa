"""The identity of a request, by which it is found in the logs."""

from __future__ import annotations

import re
import uuid

#: Both carry it: OpenStack's header, and the one of the manual.
HEADERS = ('x-openstack-request-id', 'RequestId')
_PREFIX = 'req-'
_SOUND = re.compile(r'[A-Za-z0-9._-]+', re.ASCII)
#: What Glance takes if its option says nothing else.
MAX_LENGTH = 64


def new() -> str:
    """Return an identity that no other request has."""
    return f'{_PREFIX}{uuid.uuid4()}'


def is_sound(value: str, longest: int = MAX_LENGTH) -> bool:
    """Tell whether a name that a client sent may go to logs and headers.

    The service that sent it wants to find it again, so it is kept; but not
    what could not be a name, nor what is longer than Glance bears.
    """
    return len(value) <= longest and _SOUND.fullmatch(value) is not None


def prefixed(value: str) -> str:
    """Return an identity as Glance writes it in its answers."""
    return value if value.startswith(_PREFIX) else f'{_PREFIX}{value}'
