"""Brings the reference deployment up and leaves it running; see ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
from pathlib import Path
import shlex
import signal
import sys
import tempfile
import time
from typing import NoReturn

from tests.deployment import clouds
from tests.deployment import deployment as deployment_module
from tests.deployment import keystone as keystone_module
from tests.functional import mariadb
from tests.functional import processes
from tests.functional import server

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _directory(text: str) -> Path:
    path = Path(text).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise argparse.ArgumentTypeError(
            f'{path} is not empty: name a directory that is, or a new one')
    return path


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f'{port} is not a port')
    if not processes.is_free(port):
        raise argparse.ArgumentTypeError(f'{port} is in use')
    return port


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='tox -e serve --',
        description='Bring up Keystone, MariaDB and Glance with the pipeline '
                    'and the store of this package, on 127.0.0.1, until '
                    'Ctrl-C.')
    parser.add_argument('--directory', type=_directory, metavar='DIRECTORY',
                        help='where to put everything, and leave it '
                             'afterwards; by default it goes')
    parser.add_argument('--port', type=_port,
                        help="Glance's (default: one that is free)")
    parser.add_argument('--keystone-port', type=_port, metavar='PORT',
                        help="Keystone's (default: one that is free)")
    return parser.parse_args()


@contextlib.contextmanager
def _root(directory: Path | None) -> Iterator[Path]:
    if directory is None:
        with tempfile.TemporaryDirectory(prefix='easystack-') as root:
            yield Path(root)
    else:
        directory.mkdir(parents=True, exist_ok=True)
        # Passwords and images are in there.
        directory.chmod(0o700)
        yield directory


def _folder(root: Path, name: str) -> Path:
    path = root / name
    path.mkdir()
    return path


@contextlib.contextmanager
def _running(root: Path, arguments: argparse.Namespace
             ) -> Iterator[deployment_module.Deployment]:
    """Start everything; stop it in the end, the last one first."""
    with contextlib.ExitStack() as stack:
        _say('MariaDB ...')
        database = mariadb.MariaDB(_folder(root, 'mariadb'))
        stack.callback(database.stop)
        database.start()
        _say('Keystone ...')
        keystone = keystone_module.Keystone(
            _folder(root, 'keystone'), database, port=arguments.keystone_port)
        stack.callback(keystone.stop)
        keystone.prepare()
        keystone.start()
        _say('Glance ...')
        deployment = deployment_module.Deployment(
            _folder(root, 'glance'), keystone=keystone,
            region=keystone_module.REGION, port=arguments.port)
        stack.callback(deployment.stop)
        deployment.prepare()
        deployment.start()
        yield deployment


def _say(text: str) -> None:
    print(text, flush=True)


def _tell(root: Path, deployment: deployment_module.Deployment) -> None:
    """Say where everything is, and write the file that clients need."""
    path = root / 'clouds.yaml'
    clouds.write(path, deployment)
    others = ', '.join(sorted({clouds.cloud_of(user) for user in
                               deployment.accounts} - {clouds.CLOUD}))
    client = shlex.join([processes.script('openstack'), '--os-cloud',
                         clouds.CLOUD, 'image', 'list'])
    devices = '\n'.join(f'              {device}' for store in
                        deployment.glance.stores
                        for device in server.devices(store))
    _say(f"""
Up until Ctrl-C. From another terminal:

export OS_CLIENT_CONFIG_FILE={shlex.quote(str(path))}
{client}

Clouds for other users: {others}

Glance        {deployment.url}
Keystone      {deployment.keystone.url}/v3
Logs          {deployment.root / 'glance-api.log'}
              {deployment.keystone.root / 'keystone.log'}
Configuration {deployment.glance.config_file}
Devices
{devices}

{shlex.join(deployment.glance.manage_command('device', 'list'))}
""")


def _stay(deployment: deployment_module.Deployment) -> None:
    """Wait for Ctrl-C.

    :raises ProcessFailed: if a service ends by itself
    """
    while True:
        for service in (deployment.glance, deployment.keystone):
            if not service.running:
                raise processes.ProcessFailed(
                    f'{service.name} has ended by itself:\n'
                    f'{service.log_tail()}')
        time.sleep(0.5)


def _terminated(*args: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Serve, and return the exit code."""
    arguments = _arguments()
    # SIGINT as well: whoever starts this in the background has it ignored.
    for number in _SIGNALS:
        signal.signal(number, _terminated)
    try:
        with _root(arguments.directory) as root:
            with _running(root, arguments) as deployment:
                try:
                    _tell(root, deployment)
                    _stay(deployment)
                finally:
                    # Whoever is in a hurry presses Ctrl-C twice, and tox
                    # hurries too.
                    for number in _SIGNALS:
                        signal.signal(number, signal.SIG_IGN)
    except processes.ProcessFailed as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say('\nStopped.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
