"""The updater's configuration: ``/etc/easystack-image/ota.conf``.

It is written as oslo.config's files are, in the group ``[easystack_ota]``,
and read without oslo.config, which the updater's environment does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
import configparser
import dataclasses
import os
from pathlib import Path
import re
import stat
import textwrap
from typing import Any
from urllib import parse

from easystack_image import exceptions
from easystack_image.ota import owners
from easystack_image.ota.release import index

GROUP = 'easystack_ota'
FILE = Path('/etc/easystack-image/ota.conf')
MIB = 1024 * 1024
_LAST_PORT = 65535
SCHEMES = ('https', 'http', 'file')


def _option(default: object, help: str, secret: bool = False,
            **limits: object) -> Any:
    # What may hold a password is not shown by mistake.
    return dataclasses.field(default=default, repr=not secret,
                             metadata={'help': help, 'secret': secret,
                                       **limits})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the configuration has.

    :raises easystack_image.exceptions.ConfigurationError: naming the option
    """

    repository: str = _option(
        '', 'Where releases come from: the URL (https, http or file) of the '
        'folder that holds metadata/ and targets/.')
    channel: str = _option(
        'stable', 'The releases to choose from: stable or candidate.',
        choices=index.CHANNELS)
    trusted_root: str = _option(
        '/etc/easystack-image/root.json',
        'The first root.json of the repository, got by a way that can be '
        'trusted. All trust begins with it.')
    state_directory: str = _option(
        '/var/lib/easystack-image/ota',
        'Where the updater keeps what it has to remember, and downloads.')
    slots_directory: str = _option(
        '/opt/easystack-image',
        'Where releases are installed, each in a slot of its own.')
    keep_slots: int = _option(
        2, 'How many slots to keep besides the current and the previous one.',
        min=0, max=100)
    uv: str = _option(
        'uv', 'The program uv, which builds slots: a path, or a name to look '
        'for in PATH.')
    python: str = _option(
        'python3', 'The Python that slots are built with: a path, or a name '
        'to look for in PATH.')
    proxy: str = _option(
        '', 'URL of a proxy for the repository. Default: what http_proxy, '
        'https_proxy and no_proxy say.', secret=True)
    ca_file: str = _option(
        '', 'Certificates of the authorities to trust, in PEM, instead of '
        'those of the operating system.')
    check_warn_days: int = _option(
        7, 'Days without an answer of the repository after which "check" and '
        '"status" say so, and exit with 3: newer releases could be kept away '
        'from here. 0: never.', min=0, max=3650)
    timeout: float = _option(
        30.0, 'Seconds to wait for the repository. It counts as too slow if '
        'it sends less than minimum_rate allows in any such time.',
        min=0.1, max=3600.0)
    minimum_rate: int = _option(
        1024, 'The least that the repository has to send, in bytes per '
        'second, on average over the time of timeout.', min=1, max=1024 * MIB)
    maximum_size: int = _option(
        2048, 'The size up to which a release is downloaded, in MiB.',
        min=1, max=1024 * 1024)
    run_directory: str = _option(
        '/run/easystack-image',
        'Where the instances of the service have their sockets: a short '
        'path, on a file system that is empty after a reboot.')
    launcher: str = _option(
        'holder', 'What holds the listening socket and starts instances: '
        'holder ("easystack-image-ota hold") or systemd.',
        choices=('holder', 'systemd'))
    listen: str = _option(
        '0.0.0.0:9292',
        'The address and port on which the holder listens for users.')
    application: str = _option(
        'glance.wsgi.api:application',
        'The WSGI application of a release, as module:attribute.')
    config_file: str = _option(
        '/etc/glance/glance-api.conf',
        'The configuration file of Glance that the service uses.')
    uwsgi_file: str = _option(
        '', "A file of uWSGI with options of the deployer's own.")
    processes: int = _option(
        4, 'How many processes serve users.', min=1, max=1024)
    threads: int = _option(
        8, 'How many threads each of these processes has.', min=2, max=1024)
    warm_paths: str = _option(
        '/ /v2/images?limit=1',
        'What each new process is asked before it serves users, so that they '
        'need not wait for what a first request takes: paths, separated by '
        'blanks. The token is that of canary_credentials; a refusal does no '
        'harm.')
    warm_images: int = _option(
        3, 'How often each new process also makes, uploads, shows, lists, '
        'downloads and deletes a small image before it serves users. They '
        'are like that of the canary: private and hidden.', min=0, max=100)
    start_timeout: float = _option(
        120.0, 'Seconds that a release may take to start.',
        min=1.0, max=3600.0)
    soak: float = _option(
        300.0, 'Seconds to watch a new release after it took over, before '
        'the old one is given up.', min=0.0, max=30 * 86400.0)
    drain_timeout: float = _option(
        0.0, 'Seconds to wait for the old release to answer what it was '
        'asked, before the database is contracted. 0: however long it takes. '
        'Nothing is cut in either case; the upgrade can be resumed later.',
        min=0.0, max=30 * 86400.0)
    retry_limit: float = _option(
        600.0, 'Seconds for which a step whose hook wants it to be tried '
        'again later is waited for, before the upgrade has to be resumed.',
        min=0.0, max=86400.0)
    hooks_directory: str = _option(
        '/etc/easystack-image/ota-hooks.d',
        'Where your own executables are, as POINT/NAME; it need not exist.')
    hook_timeout: float = _option(
        600.0, 'Seconds that each of your own executables may take. It is '
        'killed afterwards, and has failed.', min=1.0, max=604800.0)
    notify_url: str = _option(
        '', 'A URL (https or http) that is told in a POST, as JSON, when an '
        'upgrade begins, serves, and ends. Default: only syslog is told.',
        secret=True)
    canary_credentials: str = _option(
        '', 'A file that only its owner may read, with what Keystone wants '
        'to know of the user that tries a new release, see the '
        'documentation. Without one, no token is sent: for a Glance without '
        'Keystone.')
    canary_size: int = _option(
        16, 'The size of the image that a new release has to keep, before '
        'it takes over, in MiB.', min=1, max=1024 * 1024)
    canary_timeout: float = _option(
        120.0, 'Seconds that all of that may take.', min=1.0, max=86400.0)
    watch_errors: float = _option(
        1.0, 'Percentage points by which the share of failed requests may '
        'be above that of the old release, before it is rolled back to.',
        min=0.0, max=100.0)
    watch_slower: float = _option(
        2.0, 'How many times as long the 99th percentile of the time to the '
        'first byte may be, before the old release is rolled back to.',
        min=1.0, max=1000.0)
    watch_slack: float = _option(
        0.1, 'Seconds that it may be longer by in any case.',
        min=0.0, max=600.0)
    watch_requests: int = _option(
        200, 'How many requests it takes to judge a release.',
        min=10, max=1000000)
    watch_hang: float = _option(
        30.0, 'Seconds after which a request without an answer, other than '
        'the upload or download of data, counts as failed. If some took '
        'longer with the old release, it is watch_slower times as long.',
        min=1.0, max=3600.0)
    watch_probe: float = _option(
        10.0, 'Seconds within which the service has to answer GET / at the '
        'address that users have. If it does not, three times in succession, '
        'the old release is rolled back to. 0: it is not asked.',
        min=0.0, max=600.0)
    coordination_url: str = _option(
        '', 'Where the nodes agree on who is upgraded: a URL for tooz, such '
        'as mysql://user:password@host/database, the same on all nodes. '
        'Default: this is the only node.', secret=True)
    nodes: str = _option(
        '', 'The URLs of the image service on all nodes, such as '
        'http://10.0.0.11:9292, separated by blanks, in the order in which '
        'they are to be upgraded. Needed with coordination_url.')
    node_url: str = _option(
        '', 'Which of them is this one.')
    node_timeout: float = _option(
        3600.0, 'Seconds to wait for the turn of this node.',
        min=0.0, max=30 * 86400.0)
    aside: float = _option(
        0.0, 'Seconds that load balancers have to notice that the node is '
        'being upgraded, before the new release takes over: their health '
        'check fails meanwhile, if other nodes serve. 0: they need not know.',
        min=0.0, max=1800.0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), field.metadata)
        if self.repository:
            _check_url('repository', self.repository, SCHEMES)
            if '@' in parse.urlsplit(self.repository).netloc:
                raise _wrong('repository', 'must have no user and password '
                             'in it: releases are signed, and no secret')
        if self.proxy:
            _check_url('proxy', self.proxy, ('http', 'https'))
        if self.nodes and self.node_url not in self.nodes.split():
            raise _wrong('node_url', 'is none of the nodes')
        if not re.fullmatch('[^ ]+:[0-9]{1,5}', self.listen) or (
                int(self.listen.rpartition(':')[2]) > _LAST_PORT):
            raise _wrong('listen', f'{self.listen!r} is no address and port, '
                                   'such as 0.0.0.0:9292 or [::]:9292')
        if self.coordination_url and '://' not in self.coordination_url:
            raise _wrong('coordination_url', 'is no URL')
        if self.coordination_url and not self.nodes:
            raise _wrong('nodes', 'must list all nodes that coordination_url '
                         'is for: the last one contracts the database')
        if self.aside and len(self.nodes.split()) > 1 and (
                not self.coordination_url):
            raise _wrong('aside', 'needs coordination_url: two nodes that '
                         'stand aside at once would each count on the other')
        if self.notify_url:
            # Those of chat rooms may have a query.
            _check_url('notify_url', self.notify_url.partition('?')[0],
                       ('http', 'https'))


def _check(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    choices = limits.get('choices', (value,))
    if value not in choices:
        raise _wrong(name, f'{value!r} is none of ' + ', '.join(choices))
    # Not a number is not in between either.
    if 'min' in limits and not limits['min'] <= value <= limits['max']:
        raise _wrong(name, f'{value} is not from {limits["min"]} to '
                           f'{limits["max"]}')


def _check_url(name: str, text: str, schemes: tuple[str, ...]) -> None:
    try:
        url = parse.urlsplit(text)
        whole = url.path if url.scheme == 'file' else url.hostname
        url.port  # noqa: B018  # raises if it is none
    except ValueError:
        whole = ''
    # The text itself may have a password in it.
    if not whole or url.scheme not in schemes or url.query or url.fragment:
        raise _wrong(name, 'is no URL that begins with ' + ' or '.join(
            f'{each}://' for each in schemes))


def read(path: Path, **given: Any) -> Settings:
    """Read the configuration.

    :param given: what the command line says, which counts for more; None
        for what it does not say
    :raises easystack_image.exceptions.ConfigurationError: if it cannot be
        read, or makes no sense
    """
    parser = configparser.ConfigParser(interpolation=None, strict=True,
                                       default_section='')
    try:
        with path.open(encoding='utf-8') as file:
            status = os.fstat(file.fileno())
            owners.check(path, status,
                         'what is in it runs as whoever runs this')
            parser.read_file(file)
    except (OSError, UnicodeError, configparser.Error) as error:
        raise exceptions.ConfigurationError(
            f'{path} cannot be read: {_reason(error)}') from None
    values = dict(parser[GROUP]) if parser.has_section(GROUP) else {}
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    found: dict[str, Any] = {}
    for name, text in values.items():
        if name not in fields:
            raise _wrong(name, 'is unknown; known are ' + ', '.join(fields))
        found[name] = _convert(name, text, type(fields[name].default))
    found.update({name: value for name, value in given.items()
                  if value is not None})
    settings = Settings(**found)
    if status.st_mode & stat.S_IROTH and _has_password(found):
        raise exceptions.ConfigurationError(
            f'{path} has a password in it, and may be read by others: chmod '
            f'o-r {path}')
    return settings


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, and nothing of what is in it.

    A line that is none may have a password in it.
    """
    if isinstance(error, OSError):
        return str(error)
    if isinstance(error, configparser.ParsingError) and not isinstance(
            error, configparser.MissingSectionHeaderError):
        lines = [line for line, _ in error.errors]
    else:
        lines = [getattr(error, 'lineno', 0)]
    return type(error).__name__ + ''.join(
        f', line {line}' for line in lines if line)


def _has_password(found: Mapping[str, Any]) -> bool:
    return any(field.metadata.get('secret') and '@' in
               str(found.get(field.name, '')).partition('://')[2]
               for field in dataclasses.fields(Settings))


def _convert(name: str, text: str, kind: type) -> object:
    try:
        # Underscores, which Python allows, other readers would not.
        if kind is not str and not re.fullmatch('[0-9.]+', text):
            raise ValueError
        return kind(text)
    except ValueError:
        raise _wrong(name, f'{text!r} is no number') from None


def _wrong(name: str, reason: str) -> exceptions.ConfigurationError:
    return exceptions.ConfigurationError(f'[{GROUP}] {name} {reason}')


def sample() -> str:
    """Return a configuration file with every option at its default."""
    lines = [f'[{GROUP}]']
    for field in dataclasses.fields(Settings):
        limits = ', '.join(f'{name} {field.metadata[name]}'
                           for name in ('min', 'max')
                           if name in field.metadata)
        text = field.metadata['help'] + (f' ({limits})' if limits else '')
        lines += ['', *_wrapped(text),
                  f'#{field.name} = {field.default}'.rstrip()]
    return '\n'.join(lines) + '\n'


def _wrapped(text: str) -> list[str]:
    return [f'# {line}' for line in textwrap.wrap(
        text, 76, break_on_hyphens=False)]
