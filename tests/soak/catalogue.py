"""The images that the clients sent, and what they must be."""

from __future__ import annotations

import dataclasses
import threading

from tests.functional import client

MIB = 1 << 20

#: The upload was acknowledged, and nobody began to delete the image.
STORED = 'stored'
#: Its upload is not at its end, or it is not known how it ended.
OPEN = 'open'
#: Somebody began to delete it.
DELETING = 'deleting'
#: The deletion was acknowledged.
DELETED = 'deleted'
#: The data is deleted, and Glance's record only half.
HALF = 'half deleted'


@dataclasses.dataclass(slots=True)
class Image:
    """One image."""

    image_id: str
    data: bytes
    state: str = OPEN
    #: Some of its copies were spoilt, and not seen mended yet.
    struck: bool = False
    sha512: str = ''

    def __post_init__(self) -> None:
        self.sha512 = client.sha512(self.data)


def content(size: int, seed: int) -> bytes:
    """Return the bytes of an image; every third one has a long hole."""
    data = client.content(size, seed)
    if seed % 3:
        return data
    hole = bytes(size // 2)
    return data[:size // 4] + hole + data[size // 4 + len(hole):]


class Catalogue:
    """All images; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: dict[str, Image] = {}

    def add(self, image: Image) -> None:
        """Note an image that is about to be uploaded."""
        with self._lock:
            self._images[image.image_id] = image

    def change(self, image: Image, state: str) -> None:
        """Note what became of an image."""
        with self._lock:
            image.state = state
            if state in (DELETED, HALF):
                image.data = b''

    def all(self, *states: str) -> list[Image]:
        """Return the images in any of some states, oldest first."""
        with self._lock:
            return [image for image in self._images.values()
                    if image.state in states]
