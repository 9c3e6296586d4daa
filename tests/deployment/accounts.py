"""Who there is in a deployment: users, their projects and their roles."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import secrets
from typing import Any

from keystoneauth1 import session as keystone_session
from keystoneauth1.identity import v3
import requests

DOMAIN = 'Default'
#: The project of the services' own users.
SERVICE_PROJECT = 'service'


def generate_password() -> str:
    """Return a password that nobody else knows."""
    return secrets.token_urlsafe(18)


@dataclasses.dataclass(frozen=True)
class Account:
    """A user with roles in one project."""

    user: str
    project: str
    roles: tuple[str, ...]
    password: str = dataclasses.field(default_factory=generate_password,
                                      repr=False)

    def plugin(self, url: str) -> v3.Password:
        """Return what gets tokens for this account from a Keystone."""
        return v3.Password(
            auth_url=f'{url}/v3', username=self.user, password=self.password,
            project_name=self.project, user_domain_name=DOMAIN,
            project_domain_name=DOMAIN)

    def session(self, url: str) -> keystone_session.Session:
        """Return a session that acts for this account."""
        direct = requests.Session()
        # No proxies: all services are on this machine.
        direct.trust_env = False
        return keystone_session.Session(auth=self.plugin(url), session=direct)


def default_accounts() -> list[Account]:
    """Return one of each kind, with new passwords.

    Keystone's roles imply each other: ``admin`` is a ``manager``, that is a
    ``member``, and that is a ``reader``.
    """
    return [
        Account('admin', 'admin', ('admin',)),
        Account('member', 'demo', ('member',)),
        Account('reader', 'demo', ('reader',)),
        Account('stranger', 'other', ('member',)),
        # Glance itself, to validate tokens.
        Account('glance', SERVICE_PROJECT, ('admin', 'service')),
        # A service that sends its own token beside its user's.
        Account('nova', SERVICE_PROJECT, ('service',))]


class Registrar:
    """Writes accounts and endpoints into a Keystone, as its administrator.

    What is there already is left as it is.
    """

    def __init__(self, session: keystone_session.Session, url: str) -> None:
        self._session = session
        self._url = f'{url}/v3'
        self._ids: dict[tuple[str, str], str] = {}

    def _find(self, kind: str, name: str) -> str | None:
        """Return the id of a ``role``, ``project``, ``user``, ..."""
        if (kind, name) not in self._ids:
            listed = self._session.get(
                f'{self._url}/{kind}s', params={'name': name}).json()
            for record in listed[f'{kind}s']:
                self._ids[kind, name] = record['id']
        return self._ids.get((kind, name))

    def _ensure(self, kind: str, name: str, **values: Any) -> str:
        """Return the id of something, made now if it is not there."""
        if (found := self._find(kind, name)) is None:
            answer = self._session.post(f'{self._url}/{kind}s', json={
                kind: {'name': name} | values})
            found = str(answer.json()[kind]['id'])
            self._ids[kind, name] = found
        return found

    def add(self, accounts: Iterable[Account]) -> None:
        """Create users with their projects and roles, where they lack."""
        for account in accounts:
            project = self._ensure('project', account.project,
                                   domain_id='default')
            user = self._ensure('user', account.user, domain_id='default',
                                password=account.password)
            for role in account.roles:
                self._session.put(
                    f'{self._url}/projects/{project}/users/{user}/roles/'
                    f'{self._ensure("role", role)}')

    def register(self, service: str, name: str, url: str,
                 region: str) -> None:
        """Tell the catalogue where a service is, in a region.

        :param service: its type, such as ``image``
        :param name: such as ``glance``
        """
        service_id = self._ensure('service', name, type=service)
        for interface in ('public', 'internal', 'admin'):
            self._session.post(f'{self._url}/endpoints', json={'endpoint': {
                'service_id': service_id, 'interface': interface,
                'region_id': self._region(region), 'url': url}})

    def _region(self, region: str) -> str:
        # Regions have no names: what they are called is their id.
        if ('region', region) not in self._ids:
            self._session.put(f'{self._url}/regions/{region}', json={
                'region': {}}, raise_exc=False)
            self._ids['region', region] = region
        return region
