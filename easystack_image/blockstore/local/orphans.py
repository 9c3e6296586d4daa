"""Deleting data that nothing refers to any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import uuid

from easystack_image import exceptions
from easystack_image.blockstore.local import problems
from easystack_image.blockstore.local import references as references_module
from easystack_image.blockstore.local import work

#: No more orphans than this are removed without asking twice, nor than one
#: image in TENTH; of a store with few images, as many as MIN all the same.
MAX = 10
TENTH = 10
MIN = 2


def refuse(references: references_module.References, store_id: str,
           orphans: int, images: int) -> None:
    """Refuse to delete anything on the word of strange references.

    A database that knows no image of this set is that of another Glance, or
    was just set up anew; all images would be orphans then.  One that was
    restored from an old backup does not know the images that were uploaded
    since.

    :param orphans: how many images would be deleted
    :param images: how many there are
    :raises easystack_image.exceptions.Refused: if none refers to the set, or
        if there are more orphans than ever come of crashes
    """
    if not references.count(store_id):
        raise exceptions.Refused(
            f'the database has no image of this store (set {store_id}), so '
            'every image would be taken for an orphan: check that it is the '
            'right one (or force it by naming the store)')
    few = max(MIN, min(MAX, images // TENTH))
    if orphans > few:
        raise exceptions.Refused(
            f'{orphans} of the {images} images of this store are orphans by '
            f'this database; no more than {few} are removed without asking: '
            'check that it is the right one, and was not restored from a '
            'backup ("location" tells how to attach data to a record again). '
            'If all of them are to go, force it by naming the store')


def remove(found: Iterable[problems.Problem],
           references: references_module.References,
           delete: Callable[[str, str], object],
           job: work.Job) -> Iterator[tuple[problems.Problem, str]]:
    """Delete orphans that were found, unless something refers to them now.

    That is asked right before each of them is deleted: a removal may take
    hours.

    :param found: the problems of kind ORPHAN of a check
    :param delete: deletes an upload of an image, as Engine.delete() does
    :returns: each, and why it was not deleted, or ''
    :raises easystack_image.exceptions.EasystackImageError: if the references
        cannot be read; nothing more was deleted then
    """
    for problem in found:
        job.check()
        if references.to(problem.image):
            yield problem, 'a record refers to it now'
            continue
        try:
            # Of damaged copies nobody knows the upload; an engine takes
            # them for the one that it is told to delete.
            delete(problem.image, problem.generation or str(uuid.uuid4()))
        except exceptions.ImageNotFound:
            yield problem, 'it is gone already'
        except exceptions.BlockStoreError as error:
            yield problem, str(error)
        else:
            yield problem, ''
