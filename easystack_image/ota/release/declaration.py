"""What a release says of itself: ``release.json`` in its archive.

It is signed twice over: the archive is a target of a TUF repository, and the
index of its channel, another target, repeats the declaration, so that a
client can choose before it downloads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import enum
import hashlib
import json
import re
from typing import Any

from easystack_image import exceptions

#: Of the format below; others are refused.
FORMAT = 1
PRODUCT = 'easystack-image'
#: The most bytes that a declaration may have.
LIMIT = 4 * 1024 * 1024
#: A version, as PEP 440 has them, without what a file name must not have.
VERSION = re.compile(r'[0-9]+(\.[0-9]+){0,5}((a|b|rc)[0-9]+)?'
                     r'(\.post[0-9]+)?(\.dev[0-9]+)?')
_PYTHON = re.compile(r'3\.[0-9]+')
_SHA256 = re.compile('[0-9a-f]{64}')
_NAME = re.compile('[A-Za-z0-9_][A-Za-z0-9_.+-]*')
LOCK = 'requirements.lock'
WHEELS = 'wheels'
CONFIG = 'config'


class Phase(enum.StrEnum):
    """A phase of ``glance-manage db``, in the order in which they run."""

    EXPAND = 'expand'
    MIGRATE = 'migrate'
    CONTRACT = 'contract'


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file in the archive of a release."""

    #: In bytes.
    size: int
    #: In hexadecimal digits.
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class Declaration:
    """A release, as it declares itself.

    :raises easystack_image.exceptions.InvalidRelease: if it makes no sense
    """

    #: For people; unique in a repository.
    version: str
    #: For the updater: of two releases, the later has the higher number.
    number: int
    #: The lowest number of a release that can be upgraded to this one.
    minimum: int = 0
    #: What has to be done to the database.
    database: tuple[Phase, ...] = ()
    #: The releases of Python that its wheels are for, as '3.11'.
    python: tuple[str, ...] = ()
    #: Numbers of earlier releases that nobody must install any more.
    revokes: tuple[int, ...] = ()
    #: The files of the archive, by their names.
    files: Mapping[str, File] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not VERSION.fullmatch(self.version) or len(self.version) > 64:
            raise _invalid(f'version {self.version[:80]!r} is none, such as '
                           '1.2.0 or 1.2.0rc1')
        if self.number < 1:
            raise _invalid(f'its number is {self.number}; the first release '
                           'has number 1')
        if not 0 <= self.minimum < self.number:
            raise _invalid(f'minimum {self.minimum} is not from 0 to '
                           f'{self.number - 1}, below its own number')
        if list(self.database) != [each for each in Phase
                                   if each in self.database]:
            raise _invalid('database has phases twice, or not in the order '
                           + ', '.join(Phase))
        if not self.python or not all(map(_PYTHON.fullmatch, self.python)):
            raise _invalid("python has to list releases of Python, as '3.11'")
        if not all(0 < each < self.number for each in self.revokes):
            raise _invalid('revokes may name numbers of earlier releases '
                           'only')
        for name in self.files:
            check_name(name)

    @property
    def archive(self) -> str:
        """The name of its archive."""
        return archive_name(self.version)

    def __str__(self) -> str:
        return f'{self.version} (number {self.number})'

    def record(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return {'format': FORMAT, 'product': PRODUCT,
                **dataclasses.asdict(self)}

    def dump(self) -> bytes:
        """Return ``release.json``; of one release, always the same bytes."""
        return json.dumps(self.record(), indent=1,
                          sort_keys=True).encode() + b'\n'

    @property
    def digest(self) -> str:
        """The SHA-256 of :meth:`dump`: of all files of the release, too."""
        return hashlib.sha256(self.dump()).hexdigest()


def load(data: bytes) -> Declaration:
    """Read ``release.json``.

    :raises easystack_image.exceptions.InvalidRelease: if it is malformed
    """
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid(f'its declaration is no JSON ({error})') from None
    return from_record(record)


def from_record(record: object) -> Declaration:
    """Read what :meth:`Declaration.record` returned.

    :raises easystack_image.exceptions.InvalidRelease: if it is malformed
    """
    if not isinstance(record, dict):
        raise _invalid('its declaration is no JSON object')
    if record.get('format') != FORMAT:
        raise _invalid(f'its format is {record.get("format")!r}, this '
                       f'updater knows {FORMAT}: upgrade the updater first')
    if record.get('product') != PRODUCT:
        raise _invalid(f'it is a release of {record.get("product")!r}, not '
                       f'of {PRODUCT}')
    fields = dict(record)
    del fields['format'], fields['product']
    return from_fields(fields)


def from_fields(fields: Mapping[str, Any]) -> Declaration:
    """Return a declaration of what a file has, every type checked.

    :raises easystack_image.exceptions.InvalidRelease: naming the field
    """
    known = {field.name for field in dataclasses.fields(Declaration)}
    for name in fields:
        if name not in known:
            raise _invalid(f'{name!r} is unknown; known are '
                           + ', '.join(sorted(known)))
    for name, kind in (('version', str), ('number', int)):
        if name not in fields:
            raise _invalid(f'{name} is lacking')
        _check(name, fields[name], kind)
    minimum = fields.get('minimum', 0)
    _check('minimum', minimum, int)
    try:
        phases = tuple(map(Phase, _list(fields, 'database', str)))
    except ValueError:
        raise _invalid('database may list ' + ', '.join(Phase)) from None
    return Declaration(
        fields['version'], fields['number'], minimum, phases,
        tuple(_list(fields, 'python', str)),
        tuple(_list(fields, 'revokes', int)), _files(fields.get('files', {})))


def _files(record: Any) -> dict[str, File]:
    _check('files', record, dict)
    found = {}
    for name, file in record.items():
        if not (isinstance(file, dict) and set(file) == {'size', 'sha256'}
                and type(file['size']) is int and file['size'] >= 0
                and isinstance(file['sha256'], str)
                and _SHA256.fullmatch(file['sha256'])):
            raise _invalid(f'files: {name[:80]!r} needs a size in bytes and '
                           'a sha256')
        found[name] = File(file['size'], file['sha256'])
    return found


def check_name(name: str) -> None:
    """Raise unless a file of this name may be in an archive.

    :raises easystack_image.exceptions.InvalidRelease: if not
    """
    first, *others = name.split('/')
    if all(map(_NAME.fullmatch, [first, *others])) and len(name) <= 200 and (
            name == LOCK
            or (first == WHEELS and len(others) == 1
                and name.endswith('.whl'))
            or (first == CONFIG and others)):
        return
    raise _invalid(f'the name {name[:80]!r} is not allowed in it: there may '
                   f'be {LOCK}, {WHEELS}/*.whl and {CONFIG}/...')


def _list(fields: Mapping[str, Any], name: str, kind: type) -> Sequence[Any]:
    values = fields.get(name, [])
    _check(name, values, list)
    for value in values:
        _check(name, value, kind)
    found: Sequence[Any] = values
    return found


def _check(name: str, value: object, kind: type) -> None:
    # True is an int, but no number of a release.
    if type(value) is not kind:
        words = {str: 'text', int: 'a whole number', list: 'a list',
                 dict: 'an object'}
        raise _invalid(f'{name}: {str(value)[:80]!r} is not {words[kind]}')


def _invalid(reason: str) -> exceptions.InvalidRelease:
    return exceptions.InvalidRelease(f'the release is malformed: {reason}')


def archive_name(version: str) -> str:
    """Return the name of the archive of a release."""
    return f'{PRODUCT}-{version}.tar'
