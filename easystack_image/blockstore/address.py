"""The URI of stored data: ``easystack-block://SET/IMAGE/GENERATION``.

SET names the set of devices, GENERATION the very upload, so that data left
over from an earlier upload is never taken for the image's.
"""

from __future__ import annotations

import dataclasses
import re

SCHEME = 'easystack-block'

_UUID = '[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}'
_URI = re.compile(f'{SCHEME}://({_UUID})/({_UUID})/({_UUID})')


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """What a URI says; UUIDs in their canonical form."""

    store_id: str
    image_id: str
    generation: str

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Return what a URI says.

        :raises ValueError: if it has another form
        """
        match = _URI.fullmatch(uri)
        if match is None:
            raise ValueError(f'it must be {SCHEME}:// and three UUIDs, '
                             'separated by slashes')
        return cls(*(part.lower() for part in match.groups()))

    @property
    def uri(self) -> str:
        """The URI."""
        return (f'{SCHEME}://{self.store_id}/{self.image_id}/'
                f'{self.generation}')
