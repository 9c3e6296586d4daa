"""How an instance is started: uWSGI's command line and environment."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import logging
from pathlib import Path

from easystack_image import exceptions
from easystack_image.ota.serving import deployer
from easystack_image.ota.serving import layout

LOG = logging.getLogger(__name__)

#: Names of uWSGI's program: the wheel ``pyuwsgi`` has the first.
_PROGRAMS = ('pyuwsgi', 'uwsgi')
#: What uWSGI calls without limit, in seconds: one year.
_NO_LIMIT = str(365 * 86400)
#: Connections; uWSGI does not start if the kernel allows fewer.
_BACKLOG = 4096
_ALLOWED = Path('/proc/sys/net/core/somaxconn')
#: What every kernel allows.
_BACKLOG_ANYWHERE = 128
#: Variables that would have the slot's Python import from elsewhere.
LEFT_OUT = ('VIRTUAL_ENV', 'PYTHONPATH', 'PYTHONHOME')
#: uWSGI makes an option of each variable with such a name, which nobody has
#: looked at.
OPTIONS = 'UWSGI_'


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """What is served, and with how many hands.

    :param application: ``module:attribute`` of the WSGI application
    :param processes: workers on the shared socket
    :param threads: of each worker, at least 2
    :param configuration: a file of uWSGI with the deployer's own options, or
        None
    :param environment: more variables for the processes
    """

    application: str = 'glance.wsgi.api:application'
    processes: int = 4
    threads: int = 8
    configuration: Path | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # With one thread, uWSGI may lose a request that comes in while the
        # worker is told to end; with more it wakes them by a pipe.
        for name, least in (('processes', 1), ('threads', 2)):
            if getattr(self, name) < least:
                raise exceptions.ConfigurationError(
                    f'{name} must be at least {least}')


def backlog() -> int:
    """Return how many connections the kernel may queue: what it allows.

    They wait there while no instance takes them, and are not refused.
    """
    try:
        return min(_BACKLOG, int(_ALLOWED.read_text()))
    except (OSError, ValueError):
        return _BACKLOG_ANYWHERE


def program(slot: Path) -> Path:
    """Return uWSGI's program in a slot.

    :param slot: the resolved path of a virtual environment: uWSGI executes
        itself and imports modules by the path it was started by, so one that
        leads through a link would mix releases
    :raises ConfigurationError: if there is none
    """
    if slot != slot.resolve():
        raise exceptions.ConfigurationError(
            f'"{slot}" is not a resolved path: it leads to "{slot.resolve()}"')
    for name in _PROGRAMS:
        found = slot / 'bin' / name
        if found.exists():
            return found
    raise exceptions.ConfigurationError(
        f'no uWSGI in "{slot}/bin": the release must hold the wheel pyuwsgi')


def arguments(slot: Path, place: layout.Place, service: Service,
              fd: int = layout.FIRST_FD) -> list[str]:
    """Return the command that runs an instance.

    :param fd: the inherited descriptor of the shared socket
    :raises ConfigurationError: see :func:`program` and :mod:`deployer`
    """
    if service.configuration:
        deployer.check(service.configuration)
    private = service.processes + 1
    shared = ','.join(str(number + 1) for number in range(service.processes))
    configured = ([f'--ini={service.configuration}']
                  if service.configuration else [])
    return [
        str(program(slot)), *configured, '--master', '--die-on-term',
        # A release that cannot be loaded ends by itself, at once.
        '--need-app',
        # Each worker loads the application for itself, after its birth: its
        # threads would be lost at fork.
        '--lazy-apps', '--enable-threads',
        # No thunder-lock: the private worker would wait with it in hand.
        f'--processes={private}',
        f'--threads={service.threads}',
        f'--http-socket=fd://{fd}', f'--http-socket={place.private}',
        f'--map-socket=0:{shared}', f'--map-socket=1:{private}',
        # The private socket is the updater's, which is of the same user.
        '--chmod-socket=600',
        # Nothing ends a request that is under way.
        f'--reload-mercy={_NO_LIMIT}', f'--worker-reload-mercy={_NO_LIMIT}',
        f'--master-fifo={place.fifo}', f'--stats={place.stats}',
        '--stats-minified', f'--listen={backlog()}',
        # Of all requests, it would fill the file system of the run directory
        # in days; load balancers and Glance have logs of their own.
        '--disable-logging', '--log-5xx',
        # uWSGI closes connections without saying so.
        '--add-header=Connection: close',
        # python-glanceclient sends chunks of 64 KiB to 1 MiB, with pauses.
        f'--chunked-input-limit={16 << 20}', '--chunked-input-timeout=60',
        '--socket-timeout=60', '--buffer-size=65535',
        '--module=easystack_image.ota.serving.application:application']


def environment(place: layout.Place, service: Service,
                inherited: Mapping[str, str], fd: int) -> dict[str, str]:
    """Return the environment of an instance of the holder.

    :param fd: the descriptor of the shared socket, which its workers hand to
        a new holder
    :param inherited: that of whoever starts it; what systemd says of sockets
        is left out, or uWSGI would act on it by itself, and so are options
        of uWSGI
    """
    for name in inherited:
        if name.startswith(OPTIONS):
            LOG.warning('%s of the environment is left out: options of uWSGI '
                        'stand in uwsgi_file', name)
    kept = {name: value for name, value in inherited.items()
            if not name.startswith(('LISTEN_', OPTIONS))
            and name not in LEFT_OUT}
    return kept | variables(place, service) | {
        layout.LISTENER_VARIABLE: str(fd)}


def variables(place: layout.Place, service: Service) -> dict[str, str]:
    """Return what is added to the environment of an instance."""
    return dict(service.environment) | {
        layout.DIRECTORY_VARIABLE: str(place.path),
        layout.APPLICATION_VARIABLE: service.application,
        layout.PRIVATE_WORKER_VARIABLE: str(service.processes + 1)}
