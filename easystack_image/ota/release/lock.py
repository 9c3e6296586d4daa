"""The lock file of a release: each package, its version, its hashes.

It is what ``uv pip compile --generate-hashes`` writes, and pip reads (see
"Secure installs" in pip's documentation), without what could bring in
anything from elsewhere: no options, links or paths.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import re

from easystack_image import exceptions

_LINE = re.compile(
    r'(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)'
    r'(?:\[[A-Za-z0-9._, -]*\])?==(?P<version>[A-Za-z0-9.!+_-]+)'
    r'(?:\s*;(?P<marker>[^#]*?))?'
    r'(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)')
_HASH = re.compile('--hash=sha256:([0-9a-f]{64})')
#: name-version(-build)?-python-abi-platform.whl, see "Binary distribution
#: format" in the packaging specifications.
_WHEEL = re.compile(r'(?P<name>[^-]+)-(?P<version>[^-]+)(-[0-9][^-]*)?'
                    r'-[^-]+-[^-]+-[^-]+[.]whl')


@dataclasses.dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a lock file."""

    #: As :func:`normal` has it.
    name: str
    version: str
    #: SHA-256, in hexadecimal digits, of the files that will do.
    hashes: frozenset[str]
    #: Whether it is needed everywhere, or under some condition.
    always: bool


def normal(name: str) -> str:
    """Return the one spelling of a package's name (PEP 503)."""
    return re.sub('[-_.]+', '-', name).lower()


def parse(text: str) -> list[Requirement]:
    """Read a lock file.

    :raises easystack_image.exceptions.InvalidRelease: naming the line
    """
    found = []
    for number, line in _lines(text):
        match = _LINE.fullmatch(line)
        if match is None:
            raise exceptions.InvalidRelease(
                f'line {number} of the lock file is not '
                f'"name==version --hash=sha256:...": {line[:80]!r}')
        found.append(Requirement(
            normal(match['name']), match['version'],
            frozenset(_HASH.findall(match['hashes'])),
            not match['marker']))
    return found


def _lines(text: str) -> list[tuple[int, str]]:
    """Return the lines with their numbers, joined, without comments."""
    found: list[tuple[int, str]] = []
    begun = ''
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r'(^|\s)#.*', '', raw).strip()
        if line.endswith('\\'):
            begun += line[:-1] + ' '
            continue
        whole = re.sub(r'\s+', ' ', begun + line).strip()
        begun = ''
        if whole:
            found.append((number, whole))
    if begun.strip():
        raise exceptions.InvalidRelease('the last line of the lock file goes '
                                        'on, but ends')
    return found


def check(text: str, wheels: Mapping[str, str]) -> None:
    """Raise unless a lock file and the wheels beside it agree.

    A wheel that nothing asks for, or that is another than was asked for, was
    put there by mistake, or by somebody else.

    :param wheels: SHA-256 of each wheel, by its file name
    :raises easystack_image.exceptions.InvalidRelease: saying what differs
    """
    requirements = {each.name: each for each in parse(text)}
    if not requirements:
        raise exceptions.InvalidRelease('the lock file is empty')
    met = set()
    for file, sha256 in sorted(wheels.items()):
        match = _WHEEL.fullmatch(file)
        wanted = requirements.get(normal(match['name'])) if match else None
        if wanted is None:
            raise exceptions.InvalidRelease(
                f'the lock file does not ask for {file}')
        if sha256 not in wanted.hashes:
            raise exceptions.InvalidRelease(
                f'{file} is not the file that the lock file asks for: its '
                f'SHA-256 is {sha256}')
        met.add(wanted.name)
    lacking = sorted(each.name for each in requirements.values()
                     if each.always and each.name not in met)
    if lacking:
        raise exceptions.InvalidRelease(
            'no wheel meets the lock file for ' + ', '.join(lacking))
