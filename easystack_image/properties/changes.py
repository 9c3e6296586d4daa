"""JSON patches of images, read as Glance reads them.

A patch changes an image operation by operation.  Glance takes two forms
(``_get_change_operation_d4`` and ``_d10`` in ``glance/api/v2/images.py``), and
reads the pointers in them generously; whoever reads them more strictly lets
through what Glance understands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from easystack_image.properties import catalog
from easystack_image.properties import normalise

OLD_FORM = 'application/openstack-images-v2.0-json-patch'
NEW_FORM = 'application/openstack-images-v2.1-json-patch'
FORMS = (OLD_FORM, NEW_FORM)
_OPERATIONS = ('add', 'remove', 'replace')

CREATE, UPDATE, DELETE = 'create', 'update', 'delete'

Operation = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one property.

    :ivar old: None if there was none, or none that the user can see
    :ivar new: None if it is removed
    """

    name: str
    old: Any
    new: Any

    @property
    def action(self) -> str:
        """``create``, ``update`` or ``delete``; '' if nothing changes."""
        if self.old == self.new:
            return ''
        if self.old is None:
            return CREATE
        return DELETE if self.new is None else UPDATE


def creation(image: Mapping[str, Any]) -> list[Change]:
    """Return what a new image sets, of what the catalogue knows."""
    return [Change(name, None, value) for name, value in image.items()
            if catalog.meaning_of(name)]


def _operation(raw: object, form: str) -> tuple[str, str]:
    """Return an operation and its pointer; '' for what Glance refuses."""
    if not isinstance(raw, dict):
        return '', ''
    if form == NEW_FORM:
        operation, pointer = raw.get('op'), raw.get('path')
    else:
        operation = next((each for each in _OPERATIONS if each in raw), None)
        pointer = raw.get(operation)
    if operation not in _OPERATIONS or not isinstance(pointer, str):
        return '', ''
    return operation, pointer


def parts(pointer: str) -> list[str]:
    """Return the names in a pointer, at least one, as Glance finds them."""
    return [part.replace('~1', '/').replace('~0', '~').strip()
            for part in pointer.lstrip('/').split('/')]


def _name(pointer: str) -> str:
    """Return the attribute that a pointer points to, as Glance finds it."""
    name, *rest = parts(pointer)
    return '' if rest else name


def names(patch: list[Any], form: str) -> Iterator[str]:
    """Yield the attributes that a patch touches, '' for others."""
    for raw in patch:
        yield _name(_operation(raw, form)[1])


class Patch:
    """A patch in canonical values, and what comes of it.

    :param catalogue: of this deployment
    :param image: as the user sees it
    :param form: the media type of the patch
    :param lenient: whether unknown values may stay as they are
    """

    def __init__(self, catalogue: catalog.Catalogue,
                 image: Mapping[str, Any], form: str,
                 lenient: bool = False) -> None:
        self._catalogue = catalogue
        self._form = form
        self._lenient = lenient
        #: What the image will be.
        self.image = dict(image)
        #: The operations to pass on.
        self.operations: list[Any] = []
        #: What becomes of the properties that the catalogue knows.
        self.changes: list[Change] = []

    def apply(self, patch: list[Any]) -> None:
        """Take in all operations.

        :raises easystack_image.exceptions.InvalidRequest: if a value is
            unknown
        """
        explicit: set[str] = set()
        implied: dict[str, str] = {}
        for raw in patch:
            operation, pointer = _operation(raw, self._form)
            name = _name(pointer)
            if not name:
                self.operations.append(raw)
                continue
            meaning = None
            if operation != 'remove':
                meaning = normalise.understand(
                    self._catalogue, name, raw.get('value'), self._lenient)
            if meaning is not None:
                implied |= meaning.implied
                name = self._take(raw, name, meaning)
            else:
                self.operations.append(raw)
                self._set(name, None if operation == 'remove'
                          else raw.get('value'))
            explicit.add(name)
        self._follow({name: value for name, value in implied.items()
                      if name not in explicit})

    def _take(self, raw: Operation, name: str,
              meaning: normalise.Meaning) -> str:
        """Take in an operation on what the catalogue knows."""
        if meaning.name == name:
            self.operations.append(raw | {'value': meaning.value})
        else:
            # The OS type of the manual in Nova's property.
            self.operations.append(self._write(meaning.name, meaning.value))
        self._set(meaning.name, meaning.value)
        return meaning.name

    def _follow(self, implied: Mapping[str, str]) -> None:
        """Set what follows from what was set."""
        for name, value in implied.items():
            present = self.image.get(name)
            if present == value or (name == catalog.OS_DISTRO
                                    and present is not None):
                # Whether that goes with it is for a rule to say.
                continue
            self.operations.append(self._write(name, value))
            # Whoever may set the cause may set what follows.
            self.image[name] = value

    def _write(self, name: str, value: str) -> Operation:
        operation = 'replace' if name in self.image else 'add'
        if self._form == NEW_FORM:
            return {'op': operation, 'path': f'/{name}', 'value': value}
        return {operation: f'/{name}', 'value': value}

    def _set(self, name: str, value: Any) -> None:
        if catalog.meaning_of(name):
            self.changes.append(Change(name, self.image.get(name), value))
        if value is None:
            self.image.pop(name, None)
        else:
            self.image[name] = value
