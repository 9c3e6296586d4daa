"""How values look in tables; scripts get them as they are."""

from __future__ import annotations

import datetime
from typing import Any
import uuid

from cliff import columns

_UNITS = 'BKMGTPE'


def size(value: float) -> str:
    """Return a number of bytes for people, as ``df -h`` writes it.

    At most five characters: ``999B``, ``1.5G``, ``931G``; K is 1024 bytes.
    """
    unit = 0
    while round(value, 1 if value < 10 and unit else 0) >= 1000:
        value /= 1024
        unit += 1
    if unit and round(value, 1) < 10:
        return f'{value:.1f}{_UNITS[unit]}'
    return f'{value:.0f}{_UNITS[unit]}'


class Size(columns.FormattableColumn[int | None]):
    """A number of bytes, or None where there is none to tell."""

    def human_readable(self) -> str:
        """Return it short, and right in its column."""
        return '' if self._value is None else f'{size(self._value):>5}'

    def machine_readable(self) -> int | None:
        """Return the bytes."""
        return self._value


class Number(columns.FormattableColumn[int | None]):
    """A number, or None where there is none to tell."""

    def human_readable(self) -> str:
        """Return it right in its column."""
        return '' if self._value is None else f'{self._value:>6}'

    def machine_readable(self) -> int | None:
        """Return it."""
        return self._value


class Moment(columns.FormattableColumn[Any]):
    """A time in seconds since the epoch; 0 if it is not known."""

    def human_readable(self) -> str:
        """Return it to the minute, in UTC."""
        return f'{self._time():%Y-%m-%d %H:%M}' if self._value else '-'

    def machine_readable(self) -> str:
        """Return it as ISO 8601 has it, in UTC, or an empty string."""
        return f'{self._time():%Y-%m-%dT%H:%M:%SZ}' if self._value else ''

    def _time(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._value, datetime.UTC)


class Name(columns.FormattableColumn[str]):
    """A name that may be a UUID, such as the zone of a lone device."""

    def human_readable(self) -> str:
        """Return it, of a UUID only the beginning."""
        try:
            uuid.UUID(self._value)
        except ValueError:
            return self._value
        return self._value[:8]

    def machine_readable(self) -> str:
        """Return all of it."""
        return self._value


class Percent(columns.FormattableColumn[float]):
    """A share in per cent."""

    def human_readable(self) -> str:
        """Return it without decimals, but never 100 for less."""
        return f'{int(self._value):>3}%'

    def machine_readable(self) -> float:
        """Return it with one decimal."""
        return round(self._value, 1)


class Count(columns.FormattableColumn[Any]):
    """How many there are of how many there should be."""

    def human_readable(self) -> str:
        """Return both."""
        return '{} of {}'.format(*self._value)

    def machine_readable(self) -> int:
        """Return how many there are."""
        return int(self._value[0])


class Versions(columns.FormattableColumn[Any]):
    """Versions of a format, or how many there are of each."""

    def human_readable(self) -> str:
        """Return them in words, '' for what nobody looked at."""
        if isinstance(self._value, dict):
            return ', '.join(f'{count} of version {version}' for version, count
                             in sorted(self._value.items())) or 'none'
        return ', '.join(map(str, self._value or ()))

    def machine_readable(self) -> Any:
        """Return a list of versions, or counts by versions, or None."""
        return (list(self._value) if isinstance(self._value, tuple)
                else self._value)
