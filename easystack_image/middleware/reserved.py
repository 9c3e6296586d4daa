"""The gate's own properties, in what users say of their images.

A user may announce the checksum of the data to come.  How far a download is,
and why data were refused, is for the gate to say, by requests of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webob import exc

from easystack_image import exceptions
from easystack_image.content import declaration
from easystack_image.middleware import origins

_OWN = frozenset({declaration.ERROR, declaration.PROGRESS})
#: What sets an attribute, in either form of a patch.
_SETTING = ('add', 'replace')
#: That of services in Keystone.
_SERVICE_ROLE = 'service'


def creation(given: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Return what a new image is made of.

    Glance takes ``os_hash_value`` in a new image, but forgets it; so it is
    kept as a property.  Services that ask in the name of a user give a new
    image what the old one had, from which a server or a volume was made; what
    was said of those data is not said of the new ones.

    :param given: the body of the request
    :param context: of the request, None if there is none
    :raises webob.exc.HTTPForbidden: if it says what only the gate may say
    :raises webob.exc.HTTPBadRequest: if the checksum is malformed
    """
    image = dict(given)
    if _SERVICE_ROLE in (getattr(context, 'service_roles', None) or ()):
        for name in (*_OWN, declaration.EXPECTED_HASH):
            image.pop(name, None)
    _see_free(_OWN.intersection(image))
    announced = image.get(declaration.EXPECTED_HASH)
    if not announced and not image.get('os_hash_value'):
        return image
    digest = image.pop('os_hash_value', None)
    algorithm = image.pop('os_hash_algo', None) or 'sha512'
    image[declaration.EXPECTED_HASH] = _checksum(
        announced or f'{algorithm}:{digest}')
    return image


def check_changes(changes: Any) -> None:
    """Check a PATCH: what the gate said may be removed, and not be said.

    :param changes: the body of the request
    :raises webob.exc.HTTPForbidden: if it says what only the gate may say
    :raises webob.exc.HTTPBadRequest: if a checksum is malformed
    """
    for change in changes if isinstance(changes, list) else ():
        names = origins.changed(change)
        if not names or not (change.get('op') in _SETTING or any(
                each in change for each in _SETTING)):
            continue
        _see_free(names & _OWN)
        if declaration.EXPECTED_HASH in names and change.get('value'):
            _checksum(change['value'])


def _see_free(names: frozenset[str] | set[str]) -> None:
    if names:
        raise exc.HTTPForbidden(
            explanation=f'{", ".join(sorted(names))}: only the content gate '
                        'sets it. Leave it out')


def _checksum(announced: Any) -> str:
    try:
        return ':'.join(declaration.parse_hash(str(announced)))
    except exceptions.ContentRefused as error:
        raise exc.HTTPBadRequest(explanation=str(error)) from error
