"""Names in a pool, and what is told by them.

====================================  =======================================
``ID``                                RBD image: a stored image, with the
                                      snapshot ``snap``, protected
``easystack-upload.ID.GENERATION``    RBD image: an upload under way (somebody
                                      watches it), or left over
``easystack-trash.ID.GENERATION``     RBD image: deleted, being removed
``easystack-manifest.ID.GENERATION``  object: what the image must be
``easystack-index``                   object; its omap has a key
                                      ``ID.GENERATION`` for every manifest,
                                      and when the image was verified last
``easystack-requests``                object; its omap has such a key for
                                      every image that is to be verified
``easystack-uploads``                 object; its omap has such a key for
                                      every upload that is not in the index
                                      yet
``easystack-deletions``               object; its omap has such a key for
                                      every deleted image that keeps its name,
                                      because the pool was full
``easystack-damaged``                 object; its omap has such a key for
                                      every image that could not be repaired,
                                      and what was found
====================================  =======================================

Only what has one of these names, or is stored under its id with our
generation in its metadata, is ever swept away.
"""

from __future__ import annotations

import uuid

from easystack_image.blockstore import address
from easystack_image.blockstore.local import layout

Upload = layout.Upload
is_image_id = layout.is_image_id
upload_of_mark = layout.upload_of_mark

#: The snapshot that Nova and Cinder clone; the same as glance_store's.
SNAPSHOT = address.SNAPSHOT
#: The key of the generation in an RBD image's metadata.
GENERATION = 'easystack.generation'
INDEX = 'easystack-index'
REQUESTS = 'easystack-requests'
UPLOADS = 'easystack-uploads'
DELETIONS = 'easystack-deletions'
DAMAGED = 'easystack-damaged'
_UPLOAD = 'easystack-upload.'
_TRASH = 'easystack-trash.'
_MANIFEST = 'easystack-manifest.'
_FOREIGN = uuid.UUID('2f0c7f4e-0e0e-4c3b-9f0d-6a1f8f2b7d35')


def upload_name(upload: Upload) -> str:
    """Return the name of the RBD image that is being written."""
    return _UPLOAD + upload.name


def trash_name(upload: Upload) -> str:
    """Return the name of the RBD image that is being removed."""
    return _TRASH + upload.name


def manifest_name(upload: Upload) -> str:
    """Return the name of the object with the manifest."""
    return _MANIFEST + upload.name


def unfinished(name: str) -> Upload | None:
    """Return which upload an RBD image was to become, or None."""
    return _upload_of(_UPLOAD, name)


def trashed(name: str) -> Upload | None:
    """Return which deleted upload an RBD image was, or None."""
    return _upload_of(_TRASH, name)


def _upload_of(prefix: str, name: str) -> Upload | None:
    if not name.startswith(prefix):
        return None
    return layout.upload_of_mark(name.removeprefix(prefix))


def foreign_generation(store_id: str, pool: str, internal: str) -> str:
    """Return what stands for the generation of another driver's image.

    :param internal: the id that Ceph gave to the RBD image; another upload
        under the same name has another one
    """
    return str(uuid.uuid5(_FOREIGN, f'{store_id}/{pool}/{internal}'))
