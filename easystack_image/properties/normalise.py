"""From the manual's words to the values that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any

from easystack_image import exceptions
from easystack_image.properties import catalog


@dataclasses.dataclass(frozen=True, slots=True)
class Meaning:
    """What was meant by a property and its value.

    :ivar name: the property that it is stored in
    :ivar value: the canonical value
    :ivar implied: further properties that follow from it
    """

    name: str
    value: str
    implied: Mapping[str, str] = dataclasses.field(default_factory=dict)


def interpret(catalogue: catalog.Catalogue, name: str, text: str) -> Meaning:
    """Return what is meant by a property and its value.

    :param name: one that the catalogue has a meaning for
    :param text: in any of the documented spellings
    :raises easystack_image.exceptions.InvalidRequest: if it is none of them;
        the message names what is allowed
    """
    kind = catalog.meaning_of(name)
    choice = catalogue.find(kind, text)
    version = ''
    if choice is None and kind in (catalog.OS_DISTRO, catalog.OS_TYPE):
        # "CentOS 7", or the OS type of the manual in Nova's property.
        name = kind = catalog.OS_DISTRO
        choice = catalogue.find(kind, text)
        if choice is None:
            choice, version = catalogue.find_version(text) or (None, '')
    if choice is None:
        raise exceptions.InvalidRequest(
            f'{text!r} is not known as {name}. Allowed, in any spelling, '
            f'are: {catalogue.allowed(catalog.meaning_of(name))}')
    return Meaning(name, choice.value, _implied(name, choice, version))


def _implied(name: str, choice: catalog.Choice,
             version: str) -> dict[str, str]:
    if name == catalog.OS_TYPE:
        # There is but one distribution of Windows.
        return ({catalog.OS_DISTRO: catalog.WINDOWS}
                if choice.value == catalog.WINDOWS else {})
    found = {catalog.OS_TYPE: choice.os_type} if choice.os_type else {}
    return found | ({catalog.OS_VERSION: version} if version else {})


def properties(catalogue: catalog.Catalogue, given: Mapping[str, Any],
               lenient: bool = False) -> dict[str, Any]:
    """Return the properties of a new image in canonical values.

    What is no text is left to Glance to refuse.

    :param given: all of them, in the order that they are given
    :param lenient: whether unknown values may stay as they are
    :raises easystack_image.exceptions.InvalidRequest: if a value is unknown,
        or two properties say different things
    """
    found: dict[str, Any] = {}
    implied: dict[str, str] = {}
    for name, value in given.items():
        meaning = (understand(catalogue, name, value, lenient)
                   or Meaning(name, value))
        if found.get(meaning.name, meaning.value) != meaning.value:
            raise contradiction(meaning.name, found[meaning.name],
                                meaning.value)
        found[meaning.name] = meaning.value
        implied = {**meaning.implied, **implied}
    return {**{name: value for name, value in implied.items()
               if name not in found}, **found}


def understand(catalogue: catalog.Catalogue, name: str, value: object,
               lenient: bool = False) -> Meaning | None:
    """Return what a property means, or None where that is not for us to say.

    :param name: of any property
    :param value: as it came
    :param lenient: whether unknown values may stay as they are
    :raises easystack_image.exceptions.InvalidRequest: if it is unknown
    """
    if not catalog.meaning_of(name) or not isinstance(value, str):
        return None
    try:
        return interpret(catalogue, name, value)
    except exceptions.InvalidRequest:
        if lenient:
            return None
        raise


def contradiction(name: str, one: object,
                  other: object) -> exceptions.InvalidRequest:
    """Return the error for a property that is given twice."""
    return exceptions.InvalidRequest(
        f'{name} is given twice, as {one!r} and as {other!r}: give one')


def filters(catalogue: catalog.Catalogue,
            pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the filters of a list in canonical values.

    What is unknown stays as it is: there may be images from before.

    :param pairs: names and values as they stand in the query
    """
    found = []
    for name, value in pairs:
        meaning = understand(catalogue, name, value, lenient=True)
        if meaning is None:
            found.append((name, value))
            continue
        found.append((meaning.name, meaning.value))
        version = meaning.implied.get(catalog.OS_VERSION)
        if version:
            found.append((catalog.OS_VERSION, version))
    return found
