"""A token for the user that tries a new release.

Who that is stands in a file which only its owner may read::

    [keystone]
    auth_url = https://keystone.example.org:5000/v3
    application_credential_id = …
    application_credential_secret = …

or with ``username``, ``password``, ``project_name``, ``user_domain_name`` and
``project_domain_name`` (both ``Default`` unless they are named): the names
are Keystone's own.  ``ca_file`` has the authorities to trust instead of those
of the operating system.
"""

from __future__ import annotations

from collections.abc import Mapping
import configparser
import dataclasses
import json
import os
from pathlib import Path
import ssl
import stat
from typing import Any

import urllib3

from easystack_image import exceptions

GROUP = 'keystone'
_BY_CREDENTIAL = ('application_credential_id',
                  'application_credential_secret')
_BY_PASSWORD = ('username', 'password', 'project_name')
_OPTIONAL = {'user_domain_name': 'Default', 'project_domain_name': 'Default',
             'ca_file': ''}
#: More than a token with the largest catalogue, in bytes.
_LIMIT = 4 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What Keystone wants to know.

    :param url: of Keystone's API, with its version
    :param ca_file: see the module
    :param auth: what it calls ``auth``, as JSON has it
    """

    url: str
    ca_file: str = ''
    auth: Mapping[str, Any] = dataclasses.field(default_factory=dict,
                                                repr=False)


def read(path: Path) -> Credentials:
    """Read a file of credentials.

    :raises easystack_image.exceptions.ConfigurationError: if others may read
        it, or something is lacking
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding='utf-8') as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise exceptions.ConfigurationError(
                    f'{path} may be read by others: chmod 600 {path}')
            parser.read_file(file)
    except (OSError, UnicodeError, configparser.Error) as error:
        # The text of a parser's error may have a password in it.
        reason = str(error) if isinstance(error, OSError) else type(
            error).__name__
        raise exceptions.ConfigurationError(
            f'{path} cannot be read: {reason}') from None
    values = dict(parser[GROUP]) if parser.has_section(GROUP) else {}
    return _credentials(path, values)


def _credentials(path: Path, values: Mapping[str, str]) -> Credentials:
    needed = ('auth_url', *(_BY_CREDENTIAL if _BY_CREDENTIAL[0] in values
                            else _BY_PASSWORD))
    lacking = [name for name in needed if not values.get(name)]
    unknown = sorted(set(values) - {*needed, *_OPTIONAL})
    if lacking or unknown:
        raise exceptions.ConfigurationError(
            f'{path}, [{GROUP}]: ' + '; '.join(
                f'{what}: {", ".join(names)}' for what, names in (
                    ('lacking', lacking), ('unknown', unknown)) if names))
    given = {**_OPTIONAL, **values}
    url = given['auth_url'].rstrip('/')
    if not url.startswith(('https://', 'http://')):
        raise exceptions.ConfigurationError(
            f'{path}: auth_url is no URL that begins with https:// or '
            'http://')
    return Credentials(url if url.endswith('/v3') else f'{url}/v3',
                       given['ca_file'], _auth(given))


def _auth(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of a request for a token, as the Identity API has it."""
    if _BY_CREDENTIAL[0] in given:
        return {'identity': {
            'methods': ['application_credential'],
            'application_credential': {
                'id': given[_BY_CREDENTIAL[0]],
                'secret': given[_BY_CREDENTIAL[1]]}}}
    return {
        'identity': {'methods': ['password'], 'password': {'user': {
            'name': given['username'], 'password': given['password'],
            'domain': {'name': given['user_domain_name']}}}},
        'scope': {'project': {
            'name': given['project_name'],
            'domain': {'name': given['project_domain_name']}}}}


def token(credentials: Credentials, timeout: float) -> str:
    """Ask Keystone for a token.

    :param timeout: seconds
    :raises easystack_image.exceptions.NotNow: if Keystone does not work
    :raises easystack_image.exceptions.ConfigurationError: if it refuses
    """
    try:
        context = ssl.create_default_context(
            cafile=credentials.ca_file or None)
    except OSError as error:
        raise exceptions.ConfigurationError(
            f'ca_file {credentials.ca_file} cannot be used: {error}',
        ) from None
    try:
        with urllib3.PoolManager(ssl_context=context) as pool:
            answer = pool.request(
                'POST', f'{credentials.url}/auth/tokens',
                body=json.dumps({'auth': credentials.auth}).encode(),
                headers={'Content-Type': 'application/json',
                         'Accept': 'application/json'},
                timeout=timeout, retries=False, redirect=False,
                preload_content=False)
            answer.read(_LIMIT)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise exceptions.NotNow(
            f'Keystone at {credentials.url} does not answer: {error}',
        ) from None
    if answer.status >= 500:
        raise exceptions.NotNow(
            f'Keystone at {credentials.url} answers {answer.status}')
    found = answer.headers.get('X-Subject-Token')
    if answer.status != 201 or not found:
        raise exceptions.ConfigurationError(
            f'Keystone at {credentials.url} gives no token '
            f'({answer.status}): are the credentials those of a user with a '
            'role in the project?')
    return str(found)
