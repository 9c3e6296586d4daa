"""The reference deployment: Keystone, MariaDB, and Glance with all of ours."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
import concurrent.futures
import functools
from pathlib import Path
import secrets
import sys
import tempfile
from typing import Any

from keystoneauth1 import session as keystone_session
import openstack

from tests.deployment import accounts
from tests.deployment import keystone as keystone_module
from tests.functional import client
from tests.functional import configuration
from tests.functional import processes
from tests.functional import server

FLAVOR = 'keystone'
#: Where Glance's package puts its samples.
GLANCE_ETC = Path(sys.prefix, 'etc', 'glance')


def full_pipeline() -> str:
    """Return the pipelines that deployers copy from us, as they are."""
    return server.SAMPLE_PASTE.read_text()


def vanilla_pipeline() -> str:
    """Return the pipelines that come with Glance."""
    return (GLANCE_ETC / 'glance-api-paste.ini').read_text()


def default_stores(root: Path) -> list[server.Store]:
    """Return a store of ours on three devices under ``root``."""
    return [server.block_store('copies', server.make_devices(root))]


def authentication(keystone: keystone_module.Keystone,
                   root: Path) -> dict[str, Mapping[str, object]]:
    """Return what a Glance has to know of its Keystone, and its policies.

    :param root: an existing directory
    """
    glance = keystone.accounts['glance']
    (root / 'policy.d').mkdir(exist_ok=True)
    (root / 'policy.yaml').touch()
    return {
        'keystone_authtoken': {
            'www_authenticate_uri': f'{keystone.url}/v3',
            'auth_url': f'{keystone.url}/v3',
            'auth_type': 'password',
            'username': glance.user, 'password': glance.password,
            'project_name': glance.project,
            'user_domain_name': accounts.DOMAIN,
            'project_domain_name': accounts.DOMAIN,
            # Who may vouch for a request that outlives its token.
            'service_token_roles': 'service',
            'service_token_roles_required': True},
        'oslo_policy': {'policy_file': root / 'policy.yaml',
                        'policy_dirs': root / 'policy.d'},
        'paste_deploy': {'flavor': FLAVOR}}


class Deployment:
    """A Glance that asks a Keystone, with everything under ``root``.

    Several may share a Keystone: each is in a region of its own.

    :param root: an existing directory
    :param stores: by default one of ours; the first one is the default
    :param pipeline: the paste file, by default our sample as it is
    :param options: more of glance-api.conf, or other values
    :param import_options: the same for ``glance-image-import.conf``
    :param keystone: by default the one that this process shares
    :param region: by default a new one
    :param port: Glance's, by default one that is free
    :param metadefs: whether to load Glance's metadata definitions
    """

    def __init__(self, root: Path,
                 stores: Sequence[server.Store] | None = None,
                 pipeline: str | None = None,
                 options: server.Options | None = None,
                 import_options: server.Options | None = None,
                 keystone: keystone_module.Keystone | None = None,
                 region: str | None = None,
                 port: int | None = None,
                 metadefs: bool = True) -> None:
        self.root = root
        self.keystone = keystone or keystone_module.shared()
        self.region = region or f'region-{secrets.token_hex(4)}'
        self.metadefs = metadefs
        self.glance = server.Glance(
            root, default_stores(root) if stores is None else stores,
            options=configuration.merge(
                authentication(self.keystone, root), options or {}),
            import_options=import_options,
            database=server.MariaDB(self.keystone.database),
            pipelines=full_pipeline() if pipeline is None else pipeline,
            port=port)
        self._sessions: dict[str, keystone_session.Session] = {}

    @property
    def accounts(self) -> Mapping[str, accounts.Account]:
        """Those who may use it, by the name of the user."""
        return self.keystone.accounts

    @property
    def url(self) -> str:
        """Glance's address, without a version."""
        return self.glance.url

    def prepare(self) -> None:
        """Lay out the database and the devices, and write the files."""
        self.glance.prepare()
        with concurrent.futures.ThreadPoolExecutor() as side_by_side:
            jobs = [side_by_side.submit(self.glance.init_devices)]
            if self.metadefs:
                jobs.append(side_by_side.submit(self._load_metadefs))
            for job in jobs:
                job.result()

    def _load_metadefs(self) -> None:
        processes.check([
            processes.script('glance-manage'), '--config-file',
            str(self.glance.config_file), 'db_load_metadefs',
            str(GLANCE_ETC / 'metadefs')])

    def start(self) -> None:
        """Start Glance, and let the catalogue know of it.

        :raises ProcessFailed: with the end of the log
        """
        self.glance.start()
        self.keystone.register_image_service(self.url, self.region)

    def stop(self) -> None:
        """Stop Glance; Keystone goes on, for it may be shared."""
        self.glance.stop()

    def session(self, user: str) -> keystone_session.Session:
        """Return a session of a user, which keeps its token."""
        if user not in self._sessions:
            self._sessions[user] = self.accounts[user].session(
                self.keystone.url)
        return self._sessions[user]

    def token(self, user: str) -> str:
        """Return a token of a user, that is good for an hour."""
        return _token(self.session(user))

    def new_token(self, user: str) -> str:
        """Return a token of a user that nobody has seen yet.

        Glance remembers for five minutes what Keystone says of a token, the
        catalog included.
        """
        return _token(self.accounts[user].session(self.keystone.url))

    def client(self, user: str) -> client.Images:
        """Return Glance's calls over plain HTTP, made by a user."""
        return client.Images(self.url, {'X-Auth-Token': self.token(user)})

    def sdk(self, user: str) -> Any:
        """Return a connection of openstacksdk, made by a user."""
        return openstack.connection.Connection(
            session=self.session(user), region_name=self.region)


def _token(session: keystone_session.Session) -> str:
    token = session.get_token()
    assert token is not None
    return token


def vanilla(root: Path, **arguments: Any) -> Deployment:
    """Return a deployment without anything of ours, to compare with.

    :param arguments: of :class:`Deployment`
    """
    imports = configuration.merge(
        {'image_import_opts': {'image_import_plugins': '[]'}},
        arguments.pop('import_options', {}))
    return Deployment(root, **{
        'stores': [server.file_store('plain', root / 'plain')],
        'pipeline': vanilla_pipeline(), 'import_options': imports}
        | arguments)


@functools.cache
def shared() -> Deployment:
    """Return the deployment of this process, started when first asked for.

    For tests that leave it as it was.
    """
    directory = tempfile.TemporaryDirectory(prefix='deployment-')
    deployment = Deployment(Path(directory.name))
    # The last one registered is the first one called.
    atexit.register(directory.cleanup)
    atexit.register(deployment.stop)
    deployment.prepare()
    deployment.start()
    return deployment
