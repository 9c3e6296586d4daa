"""The URI of stored data.

``easystack-block://SET/IMAGE/GENERATION`` with the ``local`` engine: SET
names the set of devices, GENERATION the very upload, so that data left over
from an earlier upload is never taken for the image's.

``rbd://FSID/POOL/IMAGE/snap`` with the ``ceph`` engine: it is the URI of
glance_store's own rbd driver, which Nova and Cinder know how to clone.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

SCHEME = 'easystack-block'
RBD_SCHEME = 'rbd'
#: The snapshot that is read and cloned.
SNAPSHOT = 'snap'

_UUID = '[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}'
_URI = re.compile(f'{SCHEME}://({_UUID})/({_UUID})/({_UUID})')
_RBD_URI = re.compile(
    f'{RBD_SCHEME}://({_UUID})/([^/]+)/({_UUID})/{SNAPSHOT}')


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


@dataclasses.dataclass(frozen=True, slots=True)
class Rbd:
    """What the URI of an image in Ceph says."""

    #: The UUID of the cluster.
    store_id: str
    pool: str
    image_id: str

    @classmethod
    def parse(cls, uri: str) -> Rbd:
        """Return what a URI says.

        :raises ValueError: if it has another form, or names no snapshot, or
            what has no image's name
        """
        match = _RBD_URI.fullmatch(uri)
        if match is None:
            raise ValueError(
                f'it must be {RBD_SCHEME}:// and the UUID of a cluster, a '
                f'pool, the UUID of an image and "{SNAPSHOT}", separated by '
                'slashes')
        return cls(match[1].lower(), urllib.parse.unquote(match[2]),
                   match[3].lower())

    @property
    def generation(self) -> None:
        """Which upload is meant: whichever is there."""

    @property
    def uri(self) -> str:
        """The URI."""
        return f'{rbd_prefix(self.store_id, self.pool)}{self.image_id}/' + (
            SNAPSHOT)


#: What any URI says.
Place = Address | Rbd


def rbd_prefix(store_id: str, pool: str) -> str:
    """Return how the URI of each image in a pool begins."""
    return f'{RBD_SCHEME}://{store_id}/{urllib.parse.quote(pool, "")}/'


def parse(uri: str) -> Place:
    """Return what a URI of any engine says.

    :raises ValueError: if it has another form
    """
    if uri.startswith(f'{RBD_SCHEME}://'):
        return Rbd.parse(uri)
    return Address.parse(uri)
