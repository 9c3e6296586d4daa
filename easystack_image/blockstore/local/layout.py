"""Names on a device, and what is told by them."""

from __future__ import annotations

import dataclasses
import re
import secrets

_UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_IMAGE = re.compile(_UUID)
_UPLOAD = re.compile(f'upload[.]({_UUID})[.][0-9a-f]{{8}}')
_TRASH = re.compile('trash[.][0-9a-f]{16}')
_MARK = re.compile(f'({_UUID})[.]({_UUID})')
_TRIED = '.tried'

DATA = 'data'
MANIFEST = 'manifest'
REASON = 'reason'
TMP = 'tmp'
REPAIR = 'repair'
QUARANTINE = 'quarantine'
IMAGES = 'images'


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """Which upload of which image something belongs to."""

    image_id: str
    generation: str

    @property
    def name(self) -> str:
        """How marks of the upload are called."""
        return f'{self.image_id}.{self.generation}'


def shard(image_id: str) -> str:
    """Return the name of the subdirectory that an image falls in."""
    return image_id[:2]


def images_directory(image_id: str) -> str:
    """Return the directory in which the copy of an image lies."""
    return f'{IMAGES}/{shard(image_id)}'


def copy_directory(image_id: str) -> str:
    """Return the directory that is the copy of an image."""
    return f'{IMAGES}/{shard(image_id)}/{image_id}'


def deleted_directory(image_id: str) -> str:
    """Return the directory of the marks of deleted uploads."""
    return f'deleted/{shard(image_id)}'


def lock_file(image_id: str, purpose: str) -> str:
    """Return the file that is locked for ``purpose`` on an image."""
    return f'locks/{purpose}.{shard(image_id)}'


def upload_name(generation: str) -> str:
    """Return a new name, in tmp, for a copy that is being written."""
    return f'upload.{generation}.{secrets.token_hex(4)}'


def trash_name() -> str:
    """Return a new name, in tmp, for a copy that is being removed."""
    return f'trash.{secrets.token_hex(8)}'


def is_ours(name: str) -> bool:
    """Tell whether something in tmp was made by this engine."""
    return bool(_UPLOAD.fullmatch(name) or _TRASH.fullmatch(name))


def generation_of_upload(name: str) -> str | None:
    """Return the generation in a name of :func:`upload_name`, or None."""
    match = _UPLOAD.fullmatch(name)
    return match[1] if match else None


def is_image_id(name: str) -> bool:
    """Tell whether a name is that of an image's directory."""
    return _IMAGE.fullmatch(name) is not None


def tried_name(upload: Upload) -> str:
    """Return the name, beside its mark, of what came of a repair."""
    return upload.name + _TRIED


def is_tried(name: str) -> bool:
    """Tell whether that is the name of what came of a repair."""
    return (name.endswith(_TRIED)
            and upload_of_mark(name.removesuffix(_TRIED)) is not None)


def upload_of_mark(name: str) -> Upload | None:
    """Return the upload that a mark is about, or None."""
    match = _MARK.fullmatch(name)
    return Upload(match[1], match[2]) if match else None
