"""The file by which OpenStack's clients find a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.deployment import accounts
from tests.deployment import deployment as deployment_module
from tests.functional import configuration

#: The cloud of the ordinary user; those of others have the user's name added.
CLOUD = 'easystack'
MAIN_USER = 'member'


def cloud_of(user: str) -> str:
    """Return the name of the cloud as a user sees it."""
    return CLOUD if user == MAIN_USER else f'{CLOUD}-{user}'


def clouds(deployment: deployment_module.Deployment) -> dict[str, Any]:
    """Return what stands in the file: a cloud for each account."""
    return {'clouds': {cloud_of(user): {
        'auth_type': 'password',
        'auth': {
            'auth_url': f'{deployment.keystone.url}/v3',
            'username': account.user, 'password': account.password,
            'project_name': account.project,
            'user_domain_name': accounts.DOMAIN,
            'project_domain_name': accounts.DOMAIN},
        'region_name': deployment.region,
        'identity_api_version': '3',
        'image_api_version': '2',
    } for user, account in deployment.accounts.items()}}


def write(path: Path, deployment: deployment_module.Deployment) -> None:
    """Write the file, which holds passwords: only its owner may read it."""
    configuration.write_private(path, yaml.safe_dump(
        clouds(deployment), sort_keys=False))
