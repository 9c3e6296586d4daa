"""Who uses a stored image, so that it must stay."""

from __future__ import annotations

from typing import Any

from easystack_image import exceptions
from easystack_image.blockstore.ceph import bindings
from easystack_image.blockstore.ceph import layout


def refuse(image: Any, image_id: str) -> None:
    """Refuse to delete an image that has clones, or others' snapshots."""
    rbd = bindings.rbd()
    others = [each['name'] for each in image.list_snaps()
              if each['name'] != layout.SNAPSHOT]
    if others:
        raise exceptions.ImageInUse(
            f'image {image_id} has snapshots besides "{layout.SNAPSHOT}", '
            'which somebody else made: ' + ', '.join(sorted(others))
            + '; remove them and their clones first')
    try:
        image.set_snap(layout.SNAPSHOT)
    except rbd.ImageNotFound:
        return
    try:
        cloned = bool(list(image.list_children2()))
    except (rbd.PermissionError, rbd.ImageNotFound) as error:
        # librbd looks for the names of clones: in pools, too, where we may
        # see nothing; and in vain if one gets another name just then.
        raise in_use(image_id) from error
    if cloned:
        raise in_use(image_id)


def in_use(image_id: str) -> exceptions.ImageInUse:
    """Return the error that an image has clones."""
    return exceptions.ImageInUse(
        f'image {image_id} has clones: volumes or servers use its data')
