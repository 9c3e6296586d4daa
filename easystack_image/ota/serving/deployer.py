"""The deployer's own options of uWSGI, and which of them cannot be.

An instance is handed over and drained by what its command line says
(:mod:`easystack_image.ota.serving.command`).  uWSGI takes the same option
twice without a word, and many others would end a request that is under way;
so what the deployer adds is looked through before anything is started.  Of
what is said in both, the command line counts, since it comes last.
"""

from __future__ import annotations

from collections.abc import Iterator
import fnmatch
from pathlib import Path

from easystack_image import exceptions

_CUTS = 'it ends requests that are under way'
_OURS = 'the updater sets it'
_SOCKET = 'the listening socket is inherited'
_IMPORTS = 'modules would come from elsewhere than the slot'
_UNSEEN = 'what it leads to cannot be looked through'
_LOOP = 'requests would be answered in another way than by threads'
#: Options, with wildcards, and why they cannot be.
_REFUSED = {
    '*harakiri*': _CUTS, '*reload-mercy': _CUTS, 'max-requests*': _CUTS,
    'm*-worker-lifetime*': _CUTS, '*reload-on-*': _CUTS,
    '*touch-*': _CUTS, 'py*-auto*reload': _CUTS, 'exit-on-reload': _CUTS,
    'fs-*reload': _CUTS, '*check-mount*': _CUTS, 'mount*-check': _CUTS,
    'no-orphans': _CUTS, 'no-threads-wait': _CUTS, 'worker-exec*': _CUTS,
    'skip-atexit*': _CUTS,
    'shutdown-sockets': 'an instance that ends would close the listening '
                        'socket for all',
    'async': _LOOP, 'gevent*': _LOOP, 'ugreen': _LOOP, 'loop': _LOOP,
    'asyncio': _LOOP, 'greenlet': _LOOP, 'tornado*': _LOOP,
    'idle': _CUTS, 'die-on-idle': _CUTS, 'cheap*': _CUTS,
    'thunder-lock': 'the worker of the private socket would wait with it in '
                    'hand, and all others with it',
    'processes': _OURS, 'p': _OURS, 'workers': _OURS, 'threads': _OURS,
    'master': _OURS, 'M': _OURS, 'need-app': _OURS, 'lazy*': _OURS,
    'enable-threads': _OURS, 'die-on-term': _OURS, 'master-fifo': _OURS,
    'stats*': _OURS, 'listen': _OURS, 'l': _OURS, 'module': _OURS,
    'w': _OURS, 'wsgi*': _OURS, 'mount': _OURS, 'callable': _OURS,
    'file': _OURS, 'eval': _OURS, 'map-socket': _OURS,
    'chunked-input-*': _OURS, 'socket-timeout': _OURS,
    'buffer-size': _OURS, 'b': _OURS, 'chmod*': _OURS, 'C': _OURS,
    'disable-logging': _OURS, 'log-5xx': _OURS,
    'vacuum': 'it removes sockets that are needed',
    'socket': _SOCKET, 's': _SOCKET, 'http*': _SOCKET, 'https*': _SOCKET,
    '*wsgi-socket': _SOCKET, '*cgi-socket': _SOCKET,
    '*cgi-nph-socket': _SOCKET, 'raw-socket': _SOCKET,
    '*shared-socket': _SOCKET, 'abstract-socket': _SOCKET, 'a': _SOCKET,
    '*protocol': _SOCKET, 'reuse-port': _SOCKET, 'emperor*': _SOCKET,
    'zerg*': _SOCKET,
    'virtualenv': _IMPORTS, 'venv': _IMPORTS, 'home': _IMPORTS,
    'H': _IMPORTS, 'pyhome': _IMPORTS, 'pythonpath': _IMPORTS,
    'python-path': _IMPORTS, 'pp': _IMPORTS, 'binary-path': _IMPORTS,
    'env': _IMPORTS, 'envdir*': _IMPORTS, 'unenv': _IMPORTS,
    'ini*': _UNSEEN, 'include': _UNSEEN, 'inherit*': _UNSEEN,
    'xml': _UNSEEN, 'yaml': _UNSEEN, 'yml': _UNSEEN, 'json': _UNSEEN,
    'config': _UNSEEN, 'optdef': _UNSEEN,
    'daemonize*': 'whoever starts the instance waits for it', 'd': _OURS,
    'uid': 'the unit of systemd, or the holder, has the user',
    'gid': 'the unit of systemd, or the holder, has the group',
}
#: What uWSGI's own lines of logic are called.
_LOGIC = ('if-', 'for', 'end', 'ifdef', 'set-placeholder', 'set-ph')
_SECTION = '[uwsgi]'


def check(path: Path) -> None:
    """Look through a file of uWSGI.

    :raises ConfigurationError: if it cannot be read, or breaks the hand-over:
        naming each option, and why
    """
    found = [f'{name} ({reason})' for name in _options(path)
             for reason in [refusal(name)] if reason]
    if found:
        raise exceptions.ConfigurationError(
            f'{path} has options that instances of the service cannot have: '
            f'{", ".join(dict.fromkeys(found))}; take them out')


def refusal(name: str) -> str:
    """Return why the deployer cannot set an option of uWSGI, or ''."""
    for pattern, reason in _REFUSED.items():
        if fnmatch.fnmatchcase(name, pattern):
            return reason
    return ''


def _options(path: Path) -> Iterator[str]:
    """Yield the names of the options that a file sets, as uWSGI reads it.

    :raises ConfigurationError: if it cannot be read
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeError) as error:
        raise exceptions.ConfigurationError(
            f'{path} cannot be read: {error}') from error
    inside = False
    for line in map(str.strip, lines):
        if line.startswith('['):
            inside = line == _SECTION
        elif inside and line and line[0] not in '#;':
            name = line.partition('=')[0].strip()
            if not name.startswith(_LOGIC):
                # It takes either for the other.
                yield name.replace('_', '-')
