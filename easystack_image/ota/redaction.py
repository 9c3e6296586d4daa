"""Keeps passwords out of what hooks and other programs print.

Libraries put connection strings into their errors, and a careless hook
prints whatever it likes.  What Glance's configuration has in options that
are secret by their names is taken out literally, as are lines that are none:
errors of oslo.config have them in.  What looks like a password is taken out
wherever it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import contextlib
from pathlib import Path
import re
from urllib import parse

MASK = '***'
#: Options whose values are secrets.
_SECRET = re.compile(r'password|passwd|secret|credential'
                     r'|(^|_)(key|token|pass|passphrase)$', re.IGNORECASE)
_LINE = re.compile(r'\s*([\w.-]+)\s*[=:]\s*(.*?)\s*$')
#: How oslo.config tells an option.
_OPTION = re.compile(r'([^=:]+)[=:]')
_URL = re.compile(r"""(\b[a-z][a-z0-9+.-]*://[^\s:/@'"]*):[^\s'"<>]*@""",
                  re.IGNORECASE)
_NAMED = re.compile(
    r"""(\b[\w-]*(?:password|passwd|secret|token|api[_-]key)\w*["']?"""
    r"""\s*[=:]\s*["']?)[^\s"',;}]+""", re.IGNORECASE)
#: Shorter ones would take words out that are none.
_LEAST = 4
_WORDS = frozenset(('true', 'false', 'none', 'null', 'yes', 'no', 'never'))


class Redactor:
    """Takes secrets out of text.

    :param secrets: to be taken out wherever they stand
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets
                 if len(secret) >= _LEAST and secret.lower() not in _WORDS}
        # As errors quote it.
        known |= {repr(secret)[1:-1] for secret in known}
        # Of two that begin alike, the longer first.
        self._known = re.compile('|'.join(
            re.escape(secret) for secret
            in sorted(known, key=len, reverse=True)) or r'(?!)')

    def __call__(self, text: str) -> str:
        """Return text without secrets."""
        text = self._known.sub(MASK, text)
        text = _URL.sub(rf'\1:{MASK}@', text)
        return _NAMED.sub(rf'\1{MASK}', text)


def of(config_files: Iterable[str], config_dirs: Iterable[str],
       others: Iterable[str] = (), loose: bool = True) -> Redactor:
    """Return what knows the secrets of configuration files.

    :param config_dirs: all ``*.conf`` in them count
    :param others: more secrets
    :param loose: whether a line that is no option, and goes on with none, is
        one: False for files that oslo.config does not read
    """
    paths = [*map(Path, config_files), *(
        path for each in config_dirs
        for path in sorted(Path(each).glob('*.conf')))]
    return Redactor([
        *(secret for path in paths for secret in _of_file(path, loose)),
        *filter(None, others)])


def _of_file(path: Path, loose: bool) -> Iterator[str]:
    # A file that cannot be read has no secret that a hook could know.
    with contextlib.suppress(OSError):
        lines = path.read_text(errors='replace').splitlines()
        for line in lines:
            match = _LINE.match(line)
            if match and not line.lstrip().startswith(('#', ';')):
                yield from _of_option(*match.groups())
        yield from _rest(lines, loose)


def _rest(lines: Iterable[str], loose: bool) -> Iterator[str]:
    """Yield secrets that options go on with, and lines that are no option.

    An option goes on in lines that are indented, as oslo.config has it.

    :param loose: whether to yield the latter
    """
    name = ''
    for line in lines:
        text = line.strip()
        if text and line[0] in ' \t':
            yield from _of_option(name, text) if name else (text,) * loose
            continue
        match = _OPTION.match(text)
        name = ''
        if not text.startswith(('#', ';')) and not (
                text.startswith('[') and text.endswith(']')):
            if match and not text.startswith('['):
                name = match[1].strip()
            elif loose:
                yield text


def _of_option(name: str, value: str) -> Iterator[str]:
    value = value.strip('"\'')
    if _SECRET.search(name):
        yield value
    for part in re.split(r'[\s,]+', value) if '://' in value else ():
        password = part.partition('://')[2].rpartition('@')[0].partition(
            ':')[2]
        yield password
        yield parse.unquote(password)
